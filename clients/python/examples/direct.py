"""Bulk reads: pins a block and reads its checkpoint with rocksdict, without the server.

    python direct.py ./accessor.sock [block]

docs/FORMAT.md tells what a checkpoint holds: at key 00 the record of its block, at
01 ++ key a value with 00 in front, or 01 where the key is absent.
"""

import sys
import time
from typing import Iterator, List, Optional, Tuple

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict

from accessor_client import Client

CACHE = 256 << 20  # bytes for blocks of tables


class Checkpoint:
    """A pinned directory, read-only. Closing the pin ends it: close this first."""

    def __init__(self, directory: str, block: str) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(False)
        options.set_max_open_files(-1)
        tables = BlockBasedOptions()
        tables.set_bloom_filter(10, False)  # the tables have filters, which are only used where they are expected
        tables.set_block_cache(Cache(CACHE))
        options.set_block_based_table_factory(tables)
        self._db = Rdict(directory, options, access_type=AccessType.read_only())
        record = self._db.get(b"\0")
        if not isinstance(record, bytes) or record[3:35].hex() != block:  # after 00: version, flags, hash
            raise ValueError(f"{directory} is not the state of block {block}")

    def get(self, key: bytes) -> Optional[bytes]:
        return _value(self._db.get(b"\1" + key))

    def get_many(self, keys: List[bytes]) -> List[Optional[bytes]]:
        """In one call, which costs less a key."""
        found = self._db.get([b"\1" + key for key in keys])
        return [_value(value) for value in found or ()]

    def items(self) -> Iterator[Tuple[bytes, bytes]]:
        for key, value in self._db.items(from_key=b"\1"):
            if not isinstance(key, bytes) or key[:1] != b"\1":
                return
            if isinstance(value, bytes) and value[:1] == b"\0":
                yield key[1:], value[1:]

    def close(self) -> None:
        self._db.close()


def _value(found: object) -> Optional[bytes]:
    return found[1:] if isinstance(found, bytes) and found[:1] == b"\0" else None


def main() -> None:
    with Client(sys.argv[1]) as client, client.pin(*sys.argv[2:] or ["head"], ttl=60, directory=True) as pin:
        assert pin.directory is not None and pin.info is not None
        checkpoint = Checkpoint(pin.directory, pin.info.block)
        try:
            view = client.at(pin.info.block)
            started = time.perf_counter()
            direct = list(checkpoint.items())
            between = time.perf_counter()
            socket = list(view.items())
            ended = time.perf_counter()
            assert direct == socket and all(checkpoint.get(key) == value for key, value in direct)
            assert checkpoint.get_many([key for key, _ in direct]) == [value for _, value in direct]
            assert checkpoint.get(bytes(31)) is None
            print(f"{len(direct)} pairs, the same; {between - started:.4f} s directly, {ended - between:.4f} s by the socket")
        finally:
            checkpoint.close()


if __name__ == "__main__":
    main()
