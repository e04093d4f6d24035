"""What the blocking client hands out: views, drafts, pins, events."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import (
    TYPE_CHECKING, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union, overload,
)

from . import calls, model
from .calls import Call, Pages
from .errors import AccessorError, ConnectionFailed, Deadline
from .http import RECV
from .model import About, Event, Key
from .pool import poll
from .proof import Proof
from .reads import BlockReads, Reads, VerifiedReads
from .streams import Subscription

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")
D = TypeVar("D")

SILENCE = 45.0  # seconds without a sign of life in a stream of events: the server sends one each 15 s


class _State:
    """Reads of one state."""

    def __init__(self, client: Client, reads: Reads) -> None:
        self._client = client
        self._reads = reads
        self._binding = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reads})"

    def _do(self, make: Callable[[], Call[T]]) -> T:
        if not self._reads.bound:
            with self._binding:  # two first answers might name two blocks
                if not self._reads.bound:
                    return self._client._do(make())
        return self._client._do(make())

    def _walk(self, pages: Pages[T]) -> Iterator[T]:
        while not pages.done:
            yield from self._do(pages.call)

    def __getitem__(self, key: Key) -> bytes:
        """The value of a key. Error: AbsentKey, which is a KeyError."""
        reads = self._reads
        if reads.block is not None:  # as below, in fewer steps
            return self._client._do(reads.read(key))
        return self._do(lambda: self._reads.read(key))

    @overload
    def get(self, key: Key) -> Optional[bytes]: ...

    @overload
    def get(self, key: Key, default: D) -> Union[bytes, D]: ...

    def get(self, key: Key, default: Optional[D] = None) -> Union[None, bytes, D]:
        """The value of a key, or the default where the state has no such key."""
        value = self._do(lambda: self._reads.get(key))
        return default if value is None else value

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def get_many(self, keys: Iterable[Key]) -> List[Optional[bytes]]:
        """The values of any number of keys, in their order; None where one is absent."""
        return list(self._walk(self._reads.get_many(list(keys))))


class View(_State):
    """The state at one block, like a dict that can't change.

    What it is asked first says which block ``head`` and the like are; from then on it
    reads that block, whatever happens.
    """

    _reads: BlockReads

    def __init__(self, client: Client, reads: BlockReads) -> None:
        super().__init__(client, reads)

    def about(self) -> About:
        """Block, slot and root."""
        if self._reads.about is None:
            self.info()
        assert self._reads.about is not None  # else that had failed
        return self._reads.about

    @property
    def block(self) -> str:
        return self._reads.block or self.about().block

    @property
    def slot(self) -> int:
        return self.about().slot

    @property
    def root(self) -> str:
        return self.about().root

    def info(self) -> model.BlockInfo:
        """The block in its tree."""
        return self._do(self._reads.info)

    def items(
        self, prefix: Optional[Key] = None, start: Optional[Key] = None, stop: Optional[Key] = None,
        *, reverse: bool = False, page: int = 1000,
    ) -> Iterator[Tuple[bytes, bytes]]:
        """Pairs in the order of their keys, fetched page by page.

        ``start`` is where the walk begins, included, ``stop`` where it ends, excluded; in
        reverse it goes down. Bounds may be shorter than keys are.
        """
        return self._walk(self._reads.scan(prefix, start, stop, reverse, page, True))

    def keys(
        self, prefix: Optional[Key] = None, start: Optional[Key] = None, stop: Optional[Key] = None,
        *, reverse: bool = False, page: int = 1000,
    ) -> Iterator[bytes]:
        """The keys alone, as ``items``."""
        return (key for key, _ in self._walk(self._reads.scan(prefix, start, stop, reverse, page, False)))

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def changes(self) -> model.Changes:
        """What the block wrote."""
        return self._do(self._reads.changes)

    def prove(self, keys: Sequence[Key]) -> Proof:
        """A proof of keys, which is not checked: ``verify`` does that."""
        return self._do(lambda: self._reads.prove(keys))

    def prove_range(self, start: bytes, end: bytes, max_bytes: Optional[int] = None) -> Proof:
        """A proof of the pairs from start to end, both included, of about max_bytes at most (1 MiB)."""
        return self._do(lambda: self._reads.prove_range(start, end, max_bytes))

    def verified(self, root: str) -> View:
        """The same block's state, where everything read is checked against that root by proofs."""
        return View(self._client, VerifiedReads(self._reads.block or self._reads.name, root))


