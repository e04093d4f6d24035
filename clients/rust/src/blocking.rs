use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread::sleep;

use crate::config::Address;

macro_rules! wait {
    ($done:expr) => {
        $done
    };
}

crate::client::client!();
crate::views::views!();
crate::leases::leases!();
crate::streams::streams!();

/// How long a write may stand still before it is seen whether the server has answered.
const STALL: Duration = Duration::from_millis(20);
/// The most bytes of a write: one to a slow reader takes as long as it has bytes.
const WRITE: usize = 256 << 10;

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Does the same to either kind of socket.
macro_rules! either {
    ($socket:expr, $it:ident => $do:expr) => {
        match $socket {
            Socket::Unix($it) => $do,
            Socket::Tcp($it) => $do,
        }
    };
}

struct Stream {
    socket: Socket,
    /// What the socket has as its limit for reads.
    limit: Option<Duration>,
}

/// The time left; an error when it is over.
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(Duration::ZERO) => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn stalled(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Stream {
    fn connect(address: &Address, deadline: Option<Instant>) -> io::Result<Self> {
        let socket = match address {
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Address::Tcp(host) => Socket::Tcp(connect_tcp(host, deadline)?),
        };
        either!(&socket, it => it.set_write_timeout(Some(STALL)))?;
        Ok(Stream { socket, limit: None })
    }

    /// Sends all; false where the server answered before that.
    fn send(&mut self, mut bytes: &[u8], incoming: &mut Incoming, deadline: Option<Instant>) -> io::Result<bool> {
        while !bytes.is_empty() {
            left(deadline)?;
            match either!(&mut self.socket, it => it.write(&bytes[..bytes.len().min(WRITE)])) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if stalled(&error) => {
                    if self.glance(incoming)? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes what is there already; false where nothing is. No answer can come any more
    /// after the end, which is something.
    fn glance(&mut self, incoming: &mut Incoming) -> io::Result<bool> {
        either!(&self.socket, it => it.set_nonblocking(true))?;
        let read = either!(&mut self.socket, it => it.read(incoming.space()));
        either!(&self.socket, it => it.set_nonblocking(false))?;
        match read {
            Ok(n) => {
                incoming.filled(n);
                Ok(true)
            }
            Err(error) if stalled(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for more; 0 at the end.
    fn fill(&mut self, incoming: &mut Incoming, deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            self.limit(left(deadline)?)?;
            match either!(&mut self.socket, it => it.read(incoming.space())) {
                Ok(n) => {
                    incoming.filled(n);
                    return Ok(n);
                }
                Err(error) if stalled(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bounds a read by the time left. The limit of the reads before is good enough where
    /// it is a little shorter: then the read is tried again.
    fn limit(&mut self, left: Option<Duration>) -> io::Result<()> {
        let good = match (self.limit, left) {
            (Some(limit), Some(left)) => limit <= left + Duration::from_millis(20) && limit >= left / 4,
            (limit, left) => limit == left,
        };
        if !good {
            either!(&self.socket, it => it.set_read_timeout(left))?;
            self.limit = left;
        }
        Ok(())
    }
}

fn connect_tcp(host: &str, deadline: Option<Instant>) -> io::Result<TcpStream> {
    let mut last = ErrorKind::AddrNotAvailable.into();
    for address in std::net::ToSocketAddrs::to_socket_addrs(host)? {
        let tried = match left(deadline)? {
            Some(time) => TcpStream::connect_timeout(&address, time),
            None => TcpStream::connect(address),
        };
        match tried {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Client {
    /// Ends a draft or a pin whose value is dropped: as well as it can be done in a moment.
    fn end(&self, mut call: Call) {
        call.timeout = Some(Duration::from_secs(2));
        let _ = self.call(&call);
    }
}

macro_rules! iterators {
    ($($of:ident: $item:ty,)*) => {$(
        impl Iterator for $of {
            type Item = Result<$item>;

            fn next(&mut self) -> Option<Self::Item> {
                self.step()
            }
        }
    )*};
}

iterators! {
    Scan: (Vec<u8>, Vec<u8>),
    Keys: Vec<u8>,
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(None)
    }
}

impl<I: Iterator<Item = NewBlock>> Iterator for ImportMany<I> {
    type Item = Result<Imported>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}
