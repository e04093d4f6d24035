//! Proofs against a state's root (docs/PROOFS.md): JAM's trie, Gray Paper 0.7.2, D.2.
//!
//! With H = BLAKE2b-256, and bits counted from the most significant bit of the first
//! byte:
//!
//! ```text
//! hash(node)   = H(node), node being 64 bytes; of an empty sub-trie 32 zero bytes
//! branch(l, r) = (l[0] & 0x7f) ++ l[1:32] ++ r      l is the child of bit 0, r of bit 1
//! leaf(k, v)   = (0x80 | len(v)) ++ k ++ v ++ 00…   where len(v) ≤ 32
//!              = 0xc0 ++ k ++ H(v)                  where v is longer
//! ```
//!
//! A leaf sits at the first depth where it is alone.

use blake2::{digest::consts::U32, Blake2b, Digest};

use crate::{Error, Hash, Kind};

type Key = [u8; 31];
type Node = [u8; 64];

/// The depth of the deepest leaf: the bits of a key.
const DEPTH: usize = 248;

/// BLAKE2b-256.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    Blake2b::<U32>::digest(bytes).into()
}

fn bad(detail: impl Into<String>) -> Error {
    Error::new(Kind::BadProof, detail)
}

/// A request and the proof that answers it, as they are kept in a file or passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The block that the state is said to be at. A root proves a state, not whose it is.
    pub block: Hash,
    /// What was asked for.
    pub request: Request,
    nodes: Vec<Node>,
    pairs: Vec<(Key, Vec<u8>)>,
}

/// What a proof answers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Keys, in ascending order.
    Keys(Vec<[u8; 31]>),
    /// The pairs with keys from `start` to `end`, both included, in `max_size` bytes of
    /// nodes and pairs.
    Range {
        /// The first key.
        start: [u8; 31],
        /// The last key.
        end: [u8; 31],
        /// The most bytes, unless there is one pair or none.
        max_size: u32,
    },
}

/// What a statement proves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Proven {
    /// The keys asked for, `None` for an absent one; or those of a range.
    pub pairs: Vec<([u8; 31], Option<Vec<u8>>)>,
    /// Whether a range may go on above the last pair. Without pairs and with this, only
    /// the range's first key is known to be absent.
    pub more: bool,
}

impl Statement {
    /// Reads the binary form. Error: [`Kind::BadProof`].
    pub fn decode(bytes: &[u8]) -> Result<Statement, Error> {
        let (messages, sum) = bytes.split_at(bytes.len().saturating_sub(32));
        if sum.len() != 32 || hash(messages) != sum {
            return Err(bad("not a proof, or it was changed"));
        }
        let mut rest = messages;
        let mut message = || {
            let size = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            let message = rest[4..].get(..size)?;
            rest = &rest[4 + size..];
            Some(message)
        };
        let parts = (message(), message(), message());
        let (Some(request), Some(nodes), Some(pairs)) = parts else {
            return Err(bad("a message is cut short"));
        };
        if !rest.is_empty() {
            return Err(bad("something follows its end"));
        }
        let (block, request) = read_request(request).ok_or_else(|| bad("its request has another length"))?;
        let keys = match &request {
            Request::Keys(keys) => keys.len(),
            Request::Range { .. } => 2,
        };
        if nodes.len() % 64 != 0 || nodes.len() / 64 > keys * (DEPTH + 1) {
            return Err(bad(format!("{} bytes of nodes", nodes.len())));
        }
        let nodes = nodes.chunks_exact(64).map(|n| n.try_into().unwrap_or([0; 64])).collect();
        let pairs =
            read_pairs(pairs).ok_or_else(|| bad("a pair is cut short, or its length is not in the shortest form"))?;
        Ok(Statement { block, request, nodes, pairs })
    }

