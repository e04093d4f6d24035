//! Reads a pinned checkpoint directly, with a RocksDB of the reader's own: for bulk work on
//! the accessor's machine. docs/FORMAT.md has the rules that it keeps.
//!
//! ```no_run
//! use accessor_client::{Client, PinOptions};
//! use accessor_direct::Checkpoint;
//! use std::time::Duration;
//!
//! let client = Client::new("unix:///run/accessor/accessor.sock")?;
//! let options = PinOptions { directory: Some(true), ..PinOptions::default() };
//! let pin = client.pin("finalized", Duration::from_secs(600), &options)?;
//! let checkpoint = Checkpoint::open(pin.made().unwrap())?;
//! println!("{:?}", checkpoint.get(&[11; 31])?);
//! drop(checkpoint); // before the pin
//! pin.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;

use accessor_client::{Hash, PinInfo};
use rocksdb::{BlockBasedOptions, Cache, Direction, IteratorMode, Options, DB};

/// The bytes of memory for parts of tables that were read.
const CACHE: usize = 64 << 20;
/// The tag of the record of the block that the database is at.
const BLOCK: u8 = 0;
/// The tag of the state's keys.
const STATE: u8 = 1;

/// The state at a block, on disk. It stays as it is while the pin lasts.
pub struct Checkpoint {
    db: DB,
}

/// Why a checkpoint can't be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<rocksdb::Error> for Error {
    fn from(error: rocksdb::Error) -> Self {
        Error(error.into_string())
    }
}

impl Checkpoint {
    /// Opens the directory of a pin, which must be of the pin's block.
    pub fn open(pin: &PinInfo) -> Result<Self, Error> {
        let path = pin.directory.as_ref().ok_or(Error("the pin has no directory".into()))?;
        Checkpoint::open_at(path, pin.block)
    }

    /// Opens the directory of a pin of that block.
    pub fn open_at(path: &str, block: Hash) -> Result<Self, Error> {
        let mut options = Options::default();
        options.set_max_open_files(-1);
        let mut tables = BlockBasedOptions::default();
        // Only with a filter of this kind set are the tables' own filters looked at: they
        // spare most of the tables that don't have a key.
        tables.set_bloom_filter(10.0, false);
        tables.set_block_cache(&Cache::new_lru_cache(CACHE)?);
        options.set_block_based_table_factory(&tables);
        let db = DB::open_for_read_only(&options, path, false)?;
        let at = db.get([BLOCK])?.and_then(|record| block_of(&record));
        if at != Some(block) {
            return Err(Error(format!("{path} is at block {at:?}, not {block}")));
        }
        Ok(Checkpoint { db })
    }

    /// The value of a key; `None` where the state has no such key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.db.get_pinned(stored(key))? {
            Some(value) => entry(&value).map(|value| value.map(<[u8]>::to_vec)),
            None => Ok(None),
        }
    }

    /// The values of keys, in their order, by one call of RocksDB.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let found = self.db.multi_get(keys.iter().map(|key| stored(key.as_ref())));
        let value = |found: Result<Option<Vec<u8>>, rocksdb::Error>| match found? {
            Some(value) => entry(&value).map(|value| value.map(<[u8]>::to_vec)),
            None => Ok(None),
        };
        found.into_iter().map(value).collect()
    }

    /// The pairs of the state with keys from `from` on, in order.
    pub fn scan(&self, from: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> + '_ {
        let pairs = self.db.iterator(IteratorMode::From(&stored(from), Direction::Forward));
        let ours = pairs.take_while(|pair| pair.as_ref().map_or(true, |(key, _)| key.first() == Some(&STATE)));
        ours.filter_map(|pair| {
            let pair = pair.map_err(Error::from).and_then(|(key, value)| {
                let value = entry(&value)?;
                Ok(value.map(|value| (key[1..].to_vec(), value.to_vec())))
            });
            pair.transpose()
        })
    }
}

/// The hash in the record of a block, of which version 1 is known.
fn block_of(stored: &[u8]) -> Option<Hash> {
    match stored {
        [0, 1, _flags, rest @ ..] => Some(Hash(rest.get(..32)?.try_into().ok()?)),
        _ => None,
    }
}

fn stored(key: &[u8]) -> Vec<u8> {
    [&[STATE], key].concat()
}

/// What a stored value says: `00` ++ value, or `01` for an absent key.
fn entry(stored: &[u8]) -> Result<Option<&[u8]>, Error> {
    match stored {
        [0, value @ ..] => Ok(Some(value)),
        [1] => Ok(None),
        _ => Err(Error("a value that has neither tag".into())),
    }
}
