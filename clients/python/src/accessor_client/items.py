"""Items (preimages, bundles, segments) by their hash: the calls, without I/O."""

from __future__ import annotations

import hashlib

from .calls import BINARY, Call, nothing
from .errors import BadAnswer
from .http import Answer
from .model import hash_of

MAX_ITEM = 16 << 20  #: bytes


def hash_item(item: bytes) -> str:
    """The BLAKE2b-256 hash by which an item is asked for."""
    return hashlib.blake2b(item, digest_size=32).hexdigest()


def item(hash: str) -> Call[bytes]:
    want = hash_of(hash, "hash")

    def parse(answer: Answer) -> bytes:
        if answer.status != 200:
            raise BadAnswer(f"an item with status {answer.status}")
        found = hash_item(answer.body)
        if found != want:
            raise BadAnswer(f"an item with the hash {found}, not {want}")
        return answer.body

    return Call("GET", f"/v1/da/{want}", parse, accept=BINARY, most=MAX_ITEM)


def put_item(item: bytes) -> Call[str]:
    hash = hash_item(item)
    return Call("PUT", f"/v1/da/{hash}", nothing, body=item, kind=BINARY).then(lambda _: hash)
