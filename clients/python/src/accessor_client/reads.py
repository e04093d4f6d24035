"""Reads of a state: the calls, and what their answers must be, without I/O."""

from __future__ import annotations

from operator import gt, lt
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union, cast
from urllib.parse import quote

from . import model
from .calls import BINARY, JSON, U32, Call, Pages, block_text, expect, json_body, key_text, of, query_text
from .errors import AbsentKey, BadAnswer, BadProof
from .http import Answer
from .model import About, BlockName, Key, decode, hash_of, whole_hash
from .proof import KEY, Proof, Proved, item_key

T = TypeVar("T")
Pairs = List[Tuple[bytes, bytes]]

MAX_KEYS = 10_000
_ABSENT = 0xFFFFFFFF


def values_of(body: bytes, count: int) -> List[Optional[bytes]]:
    """The values of a binary batch. Error: BadAnswer."""
    out: List[Optional[bytes]] = []
    at, unpack = 0, U32.unpack_from
    for _ in range(count):
        size = unpack(body, at)[0]
        at += 4
        if size == _ABSENT:
            out.append(None)
            continue
        out.append(body[at:at + size])
        at += size
    if at != len(body):
        raise BadAnswer("a batch of another length than its values")
    return out


class Reads:
    """Reads of one state. It is bound to a block by the first answer: all others must name it."""

    def __init__(self, path: str) -> None:
        self._base = path
        self.block: Optional[str] = None
        self.about: Optional[About] = None
        self._mark = b""

    def __str__(self) -> str:
        return self.block or self._base

    @property
    def bound(self) -> bool:
        return self.block is not None

    def check(self, answer: Answer) -> None:
        """Binds to the block of the first answer. Error: BadAnswer for another block later."""
        if self._mark and self._mark in answer.head:
            return
        name = answer.header(b"accessor-block")
        if name is None and answer.status >= 300:
            return
        found = whole_hash((name or b"").decode("latin-1"))
        slot = answer.header(b"accessor-slot") or b""
        root = whole_hash((answer.header(b"accessor-root") or b"").decode("latin-1"))
        if found is None or root is None or not slot.isdigit() or len(slot) > 10:
            raise BadAnswer("an answer that doesn't say which block it is about")
        expect("block", found, self.block)
        self.about = About(found, int(slot), root)
        if not self._mark:
            self.bind(found)
            self._mark = f"\r\nAccessor-Block: {found}\r\n".encode()

    def bind(self, block: str) -> None:
        self.block = block

    def read(self, key: Key) -> Call[bytes]:
        return _Value(self, key)

    def get(self, key: Key) -> Call[Optional[bytes]]:
        return _Optional(self, key)

    def get_many(self, keys: Sequence[Key]) -> Pages[Optional[bytes]]:
        return _Batches(self, keys)

    def batch(self, keys: Sequence[Key]) -> Call[List[Optional[bytes]]]:
        """One batch, of at most MAX_KEYS keys."""
        target, count = self._base + "/state", len(keys)
        body = _frames(keys)
        if body is not None:
            return Call(
                "POST", target, lambda a: values_of(a.body, count), body=body, accept=BINARY, kind=BINARY,
                check=self.check,
            )

        def parse(answer: Answer) -> List[Optional[bytes]]:
            values = decode(List[Optional[bytes]], answer.json()["values"])
            if len(values) != count:
                raise BadAnswer(f"{len(values)} values of {count} keys")
            return values

        return Call("POST", target, parse, body=_texts(keys), check=self.check)


def _frames(keys: Sequence[Key]) -> Optional[bytes]:
    """Keys as the body of a batch in binary form; None where they are not all bytes."""
    raw = [k for k in keys if isinstance(k, bytes)]
    if len(raw) < len(keys):
        return None
    return b"".join([part for k in raw for part in (U32.pack(len(k)), k)])


def _texts(keys: Sequence[Key]) -> bytes:
    """Keys as the body of a batch in JSON."""
    return json_body(keys=[k.hex() if isinstance(k, bytes) else k for k in keys])


class _Value(Call[T]):
    """The call that clients do most: made, and its usual answer read, in few steps."""

    accept = BINARY

    def __init__(self, reads: Reads, key: Key) -> None:
        self.target = f"{reads._base}/state/{key.hex() if isinstance(key, bytes) else key_text(key)}"
        self.check, self._mark = reads.check, reads._mark

    def answer(self, answer: Answer) -> T:
        if answer.status == 200 and self._mark and self._mark in answer.head:
            return cast(T, answer.body)
        try:
            return super().answer(answer)
        except AbsentKey:
            if answer.header(b"accessor-block") is None:
                raise BadAnswer("an absent key of which state is not said") from None
            raise

    def parse(self, answer: Answer) -> T:
        if answer.status != 200:
            raise BadAnswer(f"a value with status {answer.status}")
        return cast(T, answer.body)


