//! Views and scans, written once: see client.rs.

macro_rules! views {
    ($($async:tt)?) => {
        /// The state at a block. Cheap to clone; clones are bound together.
        #[derive(Debug, Clone)]
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
                wait!(self.read(|id| Ok(calls::prove(id, &keys))))
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
        #[derive(Debug, Clone)]
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
                // A proof is checked as a whole.
                for some in sorted.chunks(1000) {
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
                let max_size = options.page.clamp(1, 2048) as u32 * 512;
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
        #[derive(Debug)]
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
        #[derive(Debug)]
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
        #[derive(Debug)]
        pub struct Keys(Pages);

        impl Keys {
            $($async)? fn step(&mut self) -> Option<Result<Vec<u8>>> {
                let pair = wait!(self.0.step())?;
                Some(pair.map(|(key, _)| key))
            }
        }
    };
}
pub(crate) use views;
