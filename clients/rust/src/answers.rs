//! What the server says and is told, as types. Times are in milliseconds where a name
//! ends in `_ms`; the members are those of the API's JSON, in which bytes are hex.

use std::str::FromStr;

use serde_json::{json, Map, Value};

use crate::error::names;
use crate::json::{member, Json};
use crate::{Error, Hash, Kind};

macro_rules! answers {
    ($($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$of])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl Json for $name {
            fn read(value: Option<&Value>) -> Option<Self> {
                let members = value?.as_object()?;
                Some($name { $($field: Json::read(members.get(stringify!($field)))?,)* })
            }

            fn write(&self) -> Value {
                let mut members = Map::new();
                $(members.insert(stringify!($field).to_string(), self.$field.write());)*
                Value::Object(members)
            }
        }

        impl $name {
            /// The same as the API's JSON; what is missing is null.
            pub fn to_json(&self) -> Value {
                self.write()
            }
        }
    )*};
}

answers! {
    /// The block that a state is at.
    #[derive(Copy, Eq, Hash)]
    About {
        /// Its header hash.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
    }
    /// A block in the tree.
    Block {
        /// Its header hash.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
        /// `None` of the anchor.
        parent: Option<Hash>,
        /// Its children.
        children: Vec<Hash>,
        /// Whether it is the oldest block, of which the whole state is there.
        anchor: bool,
        /// Whether it has a checkpoint; what it has not is slower to read.
        checkpoint: bool,
        /// Whether it is the head.
        head: bool,
        /// Whether it is the newest finalized block.
        finalized: bool,
        /// Whether it is finalized, or an ancestor of finalized.
        canonical: bool,
        /// Whether it is on a branch that lost by finality.
        lost: bool,
    }
    /// The tree of blocks, or its leaves.
    Tree {
        /// The blocks, by slot, then hash.
        blocks: Vec<Block>,
        /// The best block.
        head: About,
        /// The newest finalized block.
        finalized: About,
        /// The oldest block.
        anchor: About,
    }
    /// What became of a block.
    Imported {
        /// The block.
        hash: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
        /// From where the parent's state was reached, unless from its checkpoint.
        walkback: Option<WalkBack>,
        /// How long it took, in milliseconds.
        ms: f64,
        /// Why the block, though held, has no checkpoint.
        unsealed: Option<String>,
        /// Whether it was not held before.
        new: bool,
    }
    /// From where a parent's state was reached.
    WalkBack {
        /// The ancestor whose checkpoint was used.
        from: Hash,
        /// How many blocks were replayed from there.
        blocks: u64,
        /// Why no nearer checkpoint was used.
        reasons: Vec<String>,
    }
    /// What a finalized block brings.
    Finalized {
        /// The block.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
        /// The blocks that lose by it.
        lost: Vec<Hash>,
    }
    /// What a block wrote.
    Changes {
        /// Keys and values, in order.
        puts: Vec<(Vec<u8>, Vec<u8>)>,
        /// Keys, in order.
        dels: Vec<Vec<u8>>,
        /// The block.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
    }
    /// What differs between two states.
    Diff {
        /// The one.
        from: About,
        /// The other.
        to: About,
        /// Their newest common ancestor.
        common: About,
        /// What differs, in order.
        keys: Vec<Difference>,
    }
    /// A key on which two states differ.
    Difference {
        /// The key.
        key: Vec<u8>,
        /// Its value in the one, if it is there.
        from: Option<Vec<u8>>,
        /// Its value in the other, if it is there.
        to: Option<Vec<u8>>,
    }
    /// Who wrote a key.
    History {
        /// The key.
        key: Vec<u8>,
        /// What was written, newest first.
        versions: Vec<Version>,
        /// The block whose branch it is.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
    }
    /// A value that a block wrote.
    Version {
        /// The block.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
        /// The value; `None` where the block deleted the key.
        value: Option<Vec<u8>>,
    }
    /// Who has a slot.
    Holder {
        /// The slot.
        slot: u32,
        /// The block that is being written.
        block: Option<Hash>,
        /// Who has it.
        owner: String,
        /// How long already.
        age_ms: i64,
    }
    /// A block whose checkpoint can't be used.
    Obstacle {
        /// The block.
        block: Hash,
        /// Its timeslot.
        slot: u32,
        /// The root of the state after it.
        root: Hash,
        /// Why.
        reason: String,
    }
    /// Who writes where.
    Locks {
        /// Blocks that are being written.
        locks: Vec<Lock>,
        /// Of drafts: they bind other owners' drafts alone.
        reservations: Vec<Reservation>,
    }
    /// A slot in which a block is being written.
    Lock {
        /// The slot.
        slot: u32,
        /// The block.
        block: Hash,
        /// Who writes it.
        owner: String,
        /// How long already.
        age_ms: i64,
        /// How many wait for the slot.
        waiters: u64,
    }
    /// A slot that drafts have reserved.
    Reservation {
        /// The slot.
        slot: u32,
        /// Whose drafts may share it.
        owner: String,
        /// How long already.
        age_ms: i64,
        /// In how many milliseconds it ends, unless it is being committed.
        expires_ms: Option<i64>,
    }
    /// An import in progress.
    DraftInfo {
        /// Names the draft.
        id: String,
        /// Whose state it changes.
        parent: About,
        /// The timeslot of the block to be.
        slot: u32,
        /// Whose drafts may share the slot.
        owner: String,
        /// How old it is.
        age_ms: i64,
        /// In how many milliseconds it ends, unless it is being committed.
        expires_ms: Option<i64>,
        /// The size of what is written.
        bytes: u64,
        /// How many keys are put or deleted.
        writes: u64,
    }
    /// What keeps a block readable.
    PinInfo {
        /// Names the pin.
        id: String,
        /// The block.
        block: Hash,
        /// Who pinned it.
        owner: String,
        /// How old the pin is.
        age_ms: i64,
        /// In how many milliseconds it ends.
        expires_ms: i64,
        /// A checkpoint to open read-only while the pin lasts.
        directory: Option<String>,
    }
    /// How far a partial store is.
    Fill {
        /// Pairs of the anchor's state that are there.
        done: u64,
        /// How many it has about; 0 while that can't be said.
        of: u64,
        /// Whether peers don't have that state any more: a later block has to be trusted; `None` where they may.
        anchor_gone: Option<bool>,
    }
    /// What store, tree and drafts are like.
    Status {
        /// The server's version.
        version: String,
        /// Whether imports are taken.
        ready: bool,
        /// Why not.
        reason: Option<String>,
        /// How states get their roots: `jam` or `none`.
        commitment: Option<String>,
        /// The oldest block.
        anchor: Option<About>,
        /// The newest finalized block.
        finalized: Option<About>,
        /// The best block.
        head: Option<About>,
        /// How many blocks are held.
        blocks: u64,
        /// How many have no children.
        leaves: u64,
        /// How many imports are on their way.
        importing: u64,
        /// How many slots are locked.
        locks: u64,
        /// How many drafts are open.
        drafts: u64,
        /// How many pins there are.
        pins: u64,
        /// Whether the read cache has its index.
        cache_ready: bool,
        /// The space that the store takes.
        disk_bytes: u64,
        /// The space that it may take; 0 for any.
        disk_budget: u64,
        /// The position of the oldest event that is kept; 0 where there is none.
        oldest_event: u64,
        /// The position of the newest one.
        newest_event: u64,
        /// Whether peers are asked for what is missing of the anchor's state.
        partial: bool,
        /// How much of it is there; `None` where all is.
        fill: Option<Fill>,
        /// Who the sidecar is among its peers.
        peer_id: Option<String>,
        /// Multiaddresses at which they reach it.
        peer_addresses: Option<Vec<String>>,
    }
    /// What happened to the store (docs/EVENTS.md).
    Event {
        /// What it was.
        kind: EventKind,
        /// Ascends, and is never used twice in a store.
        position: u64,
        /// Since 1970; a gap has none.
        time_ms: Option<u64>,
        /// The block that is held, head, finalized or anchor now, that walked back, or that wants a slot.
        block: Option<Hash>,
        /// Its parent.
        parent: Option<Hash>,
        /// Its timeslot.
        slot: Option<u32>,
        /// The root of the state after it.
        root: Option<Hash>,
        /// The head, finalized block or anchor before.
        old: Option<About>,
        /// Of a reorg: the newest block on both branches.
        common: Option<About>,
        /// Of a reorg: how many blocks of the old branch are left.
        depth: Option<u64>,
        /// Of finality: how many blocks lost by it.
        lost: Option<u64>,
        /// How many blocks went.
        pruned: Option<u64>,
        /// From where an import reached its parent's state.
        walkback: Option<WalkBack>,
        /// Of a lock: who had the slot.
        lock: Option<LockTold>,
        /// Of a gap: the first position that can't be given any more.
        first: Option<u64>,
        /// Of a gap: the last one.
        last: Option<u64>,
    }
    /// An import that found its slot locked.
    LockTold {
        /// The block for which it was locked.
        block: Hash,
        /// The slot.
        slot: u32,
        /// Who had it.
        owner: String,
        /// `waiting`, `granted` or `gave-up`.
        outcome: String,
        /// How long it waited.
        waited_ms: u64,
    }
}

