"""Measures the client, and prints one JSON object (``accessor bench clients``)."""

import argparse
import json
import platform
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

sys.path[:0] = [str(Path(__file__).parent / "src"), str(Path(__file__).parent / "examples")]

from accessor_client import Client  # noqa: E402

ROUNDS = 20
BATCH = 1000


def raw_reader(path: str, block: str) -> Callable[[bytes], bytes]:
    """The same request, hand-written on a plain socket, and its answer found by a plain search."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    start = f"GET /v1/blocks/{block}/state/".encode()
    end = b" HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n\r\n"

    def read(key: bytes) -> bytes:
        sock.sendall(start + key.hex().encode() + end)
        data = sock.recv(65536)
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head = data.find(b"\r\n\r\n") + 4
        at = data.find(b"Content-Length: ") + 16
        size = head + int(data[at:data.find(b"\r", at)])
        while len(data) < size:
            data += sock.recv(65536)
        return data[head:]

    return read


def timed(read: Callable[[bytes], bytes], keys: List[bytes], into: List[float]) -> None:
    clock = time.perf_counter
    for key in keys:
        before = clock()
        value = read(key)
        into.append(clock() - before)
        assert len(value) == 200


def reads(client: Client, path: str, block: str, keys: List[bytes], requests: int) -> Dict[str, Any]:
    view = client.at(block)
    raw = raw_reader(path, client.block(block).block)
    ours: List[float] = []
    theirs: List[float] = []
    each = max(1, requests // ROUNDS)
    for n in range(ROUNDS + 1):
        part = [keys[(n * each + i) % len(keys)] for i in range(each)]
        if n == 0:  # to warm up
            timed(raw, part, [])
            timed(view.__getitem__, part, [])
            continue
        timed(raw, part, theirs)
        timed(view.__getitem__, part, ours)
    batches = []
    batch = [keys[i % len(keys)] for i in range(BATCH)]
    for _ in range(50):
        before = time.perf_counter()
        values = view.get_many(batch)
        batches.append(time.perf_counter() - before)
        assert None not in values
    return {
        "read_us": statistics.median(ours) * 1e6, "raw_us": statistics.median(theirs) * 1e6,
        "batch_ms": statistics.median(batches) * 1e3, "socket_reads": rate(view.__getitem__, keys, requests),
    }


def rate(read: Callable[[bytes], Any], keys: List[bytes], requests: int) -> float:
    """Reads a second, one by one."""
    order = [keys[i % len(keys)] for i in range(max(1, requests))]
    before = time.perf_counter()
    for key in order:
        read(key)
    return len(order) / (time.perf_counter() - before)


def direct_rate(get_many: Callable[[List[bytes]], List[Any]], keys: List[bytes], requests: int) -> float:
    """Reads a second from a checkpoint, by RocksDB's call for many keys, as bulk work does."""
    order = [keys[i % len(keys)] for i in range(max(1, requests))]
    get_many(keys)  # the server, too, has read them before
    before = time.perf_counter()
    for i in range(0, len(order), 200):
        assert None not in get_many(order[i:i + 200])
    return len(order) / (time.perf_counter() - before)


def scan(client: Client, block: str) -> Tuple[int, float]:
    before = time.perf_counter()
    count = sum(1 for _ in client.at(block).items())
    return count, time.perf_counter() - before


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--block", default="")
    parser.add_argument("--keys", default="")
    parser.add_argument("--pin", default="")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--scan-block", default="")
    args = parser.parse_args()
    out: Dict[str, Any] = {
        "language": f"python {platform.python_version()}", "read_us": 0, "raw_us": 0, "batch_ms": 0, "scan_pairs": 0,
        "scan_rss_bytes": 0, "scan_seconds": 0, "socket_reads": 0, "direct_reads": 0,
    }
    with Client(args.socket) as client:
        if args.scan_block:  # first: its memory is the process's
            out["scan_pairs"], out["scan_seconds"] = scan(client, args.scan_block)
            out["scan_rss_bytes"] = peak()
        keys = [bytes.fromhex(line) for line in Path(args.keys).read_text().split()] if args.keys else []
        if keys:
            out.update(reads(client, args.socket, args.block, keys, args.requests))
        if keys and args.pin:
            from direct import Checkpoint

            checkpoint = Checkpoint(args.pin, client.block(args.block).block)
            out["direct_reads"] = direct_rate(checkpoint.get_many, keys, args.requests * 5)
            checkpoint.close()
    print(json.dumps(out))


if __name__ == "__main__":
    main()
