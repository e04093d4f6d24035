"""Every error of a client is an AccessorError; each ``kind`` of docs/API.md has a class."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Type

from .model import About, Holder, Obstacle, decode

__all__ = [
    "AbsentKey", "AccessorError", "AmbiguousBlock", "BadAnswer", "BadBlockId", "BadBody", "BadEncoding", "BadKey", "BadProof",
    "BadRequest", "Busy", "ClientGone", "Closing", "Conflict", "ConnectionFailed", "Deadline", "DraftCommitting",
    "DraftOver", "Forbidden", "ForbiddenHost", "ForbiddenItem", "ForbiddenOrigin", "ForbiddenPeer", "HttpVersion",
    "InternalError", "InvalidAnchor", "InvalidBlock", "Locked", "MethodNotAllowed", "NoChanges", "NoDirectory",
    "NoRoots", "NoStore", "NotAcceptable", "NotDescendant", "NotEmpty", "NotFetched", "NotFound", "NotReady",
    "OutOfSpace", "PartialState", "PriorRoot", "Pruned", "ReadOnly", "ReplayLimit", "Reserved", "SlotOrder", "SlowBody", "TargetTooLong",
    "TooLarge", "TooManyConnections", "TooManyDrafts", "TooManyPins", "TooManyRequests", "Unauthenticated",
    "Unavailable", "Undecided", "UnknownBlock", "UnknownDraft", "UnknownItem", "UnknownPin", "UnsupportedMediaType",
    "WrongRoot",
]


class AccessorError(Exception):
    """An error with a ``kind``, by which programs go; ``detail`` is for people.

    The other members are those that docs/API.md gives the kind, None where there is none.
    ``problem`` is the server's answer as it came; of an error that the client found it is empty.
    """
    kind = "unknown"
    status: Optional[int] = None
    retry_after: Optional[float] = None  #: seconds
    nearest: Optional[About] = None
    candidates: Optional[List[About]] = None
    declared: Optional[str] = None
    actual: Optional[str] = None
    holder: Optional[Holder] = None
    obstacles: Optional[List[Obstacle]] = None
    block: Optional[str] = None
    slot: Optional[int] = None
    root: Optional[str] = None
    key: Optional[str] = None
    item: Optional[str] = None
    action: Optional[str] = None

    def __init__(self, detail: str, problem: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problem: Dict[str, Any] = problem or {}

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class ConnectionFailed(AccessorError, ConnectionError):
    """Nobody answers at the address, or the connection broke off."""
    kind = "connection"


class Deadline(AccessorError, TimeoutError):
    """It took longer than the caller's timeout."""
    kind = "deadline"


class BadAnswer(AccessorError):
    """Not what the protocol says, too large, or about another block."""
    kind = "bad-answer"


class BadProof(AccessorError):
    """A proof that doesn't prove what was asked for."""
    kind = "bad-proof"


class BadRequest(AccessorError):
    """A parameter makes no sense, comes twice, or is unknown."""
    kind = "bad-request"


class BadBlockId(AccessorError):
    """The text can't name a block."""
    kind = "bad-block-id"


class BadKey(AccessorError):
    """Not hex, no item's name, or another length than the store's keys."""
    kind = "bad-key"


class BadBody(AccessorError):
    """Not what it should be: cut short, not UTF-8, a member twice or unknown."""
    kind = "bad-body"


class BadEncoding(AccessorError):
    """What the shards give is not what the spec says: their encoder lied, and no peer did."""
    kind = "bad-encoding"


class AmbiguousBlock(AccessorError):
    """Several blocks answer to that name."""
    kind = "ambiguous-block"


class Forbidden(AccessorError):
    """The client's roles may not do that, or it is another client's."""
    kind = "forbidden"


class ForbiddenItem(AccessorError):
    """They may not read that state item."""
    kind = "forbidden-item"


class NotFound(AccessorError):
    """No such path."""
    kind = "not-found"


class UnknownBlock(AccessorError):
    """The block, or the parent of an import, is not held."""
    kind = "unknown-block"


class AbsentKey(AccessorError, KeyError):
    """The state has no such key."""
    kind = "absent-key"


class UnknownDraft(AccessorError):
    """No draft that is known has that id."""
    kind = "unknown-draft"


class UnknownPin(AccessorError):
    """It ended, or never was."""
    kind = "unknown-pin"


class UnknownItem(AccessorError):
    """Nobody who could be asked has the item."""
    kind = "unknown-item"


class NoChanges(AccessorError):
    """The anchor has a whole state, no changes."""
    kind = "no-changes"


class MethodNotAllowed(AccessorError):
    """Allow names those that are."""
    kind = "method-not-allowed"


class NotAcceptable(AccessorError):
    """The answer has no such form."""
    kind = "not-acceptable"


class SlowBody(AccessorError):
    """The body came too slowly."""
    kind = "timeout"


class Conflict(AccessorError):
    """The block is held with other content."""
    kind = "conflict"


class NotDescendant(AccessorError):
    """Not the finalized block or under it."""
    kind = "not-descendant"


class NotEmpty(AccessorError):
    """The store has an anchor."""
    kind = "not-empty"


class NoRoots(AccessorError):
    """The store's states have no roots to prove against."""
    kind = "no-roots"