names! {
    /// What an event is about.
    EventKind {
        Block = "block": "a block is held.",
        Head = "head": "the head is another block.",
        Reorg = "reorg": "just before that, where the head left its branch.",
        Finalized = "finalized": "a block was finalized.",
        Pruned = "pruned": "the anchor moved up.",
        Walkback = "walkback": "an import could not use its parent's checkpoint.",
        Lock = "lock": "an import found its slot locked, got it, or gave up.",
        Complete = "complete": "the anchor's whole state is here, of which there was only a part.",
        Gap = "gap": "events that can't be given: ask for the tree, and go on.",
    }
}

/// A block to import: what it writes upon its parent's state.
///
/// A line of a recording (docs/JAMTRACE.md) parses as one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewBlock {
    /// Its header hash.
    pub hash: Hash,
    /// Its parent's.
    pub parent: Hash,
    /// Its timeslot.
    pub slot: u32,
    /// Compared with the parent's root.
    pub prior_root: Option<Hash>,
    /// Compared with the root that comes out.
    pub post_root: Option<Hash>,
    /// Keys and values.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys.
    pub dels: Vec<Vec<u8>>,
    /// The encoded header, which is checked and kept.
    pub header: Option<Vec<u8>>,
}

impl FromStr for NewBlock {
    type Err = Error;

