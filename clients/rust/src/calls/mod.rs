//! The API's calls without I/O: each is a request and what reads its answer.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{json, Value};

#[cfg(feature = "proofs")]
mod erasure;
mod events;
#[cfg(feature = "proofs")]
mod items;
mod leases;
mod scans;

#[cfg(feature = "proofs")]
pub use erasure::*;
pub use events::*;
#[cfg(feature = "proofs")]
pub(crate) use items::*;
pub use leases::*;
pub use scans::*;

use crate::answers::*;
use crate::json::Json;
use crate::names::{block_path, escape};
use crate::wire::{Answer, Call, Head, BINARY, EVENTS, JSON, LINES};
use crate::{hex, Error, Hash, Key, Kind};

/// The most keys or hashes of a request: the server's limit.
pub(crate) const MANY: usize = 10_000;

/// A request, and what reads its answer.
pub(crate) struct Op<D> {
    pub call: Call,
    pub read: D,
}

fn op<T, D: FnOnce(Answer) -> Result<T, Error>>(call: Call, read: D) -> Op<D> {
    Op { call, read }
}

/// Anything that reads an answer.
pub(crate) trait Read<T>: FnOnce(Answer) -> Result<T, Error> + Send {}
impl<T, F: FnOnce(Answer) -> Result<T, Error> + Send> Read<T> for F {}

impl Answer {
    fn problem(&self) -> Error {
        let body = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        Error::problem(self.head.status, self.head.retry_after, &body)
    }

    /// The error of what should have been a stream.
    pub fn refused(&self) -> Error {
        match self.head.status {
            200..=299 => Error::bad_answer("it is not the stream that was asked for"),
            _ => self.problem(),
        }
    }

    /// The body, which must have that form.
    fn body(self, media: &str) -> Result<Vec<u8>, Error> {
        match self.head.status {
            200 | 201 if [media, ""].contains(&self.head.media) => Ok(self.body),
            status @ 200..=299 => Err(Error::bad_answer(format!("status {status}, or not {media}"))),
            _ => Err(self.problem()),
        }
    }

    fn value(self) -> Result<Value, Error> {
        let body = self.body(JSON)?;
        serde_json::from_slice(&body).map_err(|error| Error::bad_answer(error.to_string()))
    }

    fn json<T: Json>(self) -> Result<T, Error> {
        read(&self.value()?)
    }

    fn nothing(self) -> Result<(), Error> {
        match self.head.status {
            200..=299 => Ok(()),
            _ => Err(self.problem()),
        }
    }
}

fn read<T: Json>(value: &Value) -> Result<T, Error> {
    T::read(Some(value)).ok_or_else(|| Error::bad_answer("its JSON has other members than it should"))
}

/// An error unless the answer is about the block that was named, where a name says that.
fn same(name: &str, got: Hash) -> Result<(), Error> {
    match name.parse::<Hash>() {
        Ok(want) if want != got => Err(other_block(&want, &got)),
        _ => Ok(()),
    }
}

/// A name of a block as the server takes it: a hash of digits alone would be a slot.
fn block_name(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_string(), |hash| hash_name(&hash))
}

fn hash_name(hash: &Hash) -> String {
    let text = hash.to_string();
    match text.bytes().all(|c| c.is_ascii_digit()) {
        true => format!("0x{text}"),
        false => text,
    }
}

fn other_block(want: &dyn std::fmt::Display, got: &Hash) -> Error {
    Error::bad_answer(format!("it is about block {got}, not {want}"))
}

/// Which block a view is of: a name at first, a hash after the first answer.
#[derive(Debug)]
pub(crate) struct Name {
    text: String,
    hash: OnceLock<(Hash, String)>,
    about: OnceLock<About>,
}

impl Name {
    pub fn new(text: &str) -> Self {
        let hash = OnceLock::new();
        if let Ok(whole) = text.parse::<Hash>() {
            let _ = hash.set((whole, hash_name(&whole)));
        }
        Name { text: text.to_string(), hash, about: OnceLock::new() }
    }

    pub fn about(&self) -> Option<About> {
        self.about.get().copied()
    }

    /// The name as a part of a path, and whether it is a hash.
    pub fn id(&self) -> Result<(String, bool), Error> {
        match self.hash.get() {
            Some((_, text)) => Ok((text.clone(), true)),
            None => Ok((block_path(&self.text)?, false)),
        }
    }