class NoDirectory(AccessorError):
    """The pin can't have a directory: pin without one."""
    kind = "no-directory"


class DraftCommitting(AccessorError):
    """It is being committed, and can't change."""
    kind = "draft-committing"


class Pruned(AccessorError):
    """The block was held, and is too old now."""
    kind = "pruned"


class DraftOver(AccessorError):
    """This client's draft, and committed, dropped or expired."""
    kind = "draft-over"


class TooLarge(AccessorError):
    """A body, batch or answer over its limit."""
    kind = "too-large"


class TargetTooLong(AccessorError):
    """Path and query have more than 8 KiB."""
    kind = "target-too-long"


class UnsupportedMediaType(AccessorError):
    """The body has another form, or an encoding."""
    kind = "unsupported-media-type"


class InvalidBlock(AccessorError):
    """Against the chain's form or the store's limits."""
    kind = "invalid-block"


class WrongRoot(AccessorError):
    """The write set leads to another root than was stated."""
    kind = "wrong-root"


class PriorRoot(AccessorError):
    """Not the parent's root."""
    kind = "prior-root"


class SlotOrder(AccessorError):
    """Not above the parent's slot."""
    kind = "slot-order"


class InvalidAnchor(AccessorError):
    """No store can be made of it."""
    kind = "invalid-anchor"


class Locked(AccessorError):
    """Another import has the slot."""
    kind = "locked"


class Reserved(AccessorError):
    """Another owner's draft has the slot."""
    kind = "reserved"


class TooManyRequests(AccessorError):
    """Of this client at a time."""
    kind = "too-many-requests"


class TooManyDrafts(AccessorError):
    """Are open: 16 in all, 4 of one client."""
    kind = "too-many-drafts"


class TooManyPins(AccessorError):
    """In all, or a quarter of that of one client."""
    kind = "too-many-pins"


class ReplayLimit(AccessorError):
    """The answer needs a rebuilt state, and the client has had its share of them."""
    kind = "replay-limit"


class ClientGone(AccessorError):
    """Nobody sees it."""
    kind = "client-gone"


class InternalError(AccessorError):
    """The log says what it is."""
    kind = "internal"


class Undecided(AccessorError):
    """The disk failed while the block was recorded: restart, then ask whether it is held."""
    kind = "undecided"


class Unavailable(AccessorError):
    """No checkpoint can be used to reach the state."""
    kind = "unavailable"


class PartialState(AccessorError):
    """That needs the whole state, which isn't there yet."""
    kind = "partial"


class NotFetched(AccessorError):
    """What is missing could not be had from peers; it says nothing of whether it exists."""
    kind = "not-fetched"


class Busy(AccessorError):
    """The memory for bodies or answers, or this client's share of it, is taken."""
    kind = "busy"


class ReadOnly(AccessorError):
    """The store can't be written to."""
    kind = "read-only"


class NoStore(AccessorError):
    """The store is empty: PUT /v1/anchor first."""
    kind = "no-store"


class NotReady(AccessorError):
    """GET /readyz says why."""
    kind = "not-ready"


class Closing(AccessorError):
    """The server is stopping."""
    kind = "closing"


class OutOfSpace(AccessorError):
    """The disk, or the budget of it, is used up."""
    kind = "out-of-space"


class Unauthenticated(AccessorError):
    """Over TCP, without a token that is known."""
    kind = "unauthenticated"


class ForbiddenHost(AccessorError):
    """A Host that the configuration doesn't list."""
    kind = "forbidden-host"


class ForbiddenOrigin(AccessorError):
    """Likewise an Origin."""
    kind = "forbidden-origin"


class ForbiddenPeer(AccessorError):
    """The socket doesn't take that user."""
    kind = "forbidden-peer"


class TooManyConnections(AccessorError):
    """All connections are busy."""
    kind = "too-many-connections"


class HttpVersion(AccessorError):
    """Another than HTTP/1.1."""
    kind = "http-version"


_NUMBERS = ("status", "slot")
_TEXTS = ("declared", "actual", "block", "root", "key", "item", "action")
_own = (ConnectionFailed, Deadline, BadAnswer, BadProof)
_by_kind: Dict[str, Type[AccessorError]] = {c.kind: c for c in AccessorError.__subclasses__()}


def of_problem(data: Any, retry_after: Optional[float] = None) -> AccessorError:
    """The error that a problem is (RFC 9457, parsed JSON). Error: ValueError where it is none."""
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ValueError(f"not a problem: {data!r:.200}")
    cls = _by_kind.get(data["kind"], AccessorError)
    if cls in _own:
        raise ValueError(f"{cls.kind} is found by clients, not by a server")
    error = cls(str(data.get("detail") or data.get("title") or cls.kind), data)
    error.kind, error.retry_after = data["kind"], retry_after
    for name in _NUMBERS + _TEXTS:
        if isinstance(data.get(name), int if name in _NUMBERS else str):
            setattr(error, name, data[name])
    if data.get("nearest") is not None:
        error.nearest = decode(About, data["nearest"])
    if data.get("holder") is not None:
        error.holder = decode(Holder, data["holder"])
    if data.get("candidates") is not None:
        error.candidates = [decode(About, c) for c in data["candidates"]]
    if data.get("obstacles") is not None:
        error.obstacles = [decode(Obstacle, o) for o in data["obstacles"]]
    return error
