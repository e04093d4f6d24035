"""Erasure-coded work packages: the calls, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Union

from .calls import BINARY, U32, Call, expect, nothing, query_text
from .errors import BadAnswer
from .http import Answer
from .items import MAX_ITEM, hash_item
from .model import decode, hash_of

SEGMENT = 4104  #: bytes of an exported segment
MAX_SHARD = 32 << 20


@dataclass(frozen=True)
class Spec:
    """A work package's availability specifier: what its reader trusts."""

    erasure_root: str
    shards: int  #: 6 (any 2 suffice) or 1,023 (any 342)
    bundle_length: int  #: bytes
    bundle_hash: Optional[str] = None  #: None: the bundle is checked against the erasure root alone
    segments_root: Optional[str] = None  #: needed for segments
    segments: int = 0  #: how many are exported

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """A spec from its JSON. Error: ValueError."""
        spec = decode(cls, dict(data))
        spec.path()
        spec.query()
        return spec

    def to_json(self) -> Dict[str, Any]:
        """The spec as JSON has it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def path(self) -> str:
        return _path(self.erasure_root)

    def query(self) -> str:
        """What goes with a request."""
        hashes = {
            name: None if value is None else hash_of(value, name)
            for name, value in (("bundle_hash", self.bundle_hash), ("segments_root", self.segments_root))
        }
        return query_text(shards=self.shards, bundle_length=self.bundle_length, segments=self.segments, **hashes)


@dataclass(frozen=True)
class Shard:
    """What one of the holders keeps of a work package: the three messages of JAMNP-S's CE 137."""

    bundle: bytes  #: the bundle's shard
    segments: bytes  #: those of its segments, and of their pages of proofs, one after the other
    justification: bytes  #: its way to the erasure root


def _path(root: str) -> str:
    return f"/v1/da/erasure/{hash_of(root, 'erasure_root')}"


def _frame(data: bytes) -> bytes:
    return U32.pack(len(data)) + data


def _bytes(answer: Answer) -> bytes:
    if answer.status != 200:
        raise BadAnswer(f"bytes with status {answer.status}")
    return answer.body


def encode(
    bundle: bytes, segments: Sequence[bytes], shards: int, keep: Union[None, str, Iterable[int]],
) -> Call[Spec]:
    if any(len(s) != SEGMENT for s in segments):
        raise ValueError(f"a segment has {SEGMENT} bytes")
    if keep is not None and not isinstance(keep, str):
        keep = ",".join(map(str, keep))

    def parse(answer: Answer) -> Spec:
        spec = Spec.from_json(answer.json())
        expect("bundle", spec.bundle_hash, hash_item(bundle))
        if (spec.shards, spec.bundle_length, spec.segments) != (shards, len(bundle), len(segments)):
            raise BadAnswer("the spec of another work package")
        return spec

    target = "/v1/da/erasure" + query_text(shards=shards, keep=keep or None)
    return Call("POST", target, parse, body=_frame(bundle) + b"".join(segments), kind=BINARY)


def bundle(spec: Spec) -> Call[bytes]:
    def parse(answer: Answer) -> bytes:
        found = _bytes(answer)
        if len(found) != spec.bundle_length:
            raise BadAnswer(f"a bundle of {len(found)} bytes, not {spec.bundle_length}")
        if spec.bundle_hash is not None:
            expect("bundle", hash_item(found), hash_of(spec.bundle_hash, "bundle_hash"))
        return found

    return Call("GET", f"{spec.path()}/bundle{spec.query()}", parse, accept=BINARY, most=MAX_ITEM)


def segment(spec: Spec, index: int) -> Call[bytes]:
    def parse(answer: Answer) -> bytes:
        found = _bytes(answer)
        if len(found) != SEGMENT:
            raise BadAnswer(f"a segment of {len(found)} bytes")
        return found

    return Call("GET", f"{spec.path()}/segments/{index}{spec.query()}", parse, accept=BINARY, most=SEGMENT)


def shard(root: str, index: int) -> Call[Shard]:
    def parse(answer: Answer) -> Shard:
        body, parts, at = _bytes(answer), [], 0
        for _ in range(3):
            size = U32.unpack_from(body, at)[0]
            at += 4
            parts.append(body[at:at + size])
            at += size
        if at != len(body):
            raise BadAnswer("a shard of another length than its parts")
        return Shard(*parts)

    return Call("GET", f"{_path(root)}/shards/{index}", parse, accept=BINARY, most=MAX_SHARD)


def put_shard(spec: Spec, index: int, shard: Shard) -> Call[None]:
    body = _frame(shard.bundle) + _frame(shard.segments) + _frame(shard.justification)
    return Call("PUT", f"{spec.path()}/shards/{index}{spec.query()}", nothing, body=body, kind=BINARY)
