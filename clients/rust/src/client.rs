//! The client, written once: `client!()` makes the blocking one, `client!(async)` the one
//! for tokio. They differ in the `Stream` beside them, in `wait!`, which awaits or not,
//! and in how drafts and pins are ended when they are dropped.

macro_rules! client {
    ($($async:tt)?) => {
        use std::sync::{Arc, Mutex, PoisonError};
        use std::time::{Duration, Instant};

        use crate::answers::*;
        use crate::calls::{self, *};
        use crate::wire::{Answer, Call, Config, Framing, Head, Incoming, Options};
        use crate::{Error, Hash, Key, Kind};
        #[cfg(feature = "proofs")]
        use crate::{Proven, Statement};

        type Result<T> = std::result::Result<T, Error>;

        /// A connection.
        struct Conn {
            stream: Stream,
            incoming: Incoming,
        }

        impl Conn {
            $($async)? fn open(config: &Config, deadline: Option<Instant>) -> Result<Self> {
                let stream = wait!(Stream::connect(&config.address, deadline));
                let stream = stream.map_err(|error| Error::io("connect", &error))?;
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
                        let keep = matches!(sent, Ok(true)) && !head.close && head.framing != Framing::Close;
                        return Ok((head, keep));
                    }
                    match (wait!(self.fill(deadline)), &sent) {
                        (Ok(true), _) => {}
                        (_, Err(error)) => return Err(Error::io("send", error)),
                        (Ok(false), _) => return Err(Error::new(Kind::Connection, "it was closed before the answer's end")),
                        (Err(error), _) => return Err(error),
                    }
                }
            }

            /// Waits for more to come; false at the connection's end.
            $($async)? fn fill(&mut self, deadline: Option<Instant>) -> Result<bool> {
                match wait!(self.stream.fill(&mut self.incoming, deadline)) {
                    Ok(n) => Ok(n > 0),
                    Err(error) => Err(Error::io("receive", &error)),
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
                        match framing {
                            Framing::Close => break,
                            _ => return Err(Error::new(Kind::Connection, "it was closed before the answer's end")),
                        }
                    }
                }
                Ok(out)
            }

            /// Asks, and takes the answer.
            $($async)? fn answer(&mut self, config: &Config, call: &Call, deadline: Option<Instant>) -> Result<(Answer, bool)> {
                let bytes = config.request(call, false)?;
                let (head, keep) = wait!(self.ask(&bytes, call.large_body(), deadline))?;
                let body = wait!(self.body(&head, head.limit(&config.options), deadline))?;
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
                ImportMany { client: self.clone(), blocks: blocks.into_iter(), stream: None, lines: 0, broken: false, over: false }
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

            /// Follows what happens, from the moment of this call on. The connection is made
            /// now, and again whenever it breaks off; nothing is missed then.
            pub $($async)? fn events(&self, options: EventOptions) -> Result<Events> {
                let parser = EventParser::new();
                let mut events = Events { client: self.clone(), options, parser, stream: None, again: None, over: false };
                let deadline = self.shared.config.deadline(&Call::get(String::new()));
                wait!(events.connect(deadline))?;
                Ok(events)
            }
        }

        /// The state at a block. Cheap to clone; clones are bound together.
        #[derive(Clone)]
        pub struct View {
            client: Client,
            name: Arc<Name>,
        }

        impl View {
            /// The block, once an answer has named it.
            pub fn about(&self) -> Option<About> {
                self.name.about()
            }

            $($async)? fn read<T, D: Read<T>>(&self, make: impl Fn(&str) -> Result<Op<D>>) -> Result<T> {
                loop {
                    let (id, by_hash) = self.name.id()?;
                    let op = make(&id)?;
                    let answer = wait!(self.client.call(&op.call))?;
                    if self.name.bind(&answer.head, by_hash)? {
                        return (op.read)(answer);
                    }
                }
            }

            /// The value of a key; `None` where the state has no such key.
            pub $($async)? fn get(&self, key: impl Into<Key>) -> Result<Option<Vec<u8>>> {
                let key = key.into().path()?;
                wait!(self.read(|id| Ok(calls::get(id, &key))))
            }

            /// Whether the state has a key.
            pub $($async)? fn contains(&self, key: impl Into<Key>) -> Result<bool> {
                Ok(wait!(self.get(key))?.is_some())
            }

            /// The values of keys, in their order. More than 10,000 take several requests.
            pub $($async)? fn get_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>> {
                let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
                let mut chunks = keys.chunks(calls::MANY);
                let first = chunks.next().unwrap_or_default();
                let mut values = wait!(self.read(|id| Ok(calls::get_many(id, first))))?;
                for chunk in chunks {
                    values.extend(wait!(self.read(|id| Ok(calls::get_many(id, chunk))))?);
                }
                Ok(values)
            }

            /// The pairs of the state, a page at a time.
            pub fn scan(&self, options: ScanOptions) -> Scan {
                Scan(Pages::new(self, options, true))
            }

            /// The keys of the state, a page at a time.
            pub fn keys(&self, options: ScanOptions) -> Keys {
                Keys(Pages::new(self, options, false))
            }

            /// What the block wrote.
            pub $($async)? fn changes(&self) -> Result<Changes> {
                let changes = wait!(self.read(|id| Ok(calls::changes(id))))?;
                match self.about().map(|about| about.block) == Some(changes.block) {
                    true => Ok(changes),
                    false => Err(Error::bad_answer("it is about another block than its head says")),
                }
            }

            /// A proof of what the state has at some keys, in binary form
            /// (docs/PROOFS.md). Not checked.
            pub $($async)? fn prove<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<u8>> {
                let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
                wait!(self.read(|id| calls::prove(id, &keys)))
            }

            /// A proof of the pairs with keys from `from` to `to`, both included, of `max`
            /// bytes. What is shorter than a key stands for the first, or the last, key
            /// that begins with it. Not checked.
            pub $($async)? fn prove_range(&self, from: &[u8], to: &[u8], max: Option<u32>) -> Result<Vec<u8>> {
                wait!(self.read(|id| Ok(calls::prove_range(id, from, to, max))))
            }

            /// A view that believes nothing but proofs against this root.
            #[cfg(feature = "proofs")]
            pub fn verified(&self, root: Hash) -> Verified {
                Verified { view: self.clone(), root }
            }

            /// The next page of a scan, and where the one after it begins.
            $($async)? fn page(&self, options: &ScanOptions, values: bool) -> Result<Page> {
                wait!(self.read(|id| Ok(calls::scan(id, options, values))))
            }
        }

        type Page = (Vec<Pair>, Option<Vec<u8>>);

        /// A view whose answers come with proofs, which are checked against a root.
        #[cfg(feature = "proofs")]
        #[derive(Clone)]
        pub struct Verified {
            view: View,
            root: Hash,
        }

        #[cfg(feature = "proofs")]
        impl Verified {
            /// The block, once an answer has named it.
            pub fn about(&self) -> Option<About> {
                self.view.about()
            }

            fn check(&self, bytes: &[u8], request: &crate::Request) -> Result<Proven> {
                let statement = Statement::decode(bytes)?;
                if self.about().map(|about| about.block) != Some(statement.block) || statement.request != *request {
                    return Err(Error::new(Kind::BadProof, "it answers another request"));
                }
                statement.verify(&self.root)
            }

            /// The value of a key; `None` where the state is proved not to have it.
            pub $($async)? fn get(&self, key: impl Into<Key>) -> Result<Option<Vec<u8>>> {
                Ok(wait!(self.get_many([key]))?.pop().flatten())
            }

            /// Whether the state has a key.
            pub $($async)? fn contains(&self, key: impl Into<Key>) -> Result<bool> {
                Ok(wait!(self.get(key))?.is_some())
            }

            /// The values of keys, in their order.
            pub $($async)? fn get_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>> {
                let keys: Result<Vec<[u8; 31]>> = keys.into_iter().map(|key| crate::proof::jam_key(&key.into())).collect();
                let keys = keys?;
                let mut sorted = keys.clone();
                sorted.sort_unstable();
                sorted.dedup();
                let mut pairs = Vec::with_capacity(sorted.len());
                // As many as an address has room for.
                for some in sorted.chunks(100) {
                    let proof = wait!(self.view.prove(some))?;
                    pairs.extend(self.check(&proof, &crate::Request::Keys(some.to_vec()))?.pairs);
                }
                let value = |key: &[u8; 31]| pairs[pairs.partition_point(|(k, _)| k < key)].1.clone();
                Ok(keys.iter().map(value).collect())
            }

            /// The pairs of the state, a page at a time, each with its proof. They can't
            /// come in reverse.
            pub fn scan(&self, options: ScanOptions) -> Scan {
                Scan(Pages { root: Some(self.root), ..Pages::new(&self.view, options, true) })
            }

            $($async)? fn range(&self, start: [u8; 31], end: [u8; 31], max_size: u32) -> Result<Proven> {
                let proof = wait!(self.view.prove_range(&start, &end, Some(max_size)))?;
                self.check(&proof, &crate::Request::Range { start, end, max_size })
            }

            $($async)? fn page(&self, options: &ScanOptions) -> Result<Page> {
                let from = options.from.as_deref().unwrap_or_default().max(&options.prefix[..]);
                if options.reverse || options.to.as_ref().is_some_and(|to| to.as_slice() <= from) {
                    return match options.reverse {
                        true => Err(Error::new(Kind::BadRequest, "a verified scan can't go down")),
                        false => Ok((Vec::new(), None)),
                    };
                }
                let start = crate::proof::boundary(from, 0)?;
                let mut end = crate::proof::boundary(&options.prefix, 0xff)?;
                if let Some(to) = &options.to {
                    end = end.min(crate::proof::boundary(to, 0)?);
                }
                if end < start {
                    return Ok((Vec::new(), None));
                }
                // A pair and its nodes, about.
                let max_size = options.page.clamp(8, 2048) as u32 * 512;
                let mut proven = wait!(self.range(start, end, max_size))?;
                if proven.pairs.is_empty() && proven.more {
                    // What there may be is above the end, which a pair there shows.
                    proven = wait!(self.range(start, [0xff; 31], 1))?;
                }
                let next = match (proven.pairs.last(), proven.more) {
                    (Some((last, _)), true) if *last < end => crate::proof::above(last),
                    (None, true) => return Err(Error::new(Kind::BadProof, "it leaves all pairs out")),
                    _ => None,
                };
                let inside = |key: &[u8]| key <= &end[..] && options.to.as_ref().map_or(true, |to| key < to.as_slice());
                let mut pairs: Vec<Pair> = proven.pairs.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
                pairs.retain(|(key, _)| inside(key));
                pairs.truncate(options.limit.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX));
                Ok((pairs, next.filter(|key| inside(key))))
            }
        }

        /// A walk over a state, page by page.
        struct Pages {
            view: View,
            options: ScanOptions,
            values: bool,
            page: std::vec::IntoIter<Pair>,
            over: bool,
            #[cfg_attr(not(feature = "proofs"), allow(dead_code))]
            root: Option<Hash>,
        }

        impl Pages {
            fn new(view: &View, options: ScanOptions, values: bool) -> Self {
                let over = options.limit == Some(0);
                Pages { view: view.clone(), options, values, page: Vec::new().into_iter(), over, root: None }
            }

            $($async)? fn step(&mut self) -> Option<Result<Pair>> {
                loop {
                    if let Some(pair) = self.page.next() {
                        return Some(Ok(pair));
                    }
                    if self.over {
                        return None;
                    }
                    match wait!(self.more()) {
                        Ok((pairs, next)) => {
                            let left = self.options.limit.map(|limit| limit.saturating_sub(pairs.len() as u64));
                            self.over = next.is_none() || left == Some(0);
                            (self.options.from, self.options.limit) = (next, left);
                            self.page = pairs.into_iter();
                        }
                        Err(error) => {
                            self.over = true;
                            return Some(Err(error));
                        }
                    }
                }
            }

            $($async)? fn more(&self) -> Result<Page> {
                #[cfg(feature = "proofs")]
                if let Some(root) = self.root {
                    return wait!(self.view.verified(root).page(&self.options));
                }
                wait!(self.view.page(&self.options, self.values))
            }
        }

        /// The pairs of a state. It ends after an error.
        pub struct Scan(Pages);

        impl Scan {
            /// The block, once an answer has named it.
            pub fn about(&self) -> Option<About> {
                self.0.view.about()
            }

            $($async)? fn step(&mut self) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
                let pair = wait!(self.0.step())?;
                Some(pair.map(|(key, value)| (key, value.unwrap_or_default())))
            }
        }

        /// The keys of a state. It ends after an error.
        pub struct Keys(Pages);

        impl Keys {
            $($async)? fn step(&mut self) -> Option<Result<Vec<u8>>> {
                let pair = wait!(self.0.step())?;
                Some(pair.map(|(key, _)| key))
            }
        }

        /// An import in progress: a state that can be written and read, seen by nobody
        /// else. Unless it is committed or kept, it is dropped on the server with this
        /// value; [`Draft::discard`] does that and says whether it worked.
        pub struct Draft {
            client: Client,
            id: String,
            begun: Option<DraftInfo>,
            ends: bool,
        }

        impl Draft {
            /// Names the draft.
            pub fn id(&self) -> &str {
                &self.id
            }

            /// What the server said of it when it began, here.
            pub fn begun(&self) -> Option<&DraftInfo> {
                self.begun.as_ref()
            }

            /// What it is like now.
            pub $($async)? fn info(&self) -> Result<DraftInfo> {
                wait!(self.client.run(calls::draft_info(&self.id)))
            }

            /// Lets the lease last so long from now; `None` for the server's default.
            pub $($async)? fn renew(&self, ttl: Option<Duration>) -> Result<DraftInfo> {
                wait!(self.client.run(calls::renew_draft(&self.id, ttl)))
            }

            /// The value of a key as the draft has it.
            pub $($async)? fn get(&self, key: impl Into<Key>) -> Result<Option<Vec<u8>>> {
                wait!(self.client.run(calls::draft_get(&self.id, &key.into())?))
            }

            /// The values of keys, in their order.
            pub $($async)? fn get_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>> {
                let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
                let mut values = Vec::with_capacity(keys.len());
                for chunk in keys.chunks(calls::MANY) {
                    values.extend(wait!(self.client.run(calls::draft_get_many(&self.id, chunk)))?);
                }
                Ok(values)
            }

            /// Puts a value.
            pub $($async)? fn put(&self, key: impl Into<Key>, value: &[u8]) -> Result<()> {
                wait!(self.client.run(calls::draft_put(&self.id, &key.into(), value)?))
            }

            /// Deletes a key.
            pub $($async)? fn delete(&self, key: impl Into<Key>) -> Result<()> {
                wait!(self.client.run(calls::draft_delete(&self.id, &key.into())?))
            }

            /// Makes many changes, all or none.
            pub $($async)? fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], dels: &[Vec<u8>]) -> Result<()> {
                wait!(self.client.run(calls::draft_write(&self.id, puts, dels)))
            }

            /// Imports the draft as a block. Where that is refused, the draft goes on.
            pub $($async)? fn commit(&mut self, hash: Hash, options: &CommitOptions) -> Result<Imported> {
                let imported = wait!(self.client.run(calls::commit(&self.id, hash, options)))?;
                self.ends = false;
                Ok(imported)
            }

            /// Drops the draft on the server.
            pub $($async)? fn discard(mut self) -> Result<()> {
                self.ends = false;
                wait!(self.client.run(calls::drop_draft(&self.id)))
            }

            /// Lets the draft outlive this value, until its lease ends.
            pub fn keep(mut self) -> String {
                self.ends = false;
                self.id.clone()
            }
        }

        impl Drop for Draft {
            fn drop(&mut self) {
                if self.ends {
                    self.client.end(calls::drop_draft(&self.id).call);
                }
            }
        }

        /// Keeps a block readable. It ends with this value unless it is kept;
        /// [`Pin::release`] ends it and says whether that worked.
        pub struct Pin {
            client: Client,
            id: String,
            made: Option<PinInfo>,
            ends: bool,
        }

        impl Pin {
            /// Names the pin.
            pub fn id(&self) -> &str {
                &self.id
            }

            /// What the server said of it when it was made, here.
            pub fn made(&self) -> Option<&PinInfo> {
                self.made.as_ref()
            }

            /// Lets it last so long from now.
            pub $($async)? fn renew(&self, ttl: Duration) -> Result<PinInfo> {
                wait!(self.client.run(calls::renew_pin(&self.id, ttl)))
            }

            /// Ends it.
            pub $($async)? fn release(mut self) -> Result<()> {
                self.ends = false;
                wait!(self.client.run(calls::unpin(&self.id)))
            }

            /// Lets the pin outlive this value, until its time is over.
            pub fn keep(mut self) -> String {
                self.ends = false;
                self.id.clone()
            }
        }

        impl Drop for Pin {
            fn drop(&mut self) {
                if self.ends {
                    self.client.end(calls::unpin(&self.id).call);
                }
            }
        }

        /// The results of blocks that are imported one after the other. See
        /// [`Client::import_many`].
        pub struct ImportMany<I> {
            client: Client,
            blocks: I,
            stream: Option<(Conn, Option<Framing>, Vec<u8>)>,
            lines: u64,
            /// The server answered a line before it had read all of it.
            broken: bool,
            over: bool,
        }

        impl<I: Iterator<Item = NewBlock>> ImportMany<I> {
            $($async)? fn step(&mut self) -> Option<Result<Imported>> {
                if self.over {
                    return None;
                }
                let Some(block) = self.blocks.next() else {
                    self.over = true;
                    return wait!(self.finish()).err().map(Err);
                };
                self.lines += 1;
                let line = match wait!(self.line(&block)) {
                    Ok(line) => line,
                    Err(error) => {
                        self.over = true;
                        return Some(Err(error));
                    }
                };
                let result = calls::import_line(&line, self.lines, block.hash);
                self.over = result.as_ref().err().is_some_and(|error| error.kind == Kind::BadAnswer);
                Some(result)
            }

            /// Sends a block, and takes the line that answers it.
            $($async)? fn line(&mut self, block: &NewBlock) -> Result<Vec<u8>> {
                let config = &self.client.shared.config;
                let call = calls::import_many();
                let deadline = config.deadline(&call);
                let mut bytes = Vec::new();
                if self.stream.is_none() {
                    bytes = config.request(&call, true)?;
                    let conn = wait!(Conn::open(config, deadline))?;
                    self.stream = Some((conn, None, Vec::new()));
                }
                let Some((conn, framing, text)) = &mut self.stream else {
                    return Err(Error::bad_answer("no stream"));
                };
                let line = block.to_json().to_string();
                bytes.extend(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).bytes());
                if let Some(framing) = framing {
                    if *framing == Framing::Length(0) {
                        return wait!(take_line(conn, framing, text, deadline));
                    }
                    if self.broken {
                        return Err(Error::new(Kind::Connection, "the stream ended before its time"));
                    }
                    let sent = wait!(conn.stream.send(&bytes, &mut conn.incoming, deadline));
                    self.broken = !matches!(sent, Ok(true));
                    return match (wait!(take_line(conn, framing, text, deadline)), sent) {
                        (Err(end), Err(error)) if end.kind == Kind::Connection => Err(Error::io("send", &error)),
                        (line, _) => line,
                    };
                }
                let (head, whole) = wait!(conn.ask(&bytes, &[], deadline))?;
                self.broken = !whole;
                if head.status != 200 || head.media != crate::wire::LINES {
                    let body = wait!(conn.body(&head, head.limit(&config.options), deadline))?;
                    return Err(Answer { head, body }.refused());
                }
                wait!(take_line(conn, framing.insert(head.framing), text, deadline))
            }

            /// Ends the request.
            $($async)? fn finish(&mut self) -> Result<()> {
                let Some((mut conn, Some(mut framing), mut text)) = self.stream.take().filter(|_| !self.broken) else {
                    return Ok(());
                };
                let deadline = self.client.shared.config.deadline(&calls::import_many());
                let sent = wait!(conn.stream.send(b"0\r\n\r\n", &mut conn.incoming, deadline));
                while !framing.pull(&mut conn.incoming, &mut text, LINE)? {
                    if !wait!(conn.fill(deadline))? {
                        return Err(Error::new(Kind::Connection, "it was closed before the answer's end"));
                    }
                }
                if !text.is_empty() || !conn.incoming.is_empty() {
                    return Err(Error::bad_answer("more lines than blocks"));
                }
                self.client.keep(conn, matches!(sent, Ok(true)));
                Ok(())
            }
        }

        /// The most bytes of an answer's line.
        const LINE: usize = 1 << 20;

        $($async)? fn take_line(conn: &mut Conn, framing: &mut Framing, text: &mut Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>> {
            loop {
                let end = framing.pull(&mut conn.incoming, text, LINE)?;
                // What came early is there already.
                if let Some(n) = text.iter().position(|&c| c == b'\n') {
                    return Ok(text.drain(..=n).collect());
                }
                if end {
                    return Err(Error::bad_answer("fewer lines than blocks"));
                }
                if !wait!(conn.fill(deadline))? {
                    return Err(Error::new(Kind::Connection, "the stream ended before its time"));
                }
            }
        }

        /// What happens to the store. Connections that break off are made again, after the
        /// last position that is known; only the server's refusal ends it.
        pub struct Events {
            client: Client,
            options: EventOptions,
            parser: EventParser,
            stream: Option<(Conn, Framing)>,
            again: Option<Instant>,
            over: bool,
        }

        /// The server says something every 15 s.
        const SILENCE: Duration = Duration::from_secs(45);

        impl Events {
            /// The position after which it would go on.
            pub fn position(&self) -> Option<u64> {
                self.parser.last.or(self.options.after)
            }

            /// The next event, if it comes in time. [`Kind::Deadline`] doesn't end it, nor
            /// does it lose anything.
            pub $($async)? fn next_within(&mut self, time: Duration) -> Result<Event> {
                let deadline = Instant::now().checked_add(time);
                wait!(self.step(deadline)).unwrap_or_else(|| Err(Error::new(Kind::Connection, "it has ended")))
            }

            $($async)? fn step(&mut self, deadline: Option<Instant>) -> Option<Result<Event>> {
                if self.over {
                    return None;
                }
                let next = wait!(self.wait(deadline));
                // Of the errors of connections only the caller's deadline gets here.
                self.over = next.as_ref().err().is_some_and(|error| error.kind != Kind::Deadline);
                Some(next)
            }

            $($async)? fn wait(&mut self, deadline: Option<Instant>) -> Result<Event> {
                loop {
                    if let Some(event) = self.parser.next()? {
                        return Ok(event);
                    }
                    let late = |now: Instant| deadline.is_some_and(|deadline| now >= deadline);
                    let now = Instant::now();
                    if late(now) {
                        return Err(Error::deadline());
                    }
                    let Some((conn, framing)) = &mut self.stream else {
                        let again = self.again.unwrap_or(now);
                        let until = deadline.map_or(again, |deadline| again.min(deadline));
                        if until > now {
                            wait!(sleep(until - now));
                            continue;
                        }
                        let silence = now + SILENCE;
                        let until = Some(deadline.map_or(silence, |deadline| deadline.min(silence)));
                        if let Err(error) = wait!(self.connect(until)) {
                            if matches!(error.status, 400..=499) {
                                return Err(error);
                            }
                            self.later(error.retry_after);
                        }
                        continue;
                    };
                    let before = self.parser.text.len();
                    let over = framing.pull(&mut conn.incoming, &mut self.parser.text, usize::MAX)?;
                    if self.parser.text.len() > before {
                        continue;
                    }
                    let silence = now + SILENCE;
                    let more = match over {
                        true => Ok(false),
                        false => wait!(conn.fill(Some(deadline.map_or(silence, |deadline| deadline.min(silence))))),
                    };
                    match more {
                        Ok(true) => {}
                        Err(error) if error.kind == Kind::Deadline && late(Instant::now()) => return Err(error),
                        _ => self.later(None),
                    }
                }
            }

            /// Lets the connection go, and makes another one after a while.
            fn later(&mut self, after: Option<Duration>) {
                self.stream = None;
                self.parser.reset();
                self.again = Instant::now().checked_add(after.unwrap_or(self.parser.retry).min(Duration::from_secs(60)));
            }

            $($async)? fn connect(&mut self, deadline: Option<Instant>) -> Result<()> {
                let config = &self.client.shared.config;
                let mut conn = wait!(Conn::open(config, deadline))?;
                let bytes = config.request(&calls::events(&self.options, self.parser.last), false)?;
                let (head, _) = wait!(conn.ask(&bytes, &[], deadline))?;
                if head.status != 200 || head.media != crate::wire::EVENTS {
                    let body = wait!(conn.body(&head, head.limit(&config.options), deadline))?;
                    return Err(Answer { head, body }.refused());
                }
                let framing = head.framing;
                self.stream = Some((conn, framing));
                Ok(())
            }
        }
    };
}
pub(crate) use client;
