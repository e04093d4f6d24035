"""Runs the scenarios of clients/conformance with both clients."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List

from accessor_client import AccessorError
from harness import CONFORMANCE, Server
from operations import Asyncio, Blocking, FakeServer, Operations, problem
from patterns import expand, matches, pick

SCENARIOS = CONFORMANCE / "scenarios"


class Run:
    """A scenario by one of the clients."""

    def __init__(self, scenario: Dict[str, Any], by: Any, server: Server) -> None:
        self.scenario, self.by, self.server = scenario, by, server
        self.ops = Operations(by)
        self.clients = {name: by.client(server.socket(name)) for name in server.sockets}
        self.saved: Dict[str, Any] = {}
        self.background: Dict[str, asyncio.Task[None]] = {}
        self.fakes: List[FakeServer] = []

    async def all(self) -> None:
        try:
            for number, step in enumerate(self.scenario["steps"], 1):
                for each in expand(step.get("each", [None]), self.saved):
                    self.saved["each"] = each
                    try:
                        await self.step(step)
                    except BaseException as e:
                        raise AssertionError(f"step {number}: {json.dumps(step)[:600]}: {e!r:.3000}") from e
        finally:
            for events in self.ops.open.values():
                if hasattr(events, "close"):
                    await self.by.do(events, "close")
            for fake in self.fakes:
                fake.close()
            for client in self.clients.values():
                await self.by.do(client, "close")

    async def step(self, step: Dict[str, Any]) -> None:
        unknown = set(step) - {"do", "with", "client", "ok", "error", "save", "until", "start", "join", "each"}
        if unknown:
            raise AssertionError(f"members {unknown} that this runner doesn't know")
        if "join" in step:
            return await self.background.pop(step["join"])
        args = expand(step.get("with", {}), self.saved)
        expected = expand({k: step[k] for k in ("ok", "error") if k in step}, self.saved)
        work = self.until(step, args, expected)
        if "start" in step:
            self.background[step["start"]] = asyncio.ensure_future(work)
            await asyncio.sleep(0)
        else:
            await work

    async def until(self, step: Dict[str, Any], args: Any, expected: Dict[str, Any]) -> None:
        deadline = time.monotonic() + step.get("until", 0)
        while True:
            try:
                result = await self.once(step, args)
                good = "error" not in expected and ("ok" not in expected or matches(expected["ok"], result))
            except AccessorError as e:
                if "error" not in expected and time.monotonic() >= deadline:
                    raise
                result = problem(e)
                good = "error" in expected and matches(expected["error"], result)
            if good:
                break
            if time.monotonic() >= deadline:
                raise AssertionError(f"got {json.dumps(result)[:2000]}")
            await asyncio.sleep(0.01)
        for name, path in step.get("save", {}).items():
            self.saved[name] = pick(result, path)

    async def once(self, step: Dict[str, Any], args: Any) -> Any:
        op = step["do"]
        if op == "sleep":
            return await asyncio.sleep(args["ms"] / 1000)
        if op in ("server_stop", "server_kill"):
            return self.server.end(signal.SIGTERM if op == "server_stop" else signal.SIGKILL)
        if op == "server_start":
            return self.server.start()
        if op == "fake_server":
            path = self.server.socket(args["socket"])
            self.fakes.append(FakeServer(path, args["answers"]))
            self.clients[args["socket"]] = self.by.client(path)
            return {}
        client = self.clients[step.get("client", next(iter(self.clients)))]
        return await self.ops.call(client, op, args)


def run(file: Path, by: Any) -> None:
    scenario = json.loads(file.read_text())
    described = scenario.get("server", {})
    driver = by()
    with Server(CONFORMANCE / "chain.jsonl", described.get("sockets"), described.get("settings", "")) as server:
        try:
            asyncio.run(Run(scenario, driver, server).all())
        finally:
            driver.close()


class Conformance(unittest.TestCase):
    """A test for each scenario and client."""


def _test(file: Path, by: Any) -> Callable[[Conformance], None]:
    return lambda self: run(file, by)


for _file in sorted(SCENARIOS.glob("*.json")):
    for _by in (Blocking, Asyncio):
        setattr(Conformance, f"test_{_file.stem.replace('-', '_')}_{_by.__name__.lower()}", _test(_file, _by))

if __name__ == "__main__":
    unittest.main()
