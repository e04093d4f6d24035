"""The operations of scenarios, by either client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional

from accessor_client import AccessorError, AsyncClient, Client, Proof, Shard, Spec
from patterns import plain


class Failure(Exception):
    """The caller's, amid a scope."""


class Blocking:
    """Uses the blocking client, in threads."""

    client: Any = Client
    names = {"put": "__setitem__", "delete": "__delitem__", "has": "__contains__"}

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(8)

    def close(self) -> None:
        self.threads.shutdown()

    async def run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def do(self, of: Any, method: str, *args: Any, **named: Any) -> Any:
        return await self.run(functools.partial(getattr(of, self.names.get(method, method)), *args, **named))

    async def some(self, walk: Any, count: Optional[int] = None) -> List[Any]:
        """The next elements of an iterator; all without a count."""

        def take() -> List[Any]:
            out: List[Any] = []
            while count is None or len(out) < count:
                try:
                    out.append(next(walk))
                except StopIteration:
                    break
            return out

        found: List[Any] = await self.run(take)
        return found

    async def draft_scope(self, client: Client, a: Dict[str, Any]) -> str:
        def work() -> str:
            with contextlib.suppress(Failure), client.draft(a["parent"], a["slot"]) as draft:
                draft.write(a["puts"])
                if a["commit"]:
                    draft.commit(a["commit"])
                if a["fail"]:
                    raise Failure
            return draft.id

        return str(await self.run(work))

    async def pin_scope(self, client: Client, block: str, ttl: float) -> str:
        def work() -> str:
            with client.pin(block, ttl=ttl) as pin:
                return pin.id

        return str(await self.run(work))


class Asyncio:
    """Uses the asyncio client."""

    client: Any = AsyncClient

    def close(self) -> None:
        pass

    async def do(self, of: Any, method: str, *args: Any, **named: Any) -> Any:
        result = getattr(of, method)(*args, **named)
        return await result if inspect.isawaitable(result) else result

    async def some(self, walk: Any, count: Optional[int] = None) -> List[Any]:
        out: List[Any] = []
        while count is None or len(out) < count:
            try:
                out.append(await walk.__anext__())
            except StopAsyncIteration:
                break
        return out

    async def draft_scope(self, client: AsyncClient, a: Dict[str, Any]) -> str:
        with contextlib.suppress(Failure):
            async with client.draft(a["parent"], a["slot"]) as draft:
                await draft.write(a["puts"])
                if a["commit"]:
                    await draft.commit(a["commit"])
                if a["fail"]:
                    raise Failure
        return draft.id

    async def pin_scope(self, client: AsyncClient, block: str, ttl: float) -> str:
        async with client.pin(block, ttl=ttl) as pin:
            return pin.id


