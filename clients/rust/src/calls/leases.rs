//! Drafts, pins and locks.

use super::*;

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
        if draft.slot != slot {
            return Err(Error::bad_answer(format!("a draft of slot {}, not {slot}", draft.slot)));
        }
        same(&parent, draft.parent.block).map(|()| draft)
    })
}

fn draft(id: &str, rest: &str) -> String {
    format!("/v1/drafts/{}{rest}", escape(id))
}

/// What describes a draft or a pin must be about that one.
fn described<T: Json>(call: Call, id: &str, its: fn(&T) -> &String) -> Op<impl Read<T>> {
    let id = id.to_string();
    op(call, move |answer: Answer| {
        let value: T = answer.json()?;
        match *its(&value) == id {
            true => Ok(value),
            false => Err(Error::bad_answer(format!("it is about {}, not {id}", its(&value)))),
        }
    })
}

/// An answer about a draft's state names the draft's parent, which may not be known here.
fn on_parent<T>(op: Op<impl Read<T>>, parent: Option<Hash>) -> Op<impl Read<T>> {
    let Op { call, read } = op;
    let read = move |answer: Answer| match (answer.head.about, parent) {
        (Some(about), Some(parent)) if about.block != parent => Err(other_block(&parent, &about.block)),
        (None, _) if answer.head.status < 300 => Err(Error::bad_answer("it doesn't say which block it is about")),
        _ => read(answer),
    };
    Op { call, read }
}

pub(crate) fn draft_info(id: &str) -> Op<impl Read<DraftInfo>> {
    described(Call::get(draft(id, "")), id, |draft: &DraftInfo| &draft.id)
}

pub(crate) fn renew_draft(id: &str, ttl: Option<Duration>) -> Op<impl Read<DraftInfo>> {
    let call = post(draft(id, "/renew"), object(json!({ "ttl_ms": millis(ttl) })));
    described(call, id, |draft: &DraftInfo| &draft.id)
}

pub(crate) fn drop_draft(id: &str) -> Op<impl Read<()>> {
    op(Call::new("DELETE", draft(id, "")), Answer::nothing)
}

pub(crate) fn draft_get(id: &str, parent: Option<Hash>, key: &Key) -> Result<Op<impl Read<Option<Vec<u8>>>>, Error> {
    Ok(on_parent(value(draft(id, &format!("/state/{}", key.path()?))), parent))
}

pub(crate) fn draft_get_many<'a>(
    id: &str,
    parent: Option<Hash>,
    keys: &'a [Key],
) -> Op<impl Read<Vec<Option<Vec<u8>>>> + 'a> {
    on_parent(values(draft(id, "/state"), keys), parent)
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
    let call = post(format!("/v1/pins/{}/renew", escape(id)), json!({ "ttl_ms": millis(Some(ttl)) }));
    described(call, id, |pin: &PinInfo| &pin.id)
}

pub(crate) fn unpin(id: &str) -> Op<impl Read<()>> {
    op(Call::new("DELETE", format!("/v1/pins/{}", escape(id))), Answer::nothing)
}

pub(crate) fn pins() -> Op<impl Read<Vec<PinInfo>>> {
    op(Call::get("/v1/pins".into()), |answer: Answer| read(&answer.value()?["pins"]))
}
