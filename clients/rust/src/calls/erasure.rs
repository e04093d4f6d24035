//! Erasure-coded work packages.

use super::*;
use crate::json::member;
use crate::proof::hash;

/// The bytes of an exported segment.
const SEGMENT: usize = 4104;
/// The most bytes of a shard.
const MAX_SHARD: usize = 32 << 20;

/// A work package's availability specifier: what its reader trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The root over the shards.
    pub erasure_root: Hash,
    /// How many shards there are: 6, of which any 2 suffice, or 1,023, of which any 342 do.
    pub shards: u32,
    /// The bundle's bytes.
    pub bundle_length: u64,
    /// The bundle's hash; without it the bundle is checked against the erasure root alone.
    pub bundle_hash: Option<Hash>,
    /// The root over the exported segments, which they need.
    pub segments_root: Option<Hash>,
    /// How many are exported.
    pub segments: u64,
}

impl Spec {
    /// A spec from its JSON.
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        let read = || {
            Some(Spec {
                erasure_root: member(json, "erasure_root")?,
                shards: member(json, "shards")?,
                bundle_length: member(json, "bundle_length")?,
                bundle_hash: member(json, "bundle_hash")?,
                segments_root: member(json, "segments_root")?,
                segments: member::<Option<u64>>(json, "segments")?.unwrap_or_default(),
            })
        };
        read().ok_or_else(|| Error::bad_answer("not a work package's spec"))
    }

    /// The spec as JSON.
    pub fn to_json(&self) -> Value {
        let text = |hash: Option<Hash>| hash.map(|hash| hash.to_string());
        object(json!({
            "erasure_root": self.erasure_root.to_string(), "shards": self.shards,
            "bundle_length": self.bundle_length, "bundle_hash": text(self.bundle_hash),
            "segments_root": text(self.segments_root), "segments": self.segments,
        }))
    }

    /// The path of a part of it, with what goes with a request.
    fn path(&self, part: &str) -> String {
        let mut path = path(&self.erasure_root, part);
        path.push_str(&format!(
            "?shards={}&bundle_length={}&segments={}",
            self.shards, self.bundle_length, self.segments
        ));
        for (name, hash) in [("bundle_hash", self.bundle_hash), ("segments_root", self.segments_root)] {
            if let Some(hash) = hash {
                path.push_str(&format!("&{name}={hash}"));
            }
        }
        path
    }
}

/// What one of the holders keeps of a work package: the three messages of JAMNP-S's CE 137.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shard {
    /// The bundle's shard.
    pub bundle: Vec<u8>,
    /// Those of its segments, and of their pages of proofs, one after the other.
    pub segments: Vec<u8>,
    /// Its way to the erasure root.
    pub justification: Vec<u8>,
}

/// What a sidecar that encodes a work package keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Keep {
    /// Nothing.
    #[default]
    Nothing,
    /// All shards.
    All,
    /// The shards with these indices.
    Some(Vec<u32>),
}

fn path(root: &Hash, part: &str) -> String {
    format!("/v1/da/erasure/{root}/{part}")
}

pub(crate) fn encode(
    bundle: &[u8],
    segments: &[impl AsRef<[u8]>],
    shards: u32,
    keep: &Keep,
) -> Result<Op<impl Read<Spec>>, Error> {
    if segments.iter().any(|segment| segment.as_ref().len() != SEGMENT) {
        return Err(Error::new(Kind::BadRequest, format!("a segment has {SEGMENT} bytes")));
    }
    let mut body = Vec::with_capacity(4 + bundle.len() + SEGMENT * segments.len());
    push_frame(&mut body, bundle);
    segments.iter().for_each(|segment| body.extend(segment.as_ref()));
    let keep = match keep {
        Keep::Nothing => String::new(),
        Keep::All => "&keep=all".to_string(),
        Keep::Some(list) => {
            let list: Vec<String> = list.iter().map(u32::to_string).collect();
            format!("&keep={}", list.join(","))
        }
    };
    let call = Call::new("POST", format!("/v1/da/erasure?shards={shards}{keep}")).body(BINARY, body);
    let (want, length, count) = (Hash(hash(bundle)), bundle.len() as u64, segments.len() as u64);
    Ok(op(call, move |answer: Answer| {
        let spec = Spec::from_json(&answer.value()?)?;
        let same = spec.shards == shards && spec.bundle_length == length && spec.segments == count;
        match same && spec.bundle_hash == Some(want) {
            true => Ok(spec),
            false => Err(Error::bad_answer("the spec of another work package")),
        }
    }))
}

pub(crate) fn bundle(spec: &Spec) -> Op<impl Read<Vec<u8>>> {
    let mut call = Call::get(spec.path("bundle")).accept(BINARY);
    call.most = super::items::MAX_ITEM;
    let (length, want) = (spec.bundle_length, spec.bundle_hash);
    op(call, move |answer: Answer| {
        let bundle = answer.body(BINARY)?;
        match bundle.len() as u64 == length && want.map_or(true, |want| want.0 == hash(&bundle)) {
            true => Ok(bundle),
            false => Err(Error::bad_answer(format!("{} bytes that are not the bundle", bundle.len()))),
        }
    })
}

pub(crate) fn segment(spec: &Spec, index: u32) -> Op<impl Read<Vec<u8>>> {
    let mut call = Call::get(spec.path(&format!("segments/{index}"))).accept(BINARY);
    call.most = SEGMENT;
    op(call, |answer: Answer| {
        let segment = answer.body(BINARY)?;
        match segment.len() == SEGMENT {
            true => Ok(segment),
            false => Err(Error::bad_answer(format!("a segment of {} bytes", segment.len()))),
        }
    })
}

pub(crate) fn shard(root: Hash, index: u32) -> Op<impl Read<Shard>> {
    let mut call = Call::get(path(&root, &format!("shards/{index}"))).accept(BINARY);
    call.most = MAX_SHARD;
    op(call, |answer: Answer| {
        let body = answer.body(BINARY)?;
        read_shard(&body).ok_or_else(|| Error::bad_answer("a shard of another length than its parts"))
    })
}

fn read_shard(mut body: &[u8]) -> Option<Shard> {
    let mut part = || {
        let size = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
        let part = body[4..].get(..size)?;
        body = &body[4 + size..];
        Some(part.to_vec())
    };
    let shard = Shard { bundle: part()?, segments: part()?, justification: part()? };
    body.is_empty().then_some(shard)
}

pub(crate) fn put_shard(spec: &Spec, index: u32, shard: &Shard) -> Op<impl Read<()>> {
    let mut body = Vec::new();
    for part in [&shard.bundle, &shard.segments, &shard.justification] {
        push_frame(&mut body, part);
    }
    let call = Call::new("PUT", spec.path(&format!("shards/{index}"))).body(BINARY, body);
    op(call, Answer::nothing)
}
