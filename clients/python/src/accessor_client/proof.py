"""Checks proofs with nothing but a state's root (docs/PROOFS.md).

The trie is JAM's (Gray Paper 0.7.2, appendix D.2): keys of 31 bytes, nodes of 64 bytes,
BLAKE2b-256. With bits counted from the most significant one of the first byte:

    branch(l, r) = (l[0] & 0x7f) ++ l[1:32] ++ r      l is the child of bit 0, r of bit 1
    leaf(k, v)   = (0x80 | len(v)) ++ k ++ v ++ 00…   where len(v) ≤ 32
                 = 0xc0 ++ k ++ H(v)                  where v is longer
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .errors import BadProof
from .model import Key, hash_of

KEY = 31
DEPTH = 8 * KEY
_NODE = 64
_ZERO = bytes(32)

_ITEMS = (
    "auth-pools", "auth-queues", "recent", "safrole", "disputes", "entropy", "staging-validators",
    "active-validators", "previous-validators", "availability", "slot", "privileges", "statistics",
    "ready-queue", "accumulated", "accumulation-outputs",
)


def item_key(key: Key) -> bytes:
    """The 31 bytes of a key that is given as bytes, in hex, or by its item's name.

    Who checks a proof must know them without asking the server. Error: ValueError.
    """
    if isinstance(key, bytes):
        found = key
    elif key in _ITEMS:
        found = bytes([_ITEMS.index(key) + 1]) + bytes(30)
    elif key.startswith("account:"):
        number = key[len("account:"):]
        if not number.isascii() or not number.isdigit() or str(int(number[:11])) != number or int(number) >> 32:
            raise ValueError(f"{key!r:.80}: want account: and a service's number")
        a, b, c, d = struct.pack("<I", int(number))
        found = bytes([255, a, 0, b, 0, c, 0, d]) + bytes(23)
    else:
        found = bytes.fromhex(key[2:] if key[:2] in ("0x", "0X") else key)
    if len(found) != KEY:
        raise ValueError(f"a key of {len(found)} bytes, where those of states with roots have {KEY}")
    return found


@dataclass(frozen=True)
class Proved:
    """What a proof proves.

    ``pairs`` are the keys asked for, None for an absent one; or all pairs of the range up
    to the last one given. ``more`` says that the range may go on: all of it below ``next``
    is proved.
    """

    pairs: List[Tuple[bytes, Optional[bytes]]]
    next: Optional[bytes] = None

    @property
    def more(self) -> bool:
        return self.next is not None


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _leaf(key: bytes, value: bytes) -> bytes:
    if len(value) <= 32:
        return bytes([0x80 | len(value)]) + key + value.ljust(32, b"\0")
    return b"\xc0" + key + _hash(value)


def _same(got: bytes, want: bytes, left: bool) -> bool:
    """Compares with a hash found in a branch: a left child's has lost its first bit."""
    return got == want if not left else got[0] & 0x7F == want[0] and got[1:] == want[1:]


def _cut_nat(data: bytes, at: int) -> Tuple[int, int]:
    """Reads a JAM natural in its shortest form; gives it and where it ends."""
    first = data[at]
    more = next((i for i in range(8) if not first & (0x80 >> i)), 8)
    low = data[at + 1:at + 1 + more]
    if len(low) < more:
        raise BadProof("a length is cut short")
    x = int.from_bytes(low, "little")
    if more < 8:
        x |= (first & (0x7F >> more)) << (8 * more)
    if more > 0 and x >> (7 * more) == 0:
        raise BadProof("a length is not in its shortest form")
    return x, at + 1 + more