    /// Checks the statement against a root that the caller trusts. Error:
    /// [`Kind::BadProof`].
    pub fn verify(self, root: &Hash) -> Result<Proven, Error> {
        let Statement { request, nodes, mut pairs, .. } = self;
        // Taken from the end.
        pairs.reverse();
        let mut walk = Walk { nodes: nodes.iter(), pairs };
        match request {
            Request::Keys(keys) => {
                if !keys.windows(2).all(|two| two[0] < two[1]) {
                    return Err(bad("its keys are not in order"));
                }
                let mut found = Vec::with_capacity(keys.len());
                walk.keys(root.0, false, Place::default(), &keys, &mut found)?;
                walk.done()?;
                Ok(Proven { pairs: keys.into_iter().zip(found).collect(), more: false })
            }
            Request::Range { start, end, max_size } => {
                let proven: Vec<_> = walk.pairs.iter().rev().map(|(key, value)| (*key, Some(value.clone()))).collect();
                let more = range(walk, root.0, start, end, max_size)?;
                Ok(Proven { pairs: proven, more })
            }
        }
    }
}

fn read_request(bytes: &[u8]) -> Option<(Hash, Request)> {
    let block = Hash(bytes.get(..32)?.try_into().ok()?);
    let rest = &bytes[32..];
    if rest.len() == 31 + 31 + 4 {
        let start = rest[..31].try_into().ok()?;
        let end = rest[31..62].try_into().ok()?;
        let max_size = u32::from_le_bytes(rest[62..].try_into().ok()?);
        return Some((block, Request::Range { start, end, max_size }));
    }
    if rest.len() % 31 != 0 {
        return None;
    }
    let keys: Option<Vec<Key>> = rest.chunks_exact(31).map(|key| key.try_into().ok()).collect();
    Some((block, Request::Keys(keys?)))
}

fn read_pairs(mut bytes: &[u8]) -> Option<Vec<(Key, Vec<u8>)>> {
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let key: Key = bytes.get(..31)?.try_into().ok()?;
        let (size, rest) = read_natural(&bytes[31..])?;
        let size = usize::try_from(size).ok()?;
        pairs.push((key, rest.get(..size)?.to_vec()));
        bytes = &rest[size..];
    }
    Some(pairs)
}

/// Reads a JAM natural in its shortest form: the leading ones of the first byte say how
/// many bytes follow, little-endian; its other bits are the highest.
fn read_natural(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let n = first.leading_ones() as usize;
    let low = rest.get(..n)?;
    let mut x = low.iter().rev().fold(0, |x, byte| x << 8 | u64::from(*byte));
    if n < 7 {
        x |= u64::from(first & (0x7f >> n)) << (8 * n);
    }
    match n > 0 && x >> (7 * n) == 0 {
        true => None,
        false => Some((x, &rest[n..])),
    }
}

/// A sub-trie: the first bits of its keys, zeros after them.
#[derive(Clone, Copy, Default)]
struct Place {
    bits: Key,
    depth: usize,
}

fn bit(key: &Key, i: usize) -> bool {
    key[i / 8] >> (7 - i % 8) & 1 == 1
}

impl Place {
    /// The sub-trie below; the depth is less than [`DEPTH`].
    fn child(mut self, right: bool) -> Place {
        self.bits[self.depth / 8] |= u8::from(right) << (7 - self.depth % 8);
        self.depth += 1;
        self
    }

    fn covers(&self, key: &Key) -> bool {
        *key >= self.bits && *key <= self.last()
    }

    /// The last key that it may hold.
    fn last(&self) -> Key {
        let mut key = self.bits;
        for (i, byte) in key.iter_mut().enumerate() {
            *byte |= match self.depth.saturating_sub(8 * i) {
                n @ 0..=7 => 0xff >> n,
                _ => 0,
            };
        }
        key
    }
}

/// Compares a hash with that of a branch, where a left child's has lost its first bit.
fn same_hash(mut got: [u8; 32], want: &[u8; 32], left: bool) -> bool {
    if left {
        got[0] &= 0x7f;
    }
    got == *want
}

fn branch(left: &[u8; 32], right: &[u8; 32]) -> Node {
    let mut node = [0; 64];
    node[..32].copy_from_slice(left);
    node[32..].copy_from_slice(right);
    node[0] &= 0x7f;
    node
}

fn leaf(key: &Key, value: &[u8]) -> Node {
    let mut node = [0; 64];
    node[1..32].copy_from_slice(key);
    if value.len() <= 32 {
        node[0] = 0x80 | value.len() as u8;
        node[32..32 + value.len()].copy_from_slice(value);
    } else {
        node[0] = 0xc0;
        node[32..].copy_from_slice(&hash(value));
    }
    node
}

