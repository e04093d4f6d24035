"""What the asyncio client hands out: views, drafts, pins, events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import (
    TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Generator, Generic, Iterable, List, Mapping,
    Optional, Sequence, Tuple, TypeVar, Union, overload,
)

from . import calls, model
from .calls import Call, Pages
from .errors import AccessorError, ConnectionFailed, Deadline
from .http import RECV
from .model import About, Event, Key
from .proof import Proof
from .reads import BlockReads, Reads, VerifiedReads
from .streams import Subscription
from .views import SILENCE

if TYPE_CHECKING:
    from .aio import AsyncClient

T = TypeVar("T")
D = TypeVar("D")
S = TypeVar("S")


async def send(sock: socket.socket, data: bytes) -> bool:
    """Sends; False where the server has closed: why, it may have said."""
    try:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    except OSError:
        return False
    return True


def received(coming: asyncio.Future[bytes]) -> bytes:
    try:
        return coming.result()
    except OSError:
        return b""


async def forget(*work: Optional[asyncio.Future[Any]]) -> None:
    """Ends what is no longer waited for."""
    running = {w for w in work if w is not None}
    for w in running:
        w.cancel()
    if running:
        await asyncio.wait(running)


def close(sock: socket.socket) -> None:
    """Closes a socket for which somebody may still wait: the loop must forget it first."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(sock)
    loop.remove_writer(sock)
    sock.close()


class Opening(Generic[S]):
    """What is begun by a request: to be awaited, or entered."""

    def __init__(self, begin: Callable[[], Awaitable[S]]) -> None:
        self._begin = begin
        self._begun: Any = None

    def __await__(self) -> Generator[Any, None, S]:
        return self._begin().__await__()

    async def __aenter__(self) -> S:
        begun = self._begun = await self._begin()
        return begun

    async def __aexit__(self, *error: object) -> None:
        await self._begun.__aexit__(*error)


class _AsyncState:
    """Reads of one state."""

    def __init__(self, client: AsyncClient, reads: Reads) -> None:
        self._client = client
        self._reads = reads
        self._binding: Optional[asyncio.Lock] = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reads})"

    async def _do(self, make: Callable[[], Call[T]]) -> T:
        if not self._reads.bound:
            self._binding = self._binding or asyncio.Lock()
            async with self._binding:  # two first answers might name two blocks
                if not self._reads.bound:
                    return await self._client._do(make())
        return await self._client._do(make())

    async def _walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        while not pages.done:
            for element in await self._do(pages.call):
                yield element

    @overload
    async def get(self, key: Key) -> Optional[bytes]: ...

    @overload
    async def get(self, key: Key, default: D) -> Union[bytes, D]: ...

    async def get(self, key: Key, default: Optional[D] = None) -> Union[None, bytes, D]:
        value = await self._do(lambda: self._reads.get(key))
        return default if value is None else value

    async def has(self, key: Key) -> bool:
        return await self.get(key) is not None

    async def get_many(self, keys: Iterable[Key]) -> List[Optional[bytes]]:
        return [value async for value in self._walk(self._reads.get_many(list(keys)))]


class AsyncView(_AsyncState):
    """As View: ``await view.get(key)``, ``async for key, value in view.items()``."""

    _reads: BlockReads

    def __init__(self, client: AsyncClient, reads: BlockReads) -> None:
        super().__init__(client, reads)

    async def about(self) -> About:
        if self._reads.about is None:
            await self.info()
        assert self._reads.about is not None  # else that had failed
        return self._reads.about

    async def info(self) -> model.BlockInfo:
        return await self._do(self._reads.info)

    def items(
        self, prefix: Optional[Key] = None, start: Optional[Key] = None, stop: Optional[Key] = None,
        *, reverse: bool = False, page: int = 1000,
    ) -> AsyncIterator[Tuple[bytes, bytes]]:
        return self._walk(self._reads.scan(prefix, start, stop, reverse, page, True))

    async def keys(
        self, prefix: Optional[Key] = None, start: Optional[Key] = None, stop: Optional[Key] = None,
        *, reverse: bool = False, page: int = 1000,
    ) -> AsyncIterator[bytes]:
        async for key, _ in self._walk(self._reads.scan(prefix, start, stop, reverse, page, False)):
            yield key

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    async def changes(self) -> model.Changes:
        return await self._do(self._reads.changes)

    async def prove(self, keys: Sequence[Key]) -> Proof:
        return await self._do(lambda: self._reads.prove(keys))

    async def prove_range(self, start: bytes, end: bytes, max_bytes: Optional[int] = None) -> Proof:
        return await self._do(lambda: self._reads.prove_range(start, end, max_bytes))

    def verified(self, root: str) -> AsyncView:
        return AsyncView(self._client, VerifiedReads(self._reads.block or self._reads.name, root))


