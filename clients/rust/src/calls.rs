//! The API's calls without I/O: each is a request and what reads its answer.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{json, Value};

use crate::answers::*;
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
            200..=299 if [media, ""].contains(&self.head.media) => Ok(self.body),
            200..=299 => Err(Error::bad_answer(format!("it is not {media}"))),
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
            error if error.kind == Kind::AbsentKey && answer.head.about.is_some() => Ok(None),
            error => Err(error),
        }
    })
}

fn values<'a>(path: String, keys: &'a [Key]) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    let mut frames = Vec::with_capacity(35 * keys.len());
    let call = Call::new("POST", path);
    let binary = keys.iter().all(|key| match key {
        Key::Bytes(bytes) => {
            push_frame(&mut frames, bytes);
            true
        }
        Key::Text(_) => false,
    });
    let call = match binary {
        true => call.accept(BINARY).body(BINARY, frames),
        false => {
            let texts: Vec<String> = keys.iter().map(Key::text).collect();
            call.accept(BINARY).body(JSON, json!({ "keys": texts }).to_string().into_bytes())
        }
    };
    op(call, |answer: Answer| {
        let body = answer.body(BINARY)?;
        let list = read_values(&body).filter(|list| list.len() == keys.len());
        list.ok_or_else(|| Error::bad_answer(format!("not the values of {} keys", keys.len())))
    })
}

fn read_values(mut body: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut list = Vec::new();
    while !body.is_empty() {
        let size = u32::from_le_bytes(body.get(..4)?.try_into().ok()?);
        body = &body[4..];
        if size == u32::MAX {
            list.push(None);
            continue;
        }
        list.push(Some(body.get(..size as usize)?.to_vec()));
        body = &body[size as usize..];
    }
    Some(list)
}

pub(crate) fn get(id: &str, key: &str) -> Op<impl Read<Option<Vec<u8>>>> {
    value(at(id, &format!("/state/{key}")))
}

pub(crate) fn get_many<'a>(id: &str, keys: &'a [Key]) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    values(at(id, "/state"), keys)
}

// Blocks.

pub(crate) fn block(name: &str, wait: Option<Duration>) -> Result<Op<impl Read<Block>>, Error> {
    let mut path = at(&block_path(&block_name(name))?, "");
    if let Some(ms) = millis(wait) {
        path.push_str(&format!("?wait={ms}ms"));
    }
    let mut call = Call::get(path);
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
    if value.get("error").is_some() {
        return Err(Error::problem(status, None, &value["error"]).at_line(line));
    }
    match value["line"].as_u64() == Some(line) {
        true => read_imported(value, status, hash),
        false => Err(Error::bad_answer(format!("it is about another line than {line}"))),
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

pub(crate) fn prove(id: &str, keys: &[Key]) -> Result<Op<impl Read<Vec<u8>>>, Error> {
    let query: Result<Vec<String>, Error> = keys.iter().map(|key| Ok(format!("key={}", key.path()?))).collect();
    Ok(proof(at(id, &format!("/proof?{}", query?.join("&")))))
}

pub(crate) fn prove_range(id: &str, from: &[u8], to: &[u8], max: Option<u32>) -> Op<impl Read<Vec<u8>>> {
    let max = max.map_or_else(String::new, |max| format!("&max={max}"));
    proof(at(id, &format!("/proof?from={}&to={}{max}", hex(from), hex(to))))
}

fn proof(path: String) -> Op<impl Read<Vec<u8>>> {
    op(Call::get(path).accept(BINARY), |answer: Answer| answer.body(BINARY))
}

// Drafts and pins.

/// What a draft may be told.
#[derive(Debug, Clone, Default)]
pub struct DraftOptions {
    /// Whose drafts may share the slot; default nobody's.
    pub owner: Option<String>,
    /// How long the lease lasts; default 30 s, at most 60 s.
    pub ttl: Option<Duration>,
}

pub(crate) fn begin_draft(parent: &str, slot: u32, options: &DraftOptions) -> Op<impl Read<DraftInfo>> {
    let body = object(
        json!({"parent": block_name(parent), "slot": slot, "owner": options.owner, "ttl_ms": millis(options.ttl)}),
    );
    let mut call = post("/v1/drafts", body);
    call.idempotent = false;
    let parent = parent.to_string();
    op(call, move |answer: Answer| {
        let draft: DraftInfo = answer.json()?;
        same(&parent, draft.parent.block).map(|()| draft)
    })
}

fn draft(id: &str, rest: &str) -> String {
    format!("/v1/drafts/{}{rest}", escape(id))
}

pub(crate) fn draft_info(id: &str) -> Op<impl Read<DraftInfo>> {
    op(Call::get(draft(id, "")), Answer::json)
}

pub(crate) fn renew_draft(id: &str, ttl: Option<Duration>) -> Op<impl Read<DraftInfo>> {
    op(post(draft(id, "/renew"), object(json!({ "ttl_ms": millis(ttl) }))), Answer::json)
}

pub(crate) fn drop_draft(id: &str) -> Op<impl Read<()>> {
    op(Call::new("DELETE", draft(id, "")), Answer::nothing)
}

pub(crate) fn draft_get(id: &str, key: &Key) -> Result<Op<impl Read<Option<Vec<u8>>>>, Error> {
    Ok(value(draft(id, &format!("/state/{}", key.path()?))))
}

pub(crate) fn draft_get_many<'a>(id: &str, keys: &'a [Key]) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    values(draft(id, "/state"), keys)
}