class Draft(_State):
    """An import in progress: reads see what was written. Leaving its scope drops what was not committed."""

    def __init__(self, client: Client, id: str, begun: Optional[model.DraftInfo]) -> None:
        super().__init__(client, Reads(calls.draft_path(id)))
        self.id = id
        self.begun = begun  #: how it was when it was begun; None of a draft that was attached
        self._path = calls.draft_path(id)
        self._over = False
        if begun is not None:
            self._reads.bind(begun.parent.block)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._over:
            # It may be over by itself; and an error of the caller's is worth more.
            with contextlib.suppress(*calls.GONE if kind is None else (AccessorError,)):
                self.drop()

    def __setitem__(self, key: Key, value: bytes) -> None:
        self._client._do(calls.draft_put(self._path, key, value))

    def __delitem__(self, key: Key) -> None:
        self._client._do(calls.delete(f"{self._path}/state/{calls.key_text(key)}"))

    def write(self, puts: Optional[Mapping[bytes, bytes]] = None, dels: Sequence[bytes] = ()) -> None:
        """Writes many values, and deletes keys: all or none."""
        self._client._do(calls.draft_write(self._path, puts or {}, dels))

    def info(self) -> model.DraftInfo:
        return self._client._do(calls.draft_info(self._path))

    def renew(self, ttl: Optional[float] = None) -> model.DraftInfo:
        """Lets the lease last ttl seconds from now."""
        return self._client._do(calls.renew(model.DraftInfo, self._path, ttl))

    def commit(
        self, hash: str, post_root: Optional[str] = None, header: Optional[bytes] = None,
    ) -> model.Imported:
        """Imports the draft as the block with that hash; with post_root only if that comes out."""
        done = self._client._do(calls.commit(self._path, hash, post_root, header))
        self._over = True
        return done

    def drop(self) -> None:
        """Ends the draft without a block."""
        self._client._do(calls.delete(self._path))
        self._over = True


class Pin:
    """A block that is kept readable until the pin's scope is left, or its time is over."""

    def __init__(self, client: Client, id: str, info: Optional[model.PinInfo]) -> None:
        self._client = client
        self.id = id
        self.info = info  #: None of a pin that was attached, until it is renewed
        self._over = False

    @property
    def directory(self) -> Optional[str]:
        """A checkpoint to open read-only while the pin lasts (docs/FORMAT.md)."""
        return None if self.info is None else self.info.directory

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._over:
            with contextlib.suppress(*calls.GONE if kind is None else (AccessorError,)):
                self.release()

    def renew(self, ttl: float) -> model.PinInfo:
        """Lets the pin end ttl seconds from now."""
        self.info = self._client._do(calls.renew(model.PinInfo, calls.pin_path(self.id), ttl))
        return self.info

    def release(self) -> None:
        self._client._do(calls.delete(calls.pin_path(self.id)))
        self._over = True


class Events:
    """Events as they come, without end: after a break it connects again and misses nothing.

    An event of kind ``gap`` says what can't be told any more. A refusal of the server ends
    it by its error, and so does a first connection that fails.
    """

    def __init__(self, client: Client, stream: Subscription) -> None:
        self._client, self._stream = client, stream
        self._sock: Optional[socket.socket] = None
        self._heard = 0.0
        self._again = 0.0  # when to connect
        self._closed = threading.Event()
        self._reading = threading.Lock()
        try:
            opening = None if client._timeout is None else time.monotonic() + client._timeout
            self._connect(client._timeout)
            while not self._stream.open:
                seconds = None if opening is None else opening - time.monotonic()
                if seconds is not None and seconds <= 0:
                    raise Deadline(f"no stream of events in {client._timeout} s")
                self._receive(seconds)
        except BaseException:
            self._drop()
            raise

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        return self.next()

    @property
    def position(self) -> Optional[int]:
        """Where to go on after the events that were given: ``after`` for the next time."""
        return self._stream.position

    def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Error: Deadline after so many seconds; it may be asked again."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._stream.take()
            if event is not None:
                return event
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Deadline(f"no event in {timeout} s")
            with self._reading:
                if self._closed.is_set():
                    raise StopIteration
                self._step(left)

    def close(self) -> None:
        """Ends the stream, also for a thread that waits for it."""
        self._closed.set()
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._drop()

    def _step(self, left: Optional[float]) -> None:
        try:
            if self._sock is None:
                pause = self._again - time.monotonic()
                if pause > 0:
                    self._closed.wait(pause if left is None else min(left, pause))
                    return
                timeout = self._client._timeout
                self._connect(timeout if left is None else min(left, timeout or left))
                if self._closed.is_set():  # while it connected: nobody else would end this wait
                    return
            self._receive(left)
        except AccessorError as e:
            self._drop()
            again = self._stream.pause(e)
            if again is None:
                self._closed.set()
                raise
            self._again = time.monotonic() + again

    def _connect(self, timeout: Optional[float]) -> None:
        self._stream.begin()
        self._sock = self._client._stream(timeout)
        self._heard = time.monotonic()
        try:
            self._sock.sendall(self._stream.request(self._client._address.host, self._client._new_token()))
        except OSError as e:
            raise ConnectionFailed(str(e)) from e

    def _receive(self, left: Optional[float]) -> None:
        """Waits so long for bytes, and takes them."""
        assert self._sock is not None
        silence = self._heard + SILENCE - time.monotonic()
        if not poll(self._sock, select.POLLIN, silence if left is None else min(left, silence)):
            if left is None or silence <= left:
                raise ConnectionFailed(f"no sign of life in {SILENCE} s")
            return
        self._heard = time.monotonic()
        try:
            data = self._sock.recv(RECV)
        except OSError:
            data = b""
        self._stream.feed(data)

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