    /// Binds the name to the block that an answer is about. False where another thread
    /// has bound it to another block in the meantime: then ask again, by the hash.
    pub fn bind(&self, head: &Head, by_hash: bool) -> Result<bool, Error> {
        let Some(about) = head.about else {
            return match head.status {
                200..=299 => Err(Error::bad_answer("it doesn't say which block it is about")),
                _ => Ok(true),
            };
        };
        let (hash, text) = self.hash.get_or_init(|| (about.block, hash_name(&about.block)));
        if *hash != about.block {
            return match by_hash {
                true => Err(other_block(text, &about.block)),
                false => Ok(false),
            };
        }
        if *self.about.get_or_init(|| about) != about {
            return Err(Error::bad_answer("its slot or root is not what it was"));
        }
        Ok(true)
    }
}

fn at(id: &str, rest: &str) -> String {
    format!("/v1/blocks/{id}{rest}")
}

fn post(path: impl Into<String>, body: Value) -> Call {
    Call::new("POST", path.into()).body(JSON, body.to_string().into_bytes())
}

fn millis(time: Option<Duration>) -> Option<u64> {
    time.map(|t| t.as_millis().try_into().unwrap_or(u64::MAX))
}

/// An object without the members that are null.
fn object(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, v| !v.is_null());
    }
    value
}

// Values.

fn value(path: String) -> Op<impl Read<Option<Vec<u8>>>> {
    op(Call::get(path).accept(BINARY), |answer: Answer| {
        if answer.head.status != 404 {
            return answer.body(BINARY).map(Some);
        }
        match answer.problem() {
            error if error.kind != Kind::AbsentKey => Err(error),
            _ if answer.head.about.is_none() => Err(Error::bad_answer("a key is absent, but nobody says where")),
            _ => Ok(None),
        }
    })
}

/// A request about many keys, whose answer is binary.
fn batch(path: String, keys: &[Key]) -> Call {
    let mut frames = Vec::with_capacity(35 * keys.len());
    let call = Call::new("POST", path);
    let binary = keys.iter().all(|key| match key {
        Key::Bytes(bytes) => {
            push_frame(&mut frames, bytes);
            true
        }
        Key::Text(_) => false,
    });
    match binary {
        true => call.accept(BINARY).body(BINARY, frames),
        false => {
            let texts: Vec<String> = keys.iter().map(Key::text).collect();
            call.accept(BINARY).body(JSON, json!({ "keys": texts }).to_string().into_bytes())
        }
    }
}

fn values<'a>(path: String, keys: &'a [Key]) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    op(batch(path, keys), |answer: Answer| {
        let body = answer.body(BINARY)?;
        let list = read_values(&body, keys.len());
        list.ok_or_else(|| Error::bad_answer(format!("not the values of {} keys", keys.len())))
    })
}

fn read_values(mut body: &[u8], count: usize) -> Option<Vec<Option<Vec<u8>>>> {
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        let size = u32::from_le_bytes(body.get(..4)?.try_into().ok()?);
        body = &body[4..];
        if size == u32::MAX {
            list.push(None);
            continue;
        }
        list.push(Some(body.get(..size as usize)?.to_vec()));
        body = &body[size as usize..];
    }
    body.is_empty().then_some(list)
}

pub(crate) fn get(id: &str, key: &str) -> Op<impl Read<Option<Vec<u8>>>> {
    value(at(id, &format!("/state/{key}")))
}

pub(crate) fn get_many<'a>(id: &str, keys: &'a [Key]) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    values(at(id, "/state"), keys)
}

// Blocks.

pub(crate) fn block(name: &str, wait: Option<Duration>) -> Result<Op<impl Read<Block>>, Error> {
    let mut call = Call::get(at(&block_path(&block_name(name))?, &wait_query(wait)));
    call.wait = wait.unwrap_or_default();
    let name = name.to_string();
    Ok(op(call, move |answer: Answer| {
        let block: Block = answer.json()?;
        same(&name, block.block).map(|()| block)
    }))
}

/// A page of the tree, and where the next one begins.
pub(crate) fn blocks(leaves: bool, page: usize, from: &str) -> Op<impl Read<(Tree, Option<String>)>> {
    let mut path = format!("/v1/blocks?limit={}", page.clamp(1, MANY));
    if leaves {
        path.push_str("&leaves");
    }
    if !from.is_empty() {
        path.push_str(&format!("&from={}", escape(from)));
    }
    op(Call::get(path), |answer: Answer| {
        let value = answer.value()?;
        Ok((read(&value)?, read(&value["next"])?))
    })
}

pub(crate) fn held(hashes: &[Hash]) -> Op<impl Read<Vec<Hash>>> {
    let texts: Vec<String> = hashes.iter().map(Hash::to_string).collect();
    op(post("/v1/blocks/held", json!({ "hashes": texts })), |answer: Answer| read(&answer.value()?["held"]))
}

fn wait_query(wait: Option<Duration>) -> String {
    millis(wait).map_or_else(String::new, |ms| format!("?wait={ms}ms"))
}

