"""The values that the server's answers are made of.

Hashes and roots are lowercase hex, as they name blocks; keys and values are bytes. Times
that end in ``_ms`` are milliseconds. Members that the server adds later are passed over.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union

T = TypeVar("T")

Key = Union[bytes, str]
"""A key's bytes, or a text: hex, or the name of a state item ("slot", "account:7")."""

BlockName = Union[str, int, bytes]
"""A block's hash (hex, or 32 bytes), the first digits of it, its slot, or head, finalized…"""

_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")


def whole_hash(name: object) -> Optional[str]:
    """The hash that a block's name is, as 64 lowercase digits; None where it is another name."""
    if isinstance(name, bytes) and len(name) == 32:
        return name.hex()
    found = _HASH.fullmatch(name) if isinstance(name, str) else None
    return found.group(1).lower() if found else None


def hash_of(name: object, what: str) -> str:
    """A whole hash as 64 digits. Error: ValueError."""
    found = whole_hash(name)
    if found is None:
        raise ValueError(f"{what} is a hash of 64 hex digits or 32 bytes, not {name!r:.80}")
    return found


@dataclass(frozen=True)
class Block:
    """A block to import. The last of several puts of a key wins, as in a dict."""

    hash: str
    parent: str
    slot: int
    puts: Mapping[bytes, bytes] = field(default_factory=dict)
    dels: Sequence[bytes] = ()
    prior_root: Optional[str] = None
    post_root: Optional[str] = None
    header: Optional[bytes] = None

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Block:
        """A block from a line of a recording (docs/JAMTRACE.md). Error: ValueError."""
        try:
            header = line.get("header")
            return cls(
                hash=line["hash"], parent=line["parent"], slot=line["slot"],
                puts={bytes.fromhex(k): bytes.fromhex(v) for k, v in line.get("puts") or ()},
                dels=[bytes.fromhex(k) for k in line.get("dels") or ()],
                prior_root=line.get("prior_root"), post_root=line.get("post_root"),
                header=None if header is None else bytes.fromhex(header),
            )
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"not a block: {e!r}") from e

    def to_json(self) -> Dict[str, Any]:
        """The block as a line of a recording has it."""
        return {
            "hash": hash_of(self.hash, "hash"), "parent": hash_of(self.parent, "parent"), "slot": self.slot,
            "prior_root": self.prior_root, "post_root": self.post_root,
            "puts": [[k.hex(), v.hex()] for k, v in self.puts.items()], "dels": [k.hex() for k in self.dels],
            "header": None if self.header is None else self.header.hex(),
        }


@dataclass(frozen=True)
class About:
    """Which block an answer is about."""

    block: str
    slot: int
    root: str


@dataclass(frozen=True)
class BlockInfo(About):
    """A block of the tree."""

    parent: Optional[str]
    children: List[str]
    canonical: bool
    lost: bool
    head: bool
    finalized: bool
    anchor: bool
    checkpoint: bool  #: whether it has one; all can be read


@dataclass(frozen=True)
class Tree:
    """The tree of blocks, by slot, then hash."""

    blocks: List[BlockInfo]
    head: Optional[About] = None
    finalized: Optional[About] = None
    anchor: Optional[About] = None
    next: Optional[str] = None


@dataclass(frozen=True)
class WalkBack:
    """From which ancestor a parent's state was reached, and why from no nearer one."""

    from_: str
    blocks: int
    reasons: List[str]


@dataclass(frozen=True)
class Imported:
    """What became of a block: ``new`` is False where it was held with the same content."""

    hash: str
    slot: int
    root: str
    walkback: Optional[WalkBack]
    ms: float
    unsealed: Optional[str] = None
    new: bool = False


@dataclass(frozen=True)
class Finalized(About):
    """The finalized block, and the hashes of those that lost by it."""

    lost: List[str]


@dataclass(frozen=True)
class Changes(About):
    """What a block wrote."""

    puts: List[Tuple[bytes, bytes]]
    dels: List[bytes]


@dataclass(frozen=True)
class Difference:
    """A key with different values in two states; None where it is absent."""

    key: bytes
    from_: Optional[bytes]
    to: Optional[bytes]


@dataclass(frozen=True)
class Diff:
    """What differs between two states."""

    from_: About
    to: About
    common: About
    keys: List[Difference]


@dataclass(frozen=True)
class Version(About):
    """A value and the block that wrote it; None where it deleted the key."""

    value: Optional[bytes]


@dataclass(frozen=True)
class History(About):
    """Who wrote a key, newest first."""

    key: bytes
    versions: List[Version]


@dataclass(frozen=True)
class DraftInfo:
    """An import in progress."""

    id: str
    parent: About
    slot: int
    owner: str
    age_ms: int
    expires_ms: Optional[int]
    bytes: int
    writes: int