class _Optional(_Value[Optional[bytes]]):
    def answer(self, answer: Answer) -> Optional[bytes]:
        try:
            return super().answer(answer)
        except AbsentKey:
            return None


class _Batches(Pages[Optional[bytes]]):
    def __init__(self, reads: Reads, keys: Sequence[Key], size: int = MAX_KEYS) -> None:
        self._reads, self._keys, self._at, self._size = reads, keys, 0, size
        self.done = not keys

    def call(self) -> Call[List[Optional[bytes]]]:
        start, self._at = self._at, self._at + self._size
        self.done = self._at >= len(self._keys)
        return self._reads.batch(self._keys[start:self._at])


class BlockReads(Reads):
    """What can be read of a block. What it is asked by is its hash once that is known."""

    def __init__(self, name: BlockName) -> None:
        super().__init__(f"/v1/blocks/{quote(block_text(name), safe='')}")
        self.name = name
        found = whole_hash(name)
        if found is not None:
            self.bind(found)

    def bind(self, block: str) -> None:
        self._base = f"/v1/blocks/{block_text(block)}"  # first: who sees it bound reads by hash
        super().bind(block)

    def info(self) -> Call[model.BlockInfo]:
        return Call("GET", self._base, of(model.BlockInfo), check=self.check)

    def changes(self) -> Call[model.Changes]:
        return Call("GET", self._base + "/changes", of(model.Changes), check=self.check)

    def scan(
        self, prefix: Optional[Key], start: Optional[Key], stop: Optional[Key], reverse: bool, page: int, values: bool,
    ) -> Pages[Tuple[bytes, bytes]]:
        return _Scan(self, prefix, start, stop, reverse, page, values)

    def prove(self, keys: Sequence[Key]) -> Call[Proof]:
        body = _frames(keys)
        kind = JSON if body is None else BINARY
        return Call(
            "POST", self._base + "/proof", self._statement, body=_texts(keys) if body is None else body, kind=kind,
            accept=BINARY, check=self.check,
        )

    def prove_range(self, start: bytes, end: bytes, most: Optional[int]) -> Call[Proof]:
        query = query_text(from_=start.hex(), to=end.hex(), max=most)
        return Call("GET", f"{self._base}/proof{query}", self._statement, accept=BINARY, check=self.check)

    def _statement(self, answer: Answer) -> Proof:
        proof = Proof.decode(answer.body)
        if proof.block != self.block:
            raise BadProof(f"a proof about block {proof.block}, not {self.block}")
        return proof


class _Scan(Pages[Tuple[bytes, bytes]]):
    def __init__(
        self, reads: BlockReads, prefix: Optional[Key], start: Optional[Key], stop: Optional[Key],
        reverse: bool, page: int, values: bool,
    ) -> None:
        self._reads, self._values, self._reverse = reads, values, reverse
        self._next: Optional[bytes] = None  # the first key of the next page
        self._lead = prefix if isinstance(prefix, bytes) else b""
        self._least = start if isinstance(start, bytes) and not reverse else b""
        self._most = page
        self._params: Dict[str, Union[None, str, int]] = {
            "prefix": _bound(prefix), "from": _bound(start), "to": _bound(stop), "limit": page,
            "reverse": "true" if reverse else None, "values": None if values else "false",
        }

    def call(self) -> Call[Pairs]:
        target = f"{self._reads._base}/state{query_text(**self._params)}"
        return Call("GET", target, self._page, check=self._reads.check)

    def _page(self, answer: Answer) -> Pairs:
        page = answer.json()
        unhex = bytes.fromhex
        if self._values:
            pairs = [(unhex(key), unhex(value)) for key, value in page["pairs"]]
        else:
            pairs = [(unhex(pair[0]), b"") for pair in page["pairs"]]
        order = [pair[0] for pair in pairs]
        following = page.get("next")
        if following is None:
            self.done = True
        elif not pairs:
            raise BadAnswer("a page of pairs that doesn't go on")
        else:
            order.append(unhex(following))
            self._params["from"] = order[-1].hex()
        before = gt if self._reverse else lt
        if not all(map(before, order, order[1:])) or (self._next is not None and order[:1] != [self._next]):
            raise BadAnswer("keys out of order")
        # Those between two keys of a prefix have it, too.
        if any(not key.startswith(self._lead) or key < self._least for key in order[:1] + order[-1:]) or len(pairs) > self._most:
            raise BadAnswer("a page of other pairs than asked for")
        self._next = order[-1] if following is not None else None
        return pairs