class AsyncDraft(_AsyncState):
    """As Draft: ``await draft.put(key, value)``, ``await draft.delete(key)``."""

    def __init__(self, client: AsyncClient, id: str, begun: Optional[model.DraftInfo]) -> None:
        super().__init__(client, Reads(calls.draft_path(id)))
        self.id = id
        self.begun = begun
        self._path = calls.draft_path(id)
        self._over = False
        if begun is not None:
            self._reads.bind(begun.parent.block)

    async def __aexit__(self, kind: object, *_: object) -> None:
        if not self._over:
            with contextlib.suppress(*calls.GONE if kind is None else (AccessorError,)):
                await self.drop()

    async def put(self, key: Key, value: bytes) -> None:
        await self._client._do(calls.draft_put(self._path, key, value))

    async def delete(self, key: Key) -> None:
        await self._client._do(calls.delete(f"{self._path}/state/{calls.key_text(key)}"))

    async def write(self, puts: Optional[Mapping[bytes, bytes]] = None, dels: Sequence[bytes] = ()) -> None:
        await self._client._do(calls.draft_write(self._path, puts or {}, dels))

    async def info(self) -> model.DraftInfo:
        return await self._client._do(calls.draft_info(self._path))

    async def renew(self, ttl: Optional[float] = None) -> model.DraftInfo:
        return await self._client._do(calls.renew(model.DraftInfo, self._path, ttl))

    async def commit(
        self, hash: str, post_root: Optional[str] = None, header: Optional[bytes] = None,
    ) -> model.Imported:
        done = await self._client._do(calls.commit(self._path, hash, post_root, header))
        self._over = True
        return done

    async def drop(self) -> None:
        await self._client._do(calls.delete(self._path))
        self._over = True


class AsyncPin:
    """As Pin."""

    def __init__(self, client: AsyncClient, id: str, info: Optional[model.PinInfo]) -> None:
        self._client = client
        self.id = id
        self.info = info
        self._over = False

    @property
    def directory(self) -> Optional[str]:
        return None if self.info is None else self.info.directory

    async def __aexit__(self, kind: object, *_: object) -> None:
        if not self._over:
            with contextlib.suppress(*calls.GONE if kind is None else (AccessorError,)):
                await self.release()

    async def renew(self, ttl: float) -> model.PinInfo:
        self.info = await self._client._do(calls.renew(model.PinInfo, calls.pin_path(self.id), ttl))
        return self.info

    async def release(self) -> None:
        await self._client._do(calls.delete(calls.pin_path(self.id)))
        self._over = True


class AsyncEvents:
    """As Events: ``async with client.events() as events: async for event in events``."""

    def __init__(self, client: AsyncClient, stream: Subscription) -> None:
        self._client, self._stream = client, stream
        self._sock: Optional[socket.socket] = None
        # A wait that is given up keeps what it would have got for the next one.
        self._coming: Optional[asyncio.Future[bytes]] = None
        self._began = False
        self._heard = self._again = 0.0
        self._closed = asyncio.Event()

    async def __aenter__(self) -> AsyncEvents:
        if not self._began:
            await self._begin(self._client._timeout)
        return self

    async def _begin(self, timeout: Optional[float]) -> None:
        async def work() -> None:
            await self._connect()
            while not self._stream.open:
                await self._receive(None)

        try:
            await self._client._within(work(), "events", timeout)
        except BaseException:
            self._drop()
            raise
        self._began = True

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncEvents:
        return self

    @property
    def position(self) -> Optional[int]:
        return self._stream.position

    async def __anext__(self) -> Event:
        return await self.next()

    async def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Error: Deadline after so many seconds; it may be asked again."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._stream.take()
            if event is not None:
                return event
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Deadline(f"no event in {timeout} s")
            if self._closed.is_set():
                raise StopAsyncIteration
            timeout = self._client._timeout
            timeout = timeout if left is None else min(left, timeout or left)
            if self._began:
                await self._step(left, timeout)
            else:
                await self._begin(timeout)

    async def close(self) -> None:
        self._closed.set()
        self._drop()

    async def _step(self, left: Optional[float], timeout: Optional[float]) -> None:
        try:
            if self._sock is None:
                pause = self._again - time.monotonic()
                if pause > 0:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._closed.wait(), pause if left is None else min(left, pause))
                    return
                await self._client._within(self._connect(), "connect", timeout)
                if self._closed.is_set():  # while it connected
                    return self._drop()
            await self._receive(left)
        except AccessorError as e:
            self._drop()
            again = self._stream.pause(e)
            if again is None:
                self._closed.set()
                raise
            self._again = time.monotonic() + again

    async def _connect(self) -> None:
        self._stream.begin()
        sock = self._sock = await self._client._connect()
        self._heard = time.monotonic()
        try:
            await send(sock, self._stream.request(self._client._address.host, self._client._new_token()))
        except BaseException:
            self._drop()
            raise

    async def _receive(self, left: Optional[float]) -> None:
        assert self._sock is not None
        if self._coming is None:
            self._coming = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(self._sock, RECV))
        coming = self._coming
        silence = self._heard + SILENCE - time.monotonic()
        await asyncio.wait({coming}, timeout=max(0, silence if left is None else min(left, silence)))
        if coming.cancelled():
            return  # closed
        if not coming.done():
            if left is None or silence <= left:
                raise ConnectionFailed(f"no sign of life in {SILENCE} s")
            return
        self._coming = None
        self._heard = time.monotonic()
        self._stream.feed(received(coming))

    def _drop(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            close(sock)