pub(crate) fn draft_put(id: &str, key: &Key, value: &[u8]) -> Result<Op<impl Read<()>>, Error> {
    let call = Call::new("PUT", draft(id, &format!("/state/{}", key.path()?)));
    Ok(op(call.body(BINARY, value.to_vec()), Answer::nothing))
}

pub(crate) fn draft_delete(id: &str, key: &Key) -> Result<Op<impl Read<()>>, Error> {
    Ok(op(Call::new("DELETE", draft(id, &format!("/state/{}", key.path()?))), Answer::nothing))
}

pub(crate) fn draft_write(id: &str, puts: &[(Vec<u8>, Vec<u8>)], dels: &[Vec<u8>]) -> Op<impl Read<()>> {
    let mut body = Vec::new();
    push_writes(&mut body, puts, dels);
    op(Call::new("PATCH", draft(id, "/state")).body(BINARY, body), Answer::nothing)
}

/// What is said of the block that a draft becomes.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Compared with the root that comes out.
    pub post_root: Option<Hash>,
    /// The encoded header, which is checked and kept.
    pub header: Option<Vec<u8>>,
}

pub(crate) fn commit(id: &str, hash: Hash, options: &CommitOptions) -> Op<impl Read<Imported>> {
    let body = json!({"hash": hash.write(), "post_root": options.post_root.write(), "header": options.header.write()});
    imported(post(draft(id, "/commit"), object(body)), hash)
}

pub(crate) fn drafts() -> Op<impl Read<Vec<DraftInfo>>> {
    op(Call::get("/v1/drafts".into()), |answer: Answer| read(&answer.value()?["drafts"]))
}

pub(crate) fn locks() -> Op<impl Read<Locks>> {
    op(Call::get("/v1/locks".into()), Answer::json)
}

/// What a pin may be told.
#[derive(Debug, Clone, Default)]
pub struct PinOptions {
    /// Who the list of pins says it is.
    pub owner: Option<String>,
    /// Whether to give a directory with a checkpoint, to be opened read-only; default
    /// what the server says: true.
    pub directory: Option<bool>,
}

pub(crate) fn pin(block: &str, ttl: Duration, options: &PinOptions) -> Op<impl Read<PinInfo>> {
    let ttl = millis(Some(ttl));
    let body = object(
        json!({"block": block_name(block), "ttl_ms": ttl, "owner": options.owner, "directory": options.directory}),
    );
    let mut call = post("/v1/pins", body);
    call.idempotent = false;
    let block = block.to_string();
    op(call, move |answer: Answer| {
        let pin: PinInfo = answer.json()?;
        same(&block, pin.block).map(|()| pin)
    })
}

pub(crate) fn renew_pin(id: &str, ttl: Duration) -> Op<impl Read<PinInfo>> {
    op(post(format!("/v1/pins/{}/renew", escape(id)), json!({ "ttl_ms": millis(Some(ttl)) })), Answer::json)
}

pub(crate) fn unpin(id: &str) -> Op<impl Read<()>> {
    op(Call::new("DELETE", format!("/v1/pins/{}", escape(id))), Answer::nothing)
}

pub(crate) fn pins() -> Op<impl Read<Vec<PinInfo>>> {
    op(Call::get("/v1/pins".into()), |answer: Answer| read(&answer.value()?["pins"]))
}

pub(crate) fn status() -> Op<impl Read<Status>> {
    op(Call::get("/v1/status".into()), Answer::json)
}

// Scans.

/// What a scan gives: all, unless told otherwise.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Only keys that begin with it.
    pub prefix: Vec<u8>,
    /// Where the walk begins, included.
    pub from: Option<Vec<u8>>,
    /// Where it ends, excluded.
    pub to: Option<Vec<u8>>,
    /// Whether it goes down.
    pub reverse: bool,
    /// The most pairs in all.
    pub limit: Option<u64>,
    /// Pairs of a page; default 1,000, at most 10,000.
    pub page: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions { prefix: Vec::new(), from: None, to: None, reverse: false, limit: None, page: 1000 }
    }
}

impl ScanOptions {
    /// All keys that begin with a prefix.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        ScanOptions { prefix: prefix.into(), ..ScanOptions::default() }
    }
}

pub(crate) type Pair = (Vec<u8>, Option<Vec<u8>>);