/// A branch's children, or a leaf's key.
enum Seen {
    Branch([u8; 32], [u8; 32]),
    Leaf(Key),
}

fn look(node: &Node) -> Seen {
    let mut key = [0; 31];
    key.copy_from_slice(&node[1..32]);
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.copy_from_slice(&node[..32]);
    right.copy_from_slice(&node[32..]);
    match node[0] & 0x80 {
        0 => Seen::Branch(left, right),
        _ => Seen::Leaf(key),
    }
}

/// Takes nodes and pairs in the order in which a walk from the root comes to them.
struct Walk<'a> {
    nodes: std::slice::Iter<'a, Node>,
    /// The last is the next.
    pairs: Vec<(Key, Vec<u8>)>,
}

impl<'a> Walk<'a> {
    /// Takes the next node, which must have that hash.
    fn node(&mut self, want: &[u8; 32], left: bool, at: &Place) -> Result<&'a Node, Error> {
        let node = self.nodes.next().ok_or_else(|| bad(format!("the node at depth {} is missing", at.depth)))?;
        if !same_hash(hash(node), want, left) {
            return Err(bad(format!("the node at depth {} has another hash", at.depth)));
        }
        match look(node) {
            Seen::Leaf(key) if !at.covers(&key) => Err(bad("a leaf at another place")),
            Seen::Branch(..) if at.depth == DEPTH => Err(bad("a branch below all keys")),
            _ => Ok(node),
        }
    }

    /// Takes the next pair, which must be that of the leaf.
    fn take(&mut self, node: &Node) -> Result<Vec<u8>, Error> {
        match self.pairs.pop() {
            Some((key, value)) if leaf(&key, &value) == *node => Ok(value),
            _ => Err(bad("the pair of a leaf is missing, or another one")),
        }
    }

    fn done(&mut self) -> Result<(), Error> {
        match self.nodes.next().is_none() && self.pairs.is_empty() {
            true => Ok(()),
            false => Err(bad("it has more than what was asked for")),
        }
    }

    /// Finds keys in a sub-trie, of which the hash is known.
    fn keys(
        &mut self,
        want: [u8; 32],
        left: bool,
        at: Place,
        keys: &[Key],
        found: &mut Vec<Option<Vec<u8>>>,
    ) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        if want == [0; 32] {
            found.extend(keys.iter().map(|_| None));
            return Ok(());
        }
        let node = self.node(&want, left, &at)?;
        match look(node) {
            Seen::Leaf(its) => {
                for key in keys {
                    found.push(if *key == its { Some(self.take(node)?) } else { None });
                }
                Ok(())
            }
            Seen::Branch(l, r) => {
                let (left, right) = keys.split_at(keys.partition_point(|key| !bit(key, at.depth)));
                self.keys(l, true, at.child(false), left, found)?;
                self.keys(r, false, at.child(true), right, found)
            }
        }
    }
}

/// A range whose pairs are given up to `last`.
struct Range<'a> {
    walk: Walk<'a>,
    start: Key,
    last: Key,
    end: Key,
    more: bool,
}

/// Checks a range: the pairs are exactly those of the state from the start to the last
/// one given. Gives whether there may be others above.
fn range(walk: Walk<'_>, root: [u8; 32], start: Key, end: Key, max_size: u32) -> Result<bool, Error> {
    if start > end {
        return Err(bad("its range ends before it begins"));
    }
    let mut size = 64 * walk.nodes.len() as u64;
    let mut last = None;
    for (key, value) in walk.pairs.iter().rev() {
        if *key < start || *key > end || last.is_some_and(|last| last >= *key) {
            return Err(bad("a key outside of the range, or not in order"));
        }
        last = Some(*key);
        size += 31 + natural_size(value.len() as u64) + value.len() as u64;
    }
    if walk.pairs.len() > 1 && size > u64::from(max_size) {
        return Err(bad("larger than what was asked for"));
    }
    let mut range = Range { walk, start, last: last.unwrap_or(start), end, more: false };
    range.check(root, false, Place::default())?;
    range.walk.done()?;
    Ok(range.more)
}