    /// Reads a block's JSON.
    fn from_str(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::new(Kind::BadBody, error.to_string()))?;
        NewBlock::from_json(&value).ok_or_else(|| Error::new(Kind::BadBody, "not a block"))
    }
}

impl NewBlock {
    /// Reads a block's JSON; members that a block doesn't have are passed over.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(NewBlock {
            hash: member(value, "hash")?,
            parent: member(value, "parent")?,
            slot: member(value, "slot")?,
            prior_root: member(value, "prior_root")?,
            post_root: member(value, "post_root")?,
            puts: member(value, "puts")?,
            dels: member(value, "dels")?,
            header: member(value, "header")?,
        })
    }

    /// The block's JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "hash": self.hash.write(), "parent": self.parent.write(), "slot": self.slot,
            "prior_root": self.prior_root.write(), "post_root": self.post_root.write(),
            "puts": self.puts.write(), "dels": self.dels.write(), "header": self.header.write(),
        })
    }

    /// The binary form (docs/PROTOCOL.md).
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let roots = [self.prior_root, self.post_root];
        let flags = u32::from(self.prior_root.is_some())
            | u32::from(self.post_root.is_some()) << 1
            | u32::from(self.header.is_some()) << 2;
        let mut out = b"blk1".to_vec();
        out.extend(flags.to_le_bytes());
        out.extend(self.hash.0);
        out.extend(self.parent.0);
        out.extend(self.slot.to_le_bytes());
        roots.iter().flatten().for_each(|root| out.extend(root.0));
        if let Some(header) = &self.header {
            push_frame(&mut out, header);
        }
        push_writes(&mut out, &self.puts, &self.dels);
        out
    }
}

pub(crate) fn push_frame(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub(crate) fn push_writes(out: &mut Vec<u8>, puts: &[(Vec<u8>, Vec<u8>)], dels: &[Vec<u8>]) {
    out.extend((puts.len() as u32).to_le_bytes());
    for (key, value) in puts {
        push_frame(out, key);
        push_frame(out, value);
    }
    out.extend((dels.len() as u32).to_le_bytes());
    dels.iter().for_each(|key| push_frame(out, key));
}