@dataclass(frozen=True)
class Proof:
    """A request and the nodes and pairs that answer it: of ``keys``, or of a range.

    ``block`` is a claim: a root proves a state, not whose it is. ``raw`` is the binary form.
    """

    block: str
    keys: Sequence[bytes]
    range: Optional[Tuple[bytes, bytes, int]]  #: first and last key, both included, and most bytes
    nodes: Sequence[bytes]
    pairs: Sequence[Tuple[bytes, bytes]]
    raw: bytes

    @classmethod
    def decode(cls, raw: bytes) -> Proof:
        """Reads the binary form. Error: BadProof."""
        if len(raw) < 32 or _hash(raw[:-32]) != raw[-32:]:
            raise BadProof(f"{len(raw)} bytes that are no proof, or were changed")
        messages, at, end = [], 0, len(raw) - 32
        for _ in range(3):
            size = int.from_bytes(raw[at:at + 4], "little")
            if at + 4 + size > end:
                raise BadProof("a message is cut short")
            messages.append(raw[at + 4:at + 4 + size])
            at += 4 + size
        request, nodes, pairs = messages
        if at != end or len(request) < 32 or len(nodes) % _NODE:
            raise BadProof("not the three messages of a proof")
        block, rest, bounds, keys = request[:32].hex(), request[32:], None, []
        if len(rest) == 2 * KEY + 4:
            bounds = (rest[:KEY], rest[KEY:2 * KEY], int.from_bytes(rest[2 * KEY:], "little"))
        elif len(rest) % KEY == 0:
            keys = [rest[i:i + KEY] for i in range(0, len(rest), KEY)]
        else:
            raise BadProof(f"a request of {len(request)} bytes")
        if len(nodes) // _NODE > (2 if bounds else len(keys)) * (DEPTH + 1):
            raise BadProof(f"{len(nodes)} bytes of nodes")
        return cls(
            block, keys, bounds, [nodes[i:i + _NODE] for i in range(0, len(nodes), _NODE)], _decode_pairs(pairs), raw,
        )

    def verify(self, root: str) -> Proved:
        """Checks the proof against a root that the caller trusts. Error: BadProof."""
        walk = _Walk(self)
        trusted = bytes.fromhex(hash_of(root, "root"))
        if self.range is None:
            if any(a >= b for a, b in zip(self.keys, self.keys[1:])):
                raise BadProof("keys that don't ascend")
            pairs: List[Tuple[bytes, Optional[bytes]]] = []
            walk.keys(trusted, False, 0, self.keys, pairs)
        else:
            walk.check_range(self)
            walk.range(trusted, False, 0, 0)
            pairs = list(self.pairs)
        walk.end()
        following = None if walk.next is None else walk.next.to_bytes(KEY, "big")
        return Proved(pairs, following)


def _decode_pairs(data: bytes) -> List[Tuple[bytes, bytes]]:
    pairs, at = [], 0
    while at < len(data):
        if len(data) - at <= KEY:
            raise BadProof("a pair is cut short")
        key = data[at:at + KEY]
        size, at = _cut_nat(data, at + KEY)
        if size > len(data) - at:
            raise BadProof("a value is cut short")
        pairs.append((key, data[at:at + size]))
        at += size
    return pairs