/// A page of a scan, and where the next one begins.
pub(crate) fn scan<'a>(
    id: &str,
    options: &'a ScanOptions,
    values: bool,
) -> Op<impl Read<(Vec<Pair>, Option<Vec<u8>>)> + 'a> {
    let page = options.limit.unwrap_or(u64::MAX).min(options.page.clamp(1, MANY) as u64);
    let mut path = at(id, &format!("/state?limit={page}"));
    let prefix = Some(&options.prefix).filter(|prefix| !prefix.is_empty());
    for (name, bound) in [("prefix", prefix), ("from", options.from.as_ref()), ("to", options.to.as_ref())] {
        if let Some(bytes) = bound {
            path.push_str(&format!("&{name}={}", hex(bytes)));
        }
    }
    if options.reverse {
        path.push_str("&reverse=true");
    }
    if !values {
        path.push_str("&values=false");
    }
    op(Call::get(path), move |answer: Answer| {
        let value = answer.value()?;
        let pairs: Vec<Pair> = read(&value["pairs"])?;
        let next: Option<Vec<u8>> = read(&value["next"])?;
        check_page(&pairs, next.as_deref(), options, values)?;
        Ok((pairs, next))
    })
}

/// A walk that goes back or stands still would never end.
fn check_page(pairs: &[Pair], next: Option<&[u8]>, options: &ScanOptions, values: bool) -> Result<(), Error> {
    let after = |a: &[u8], b: &[u8]| if options.reverse { a > b } else { a < b };
    let keys: Vec<&[u8]> = pairs.iter().map(|(key, _)| key.as_slice()).chain(next).collect();
    let inside = |key: &[u8]| {
        key.starts_with(&options.prefix)
            && options.from.as_deref().map_or(true, |from| key == from || after(from, key))
            && options.to.as_deref().map_or(true, |to| after(key, to))
    };
    let ordered = keys.windows(2).all(|two| after(two[0], two[1])) && !(pairs.is_empty() && next.is_some());
    let whole = pairs.iter().all(|(key, value)| inside(key) && value.is_some() == values);
    match ordered && whole && (pairs.len() as u64) <= options.limit.unwrap_or(u64::MAX) {
        true => Ok(()),
        false => Err(Error::bad_answer("its pairs are not those of the range, in order")),
    }
}

// Events.

/// Which events to follow, and from where on.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// Only those; empty for all. Gaps come always.
    pub kinds: Vec<EventKind>,
    /// Those after that position (1: with the oldest that is kept); `None` for those that
    /// happen from now on.
    pub after: Option<u64>,
}

pub(crate) fn events(options: &EventOptions, last: Option<u64>) -> Call {
    let mut query = Vec::new();
    if !options.kinds.is_empty() {
        let kinds: Vec<String> = options.kinds.iter().map(|kind| escape(kind.as_str())).collect();
        query.push(format!("kinds={}", kinds.join(",")));
    }
    if let (Some(after), None) = (options.after, last) {
        query.push(format!("after={after}"));
    }
    let mut call = Call::get(format!("/v1/events?{}", query.join("&"))).accept(EVENTS);
    call.last_event = last;
    call
}

/// The most bytes of an event.
const EVENT: usize = 1 << 20;

/// Reads server-sent events.
pub(crate) struct EventParser {
    /// What has come and is not read yet.
    pub text: Vec<u8>,
    /// How far `text` has been looked at.
    read: usize,
    data: String,
    id: Option<u64>,
    /// The last id, also one without data.
    pub last: Option<u64>,
    /// How long to wait before connecting again.
    pub retry: Duration,
}

impl EventParser {
    pub fn new() -> Self {
        EventParser {
            text: Vec::new(),
            read: 0,
            data: String::new(),
            id: None,
            last: None,
            retry: Duration::from_secs(2),
        }
    }

    /// Forgets what a connection that broke off left behind.
    pub fn reset(&mut self) {
        self.text.clear();
        self.data.clear();
        (self.read, self.id) = (0, None);
    }

    /// The next event that has come as a whole.
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(n) = self.text[self.read..].iter().position(|&c| c == b'\n') {
            let line = String::from_utf8_lossy(&self.text[self.read..self.read + n]).into_owned();
            self.read += n + 1;
            if let Some(event) = self.line(line.trim_end_matches('\r'))? {
                return Ok(Some(event));
            }
        }
        self.text.drain(..self.read);
        self.read = 0;
        match self.text.len() + self.data.len() > EVENT {
            true => Err(Error::bad_answer("an event of more than 1 MiB")),
            false => Ok(None),
        }
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, Error> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                self.last = self.id.take().or(self.last);
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    let value: Value =
                        serde_json::from_str(&data).map_err(|error| Error::bad_answer(format!("an event: {error}")))?;
                    return read(&value).map(Some);
                }
            }
            "data" => self.data.push_str(value),
            "id" => self.id = value.parse().ok(),
            "retry" => {
                // Neither a busy loop nor for ever.
                let retry = value.parse().unwrap_or(2000);
                self.retry = Duration::from_millis(retry).clamp(Duration::from_millis(10), Duration::from_secs(60));
            }
            _ => {}
        }
        Ok(None)
    }
}
