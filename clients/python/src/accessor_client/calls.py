"""Every call of the API: how its request is made and its answer is read, without I/O.

Client and AsyncClient send the calls that are made here. An answer that names another
block than the one asked for is a BadAnswer.
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any, Callable, Dict, Generic, Iterable, List, Mapping, Optional, Sequence, Type, TypeVar, Union
from urllib.parse import quote

from . import model
from .errors import AccessorError, BadAnswer, DraftOver, UnknownDraft, UnknownPin, of_problem
from .http import MAX_BODY, Answer
from .model import About, Block, BlockName, Key, decode, hash_of, whole_hash

T = TypeVar("T")
U = TypeVar("U")

JSON = "application/json"
BINARY = "application/octet-stream"
LINES = "application/x-ndjson"
GONE = (DraftOver, UnknownDraft, UnknownPin)  #: what ends a draft or a pin by itself
U32 = struct.Struct("<I")


class Call(Generic[T]):
    """A request, and how its answer is read.

    ``once``: it must not be sent twice. ``wait``: seconds that the server may take beside
    the timeout. ``most``: bytes that the answer's body may have.
    """

    method = "GET"
    target = ""
    body: Optional[bytes] = None
    accept = JSON
    kind = JSON
    once = False
    wait: float = 0
    most = MAX_BODY
    check: Optional[Callable[[Answer], None]] = None

    def __init__(
        self, method: str, target: str, parse: Callable[[Answer], T], *, body: Optional[bytes] = None,
        accept: str = JSON, kind: str = JSON, once: bool = False, wait: float = 0, most: int = MAX_BODY,
        check: Optional[Callable[[Answer], None]] = None,
    ) -> None:
        self.method, self.target, self.parse = method, target, parse
        self.body, self.accept, self.kind, self.once, self.wait = body, accept, kind, once, wait
        self.most, self.check = most, check

    def then(self, parse: Callable[[Answer], U]) -> Call[U]:
        """The same request, its answer read otherwise."""
        return Call(
            self.method, self.target, parse, body=self.body, accept=self.accept, kind=self.kind, once=self.once,
            wait=self.wait, most=self.most, check=self.check,
        )

    def request(self, host: str, token: Optional[str]) -> bytes:
        """The request's bytes."""
        head = f"{self.method} {self.target} HTTP/1.1\r\nHost: {host}\r\nAccept: {self.accept}\r\n"
        if token is not None:
            head += f"Authorization: Bearer {token}\r\n"
        if self.body is None:
            return (head + "\r\n").encode("ascii")
        head += f"Content-Type: {self.kind}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        return head.encode("ascii") + self.body

    def answer(self, answer: Answer) -> T:
        """Reads the answer. Errors: that of the server; BadAnswer, BadProof."""
        if self.check is not None:
            self.check(answer)
        if answer.status < 300:
            try:
                return self.parse(answer)
            except AccessorError:
                raise
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, struct.error) as e:
                raise BadAnswer(f"{self.method} {self.target[:200]}: {e}") from e
        raise of_answer(answer)


def of_answer(answer: Answer) -> AccessorError:
    """The error that an answer is. One that is no problem is a BadAnswer with the status."""
    after = answer.header(b"retry-after")
    try:
        error = of_problem(answer.json(), float(after) if after is not None and after.isdigit() and len(after) < 8 else None)
    except (ValueError, TypeError):
        error = BadAnswer(f"status {answer.status} with a body that is no problem: {answer.body[:200]!r}")
    error.status = answer.status
    return error


class Pages(Generic[T]):
    """A walk over several calls: each gives some elements and says whether there are more."""

    done = False

    def call(self) -> Call[List[T]]:
        raise NotImplementedError


def of(cls: Type[T]) -> Callable[[Answer], T]:
    """Reads an answer of JSON as that class."""
    return lambda answer: decode(cls, answer.json())


def nothing(_: Answer) -> None:
    """Reads an answer without content."""


def json_body(**members: Any) -> bytes:
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()


def query_text(**params: Union[None, str, int]) -> str:
    pairs = [f"{k.rstrip('_')}={quote(str(v), safe='')}" for k, v in params.items() if v is not None]
    return "?" + "&".join(pairs) if pairs else ""


def block_text(name: BlockName) -> str:
    """A block's name as it stands in a request."""
    if isinstance(name, bytes):
        name = hash_of(name, "block")
    found = whole_hash(name)
    if found is None:
        return str(name)
    return "0x" + found if found.isdigit() else found  # else it would be a slot


