"""Starts servers for tests, in folders of their own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional

from accessor_client import Client

ROOT = Path(__file__).resolve().parents[3]
CONFORMANCE = ROOT / "clients" / "conformance"
PYTHON = ROOT / "clients" / "python"


def program() -> str:
    """The program's path. Without it nothing here means anything: an error."""
    return os.environ["ACCESSOR_BIN"]


class Server:
    """``accessor serve`` in a folder with a short path, as Unix sockets need it."""

    def __init__(self, anchor: Path, sockets: Optional[Dict[str, List[str]]] = None, settings: str = "") -> None:
        self.sockets = sockets or {"main": ["importing", "operator"]}
        self.anchor = anchor
        self.folder = Path(tempfile.mkdtemp(prefix="acc"))
        text = 'data = "store"\n' + settings
        for name, roles in self.sockets.items():
            listed = ", ".join(f'"{r}"' for r in roles)
            text += f'\n[[sockets]]\nname = "{name}"\npath = "{name}.sock"\nroles = [{listed}]\n'
        (self.folder / "accessor.toml").write_text(text)
        self.process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        # Checkpoints are folders that nobody may write to.
        subprocess.run(["chmod", "-R", "u+w", str(self.folder)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def path(self) -> str:
        return self.socket(next(iter(self.sockets)))

    def socket(self, name: str) -> str:
        return str(self.folder / f"{name}.sock")

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [program(), "serve", "--config", "accessor.toml", "--anchor", str(self.anchor)],
                cwd=self.folder, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self.path)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
            sock.close()

    def end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)


class ServerCase(unittest.TestCase):
    """Tests that share a server, which has the recorded chain."""

    server: Server
    client: Client
    blocks: List[Dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.blocks = recorded(CONFORMANCE / "chain.jsonl")
        cls.server = Server(CONFORMANCE / "chain.jsonl")
        cls.enterClass(cls.server)
        cls.client = cls.enterClass(Client(cls.server.path))
        for result in cls.client.import_many(cls.blocks):
            if result.error is not None:
                raise result.error

    @classmethod
    def enterClass(cls, manager: Any) -> Any:  # unittest has it from 3.11
        cls.addClassCleanup(manager.__exit__, None, None, None)
        return manager.__enter__()


def recorded(path: Path) -> List[Dict[str, Any]]:
    """The blocks of a recording."""
    with open(path) as lines:
        return [line for line in map(json.loads, lines) if line["type"] == "block"]