@dataclass(frozen=True)
class PinInfo:
    """A block that is kept readable; ``directory`` is its checkpoint's, where there is one."""

    id: str
    block: str
    owner: str
    age_ms: int
    expires_ms: int
    directory: Optional[str]


@dataclass(frozen=True)
class Lock:
    """A slot into which somebody imports."""

    slot: int
    block: str
    owner: str
    age_ms: int
    waiters: int


@dataclass(frozen=True)
class Reservation:
    """A slot that a draft has reserved."""

    slot: int
    owner: str
    age_ms: int
    expires_ms: Optional[int]


@dataclass(frozen=True)
class Locks:
    """Locked slots, and reserved ones."""

    locks: List[Lock]
    reservations: List[Reservation]


@dataclass(frozen=True)
class LockTold:
    """What became of an import that found its slot locked."""

    block: str
    slot: int
    owner: str
    outcome: str
    waited_ms: int


@dataclass(frozen=True)
class Event:
    """Something that happened (docs/EVENTS.md); members that its kind doesn't have are None."""

    kind: str
    position: int
    time_ms: Optional[int] = None
    block: Optional[str] = None
    slot: Optional[int] = None
    root: Optional[str] = None
    parent: Optional[str] = None
    old: Optional[About] = None
    common: Optional[About] = None
    depth: Optional[int] = None
    lost: Optional[int] = None
    pruned: Optional[int] = None
    walkback: Optional[WalkBack] = None
    lock: Optional[LockTold] = None
    first: Optional[int] = None
    last: Optional[int] = None


@dataclass(frozen=True)
class Fill:
    """How far a partial store is."""

    done: int  #: pairs of the anchor's state that are there
    of: int  #: how many it has about; 0 while that can't be said
    anchor_gone: bool = False  #: peers don't have that state any more: a later block has to be trusted


@dataclass(frozen=True)
class Status:
    """What store, tree and drafts are like."""

    version: str
    ready: bool
    blocks: int
    leaves: int
    drafts: int
    pins: int
    locks: int
    importing: int
    cache_ready: bool
    disk_bytes: int
    disk_budget: int
    commitment: Optional[str] = None  #: None where there is no store yet
    oldest_event: int = 0  #: position of the oldest that is kept; 0: there is none
    newest_event: int = 0
    anchor: Optional[About] = None
    finalized: Optional[About] = None
    head: Optional[About] = None
    reason: Optional[str] = None
    partial: bool = False  #: peers are asked for what is missing of the anchor's state
    fill: Optional[Fill] = None  #: None where all is there
    peer_id: Optional[str] = None  #: of the sidecar among its peers
    peer_addresses: Optional[List[str]] = None  #: multiaddresses


@dataclass(frozen=True)
class Holder:
    """Who has a slot."""

    slot: int
    owner: str
    age_ms: int
    block: Optional[str] = None


@dataclass(frozen=True)
class Obstacle(About):
    """A block whose checkpoint can't be used, and why."""

    reason: str


_parsers: Dict[object, Callable[[Any], Any]] = {}


def decode(cls: Type[T], data: object) -> T:
    """Makes a value of a dataclass from JSON, which is hostile. Error: ValueError."""
    return typing.cast(T, _parser(cls)(data))


def _parser(hint: Any) -> Callable[[Any], Any]:
    found = _parsers.get(hint)
    if found is None:
        found = _parsers[hint] = _make(hint)
    return found


def _make(hint: Any) -> Callable[[Any], Any]:
    args = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _members(hint)
    if typing.get_origin(hint) is Union:
        inner = _parser(args[0])
        return lambda v: None if v is None else inner(v)
    if typing.get_origin(hint) is list:
        each = _parser(args[0])
        return lambda v: [each(x) for x in _is(list, v)]
    if typing.get_origin(hint) is tuple:
        parts = [_parser(a) for a in args]
        return lambda v: tuple(p(x) for p, x in zip(parts, _sized(len(parts), v)))
    if hint is bytes:
        return lambda v: bytes.fromhex(_is(str, v))
    if hint is float:
        return lambda v: float(_is((int, float), v))
    return lambda v: _is(hint, v)


def _is(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r:.80} is not as expected")
    return value


def _sized(n: int, value: Any) -> Any:
    if len(_is(list, value)) != n:
        raise ValueError(f"a list of {len(value)}, not {n}")
    return value


def _members(cls: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(cls)
    table = [
        (f.name, f.name.rstrip("_"), _parser(hints[f.name]), f.default is dataclasses.MISSING)
        for f in dataclasses.fields(cls)
    ]

    def parse(data: Any) -> Any:
        _is(dict, data)
        values = {}
        for name, member, parser, required in table:
            if member in data:
                values[name] = parser(data[member])
            elif required:
                raise ValueError(f"{cls.__name__} without {member}")
        return cls(**values)

    return parse