def key_text(key: Key) -> str:
    """A key as it stands in a path or a query."""
    if isinstance(key, bytes):
        return key.hex()
    if not isinstance(key, str):
        raise TypeError(f"a key is bytes or str, not {type(key).__name__}")
    return quote(key, safe=":")


def milliseconds(seconds: Optional[float]) -> Optional[int]:
    return None if seconds is None else int(seconds * 1000)


def _wait(seconds: Optional[float]) -> Optional[str]:
    return None if seconds is None else f"{milliseconds(seconds)}ms"


def _frame(data: bytes) -> bytes:
    return U32.pack(len(data)) + data


def write_set(puts: Mapping[bytes, bytes], dels: Sequence[bytes]) -> bytes:
    """The binary form of a write set (docs/PROTOCOL.md)."""
    parts = [U32.pack(len(puts))]
    for key, value in puts.items():
        parts += (_frame(key), _frame(value))
    parts.append(U32.pack(len(dels)))
    parts += map(_frame, dels)
    return b"".join(parts)


def block_bytes(block: Block) -> bytes:
    """The binary form of a block. Error: ValueError."""
    flags, roots = 0, b""
    for bit, root in ((1, block.prior_root), (2, block.post_root)):
        if root is not None:
            flags |= bit
            roots += bytes.fromhex(hash_of(root, "root"))
    header = b""
    if block.header is not None:
        flags |= 4
        header = _frame(block.header)
    if not 0 <= block.slot <= 0xFFFFFFFF:
        raise ValueError(f"slot {block.slot} is no u32")
    return b"".join((
        b"blk1", U32.pack(flags), bytes.fromhex(hash_of(block.hash, "hash")),
        bytes.fromhex(hash_of(block.parent, "parent")), U32.pack(block.slot), roots, header,
        write_set(block.puts, block.dels),
    ))


def as_block(block: Union[Block, Mapping[str, Any]]) -> Block:
    return block if isinstance(block, Block) else Block.from_json(block)


def expect(what: str, got: object, want: Optional[str]) -> None:
    """Compares with the hash that was asked for, if it was one."""
    if want is not None and got != want:
        raise BadAnswer(f"the answer is about {what} {got!r:.80}, not {want}")


def block(name: BlockName, wait: Optional[float] = None) -> Call[model.BlockInfo]:
    def parse(answer: Answer) -> model.BlockInfo:
        found = decode(model.BlockInfo, answer.json())
        expect("block", found.block, whole_hash(name))
        return found

    target = f"/v1/blocks/{quote(block_text(name), safe='')}{query_text(wait=_wait(wait))}"
    return Call("GET", target, parse, wait=wait or 0)


class Trees(Pages[model.BlockInfo]):
    """The tree, page by page; ``tree`` has what is beside the blocks."""

    def __init__(self, leaves: bool, page: int) -> None:
        self.tree: Optional[model.Tree] = None
        self._params: Dict[str, Union[None, str, int]] = {"leaves": "true" if leaves else None, "limit": page}

    def call(self) -> Call[List[model.BlockInfo]]:
        return Call("GET", "/v1/blocks" + query_text(**self._params), self._page)

    def _page(self, answer: Answer) -> List[model.BlockInfo]:
        page = decode(model.Tree, answer.json())
        self.tree = self.tree or page
        if page.next is None:
            self.done = True
        elif not page.blocks or page.next == self._params.get("from"):
            raise BadAnswer("a page of blocks that doesn't go on")
        self._params["from"] = page.next
        return page.blocks

    def whole(self, blocks: List[model.BlockInfo]) -> model.Tree:
        """The tree of all pages' blocks."""
        assert self.tree is not None
        return replace(self.tree, blocks=blocks, next=None)


def import_block(block: Union[Block, Mapping[str, Any]], wait: Optional[float]) -> Call[model.Imported]:
    block = as_block(block)
    want = whole_hash(block.hash)

    def parse(answer: Answer) -> model.Imported:
        found = decode(model.Imported, {**answer.json(), "new": answer.status == 201})
        expect("block", found.hash, want)
        return found

    target = "/v1/blocks" + query_text(wait=_wait(wait))
    return Call("POST", target, parse, body=block_bytes(block), kind=BINARY, wait=wait or 0)


def held(hashes: Iterable[str]) -> Call[List[str]]:
    asked = [hash_of(h, "hash") for h in hashes]

    def parse(answer: Answer) -> List[str]:
        found = decode(List[str], answer.json()["held"])
        if not set(found) <= set(asked):
            raise BadAnswer("held blocks that nobody asked for")
        return found

    return Call("POST", "/v1/blocks/held", parse, body=json_body(hashes=asked))


