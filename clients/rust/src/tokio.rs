//! The same client for tokio: its calls are futures, its iterators have an asynchronous
//! `next`. The runtime must have I/O and time (`enable_all`).
//!
//! A future may be dropped at any time, and nothing is lost by it but the call: the next
//! `next` of a scan or of events goes on where the last one was. Only [`ImportMany`] ends,
//! and what was being written may be written. Drafts and pins that are dropped are ended
//! by a task, if a runtime is there and lasts: where it may not, await [`Draft::discard`]
//! or [`Pin::release`]. A draft or pin whose making was given up ends with its lease.
//!
//! ```no_run
//! # async fn example() -> Result<(), accessor_client::Error> {
//! let client = accessor_client::tokio::Client::new("unix:///run/accessor/accessor.sock")?;
//! let head = client.at("head");
//! let slot = head.get("slot").await?;
//! let mut scan = head.scan(accessor_client::ScanOptions::prefix([0xff]));
//! while let Some(pair) = scan.next().await {
//!     let (key, value) = pair?;
//!     println!("{key:02x?}: {} bytes", value.len());
//! }
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::io::{self, ErrorKind};

use ::tokio::io::Interest;
use ::tokio::net::{TcpStream, UnixStream};
use ::tokio::task::coop::consume_budget;
use ::tokio::time::sleep;

use crate::config::Address;

macro_rules! wait {
    ($future:expr) => {
        $future.await
    };
}

crate::client::client!(async);
crate::views::views!(async);
crate::leases::leases!(async);
crate::streams::streams!(async);

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Does the same to either kind of socket.
macro_rules! either {
    ($socket:expr, $it:ident => $do:expr) => {
        match $socket {
            Stream::Unix($it) => $do,
            Stream::Tcp($it) => $do,
        }
    };
}

/// A future's result, if it comes in time.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match deadline {
        // The timer isn't looked at where there is always more.
        Some(deadline) if deadline <= Instant::now() => Err(ErrorKind::TimedOut.into()),
        Some(deadline) => match ::tokio::time::timeout_at(deadline.into(), future).await {
            Ok(done) => done,
            Err(_) => Err(ErrorKind::TimedOut.into()),
        },
        None => future.await,
    }
}

impl Stream {
    async fn connect(address: &Address, deadline: Option<Instant>) -> io::Result<Self> {
        let connect = async {
            match address {
                Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
                Address::Tcp(host) => {
                    let stream = TcpStream::connect(host).await?;
                    stream.set_nodelay(true)?;
                    Ok(Stream::Tcp(stream))
                }
            }
        };
        within(deadline, connect).await
    }

    /// Sends all; false where the server answered before that.
    async fn send(&mut self, bytes: &[u8], incoming: &mut Incoming, deadline: Option<Instant>) -> io::Result<bool> {
        within(deadline, self.send_all(bytes, incoming)).await
    }

    async fn send_all(&self, mut bytes: &[u8], incoming: &mut Incoming) -> io::Result<bool> {
        while !bytes.is_empty() {
            consume_budget().await;
            match either!(self, it => it.try_write(bytes)) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let either = Interest::READABLE | Interest::WRITABLE;
                    either!(self, it => it.ready(either).await)?;
                    match either!(self, it => it.try_read(incoming.space())) {
                        // At the end, too: no answer can come any more.
                        Ok(n) => {
                            incoming.filled(n);
                            return Ok(false);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits for more; 0 at the end.
    async fn fill(&mut self, incoming: &mut Incoming, deadline: Option<Instant>) -> io::Result<usize> {
        let read = async {
            loop {
                // Where there is always more, other tasks have their turn all the same.
                consume_budget().await;
                match either!(&*self, it => it.try_read(incoming.space())) {
                    Ok(n) => {
                        incoming.filled(n);
                        return Ok(n);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        either!(&*self, it => it.readable().await)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        within(deadline, read).await
    }
}

impl Client {
    /// Ends a draft or a pin whose value is dropped.
    fn end(&self, mut call: Call) {
        call.timeout = Some(Duration::from_secs(2));
        if let Ok(runtime) = ::tokio::runtime::Handle::try_current() {
            let client = self.clone();
            runtime.spawn(async move { client.call(&call).await.map(drop) });
        }
    }
}

macro_rules! iterators {
    ($($of:ident: $item:ty,)*) => {$(
        impl $of {
            /// The next one; `None` after the last, or after an error.
            pub async fn next(&mut self) -> Option<Result<$item>> {
                self.step().await
            }
        }
    )*};
}

iterators! {
    Scan: (Vec<u8>, Vec<u8>),
    Keys: Vec<u8>,
}

impl Events {
    /// The next event; `None` after an error.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        self.step(None).await
    }
}

impl<I: Iterator<Item = NewBlock>> ImportMany<I> {
    /// The next block's result; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Imported>> {
        self.step().await
    }
}