class _Walk:
    """Takes nodes and pairs in the order in which a walk from the root comes to them.

    A place in the trie is a depth and the first key below it, as a number.
    """

    def __init__(self, proof: Proof) -> None:
        self.nodes = iter(proof.nodes)
        self.pairs = proof.pairs
        self.numbers = [int.from_bytes(k, "big") for k, _ in proof.pairs]
        self.at = 0  # of the next pair
        self.next: Optional[int] = None
        self.first = self.last = self.final = 0

    def check_range(self, proof: Proof) -> None:
        """Looks at the pairs of a range from outside: their order and size."""
        assert proof.range is not None
        self.first = self.last = int.from_bytes(proof.range[0], "big")
        self.final = int.from_bytes(proof.range[1], "big")
        if self.numbers:
            self.last = self.numbers[-1]
        if any(a >= b for a, b in zip(self.numbers, self.numbers[1:])):
            raise BadProof("keys that don't ascend")
        if self.first > self.final or self.numbers and (self.numbers[0] < self.first or self.last > self.final):
            raise BadProof("keys outside of the range")
        # Of the three messages, without their lengths, the request and the checksum.
        size = len(proof.raw) - 3 * 4 - 32 - (32 + 2 * KEY + 4)
        if size > proof.range[2] and len(self.pairs) > 1:
            raise BadProof(f"{size} bytes, asked for at most {proof.range[2]}")

    def end(self) -> None:
        if next(self.nodes, None) is not None or self.at < len(self.pairs):
            raise BadProof("nodes or pairs too many")

    def node(self, want: bytes, left: bool, depth: int, first: int) -> bytes:
        """The next node, which must have that hash and stand where its key belongs."""
        node = next(self.nodes, None)
        if node is None or not _same(_hash(node), want, left):
            raise BadProof(f"the node at depth {depth} is missing, or another")
        if node[0] & 0x80:
            if (int.from_bytes(node[1:32], "big") ^ first) >> (DEPTH - depth):
                raise BadProof("a leaf at another place")
        elif depth == DEPTH:
            raise BadProof(f"a branch at depth {depth}")
        return node

    def take(self, leaf: bytes) -> bytes:
        """The value of the next pair, which must be that of the leaf."""
        if self.at >= len(self.pairs) or _leaf(*self.pairs[self.at]) != leaf:
            raise BadProof(f"the pair of {leaf[1:32].hex()} is missing, or another")
        self.at += 1
        return self.pairs[self.at - 1][1]

    def keys(
        self, want: bytes, left: bool, depth: int, keys: Sequence[bytes], out: List[Tuple[bytes, Optional[bytes]]],
    ) -> None:
        """Walks the sub-trie to the keys, all of which belong into it."""
        if not keys:
            return
        if want == _ZERO:
            out.extend((k, None) for k in keys)
            return
        first = int.from_bytes(keys[0], "big") >> (DEPTH - depth) << (DEPTH - depth)
        node = self.node(want, left, depth, first)
        if node[0] & 0x80:
            for key in keys:
                out.append((key, self.take(node) if key == node[1:32] else None))
            return
        middle = (first | 1 << (DEPTH - depth - 1)).to_bytes(KEY, "big")
        split = bisect_left(keys, middle)
        self.keys(node[:32], True, depth + 1, keys[:split], out)
        self.keys(node[32:], False, depth + 1, keys[split:], out)

    def range(self, want: bytes, left: bool, depth: int, first: int) -> None:
        """Walks the sub-trie as far as it is in the range that the pairs cover."""
        half = 1 << (DEPTH - depth) >> 1
        final = first | (1 << (DEPTH - depth)) - 1
        if final < self.first:
            return
        if first > self.last:
            if want != _ZERO:
                self.beyond(first)
            return
        if not first <= self.first <= final and not first <= self.last <= final:
            return self.inside(want, left, depth, first, final)
        if want == _ZERO:
            return
        node = self.node(want, left, depth, first)
        if not node[0] & 0x80:
            self.range(node[:32], True, depth + 1, first)
            self.range(node[32:], False, depth + 1, first | half)
            return
        key = int.from_bytes(node[1:32], "big")
        if key > self.last:
            self.beyond(key)
        elif key >= self.first:
            self.take(node)

    def beyond(self, first: int) -> None:
        """Notes the first place above the pairs where the range may have others."""
        if self.next is None and first <= self.final:
            self.next = first

    def inside(self, want: bytes, left: bool, depth: int, first: int, final: int) -> None:
        """Computes a sub-trie that lies wholly in the range from the pairs."""
        start = self.at
        self.at = bisect_left(self.numbers, final + 1, start)
        if start < self.at and self.numbers[start] < first:
            raise BadProof("a pair that is not the state's")
        got = self.root(depth, first, start, self.at)
        if not _same(got, want, left and start < self.at):
            raise BadProof("pairs that are not those of the state")

    def root(self, depth: int, first: int, start: int, end: int) -> bytes:
        """The hash of the sub-trie that has the pairs from start to end."""
        if end - start == 0:
            return _ZERO
        if end - start == 1:
            return _hash(_leaf(*self.pairs[start]))
        middle = first | 1 << (DEPTH - depth - 1)
        split = bisect_left(self.numbers, middle, start, end)
        low = self.root(depth + 1, first, start, split)
        high = self.root(depth + 1, middle, split, end)
        return _hash(bytes([low[0] & 0x7F]) + low[1:] + high)