def _about_block(path: str, cls: Type[T], name: str) -> Call[T]:
    def parse(answer: Answer) -> T:
        data = answer.json()
        found = decode(cls, data)
        expect("block", data.get("block"), whole_hash(name))
        return found

    return Call("POST", path, parse, body=json_body(hash=name))


def set_head(name: str) -> Call[About]:
    return _about_block("/v1/head", About, hash_of(name, "hash"))


def finalize(name: str) -> Call[model.Finalized]:
    return _about_block("/v1/finalize", model.Finalized, hash_of(name, "hash"))


def diff(start: BlockName, end: BlockName) -> Call[model.Diff]:
    def parse(answer: Answer) -> model.Diff:
        found = decode(model.Diff, answer.json())
        expect("block", found.from_.block, whole_hash(start))
        expect("block", found.to.block, whole_hash(end))
        return found

    return Call("GET", "/v1/diff" + query_text(from_=block_text(start), to=block_text(end)), parse)


def history(key: Key, at: Optional[BlockName], limit: Optional[int]) -> Call[model.History]:
    def parse(answer: Answer) -> model.History:
        found = decode(model.History, answer.json())
        expect("block", found.block, whole_hash(at))
        if isinstance(key, bytes):
            expect("key", found.key.hex(), key.hex())
        return found

    query = query_text(at=None if at is None else block_text(at), limit=limit)
    return Call("GET", f"/v1/history/{key_text(key)}{query}", parse)


def status() -> Call[model.Status]:
    return Call("GET", "/v1/status", of(model.Status))


def locks() -> Call[model.Locks]:
    return Call("GET", "/v1/locks", of(model.Locks))


def drafts() -> Call[List[model.DraftInfo]]:
    return Call("GET", "/v1/drafts", lambda a: decode(List[model.DraftInfo], a.json()["drafts"]))


def pins() -> Call[List[model.PinInfo]]:
    return Call("GET", "/v1/pins", lambda a: decode(List[model.PinInfo], a.json()["pins"]))


def begin_draft(parent: BlockName, slot: int, owner: str, ttl: Optional[float]) -> Call[model.DraftInfo]:
    def parse(answer: Answer) -> model.DraftInfo:
        found = decode(model.DraftInfo, answer.json())
        expect("block", found.parent.block, whole_hash(parent))
        return found

    body = json_body(parent=block_text(parent), slot=slot, owner=owner or None, ttl_ms=milliseconds(ttl))
    return Call("POST", "/v1/drafts", parse, body=body, once=True)


def pin(
    block: BlockName, ttl: float, owner: str, directory: Optional[bool],
) -> Call[model.PinInfo]:
    def parse(answer: Answer) -> model.PinInfo:
        found = decode(model.PinInfo, answer.json())
        expect("block", found.block, whole_hash(block))
        return found

    body = json_body(block=block_text(block), ttl_ms=milliseconds(ttl), owner=owner or None, directory=directory)
    return Call("POST", "/v1/pins", parse, body=body, once=True)


def renew(cls: Type[T], path: str, ttl: Optional[float]) -> Call[T]:
    return Call("POST", path + "/renew", of(cls), body=json_body(ttl_ms=milliseconds(ttl)))


def delete(path: str) -> Call[None]:
    return Call("DELETE", path, nothing)


def draft_path(id: str) -> str:
    return f"/v1/drafts/{quote(id, safe='')}"


def pin_path(id: str) -> str:
    return f"/v1/pins/{quote(id, safe='')}"


def draft_info(path: str) -> Call[model.DraftInfo]:
    return Call("GET", path, of(model.DraftInfo))


def draft_put(path: str, key: Key, value: bytes) -> Call[None]:
    return Call("PUT", f"{path}/state/{key_text(key)}", nothing, body=value, kind=BINARY)


def draft_write(path: str, puts: Mapping[bytes, bytes], dels: Sequence[bytes]) -> Call[None]:
    return Call("PATCH", path + "/state", nothing, body=write_set(puts, dels), kind=BINARY)


def commit(path: str, name: str, post_root: Optional[str], header: Optional[bytes]) -> Call[model.Imported]:
    name = hash_of(name, "hash")

    def parse(answer: Answer) -> model.Imported:
        found = decode(model.Imported, {**answer.json(), "new": answer.status == 201})
        expect("block", found.hash, name)
        return found

    body = json_body(hash=name, post_root=post_root, header=None if header is None else header.hex())
    return Call("POST", path + "/commit", parse, body=body)
