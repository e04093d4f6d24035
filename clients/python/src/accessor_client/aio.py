"""The client for asyncio: the calls of Client and what it hands out, to be awaited."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, AsyncIterable, AsyncIterator, Awaitable, Iterable, List, Mapping, Optional, Sequence, TypeVar, Union

from . import calls, erasure, items, model
from .aioviews import AsyncDraft, AsyncEvents, AsyncPin, AsyncView, Opening, close, forget, received, send
from .calls import Call, Pages
from .erasure import Shard, Spec
from .errors import ConnectionFailed, Deadline
from .http import RECV, Answer, Reader
from .model import About, Block, BlockName, Key
from .pool import Pool
from .reads import BlockReads
from .streams import ImportResult, Imports, Subscription

T = TypeVar("T")
BlockLike = Union[Block, Mapping[str, Any]]

AT_A_TIME = 128  # calls; the server takes 256 requests of a client


class AsyncClient(Pool):
    """As Client, for one event loop; its tasks may share it.

    Of more than 128 calls at a time the others wait, and their timeouts begin later.
    """

    _turns: Optional[asyncio.Semaphore] = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._drop_idle()

    def at(self, name: BlockName) -> AsyncView:
        return AsyncView(self, BlockReads(name))

    async def block(self, name: BlockName) -> model.BlockInfo:
        return await self._do(calls.block(name))

    async def wait_block(self, hash: str, wait: float = 10.0) -> model.BlockInfo:
        return await self._do(calls.block(model.hash_of(hash, "hash"), wait))

    async def blocks(self, leaves: bool = False, page: int = 1000) -> model.Tree:
        pages = calls.Trees(leaves, page)
        return pages.whole([block async for block in self._walk(pages)])

    async def import_block(self, block: BlockLike, wait: Optional[float] = None) -> model.Imported:
        return await self._do(calls.import_block(block, wait))

    async def import_many(
        self, blocks: Union[Iterable[BlockLike], AsyncIterable[BlockLike]], window: int = 64,
    ) -> AsyncIterator[ImportResult]:
        stream = Imports(window)
        source = _iterate(blocks)
        loop = asyncio.get_running_loop()
        coming: Optional[asyncio.Future[bytes]] = None
        with await self._within(self._connect(), "connect", self._timeout) as sock:
            going: Optional[asyncio.Future[bool]] = asyncio.ensure_future(
                send(sock, stream.request(self._address.host, self._new_token())))
            try:
                while not stream.done:
                    coming = coming or asyncio.ensure_future(loop.sock_recv(sock, RECV))
                    if going is None and stream.room and not coming.done():
                        try:
                            data = stream.line(await source.__anext__())
                        except StopAsyncIteration:
                            data = stream.last()
                        going = asyncio.ensure_future(send(sock, data))
                    # Both at a time: a server whose answers nobody reads takes no more blocks.
                    done, _ = await asyncio.wait(
                        {f for f in (coming, going) if f is not None}, timeout=self._timeout,
                        return_when=asyncio.FIRST_COMPLETED)
                    if not done:
                        raise Deadline(f"no answer to a block in {self._timeout} s")
                    if going is not None and going.done():
                        if not going.result():
                            stream.stop()
                        going = None
                    if coming.done():
                        data, coming = received(coming), None
                        for result in stream.feed(data):
                            yield result
            finally:
                await forget(coming, going)
        stream.missing()

    async def held(self, hashes: Iterable[str]) -> List[str]:
        return await self._do(calls.held(hashes))

    async def set_head(self, hash: str) -> About:
        return await self._do(calls.set_head(hash))

    async def finalize(self, hash: str) -> model.Finalized:
        return await self._do(calls.finalize(hash))

    async def diff(self, start: BlockName, end: BlockName) -> model.Diff:
        return await self._do(calls.diff(start, end))

    async def history(self, key: Key, at: Optional[BlockName] = None, limit: Optional[int] = None) -> model.History:
        return await self._do(calls.history(key, at, limit))

    async def status(self) -> model.Status:
        return await self._do(calls.status())

    async def locks(self) -> model.Locks:
        return await self._do(calls.locks())

    async def drafts(self) -> List[model.DraftInfo]:
        return await self._do(calls.drafts())

    async def pins(self) -> List[model.PinInfo]:
        return await self._do(calls.pins())

    def draft(self, parent: BlockName, slot: int, *, owner: str = "", ttl: Optional[float] = None) -> Opening[AsyncDraft]:
        """``await`` it, or use it by ``async with``."""

        async def begin() -> AsyncDraft:
            info = await self._do(calls.begin_draft(parent, slot, owner, ttl))
            return AsyncDraft(self, info.id, info)

        return Opening(begin)

    def attach_draft(self, id: str) -> AsyncDraft:
        return AsyncDraft(self, id, None)

    def pin(
        self, block: BlockName, *, ttl: float = 60.0, owner: str = "", directory: Optional[bool] = None,
    ) -> Opening[AsyncPin]:
        """``await`` it, or use it by ``async with``."""

        async def make() -> AsyncPin:
            info = await self._do(calls.pin(block, ttl, owner, directory))
            return AsyncPin(self, info.id, info)

        return Opening(make)

    def attach_pin(self, id: str) -> AsyncPin:
        return AsyncPin(self, id, None)

    def events(self, after: Optional[int] = None, kinds: Sequence[str] = ()) -> AsyncEvents:
        """As Client's; it connects at the first event, or at ``async with``."""
        return AsyncEvents(self, Subscription(after, kinds))

    async def item(self, hash: str) -> bytes:
        return await self._do(items.item(hash))

    async def put_item(self, item: bytes) -> str:
        return await self._do(items.put_item(item))

    async def encode(
        self, bundle: bytes, segments: Sequence[bytes] = (), *, shards: int = 1023, keep: Union[None, str, Iterable[int]] = None,
    ) -> Spec:
        return await self._do(erasure.encode(bundle, segments, shards, keep))

    async def bundle(self, spec: Spec) -> bytes:
        return await self._do(erasure.bundle(spec))

    async def segment(self, spec: Spec, index: int) -> bytes:
        return await self._do(erasure.segment(spec, index))

    async def shard(self, root: str, index: int) -> Shard:
        return await self._do(erasure.shard(root, index))

    async def put_shard(self, spec: Spec, index: int, shard: Shard) -> None:
        await self._do(erasure.put_shard(spec, index, shard))

    async def _do(self, call: Call[T]) -> T:
        data = call.request(self._address.host, self._new_token())
        self._turns = self._turns or asyncio.Semaphore(AT_A_TIME)
        async with self._turns:
            answer = await self._within(
                self._answer(data, min(call.most, self._max_body), call.once), f"{call.method} {call.target[:200]}",
                None if self._timeout is None else self._timeout + call.wait)
        return call.answer(answer)

    async def _answer(self, data: bytes, most: int, once: bool) -> Answer:
        answer = None
        sock = None if once else self._pop()
        if sock is not None:
            answer = await self._exchange(sock, data, most, True)
        if answer is None:
            answer = await self._exchange(await self._connect(), data, most, False)
        assert answer is not None  # of a new connection there is one, or an error
        return answer

    async def _walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        while not pages.done:
            for element in await self._do(pages.call()):
                yield element

    async def _within(self, work: Awaitable[T], what: str, timeout: Optional[float]) -> T:
        try:
            return await asyncio.wait_for(work, timeout)
        except asyncio.TimeoutError as e:
            raise Deadline(f"{what}: nothing in {timeout} s") from e

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        address = self._address
        error: Optional[OSError] = None
        try:
            if address.path is not None:
                places: List[Any] = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", address.path)]
            else:
                places = await loop.getaddrinfo(*address.tcp, type=socket.SOCK_STREAM)
            for family, kind, proto, _, place in places:
                sock = socket.socket(family, kind, proto)
                try:
                    sock.setblocking(False)
                    if family != socket.AF_UNIX:
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while family == socket.AF_UNIX:
                        try:
                            sock.connect(place)
                            return sock
                        except BlockingIOError:  # there is no room in the server's queue, and no sign of when
                            await asyncio.sleep(0.005)
                    await loop.sock_connect(sock, place)
                    return sock
                except OSError as e:
                    close(sock)
                    error = e
                except BaseException:
                    close(sock)
                    raise
        except OSError as e:
            error = e
        raise ConnectionFailed(f"connect to {address.path or address.host}: {error}") from error

    async def _exchange(self, sock: socket.socket, data: bytes, most: int, reused: bool) -> Optional[Answer]:
        """Sends a request and reads its answer; None where a connection that was idle had been closed."""
        loop = asyncio.get_running_loop()
        reader = Reader(most)
        # Beside the sending: the server may answer before it has the whole request.
        sending = asyncio.ensure_future(send(sock, data)) if len(data) > RECV else None
        try:
            if sending is None:
                await send(sock, data)
            while not reader.done:
                try:
                    got = await loop.sock_recv(sock, RECV)
                except OSError:
                    got = b""
                if not got:
                    if reused and reader.untouched:
                        close(sock)
                        return None
                    raise ConnectionFailed("the server closed the connection before its answer's end")
                reader.feed(got)
        except BaseException:
            close(sock)
            raise
        finally:
            early = sending is not None and not sending.done()
            await forget(sending)
        if not reader.reusable or early or not self._keep(sock):
            close(sock)
        return reader.answer


async def _iterate(blocks: Union[Iterable[BlockLike], AsyncIterable[BlockLike]]) -> AsyncIterator[BlockLike]:
    if isinstance(blocks, AsyncIterable):
        async for block in blocks:
            yield block
    else:
        for block in blocks:
            yield block