fn natural_size(x: u64) -> u64 {
    (1..=8).find(|n| x >> (7 * n) == 0).unwrap_or(9)
}

impl Range<'_> {
    fn check(&mut self, want: [u8; 32], left: bool, at: Place) -> Result<(), Error> {
        if at.last() < self.start {
            return Ok(());
        }
        if at.bits > self.last {
            self.more |= want != [0; 32] && at.bits <= self.end;
            return Ok(());
        }
        if !at.covers(&self.start) && !at.covers(&self.last) {
            return self.inside(want, left, at);
        }
        if want == [0; 32] {
            return Ok(());
        }
        let node = self.walk.node(&want, left, &at)?;
        match look(node) {
            Seen::Branch(l, r) => {
                self.check(l, true, at.child(false))?;
                self.check(r, false, at.child(true))
            }
            Seen::Leaf(key) if key < self.start => Ok(()),
            Seen::Leaf(key) if key > self.last => {
                self.more |= key <= self.end;
                Ok(())
            }
            Seen::Leaf(_) => self.walk.take(node).map(drop),
        }
    }

    /// Checks a sub-trie that lies wholly in the range: it is computed from the pairs.
    fn inside(&mut self, want: [u8; 32], left: bool, at: Place) -> Result<(), Error> {
        let mut leaves = Vec::new();
        while self.walk.pairs.last().is_some_and(|(key, _)| at.covers(key)) {
            if let Some((key, value)) = self.walk.pairs.pop() {
                leaves.push((key, hash(&leaf(&key, &value))));
            }
        }
        match same_hash(sub_root(at.depth, &leaves), &want, left && !leaves.is_empty()) {
            true => Ok(()),
            false => Err(bad("its pairs are not those of the state")),
        }
    }
}

/// The hash of the sub-trie of leaves in order, with different keys.
fn sub_root(depth: usize, leaves: &[(Key, [u8; 32])]) -> [u8; 32] {
    match leaves {
        [] => [0; 32],
        [(_, hash)] => *hash,
        _ => {
            let (left, right) = leaves.split_at(leaves.partition_point(|(key, _)| !bit(key, depth)));
            hash(&branch(&sub_root(depth + 1, left), &sub_root(depth + 1, right)))
        }
    }
}

/// The edge of a range: what is shorter than a key is filled up.
pub(crate) fn boundary(bytes: &[u8], fill: u8) -> Result<Key, Error> {
    let mut key = [fill; 31];
    match key.get_mut(..bytes.len()) {
        Some(start) => start.copy_from_slice(bytes),
        None => return Err(Error::new(Kind::BadKey, "more than 31 bytes")),
    }
    Ok(key)
}

/// The key after one, if there is any.
pub(crate) fn above(key: &Key) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// The bytes of a key of JAM's, which names are known of.
pub(crate) fn jam_key(key: &crate::Key) -> Result<Key, Error> {
    const ITEMS: [&str; 16] = [
        "auth-pools",
        "auth-queues",
        "recent",
        "safrole",
        "disputes",
        "entropy",
        "staging-validators",
        "active-validators",
        "previous-validators",
        "availability",
        "slot",
        "privileges",
        "statistics",
        "ready-queue",
        "accumulated",
        "accumulation-outputs",
    ];
    let wrong = || Error::new(Kind::BadKey, "not a key of 31 bytes, nor a state item's name");
    let text = match key {
        crate::Key::Bytes(bytes) => return bytes.as_slice().try_into().map_err(|_| wrong()),
        crate::Key::Text(text) => text,
    };
    let mut out = [0; 31];
    if let Some(i) = ITEMS.iter().position(|item| item == text) {
        out[0] = i as u8 + 1;
        return Ok(out);
    }
    if let Some(id) = text.strip_prefix("account:") {
        let number: u32 = id.parse().map_err(|_| wrong())?;
        out[0] = 255;
        for (i, byte) in number.to_le_bytes().into_iter().enumerate() {
            out[1 + 2 * i] = byte;
        }
        return if number.to_string() == id { Ok(out) } else { Err(wrong()) };
    }
    let bytes = crate::from_hex(text.strip_prefix("0x").unwrap_or(text)).ok_or_else(wrong)?;
    bytes.try_into().map_err(|_| wrong())
}
