"""The client for asyncio: the calls of Client and what it hands out, to be awaited."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, List, Mapping, Optional, Sequence, TypeVar, Union

from . import calls, model
from .aioviews import AsyncDraft, AsyncEvents, AsyncPin, AsyncView, Opening, close, received, send
from .calls import Call, Pages
from .client import IDLE
from .errors import ConnectionFailed, Deadline
from .http import MAX_BODY, RECV, Answer, Reader, parse_address
from .model import About, Block, BlockName, Key
from .reads import BlockReads
from .streams import ImportResult, Imports, Subscription

T = TypeVar("T")
BlockLike = Union[Block, Mapping[str, Any]]


class AsyncClient:
    """As Client, for one event loop; its tasks may share it."""

    def __init__(
        self, address: str, *, timeout: Optional[float] = 30.0, token: Optional[Callable[[], str]] = None,
        max_body: int = MAX_BODY,
    ) -> None:
        self._address = parse_address(address)
        self._timeout, self._token, self._max_body = timeout, token, max_body
        self._idle: List[socket.socket] = []

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

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
        with await self._connect() as sock:
            coming = None
            try:
                await send(sock, stream.request(self._address.host, self._new_token()))
                while not stream.done:
                    coming = coming or asyncio.ensure_future(loop.sock_recv(sock, RECV))
                    if stream.room and not coming.done():
                        try:
                            data = stream.line(await source.__anext__())
                        except StopAsyncIteration:
                            data = stream.last()
                        stream.ended |= not await self._within(send(sock, data), "import")
                        await asyncio.sleep(0)
                        continue
                    await asyncio.wait({coming}, timeout=self._timeout)
                    if not coming.done():
                        raise Deadline(f"no answer to a block in {self._timeout} s")
                    data, coming = received(coming), None
                    for result in stream.feed(data):
                        yield result
            finally:
                if coming is not None:
                    coming.cancel()
                    await asyncio.wait({coming})
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

    async def _do(self, call: Call[T]) -> T:
        data = call.request(self._address.host, self._new_token())
        answer = None
        timeout = None if self._timeout is None else self._timeout + call.wait
        what = f"{call.method} {call.target[:200]}"
        if self._idle and not call.once:
            answer = await self._within(self._exchange(self._idle.pop(), data, True), what, timeout)
        if answer is None:
            sock = await self._connect()
            answer = await self._within(self._exchange(sock, data, False), what, timeout)
        assert answer is not None  # of a new connection there is one, or an error
        return call.answer(answer)

    async def _walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        while not pages.done:
            for element in await self._do(pages.call()):
                yield element

    def _new_token(self) -> Optional[str]:
        return None if self._token is None else self._token()

    async def _within(self, work: Awaitable[T], what: str, timeout: Optional[float] = None) -> T:
        timeout = self._timeout if timeout is None else timeout
        try:
            return await asyncio.wait_for(work, timeout)
        except asyncio.TimeoutError as e:
            raise Deadline(f"{what}: nothing in {timeout} s") from e

    async def _connect(self) -> socket.socket:
        return await self._within(self._connect_at_all(), "connect")

    async def _connect_at_all(self) -> socket.socket:
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

    async def _exchange(self, sock: socket.socket, data: bytes, reused: bool) -> Optional[Answer]:
        """Sends a request and reads its answer; None where a connection that was idle had been closed."""
        loop = asyncio.get_running_loop()
        reader = Reader(self._max_body)
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
            if sending is not None:
                sending.cancel()
                await asyncio.wait({sending})
        if reader.reusable and not early and len(self._idle) < IDLE:
            self._idle.append(sock)
        else:
            close(sock)
        return reader.answer


async def _iterate(blocks: Union[Iterable[BlockLike], AsyncIterable[BlockLike]]) -> AsyncIterator[BlockLike]:
    if isinstance(blocks, AsyncIterable):
        async for block in blocks:
            yield block
    else:
        for block in blocks:
            yield block
