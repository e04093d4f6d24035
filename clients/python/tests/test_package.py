"""The package, its README and its examples."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Iterator

import accessor_client
from accessor_client import AccessorError, BadAnswer, Client, ConnectionFailed, Deadline, errors
from harness import CONFORMANCE, PYTHON, ROOT, Server, ServerCase, program


class Package(unittest.TestCase):
    def test_only_the_standard_library(self) -> None:
        names = {"accessor_client", "__future__"}
        for file in (PYTHON / "src" / "accessor_client").glob("*.py"):
            for found in re.findall(r"^\s*(?:from|import) ([\w]+)", file.read_text(), re.M):
                names.add(found)
        known = getattr(sys, "stdlib_module_names", None)
        if known is not None:  # from Python 3.10
            self.assertEqual(names - set(known) - {"accessor_client"}, set())

    def test_typed(self) -> None:
        self.assertTrue((Path(accessor_client.__file__).parent / "py.typed").exists())

    def test_every_kind_has_a_class(self) -> None:
        text = (ROOT / "docs" / "API.md").read_text()
        kinds = set(re.findall(r"^\| (?:\d+ \| )?`([a-z-]+)` \|", text, re.M)) - {"head", "reorg", "finalized", "pruned", "walkback", "lock", "gap"}
        self.assertGreater(len(kinds), 50)
        self.assertEqual(kinds - {c.kind for c in AccessorError.__subclasses__()}, set())
        for name in errors.__all__:
            self.assertTrue(issubclass(getattr(accessor_client, name), AccessorError))

    def test_calls_alike(self) -> None:
        """Both clients, and what they hand out, have the same methods, with the same parameters."""
        same = {"about", "block", "slot", "root", "__getitem__"}
        for one, other in (("Client", "AsyncClient"), ("View", "AsyncView"), ("Draft", "AsyncDraft"), ("Pin", "AsyncPin"), ("Events", "AsyncEvents")):
            has, needs = (
                {n for n in dir(getattr(accessor_client, name)) if not n.startswith("_")} - same for name in (other, one)
            )
            self.assertEqual(needs - has, set(), one)
            for name in needs:
                method, other_method = (getattr(getattr(accessor_client, c), name) for c in (one, other))
                if callable(method) and name != "import_many":  # which takes asynchronous sources, too
                    parameters, others = (
                        [(p.name, p.kind, p.default, p.annotation.replace("BlockLike", "Union[Block, Mapping[str, Any]]"))
                         for p in list(inspect.signature(m).parameters.values())[1:]] for m in (method, other_method))
                    self.assertEqual(parameters, others, f"{one}.{name}")


class Readme(unittest.TestCase):
    def test_code(self) -> None:
        blocks = re.findall(r"```python\n(.*?)```", (PYTHON / "README.md").read_text(), re.S)
        self.assertGreater(len(blocks), 5)
        items = '[da]\nenabled = true\nlisten = ["/ip4/127.0.0.1/tcp/0"]\n'
        with Server(CONFORMANCE / "chain.jsonl", settings=items) as server:
            names: dict[str, object] = {}
            for code in blocks:
                self.assertTrue(code.strip())
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code.replace("unix:///run/accessor/accessor.sock", server.path), names)
            client = names["client"]
            assert isinstance(client, Client)
            client.close()


class Examples(unittest.TestCase):
    """rocksdict must be there: scripts/python.sh installs it."""

    def run_example(self, name: str, *args: str) -> str:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, str(PYTHON / name), *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=60, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout.decode())
        return done.stdout.decode()

    def test_story(self) -> None:
        self.assertLessEqual(len((PYTHON / "examples" / "story.py").read_text().splitlines()), 30)
        with tempfile.TemporaryDirectory() as folder:
            recording = Path(folder) / "recorded.jsonl"
            subprocess.run(
                [program(), "trace", "generate", "--seed", "7", "--blocks", "12", "--fork-every", "5", str(recording)], check=True)
            with Server(recording) as server:
                out = self.run_example("examples/story.py", server.path, str(recording))
        self.assertEqual(sum(line.startswith("imported") for line in out.splitlines()), 12)
        self.assertRegex(out, r"(?m)^entropy at [0-9a-f]{64}: [0-9a-f]{16}$")
        self.assertRegex(out, r"(?m)^they part at slot \d+ and differ in \d+ keys$")
        self.assertRegex(out, r"(block|head) 11 [0-9a-f]{64}\n$")

    def test_direct(self) -> None:
        with Server(CONFORMANCE / "chain.jsonl") as server:
            self.assertRegex(self.run_example("examples/direct.py", server.path), r"^57 pairs, the same")

    def test_bench(self) -> None:
        with Server(CONFORMANCE / "chain.jsonl") as server, Client(server.path) as client:
            anchor = client.block("anchor").block
            puts = {b"\xff\x02" + i.to_bytes(29, "big"): bytes(200) for i in range(1500)}
            block = accessor_client.Block(hash="c1" * 32, parent=anchor, slot=1, puts=puts)
            client.import_block(block)
            keys = server.folder / "keys"
            keys.write_text("\n".join(k.hex() for k in puts))
            with client.pin(block.hash, directory=True) as pin:
                out = json.loads(self.run_example(
                    "bench.py", "--socket", server.path, "--block", block.hash, "--keys", str(keys),
                    "--requests", "40", "--scan-block", block.hash, "--pin", str(pin.directory)))
        self.assertEqual(out["scan_pairs"], 1557)
        for name in ("read_us", "raw_us", "batch_ms", "scan_rss_bytes", "scan_seconds", "socket_reads", "direct_reads"):
            self.assertGreater(out[name], 0, name)


class Connections(ServerCase):
    def test_threads(self) -> None:
        view = self.client.at("head")
        results: list[bytes] = []
        threads = [threading.Thread(target=lambda: results.extend(view["slot"] for _ in range(50))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(set(results), {view["slot"]})
        self.assertEqual(len(results), 400)

    def test_fork(self) -> None:
        """A child never shares a connection with its parent."""
        slot = self.client.at("head")["slot"]
        self.assertTrue(self.client._idle)
        child = os.fork()
        if child == 0:
            os._exit(0 if not self.client._idle and self.client.at("head")["slot"] == slot else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(self.client.at("head")["slot"], slot)

    def test_deadline(self) -> None:
        with Client(self.server.path, timeout=0.05) as client:
            client.status()
            # A wait of the server's own comes on top.
            with self.assertRaises(accessor_client.UnknownBlock):
                client.wait_block("77" * 32, wait=0.2)
            import socket
            with tempfile.TemporaryDirectory(prefix="acc") as folder, socket.socket(socket.AF_UNIX) as silent:
                silent.bind(folder + "/s.sock")
                silent.listen()
                started = time.monotonic()
                with self.assertRaises(Deadline) as caught:
                    Client(folder + "/s.sock", timeout=0.05).status()
                self.assertIsInstance(caught.exception, TimeoutError)
                self.assertLess(time.monotonic() - started, 5)

    def test_nobody(self) -> None:
        with self.assertRaises(ConnectionFailed) as caught:
            Client("/nowhere/at/all.sock").status()
        self.assertIsInstance(caught.exception, ConnectionError)

    def test_body_limit(self) -> None:
        with self.assertRaises(BadAnswer):
            Client(self.server.path, max_body=10).status()

    def test_close_ends_events(self) -> None:
        events = self.client.events(kinds=["lock"])
        timer = threading.Timer(0.1, events.close)
        timer.start()
        self.assertEqual(list(events), [])
        timer.join()

    def test_slow_source(self) -> None:
        """With a window of 1 each block is answered before the next one is taken."""
        answered = 0

        def source() -> Iterator[dict[str, object]]:
            for i, block in enumerate(self.blocks):
                self.assertEqual(answered, i)
                yield block

        for _ in self.client.import_many(source(), window=1):
            answered += 1
        self.assertEqual(answered, len(self.blocks))
