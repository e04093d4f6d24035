//! The client, written once: `client!()` makes the blocking one, `client!(async)` the one
//! for tokio; likewise what it gives, in views.rs, leases.rs and streams.rs. They differ in the `Stream` beside them, in `wait!`, which awaits or not,
//! and in how drafts and pins are ended when they are dropped.

macro_rules! client {
    ($($async:tt)?) => {
        use std::sync::{Arc, Mutex, PoisonError};
        use std::time::{Duration, Instant};

        use crate::answers::*;
        use crate::calls::{self, *};
        use crate::config::{Config, Options};
        use crate::wire::{Answer, Call, Framing, Head, Incoming};
        use crate::{Error, Hash, Key, Kind};
        #[cfg(feature = "proofs")]
        use crate::{Proven, Statement};

        type Result<T> = std::result::Result<T, Error>;

        fn cut_short() -> Error {
            Error::new(Kind::Connection, "it was closed before the answer's end")
        }

        /// A connection.
        struct Conn {
            stream: Stream,
            incoming: Incoming,
        }

        impl Conn {
            $($async)? fn open(config: &Config, deadline: Option<Instant>) -> Result<Self> {
                let stream = wait!(Stream::connect(&config.address, deadline));
                let stream = stream.map_err(|error| Error::io(&format!("connect to {}", config.address), error))?;
                Ok(Conn { stream, incoming: Incoming::new() })
            }

            /// Sends a request, but for the rest of a stream, and takes the answer's head.
            /// True where the connection may be used again after it. The server may answer
            /// before it has read all, and close.
            $($async)? fn ask(&mut self, bytes: &[u8], body: &[u8], deadline: Option<Instant>) -> Result<(Head, bool)> {
                let mut sent = wait!(self.stream.send(bytes, &mut self.incoming, deadline));
                if matches!(sent, Ok(true)) && !body.is_empty() {
                    sent = wait!(self.stream.send(body, &mut self.incoming, deadline));
                }
                loop {
                    if let Some(head) = self.incoming.head()? {
                        let keep = matches!(sent, Ok(true)) && !head.close;
                        return Ok((head, keep));
                    }
                    match (wait!(self.fill(deadline)), sent) {
                        (Ok(true), again) => sent = again,
                        (_, Err(error)) => return Err(Error::io("send", error)),
                        (Ok(false), _) => return Err(cut_short()),
                        (Err(error), _) => return Err(error),
                    }
                }
            }

            /// Waits for more to come; false at the connection's end.
            $($async)? fn fill(&mut self, deadline: Option<Instant>) -> Result<bool> {
                match wait!(self.stream.fill(&mut self.incoming, deadline)) {
                    Ok(n) => Ok(n > 0),
                    Err(error) => Err(Error::io("receive", error)),
                }
            }

            /// Takes the whole body of an answer.
            $($async)? fn body(&mut self, head: &Head, limit: usize, deadline: Option<Instant>) -> Result<Vec<u8>> {
                let mut framing = head.framing;
                let mut out = Vec::new();
                if let Framing::Length(n) = framing {
                    // Not on the server's word alone.
                    out.reserve(n.min(1 << 20) as usize);
                }
                while !framing.pull(&mut self.incoming, &mut out, limit)? {
                    if !wait!(self.fill(deadline))? {
                        return Err(cut_short());
                    }
                }
                Ok(out)
            }

            /// Asks, and takes the answer.
            $($async)? fn answer(&mut self, config: &Config, call: &Call, deadline: Option<Instant>) -> Result<(Answer, bool)> {
                let bytes = config.request(call, false)?;
                let (head, keep) = wait!(self.ask(&bytes, call.large_body(), deadline))?;
                let limit = head.limit(&config.options).min(call.most);
                let body = wait!(self.body(&head, limit, deadline))?;
                Ok((Answer { head, body }, keep && self.incoming.is_empty()))
            }
        }

        struct Shared {
            config: Config,
            idle: Mutex<Vec<Conn>>,
        }

        /// A client of one server. It is cheap to clone, and safe to use from several
        /// threads or tasks: each call has a connection for itself.
        #[derive(Clone)]
        pub struct Client {
            shared: Arc<Shared>,
        }

        impl std::fmt::Debug for Client {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple("Client").field(&self.shared.config.address).finish()
            }
        }

        impl Client {
            /// A client of the server at `unix:///path/to/socket`, a path that contains a
            /// slash or ends in `.sock`, or `http://host:port`. It connects at its first call.
            pub fn new(address: &str) -> Result<Self> {
                Client::with(address, Options::default())
            }

            /// The same with options.
            pub fn with(address: &str, options: Options) -> Result<Self> {
                let config = Config::new(address, options)?;
                Ok(Client { shared: Arc::new(Shared { config, idle: Mutex::default() }) })
            }

            fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Conn>> {
                self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
            }

            $($async)? fn call(&self, call: &Call) -> Result<Answer> {
                let config = &self.shared.config;
                let deadline = config.deadline(call);
                // What must not be sent twice gets a connection that can't have been closed
                // since its last use.
                let idle = if call.idempotent { self.idle().pop() } else { None };
                let mut outcome = None;
                if let Some(mut conn) = idle {
                    match wait!(conn.answer(config, call, deadline)) {
                        // It was closed before the first byte: once more, on a new one.
                        Err(error) if error.kind == Kind::Connection && !conn.incoming.heard => {}
                        done => outcome = Some((conn, done)),
                    }
                }
                let (conn, done) = match outcome {
                    Some(outcome) => outcome,
                    None => {
                        let mut conn = wait!(Conn::open(config, deadline))?;
                        let done = wait!(conn.answer(config, call, deadline));
                        (conn, done)
                    }
                };
                let (answer, keep) = done?;
                self.keep(conn, keep);
                Ok(answer)
            }

            /// Keeps a connection for later calls.
            fn keep(&self, mut conn: Conn, keep: bool) {
                conn.incoming.heard = false;
                let mut idle = self.idle();
                if keep && idle.len() < self.shared.config.options.idle {
                    idle.push(conn);
                }
            }

            $($async)? fn run<T, D: Read<T>>(&self, op: Op<D>) -> Result<T> {
                let answer = wait!(self.call(&op.call))?;
                (op.read)(answer)
            }

            /// A view of the state at a block: `head`, `finalized`, `anchor`, `genesis`, a slot,
            /// or a hash or 8 or more of its first hex digits. The first answer binds it to
            /// that block.
            pub fn at(&self, block: impl ToString) -> View {
                View { client: self.clone(), name: Arc::new(Name::new(&block.to_string())) }
            }

            /// A block of the tree.
            pub $($async)? fn block(&self, block: impl ToString) -> Result<Block> {
                wait!(self.run(calls::block(&block.to_string(), None)?))
            }

            /// A block of the tree, for which the server waits so long if need be.
            pub $($async)? fn wait_block(&self, hash: Hash, wait: Duration) -> Result<Block> {
                wait!(self.run(calls::block(&hash.to_string(), Some(wait))?))
            }

            /// The whole tree.
            pub $($async)? fn blocks(&self) -> Result<Tree> {
                wait!(self.tree(false, calls::MANY))
            }

            /// The blocks without children: where the forks end.
            pub $($async)? fn leaves(&self) -> Result<Tree> {
                wait!(self.tree(true, calls::MANY))
            }

            /// The tree or its leaves, asked for in pages of so many blocks.
            pub $($async)? fn tree(&self, leaves: bool, page: usize) -> Result<Tree> {
                let (mut tree, mut next) = wait!(self.run(calls::blocks(leaves, page, "")))?;
                while let Some(from) = next {
                    let (more, after) = wait!(self.run(calls::blocks(leaves, page, &from)))?;
                    if more.blocks.is_empty() || after.as_ref() == Some(&from) || tree.blocks.len() > 1_000_000 {
                        return Err(Error::bad_answer("pages of the tree without an end"));
                    }
                    tree.blocks.extend(more.blocks);
                    (tree.head, tree.finalized, tree.anchor) = (more.head, more.finalized, more.anchor);
                    next = after;
                }
                Ok(tree)
            }

            /// Which of some blocks are held: of 10,000 at most.
            pub $($async)? fn held(&self, hashes: &[Hash]) -> Result<Vec<Hash>> {
                wait!(self.run(calls::held(hashes)))
            }

            /// Imports a block; waits for others who import into its slot, or its parent.
            pub $($async)? fn import(&self, block: &NewBlock) -> Result<Imported> {
                wait!(self.run(calls::import(block, None)))
            }

            /// The same, waiting for others so long at most.
            pub $($async)? fn import_within(&self, block: &NewBlock, wait: Duration) -> Result<Imported> {
                wait!(self.run(calls::import(block, Some(wait))))
            }

            /// Imports blocks, one after the other, in one request. A block is taken from the
            /// iterator when the result of the one before has been given. A refused block
            /// doesn't end it.
            pub fn import_many<I>(&self, blocks: I) -> ImportMany<I::IntoIter>
            where
                I: IntoIterator<Item = NewBlock>,
            {
                ImportMany { client: self.clone(), blocks: blocks.into_iter(), stream: None, lines: 0, broken: false, owing: false, over: false }
            }

            /// Says which block is best.
            pub $($async)? fn set_head(&self, hash: Hash) -> Result<About> {
                wait!(self.run(calls::set_head(hash)))
            }

            /// Makes a branch canonical, up to a block.
            pub $($async)? fn finalize(&self, hash: Hash) -> Result<Finalized> {
                wait!(self.run(calls::finalize(hash)))
            }

            /// What differs between the states at two blocks.
            pub $($async)? fn diff(&self, from: impl ToString, to: impl ToString) -> Result<Diff> {
                wait!(self.run(calls::diff(&from.to_string(), &to.to_string())))
            }

            /// Who wrote a key on a block's branch, newest first.
            pub $($async)? fn history(&self, key: impl Into<Key>, at: impl ToString, limit: Option<u64>) -> Result<History> {
                wait!(self.run(calls::history(&key.into(), &at.to_string(), limit)?))
            }

            /// Begins a draft: an import in progress on a parent's state.
            pub $($async)? fn begin_draft(&self, parent: impl ToString, slot: u32, options: &DraftOptions) -> Result<Draft> {
                let info = wait!(self.run(calls::begin_draft(&parent.to_string(), slot, options)))?;
                Ok(Draft { client: self.clone(), id: info.id.clone(), begun: Some(info), ends: true })
            }

            /// A draft that was begun elsewhere. It doesn't end with this value.
            pub fn draft(&self, id: &str) -> Draft {
                Draft { client: self.clone(), id: id.to_string(), begun: None, ends: false }
            }

            /// The drafts that are open, oldest first.
            pub $($async)? fn drafts(&self) -> Result<Vec<DraftInfo>> {
                wait!(self.run(calls::drafts()))
            }

            /// Which slots are locked or reserved.
            pub $($async)? fn locks(&self) -> Result<Locks> {
                wait!(self.run(calls::locks()))
            }

            /// Keeps a block readable for a time.
            pub $($async)? fn pin(&self, block: impl ToString, ttl: Duration, options: &PinOptions) -> Result<Pin> {
                let info = wait!(self.run(calls::pin(&block.to_string(), ttl, options)))?;
                Ok(Pin { client: self.clone(), id: info.id.clone(), made: Some(info), ends: true })
            }

            /// A pin that was made elsewhere. It doesn't end with this value.
            pub fn pinned(&self, id: &str) -> Pin {
                Pin { client: self.clone(), id: id.to_string(), made: None, ends: false }
            }

            /// The pins that there are.
            pub $($async)? fn pins(&self) -> Result<Vec<PinInfo>> {
                wait!(self.run(calls::pins()))
            }

            /// What store, tree and drafts are like.
            pub $($async)? fn status(&self) -> Result<Status> {
                wait!(self.run(calls::status()))
            }

            /// An item (a preimage, bundle or segment) by its BLAKE2b-256 hash, which is
            /// checked: from the sidecar's store, else from its peers. [`Kind::UnknownItem`]:
            /// nobody who could be asked has it. [`Kind::NotFetched`]: peers could not be
            /// asked, or did not answer; it may exist.
            #[cfg(feature = "proofs")]
            pub $($async)? fn item(&self, hash: Hash) -> Result<Vec<u8>> {
                wait!(self.run(calls::item(hash)))
            }

            /// Has the sidecar keep an item, of at most 16 MiB, for a time, for readers and
            /// peers. Gives its hash.
            #[cfg(feature = "proofs")]
            pub $($async)? fn put_item(&self, item: impl Into<Vec<u8>>) -> Result<Hash> {
                let (hash, op) = calls::put_item(item.into());
                wait!(self.run(op)).map(|()| hash)
            }

            /// Encodes a work package: its bundle, and the segments of 4,104 bytes that it
            /// exports, into 1,023 shards, or 6 of the tiny chain. The sidecar keeps, and
            /// serves, those that `keep` says.
            #[cfg(feature = "proofs")]
            pub $($async)? fn encode(&self, bundle: &[u8], segments: &[impl AsRef<[u8]>], shards: u32, keep: &Keep) -> Result<Spec> {
                let op = calls::encode(bundle, segments, shards, keep)?;
                wait!(self.run(op))
            }

            /// A bundle from shards that the sidecar keeps, and peers. Errors as of
            /// [`Client::item`], and [`Kind::BadEncoding`].
            #[cfg(feature = "proofs")]
            pub $($async)? fn bundle(&self, spec: &Spec) -> Result<Vec<u8>> {
                wait!(self.run(calls::bundle(spec)))
            }

            /// An exported segment, counted from 0, that the sidecar has checked by its page
            /// of proofs. Errors as of [`Client::bundle`].
            #[cfg(feature = "proofs")]
            pub $($async)? fn segment(&self, spec: &Spec, index: u32) -> Result<Vec<u8>> {
                wait!(self.run(calls::segment(spec, index)))
            }

            /// A shard that the sidecar keeps itself, else [`Kind::UnknownItem`]. It is not
            /// checked: whom you give it to does.
            #[cfg(feature = "proofs")]
            pub $($async)? fn shard(&self, root: Hash, index: u32) -> Result<Shard> {
                wait!(self.run(calls::shard(root, index)))
            }

            /// Has the sidecar check a shard, and keep it: it is on its disk when this ends.
            #[cfg(feature = "proofs")]
            pub $($async)? fn put_shard(&self, spec: &Spec, index: u32, shard: &Shard) -> Result<()> {
                wait!(self.run(calls::put_shard(spec, index, shard)))
            }

            /// Follows what happens, from the moment of this call on. The connection is made
            /// now, and again whenever it breaks off; nothing is missed then.
            pub $($async)? fn events(&self, options: EventOptions) -> Result<Events> {
                let parser = EventParser::new();
                let mut events = Events { client: self.clone(), options, parser, stream: None, heard: Instant::now(), again: None, over: false };
                let deadline = self.shared.config.deadline(&Call::get(String::new()));
                wait!(events.connect(deadline))?;
                Ok(events)
            }
        }

    };
}
pub(crate) use client;