pub(crate) fn import(block: &NewBlock, wait: Option<Duration>) -> Op<impl Read<Imported>> {
    let mut call = Call::new("POST", format!("/v1/blocks{}", wait_query(wait)));
    call.wait = wait.unwrap_or_default();
    imported(call.body(BINARY, block.to_bytes()), block.hash)
}

pub(crate) fn import_many() -> Call {
    Call::new("POST", "/v1/blocks".into()).accept(LINES).body(LINES, Vec::new())
}

fn imported(call: Call, hash: Hash) -> Op<impl Read<Imported>> {
    op(call, move |answer: Answer| {
        let status = answer.head.status;
        read_imported(answer.value()?, status, hash)
    })
}

fn read_imported(mut value: Value, status: u16, hash: Hash) -> Result<Imported, Error> {
    if let Some(members) = value.as_object_mut() {
        members.insert("new".into(), json!(status == 201));
    }
    let imported: Imported = read(&value)?;
    match imported.hash == hash {
        true => Ok(imported),
        false => Err(other_block(&hash, &imported.hash)),
    }
}

/// Reads the answer to a line of a stream.
pub(crate) fn import_line(text: &[u8], line: u64, hash: Hash) -> Result<Imported, Error> {
    let value: Value = serde_json::from_slice(text).map_err(|error| Error::bad_answer(error.to_string()))?;
    let status = value["status"].as_u64().and_then(|n| u16::try_from(n).ok());
    let status = status.ok_or_else(|| Error::bad_answer("a line without a status"))?;
    if value["line"].as_u64() != Some(line) {
        return Err(Error::bad_answer(format!("it is about another line than {line}")));
    }
    match value.get("error") {
        Some(error) => Err(Error::problem(status, None, error).at_line(line)),
        None => read_imported(value, status, hash),
    }
}

fn about(path: &str, hash: Hash) -> Call {
    post(path, json!({ "hash": hash.to_string() }))
}

pub(crate) fn set_head(hash: Hash) -> Op<impl Read<About>> {
    op(about("/v1/head", hash), move |answer: Answer| {
        let about: About = answer.json()?;
        same(&hash.to_string(), about.block).map(|()| about)
    })
}

pub(crate) fn finalize(hash: Hash) -> Op<impl Read<Finalized>> {
    op(about("/v1/finalize", hash), move |answer: Answer| {
        let finalized: Finalized = answer.json()?;
        same(&hash.to_string(), finalized.block).map(|()| finalized)
    })
}

// What changed.

pub(crate) fn changes(id: &str) -> Op<impl Read<Changes>> {
    let id = id.to_string();
    op(Call::get(at(&id, "/changes")), move |answer: Answer| {
        let changes: Changes = answer.json()?;
        same(&id, changes.block).map(|()| changes)
    })
}

pub(crate) fn diff(from: &str, to: &str) -> Op<impl Read<Diff>> {
    let path = format!("/v1/diff?from={}&to={}", escape(&block_name(from)), escape(&block_name(to)));
    let (from, to) = (from.to_string(), to.to_string());
    op(Call::get(path), move |answer: Answer| {
        let diff: Diff = answer.json()?;
        same(&from, diff.from.block)?;
        same(&to, diff.to.block).map(|()| diff)
    })
}

pub(crate) fn history(key: &Key, name: &str, limit: Option<u64>) -> Result<Op<impl Read<History>>, Error> {
    let mut path = format!("/v1/history/{}?at={}", key.path()?, escape(&block_name(name)));
    if let Some(limit) = limit {
        path.push_str(&format!("&limit={limit}"));
    }
    let name = name.to_string();
    Ok(op(Call::get(path), move |answer: Answer| {
        let history: History = answer.json()?;
        same(&name, history.block).map(|()| history)
    }))
}

pub(crate) fn prove(id: &str, keys: &[Key]) -> Op<impl Read<Vec<u8>>> {
    op(batch(at(id, "/proof"), keys), |answer: Answer| answer.body(BINARY))
}

pub(crate) fn prove_range(id: &str, from: &[u8], to: &[u8], max: Option<u32>) -> Op<impl Read<Vec<u8>>> {
    let max = max.map_or_else(String::new, |max| format!("&max={max}"));
    let path = at(id, &format!("/proof?from={}&to={}{max}", hex(from), hex(to)));
    op(Call::get(path).accept(BINARY), |answer: Answer| answer.body(BINARY))
}

pub(crate) fn status() -> Op<impl Read<Status>> {
    op(Call::get("/v1/status".into()), Answer::json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_another_line() {
        let text = br#"{"line":1,"status":404,"error":{"kind":"unknown-block","status":404}}"#;
        assert_eq!(import_line(text, 1, Hash::default()).unwrap_err().kind, Kind::UnknownBlock);
        assert_eq!(import_line(text, 2, Hash::default()).unwrap_err().kind, Kind::BadAnswer);
    }
}
