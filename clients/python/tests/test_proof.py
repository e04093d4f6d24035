"""Proofs: those of a server are good, and any change makes them bad."""

from __future__ import annotations

import hashlib

from accessor_client import BadProof, Proof, item_key
from accessor_client.proof import KEY
from harness import ServerCase


def sealed(raw: bytes) -> bytes:
    """With a right checksum: a forger makes one too."""
    return raw[:-32] + hashlib.blake2b(raw[:-32], digest_size=32).digest()


class Proofs(ServerCase):
    def setUp(self) -> None:
        self.view = self.client.at(self.blocks[-1]["hash"])
        self.root = self.view.root
        self.state = dict(self.view.items())

    def test_keys(self) -> None:
        keys = sorted(self.state)[::5] + [bytes(KEY), b"\xff" * KEY]
        proved = self.view.prove(keys).verify(self.root)
        self.assertEqual(proved.pairs, [(k, self.state.get(k)) for k in sorted(keys)])
        self.assertFalse(proved.more)
        with self.assertRaises(BadProof):
            self.view.prove(keys).verify("00" * 32)

    def test_every_byte_counts(self) -> None:
        keys = sorted(self.state)
        for proof in (
            self.view.prove([keys[0], keys[7], b"\x99" * KEY]),
            self.view.prove_range(keys[10], keys[20]), self.view.prove_range(keys[1], b"\xff" * KEY, 3000),
        ):
            proof.verify(self.root)
            for at in range(len(proof.raw) - 32):
                for bit in (0x01, 0x80):
                    raw = bytearray(proof.raw)
                    raw[at] ^= bit
                    with self.assertRaises(BadProof):
                        Proof.decode(bytes(raw))
                    try:
                        forged = Proof.decode(sealed(bytes(raw)))
                        changed = forged.verify(self.root)
                    except BadProof:
                        continue
                    # What may differ is what was asked, and whose block it is said to be: never what is proved.
                    self.assertLess(at, 4 + 32 + 2 * KEY + 4 + 4 + 3 * KEY)
                    for key, value in changed.pairs:
                        self.assertEqual(value, self.state.get(key))
            for cut in range(1, len(proof.raw) - 32):
                with self.assertRaises(BadProof):
                    Proof.decode(sealed(proof.raw[:-32 - cut] + bytes(32)))

    def test_ranges_go_on(self) -> None:
        """Every size of pages and every range gives what the state has, without gaps."""
        keys = sorted(self.state)
        for page in (1, 2, 8, 1000):
            self.assertEqual(dict(self.view.verified(self.root).items(page=page)), self.state)
        for start, stop in ((keys[3], keys[9]), (b"\x03\0", b"\x03\1"), (b"\x80", b"\xf0"), (keys[5], keys[5])):
            got = list(self.view.verified(self.root).items(start=start, stop=stop, page=1))
            self.assertEqual(got, [(k, self.state[k]) for k in keys if start <= k < stop])
        self.assertEqual(list(self.view.verified(self.root).keys(prefix="ff")), [k for k in keys if k[0] == 255])

    def test_verified(self) -> None:
        safe = self.view.verified(self.root)
        self.assertEqual(safe["slot"], self.state[item_key("slot")])
        self.assertNotIn(bytes(KEY), safe)
        keys = sorted(self.state, reverse=True) * 2
        self.assertEqual(safe.get_many(keys), [self.state[k] for k in keys])
        with self.assertRaises(KeyError):
            safe[bytes(KEY)]
        for ask in (safe.changes, lambda: list(safe.items(reverse=True)), lambda: safe["nothing"]):
            with self.assertRaises(ValueError):
                ask()

    def test_item_keys(self) -> None:
        self.assertEqual(item_key("account:305419896").hex(), "ff780056003400120000" + "00" * 21)
        self.assertEqual(item_key("auth-pools"), b"\1" + bytes(30))
        for text in ("account:", "account:01", "account:4294967296", "account:-1", "Slot", "", "00"):
            with self.assertRaises(ValueError, msg=text):
                item_key(text)
