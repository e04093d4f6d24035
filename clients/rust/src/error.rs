use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::answers::{About, Holder, Obstacle};
use crate::json::member;
use crate::Hash;

/// Makes an enum of names that a server may add to.
macro_rules! names {
    ($(#[$of:meta])* $name:ident { $($variant:ident = $text:literal: $doc:literal,)* }) => {
        $(#[$of])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`: ", $doc)] $variant,)*
            /// One that this crate doesn't know.
            Other(String),
        }

        impl $name {
            /// The name as it is on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)*
                    _ => Self::Other(name.to_string()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use names;

names! {
    /// What went wrong: programs go by it.
    Kind {
        Connection = "connection": "nobody is there, or the connection broke off.",
        Deadline = "deadline": "the caller's time is over.",
        BadAnswer = "bad-answer": "the answer is not what the protocol says, too large, or about another block.",
        BadProof = "bad-proof": "the proof doesn't prove it.",
        BadRequest = "bad-request": "a parameter makes no sense, comes twice, or is unknown.",
        BadBlockId = "bad-block-id": "the text can't name a block.",
        BadKey = "bad-key": "not hex, no item's name, or of another length than the store's keys.",
        BadBody = "bad-body": "not what it should be.",
        BadEncoding = "bad-encoding": "what the shards give is not what the spec says: their encoder lied, and no peer did.",
        AmbiguousBlock = "ambiguous-block": "several blocks answer to that name: `candidates`.",
        Forbidden = "forbidden": "the client's roles may not do that (`action`), or it is another client's.",
        ForbiddenItem = "forbidden-item": "they may not read that state item (`item`).",
        NotFound = "not-found": "no such path.",
        UnknownBlock = "unknown-block": "the block is not held; `nearest` is.",
        AbsentKey = "absent-key": "the state has no such key. Reads give `None` instead.",
        UnknownDraft = "unknown-draft": "no draft that is known has that id.",
        UnknownPin = "unknown-pin": "it ended, or never was.",
        UnknownItem = "unknown-item": "nobody who could be asked has the item.",
        NoChanges = "no-changes": "the anchor has a whole state, no changes.",
        MethodNotAllowed = "method-not-allowed": "the path has no such method.",
        NotAcceptable = "not-acceptable": "the answer has no such form.",
        Timeout = "timeout": "the body came too slowly.",
        Conflict = "conflict": "the block is held with other content.",
        NotDescendant = "not-descendant": "not the finalized block or under it.",
        NotEmpty = "not-empty": "the store has an anchor.",
        NoRoots = "no-roots": "the store's states have no roots to prove against.",
        NoDirectory = "no-directory": "the pin can't have a directory.",
        DraftCommitting = "draft-committing": "it is being committed, and can't change.",
        Pruned = "pruned": "the block was held, and is too old now; `nearest` is held.",
        DraftOver = "draft-over": "committed, dropped or expired.",
        TooLarge = "too-large": "a body, batch or answer over its limit.",
        TargetTooLong = "target-too-long": "path and query have more than 8 KiB.",
        UnsupportedMediaType = "unsupported-media-type": "the body has another form.",
        InvalidBlock = "invalid-block": "against the chain's form or the store's limits.",
        WrongRoot = "wrong-root": "the write set leads to another root: `declared`, `actual`.",
        PriorRoot = "prior-root": "not the parent's root: `declared`, `actual`.",
        SlotOrder = "slot-order": "not above the parent's slot.",
        InvalidAnchor = "invalid-anchor": "no store can be made of it.",
        Locked = "locked": "another import has the slot: `holder`.",
        Reserved = "reserved": "another owner's draft has the slot: `holder`.",
        TooManyRequests = "too-many-requests": "of this client at a time.",
        TooManyDrafts = "too-many-drafts": "are open.",
        TooManyPins = "too-many-pins": "are there.",
        ReplayLimit = "replay-limit": "too much work on old blocks.",
        ClientGone = "client-gone": "nobody sees it.",
        Internal = "internal": "the server's log says what it is.",
        Undecided = "undecided": "the disk failed while the block was recorded.",
        Unavailable = "unavailable": "no checkpoint can be used to reach the state: `obstacles`.",
        Partial = "partial": "that needs the whole state, which isn't there yet.",
        NotFetched = "not-fetched": "what is missing could not be had from peers; it may exist.",
        Busy = "busy": "the server's memory for bodies or answers is taken.",
        ReadOnly = "read-only": "the store can't be written to.",
        NoStore = "no-store": "the store is empty.",
        NotReady = "not-ready": "the server isn't yet.",
        Closing = "closing": "the server is stopping.",
        OutOfSpace = "out-of-space": "the disk, or the budget of it, is used up.",
        Unauthenticated = "unauthenticated": "over TCP, without a token that is known.",
        ForbiddenHost = "forbidden-host": "a Host that the server doesn't list.",
        ForbiddenOrigin = "forbidden-origin": "an Origin that it doesn't list.",
        ForbiddenPeer = "forbidden-peer": "the socket doesn't take that user.",
        TooManyConnections = "too-many-connections": "all connections are busy.",
        HttpVersion = "http-version": "another than HTTP/1.1.",
    }
}

/// The error of every call. It derefs to its [`Problem`]. Its source is the
/// [`std::io::Error`], where there was one.
#[derive(Clone)]
pub struct Error {
    problem: Box<Problem>,
    source: Option<Arc<io::Error>>,
}

/// What an error says. Members that don't belong to its kind are `None` or empty.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// What went wrong.
    pub kind: Kind,
    /// HTTP's status; 0 where no server said it.
    pub status: u16,
    /// For people.
    pub detail: String,
    /// How long the server asks to wait before another try.
    pub retry_after: Option<Duration>,
    /// The nearest block that is held: below the slot, or the head where a hash is unknown.
    pub nearest: Option<About>,
    /// The blocks that an ambiguous name fits.
    pub candidates: Vec<About>,
    /// The root that was stated.
    pub declared: Option<Hash>,
    /// The root that came out.
    pub actual: Option<Hash>,
    /// Who has the slot.
    pub holder: Option<Holder>,
    /// Why no ancestor's checkpoint can be used.
    pub obstacles: Vec<Obstacle>,
    /// The block that the error is about.
    pub block: Option<Hash>,
    /// Its slot.
    pub slot: Option<u32>,
    /// The root of the state after it.
    pub root: Option<Hash>,
    /// The key that the error is about, in hex.
    pub key: Option<String>,
    /// The state item that may not be read.
    pub item: Option<String>,
    /// What may not be done.
    pub action: Option<String>,
    /// Of several blocks that are imported, which one was refused, from 1.
    pub line: Option<u64>,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &Kind {
        &self.problem.kind
    }

    fn of(problem: Problem) -> Self {
        Error { problem: Box::new(problem), source: None }
    }

    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Error::of(Problem {
            kind,
            status: 0,
            detail: detail.into(),
            retry_after: None,
            nearest: None,
            candidates: Vec::new(),
            declared: None,
            actual: None,
            holder: None,
            obstacles: Vec::new(),
            block: None,
            slot: None,
            root: None,
            key: None,
            item: None,
            action: None,
            line: None,
        })
    }

    pub(crate) fn at_line(mut self, line: u64) -> Self {
        self.problem.line = Some(line);
        self
    }

    pub(crate) fn bad_answer(detail: impl Into<String>) -> Self {
        Error::new(Kind::BadAnswer, detail)
    }

    pub(crate) fn deadline() -> Self {
        Error::new(Kind::Deadline, "no answer in time")
    }

    pub(crate) fn io(act: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Error::deadline(),
            _ => {
                let said = Error::new(Kind::Connection, format!("{act}: {error}"));
                Error { source: Some(Arc::new(error)), ..said }
            }
        }
    }

    /// Reads a problem (RFC 9457), which the status and the header Retry-After go with.
    pub(crate) fn problem(status: u16, retry_after: Option<u64>, body: &Value) -> Self {
        let text = |name| member::<String>(body, name);
        let Some(kind) = text("kind") else {
            return Error::bad_answer(format!("status {status} without a problem"));
        };
        Error::of(Problem {
            kind: Kind::from(kind.as_str()),
            status,
            detail: text("detail").or_else(|| text("title")).unwrap_or_default(),
            retry_after: retry_after.map(Duration::from_secs),
            nearest: member(body, "nearest"),
            candidates: member(body, "candidates").unwrap_or_default(),
            declared: member(body, "declared"),
            actual: member(body, "actual"),
            holder: member(body, "holder"),
            obstacles: member(body, "obstacles").unwrap_or_default(),
            block: member(body, "block"),
            slot: member(body, "slot"),
            root: member(body, "root"),
            key: text("key"),
            item: text("item"),
            action: text("action"),
            line: None,
        })
    }
}

impl Deref for Error {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}