def _bound(key: Optional[Key]) -> Optional[str]:
    return key.hex() if isinstance(key, bytes) else key


class VerifiedReads(BlockReads):
    """Reads of which each value, and each absence, is checked against a root by its proof."""

    batch_size = 1000  # keys of a proof, which is checked as a whole

    def __init__(self, name: BlockName, root: str) -> None:
        super().__init__(name)
        self.root = hash_of(root, "root")

    def _proved(self, call: Call[Proof], keys: Sequence[bytes], use: Callable[[Proved], T]) -> Call[T]:
        def parse(answer: Answer) -> T:
            proof = call.parse(answer)
            if proof.range is not None or list(proof.keys) != sorted(set(keys)):
                raise BadProof("a proof of other keys than asked for")
            return use(proof.verify(self.root))

        return call.then(parse)

    def check(self, answer: Answer) -> None:
        super().check(answer)
        if self.about is not None and self.about.root != self.root:
            raise BadProof(f"block {self.about.block} is said to have the root {self.about.root}, not {self.root}")

    def get(self, key: Key) -> Call[Optional[bytes]]:
        raw = item_key(key)
        return self._proved(self.prove([raw]), [raw], lambda p: p.pairs[0][1])

    def read(self, key: Key) -> Call[bytes]:
        def present(proved: Proved) -> bytes:
            value = proved.pairs[0][1]
            if value is None:
                raise AbsentKey(f"the state has no key {raw.hex()}")
            return value

        raw = item_key(key)
        return self._proved(self.prove([raw]), [raw], present)

    def get_many(self, keys: Sequence[Key]) -> Pages[Optional[bytes]]:
        return _Batches(self, keys, self.batch_size)

    def batch(self, keys: Sequence[Key]) -> Call[List[Optional[bytes]]]:
        raw = [item_key(k) for k in keys]

        def parse(proved: Proved) -> List[Optional[bytes]]:
            found = dict(proved.pairs)
            return [found[k] for k in raw]

        return self._proved(self.prove(sorted(set(raw))), raw, parse)

    def changes(self) -> Call[model.Changes]:
        raise ValueError("what a block wrote has no proof: ask a view that isn't verified")

    def scan(
        self, prefix: Optional[Key], start: Optional[Key], stop: Optional[Key], reverse: bool, page: int, values: bool,
    ) -> Pages[Tuple[bytes, bytes]]:
        if reverse:
            raise ValueError("proofs go upwards")
        return _VerifiedScan(self, prefix, start, stop, page)


class _VerifiedScan(Pages[Tuple[bytes, bytes]]):
    """A scan by proofs of ranges, each of about so many pairs of 200 bytes."""

    PAIR = 256

    def __init__(
        self, reads: VerifiedReads, prefix: Optional[Key], start: Optional[Key], stop: Optional[Key], page: int,
    ) -> None:
        lead = _lead(prefix)
        self._reads, self._most = reads, max(1, page * self.PAIR)
        self._next = max(lead.ljust(KEY, b"\0"), _lead(start).ljust(KEY, b"\0"))
        self._end = lead.ljust(KEY, b"\xff")
        if stop is not None:
            before = int.from_bytes(_lead(stop).ljust(KEY, b"\0"), "big") - 1
            self.done = before < 0
            self._end = min(self._end, max(before, 0).to_bytes(KEY, "big"))
        self.done = self.done or self._next > self._end

    def call(self) -> Call[Pairs]:
        asked = self._reads.prove_range(self._next, self._end, self._most)

        def parse(answer: Answer) -> Pairs:
            proof = asked.parse(answer)
            if proof.range is None or proof.range[:2] != (self._next, self._end):
                raise BadProof("a proof of another range than asked for")
            proved = proof.verify(self._reads.root)
            if proved.next is None:
                self.done = True
            else:
                self._next = proved.next
            return list(proof.pairs)

        return asked.then(parse)


def _lead(key: Optional[Key]) -> bytes:
    """The bytes of a bound, which may be shorter than keys are."""
    if key is None or isinstance(key, bytes):
        return key or b""
    try:
        return bytes.fromhex(key[2:] if key[:2] in ("0x", "0X") else key)
    except ValueError:
        return item_key(key)