def key(text: str) -> Any:
    """A key as a caller would give it: bytes, unless it is a name or no key at all."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return text


def seconds(ms: Optional[int]) -> Optional[float]:
    return None if ms is None else ms / 1000


def given(**named: Any) -> Dict[str, Any]:
    return {k: v for k, v in named.items() if v is not None}


class Operations:
    """What a step may ask for: a method for each, with the step's arguments."""

    def __init__(self, by: Any) -> None:
        self.by = by
        self.open: Dict[str, Any] = {}  # events and scans by name

    async def view(self, client: Any, a: Dict[str, Any]) -> Any:
        view = await self.by.do(client, "at", a["at"])
        return await self.by.do(view, "verified", a["root"]) if "root" in a else view

    async def about(self, view: Any, **result: Any) -> Dict[str, Any]:
        return {**plain(await self.by.do(view, "about")), **plain(result)}

    async def call(self, client: Any, op: str, a: Dict[str, Any]) -> Any:
        return await getattr(self, "op_" + op)(client, a)

    async def op_block(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "block", a["at"]))

    async def op_wait_block(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "wait_block", a["hash"], a["wait_ms"] / 1000))

    async def op_blocks(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "blocks", **given(leaves=a.get("leaves"), page=a.get("page"))))

    async def op_import(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "import_block", a, wait=seconds(a.get("wait_ms"))))

    async def op_import_many(self, c: Any, a: Any) -> Any:
        walk = await self.by.do(c, "import_many", a["blocks"])
        results = []
        for r in await self.by.some(walk):
            members = {"error": r.error.problem} if r.error is not None else plain(r.block)
            results.append({"line": r.line, "status": r.status, **members})
        return {"results": results}

    async def op_held(self, c: Any, a: Any) -> Any:
        return {"held": await self.by.do(c, "held", a["hashes"])}

    async def op_head(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "set_head", a["hash"]))

    async def op_finalize(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "finalize", a["hash"]))

    async def op_get(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        return await self.about(view, value=await self.by.do(view, "get", key(a["key"])))

    async def op_has(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        return await self.about(view, present=await self.by.do(view, "has", key(a["key"])))

    async def op_get_many(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        values = await self.by.do(view, "get_many", [key(k) for k in a["keys"]])
        return await self.about(view, values=values)

    async def op_scan(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        named = given(prefix=a.get("prefix"), start=a.get("from"), stop=a.get("to"), reverse=a.get("reverse"), page=a.get("page"))
        values = a.get("values", True)
        walk = await self.by.do(view, "items" if values else "keys", **named)
        found = await self.by.some(walk, a.get("limit"))
        return await self.about(view, pairs=found if values else [(k, None) for k in found])

    op_verified_get, op_verified_get_many = op_get, op_get_many

    async def op_verified_scan(self, c: Any, a: Any) -> Any:
        if "page" in a:  # bytes of a proof; the client counts pairs, of 256 bytes
            a = {**a, "page": max(1, a["page"] // 256)}
        return await self.op_scan(c, a)

    async def op_changes(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(await self.view(c, a), "changes"))

    async def op_diff(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "diff", a["from"], a["to"]))

    async def op_history(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "history", key(a["key"]), a.get("at"), a.get("limit")))

    async def op_prove(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        if "keys" in a:
            proof = await self.by.do(view, "prove", [key(k) for k in a["keys"]])
        else:
            proof = await self.by.do(
                view, "prove_range", bytes.fromhex(a.get("from", "")), bytes.fromhex(a.get("to", "")), a.get("max"))
        return await self.about(view, proof=proof.raw)

    async def op_check_proof(self, c: Any, a: Any) -> Any:
        proved = Proof.decode(bytes.fromhex(a["proof"])).verify(a["root"])
        return {"pairs": plain(proved.pairs), "more": proved.more}

    async def op_draft(self, c: Any, a: Any) -> Any:
        named = given(owner=a.get("owner"), ttl=seconds(a.get("ttl_ms")))
        return plain((await self.by.do(c, "draft", a["parent"], a["slot"], **named)).begun)

    async def draft(self, c: Any, a: Any, method: str, *args: Any) -> Any:
        return await self.by.do(await self.by.do(c, "attach_draft", a["draft"]), method, *args)

    async def op_draft_info(self, c: Any, a: Any) -> Any:
        return plain(await self.draft(c, a, "info"))

    async def op_draft_drop(self, c: Any, a: Any) -> Any:
        return await self.draft(c, a, "drop") or {}

    async def op_draft_renew(self, c: Any, a: Any) -> Any:
        return plain(await self.draft(c, a, "renew", seconds(a.get("ttl_ms"))))

    async def op_draft_get(self, c: Any, a: Any) -> Any:
        return {"value": plain(await self.draft(c, a, "get", key(a["key"])))}

    async def op_draft_get_many(self, c: Any, a: Any) -> Any:
        return {"values": plain(await self.draft(c, a, "get_many", [key(k) for k in a["keys"]]))}

    async def op_draft_put(self, c: Any, a: Any) -> Any:
        return await self.draft(c, a, "put", key(a["key"]), bytes.fromhex(a["value"])) or {}

    async def op_draft_delete(self, c: Any, a: Any) -> Any:
        return await self.draft(c, a, "delete", key(a["key"])) or {}

    async def op_draft_write(self, c: Any, a: Any) -> Any:
        return await self.draft(c, a, "write", pairs(a.get("puts", [])), [bytes.fromhex(k) for k in a.get("dels", [])]) or {}

    async def op_draft_commit(self, c: Any, a: Any) -> Any:
        header = a.get("header")
        return plain(await self.draft(
            c, a, "commit", a["hash"], a.get("post_root"), None if header is None else bytes.fromhex(header)))

    async def op_draft_scope(self, c: Any, a: Any) -> Any:
        return {"id": await self.by.draft_scope(c, {**a, "puts": pairs(a["puts"])})}

    async def op_drafts(self, c: Any, a: Any) -> Any:
        return {"drafts": plain(await self.by.do(c, "drafts"))}

    async def op_locks(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "locks"))

    async def op_pins(self, c: Any, a: Any) -> Any:
        return {"pins": plain(await self.by.do(c, "pins"))}

    async def op_pin(self, c: Any, a: Any) -> Any:
        named = given(ttl=seconds(a.get("ttl_ms")), owner=a.get("owner"), directory=a.get("directory"))
        return plain((await self.by.do(c, "pin", a["block"], **named)).info)

    async def op_pin_renew(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(await self.by.do(c, "attach_pin", a["pin"]), "renew", seconds(a["ttl_ms"])))

    async def op_unpin(self, c: Any, a: Any) -> Any:
        return await self.by.do(await self.by.do(c, "attach_pin", a["pin"]), "release") or {}

    async def op_pin_scope(self, c: Any, a: Any) -> Any:
        return {"id": await self.by.pin_scope(c, a["block"], a["ttl_ms"] / 1000)}

    async def op_events_open(self, c: Any, a: Any) -> Any:
        events = await self.by.do(c, "events", **given(after=a.get("after"), kinds=a.get("kinds")))
        if isinstance(self.by, Asyncio):
            await events.__aenter__()
        self.open[a["events"]] = events
        return {}

    async def op_events_next(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(self.open[a["events"]], "next", a.get("within_ms", 10_000) / 1000))

    async def op_events_close(self, c: Any, a: Any) -> Any:
        return await self.by.do(self.open[a["events"]], "close") or {}

    async def op_scan_open(self, c: Any, a: Any) -> Any:
        view = await self.view(c, a)
        named = given(prefix=a.get("prefix"), page=a.get("page"))
        self.open[a["scan"]] = await self.by.do(view, "items", **named)
        return {}

    async def op_scan_next(self, c: Any, a: Any) -> Any:
        return {"pairs": plain(await self.by.some(self.open[a["scan"]], a["count"])) or None}

    async def op_item(self, c: Any, a: Any) -> Any:
        return {"item": plain(await self.by.do(c, "item", a["hash"]))}

    async def op_put_item(self, c: Any, a: Any) -> Any:
        return {"hash": await self.by.do(c, "put_item", bytes.fromhex(a["item"]))}

    async def op_encode(self, c: Any, a: Any) -> Any:
        segments = [bytes.fromhex(s) for s in a.get("segments", [])]
        named = given(shards=a["shards"], keep=a.get("keep"))
        return (await self.by.do(c, "encode", bytes.fromhex(a["bundle"]), segments, **named)).to_json()

    async def op_bundle(self, c: Any, a: Any) -> Any:
        return {"bundle": plain(await self.by.do(c, "bundle", Spec.from_json(a["spec"])))}

    async def op_segment(self, c: Any, a: Any) -> Any:
        return {"segment": plain(await self.by.do(c, "segment", Spec.from_json(a["spec"]), a["index"]))}

    async def op_shard(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "shard", a["erasure_root"], a["index"]))

    async def op_put_shard(self, c: Any, a: Any) -> Any:
        shard = Shard(**{name: bytes.fromhex(part) for name, part in a["shard"].items()})
        return await self.by.do(c, "put_shard", Spec.from_json(a["spec"]), a["index"], shard) or {}

    async def op_status(self, c: Any, a: Any) -> Any:
        return plain(await self.by.do(c, "status"))


def pairs(listed: List[List[str]]) -> Dict[bytes, bytes]:
    return {bytes.fromhex(k): bytes.fromhex(v) for k, v in listed}


def problem(error: AccessorError) -> Dict[str, Any]:
    """An error as JSON: the problem of a server, or what the client found."""
    out = {**error.problem, "kind": error.kind, "detail": error.detail}
    return {**out, **given(status=error.status, retry_after=error.retry_after)}


class FakeServer:
    """Answers requests by texts, whatever they are."""

    def __init__(self, path: str, answers: List[List[str]]) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.answers = answers
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        count = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            texts = self.answers[min(count, len(self.answers) - 1)]
            count += 1
            with connection, contextlib.suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        break
                    head += data
                for text in texts:  # also before the first: a stream of blocks is sent by then
                    time.sleep(0.02)
                    connection.sendall(text.encode())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
