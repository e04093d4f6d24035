//! Drafts and pins, written once: see client.rs.

macro_rules! leases {
    ($($async:tt)?) => {
        /// An import in progress: a state that can be written and read, seen by nobody
        /// else. Unless it is committed or kept, it is dropped on the server with this
        /// value; [`Draft::discard`] does that and says whether it worked.
        #[derive(Debug)]
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

            fn parent(&self) -> Option<Hash> {
                self.begun.as_ref().map(|begun| begun.parent.block)
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
                wait!(self.client.run(calls::draft_get(&self.id, self.parent(), &key.into())?))
            }

            /// The values of keys, in their order.
            pub $($async)? fn get_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>> {
                let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
                let mut values = Vec::with_capacity(keys.len());
                for chunk in keys.chunks(calls::MANY) {
                    values.extend(wait!(self.client.run(calls::draft_get_many(&self.id, self.parent(), chunk)))?);
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
                // Only now: a future that is dropped before leaves that to the value's end.
                let done = wait!(self.client.run(calls::drop_draft(&self.id)));
                self.ends = false;
                done
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
        #[derive(Debug)]
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
                let done = wait!(self.client.run(calls::unpin(&self.id)));
                self.ends = false;
                done
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
    };
}
pub(crate) use leases;
