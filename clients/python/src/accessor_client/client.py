"""The blocking client."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
import weakref
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence, TypeVar, Union

from . import calls, model
from .calls import Call, Pages
from .errors import AccessorError, ConnectionFailed, Deadline
from .http import MAX_BODY, RECV, Answer, Reader, connect, parse_address, whole
from .model import About, Block, BlockName, Key
from .reads import BlockReads
from .streams import ImportResult, Imports, Subscription
from .views import Draft, Events, Pin, View

T = TypeVar("T")

IDLE = 16  # connections that are kept
SMALL = 64 << 10  # bytes of a request that are sent without looking for an early answer

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork() -> None:
    # A connection that parent and child share would give each the other's answers.
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_after_fork)


def _limit(sock: socket.socket, seconds: Optional[float]) -> None:
    """Bounds each wait of a blocking socket, by the kernel: Python's own timeouts cost a poll a call."""
    whole = struct.pack("@ll", int(seconds or 0), int(((seconds or 0) % 1) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, whole)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, whole)


def _poll(sock: socket.socket, events: int, seconds: Optional[float]) -> int:
    poll = select.poll()
    poll.register(sock, events)
    ready = poll.poll(None if seconds is None else max(0, seconds) * 1000)
    return ready[0][1] if ready else 0


def receive(sock: socket.socket) -> bytes:
    """The next bytes; b"" where the server has closed."""
    try:
        return sock.recv(RECV)
    except ConnectionResetError:
        return b""


class Client:
    """A client of ``accessor serve``; threads may share it.

    ``address`` is unix:///path, a socket's path, or http://host:port. ``timeout`` is in
    seconds, for each call; None is for ever. ``token`` gives the token of a request over
    TCP: ``signer`` makes such a function. Every call may raise an AccessorError: the
    server's, by its kind, or ConnectionFailed, Deadline, BadAnswer.
    """

    def __init__(
        self, address: str, *, timeout: Optional[float] = 30.0, token: Optional[Callable[[], str]] = None,
        max_body: int = MAX_BODY,
    ) -> None:
        self._address = parse_address(address)
        self._timeout, self._token, self._max_body = timeout, token, max_body
        self._idle: List[socket.socket] = []
        _clients.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are idle; the client may go on to be used."""
        while self._idle:
            self._idle.pop().close()

    # Blocks.

    def at(self, name: BlockName) -> View:
        """The state at a block, by hash, slot, or a name such as head: no request yet."""
        return View(self, BlockReads(name))

    def block(self, name: BlockName) -> model.BlockInfo:
        """A block of the tree."""
        return self._do(calls.block(name))

    def wait_block(self, hash: str, wait: float = 10.0) -> model.BlockInfo:
        """A block as soon as it is held; UnknownBlock after so many seconds, at most 60."""
        return self._do(calls.block(model.hash_of(hash, "hash"), wait))

    def blocks(self, leaves: bool = False, page: int = 1000) -> model.Tree:
        """The tree, or its leaves, with head, finalized and anchor."""
        pages = calls.Trees(leaves, page)
        return pages.whole(list(self._walk(pages)))

    def import_block(self, block: Union[Block, Mapping[str, Any]], wait: Optional[float] = None) -> model.Imported:
        """Imports a Block, or a line of a recording; waits so many seconds for its slot, default as long as it takes."""
        return self._do(calls.import_block(block, wait))

    def import_many(
        self, blocks: Iterable[Union[Block, Mapping[str, Any]]], window: int = 64,
    ) -> Iterator[ImportResult]:
        """Imports blocks in one request, and gives the answer to each as it comes.

        A refusal is an answer, and doesn't end it. So many blocks may be on their way
        unanswered: with a window of 1, a block is taken when the one before is answered.
        """
        stream = Imports(window)
        source = iter(blocks)
        with self._connect() as sock:
            out = memoryview(stream.request(self._address.host, self._new_token()))
            while not stream.done:
                idle = not out and stream.room
                wanted = select.POLLIN | (select.POLLOUT if out else 0)
                ready = _poll(sock, wanted, 0 if idle else self._timeout)
                if ready & ~select.POLLOUT:
                    yield from stream.feed(receive(sock))
                elif ready:
                    try:
                        out = out[sock.send(out, socket.MSG_DONTWAIT):]
                    except BlockingIOError:
                        pass
                    except OSError:  # the server has closed: why, it may have said
                        out, stream.ended = out[:0], True
                elif idle:
                    try:
                        out = memoryview(stream.line(next(source)))
                    except StopIteration:
                        out = memoryview(stream.last())
                else:
                    raise Deadline(f"no answer to a block in {self._timeout} s")
        stream.missing()

    def held(self, hashes: Iterable[str]) -> List[str]:
        """Those of the hashes, at most 10,000, whose blocks are held."""
        return self._do(calls.held(hashes))

    def set_head(self, hash: str) -> About:
        """Says which block is best."""
        return self._do(calls.set_head(hash))

    def finalize(self, hash: str) -> model.Finalized:
        """Makes the branch up to a block canonical."""
        return self._do(calls.finalize(hash))

    def diff(self, start: BlockName, end: BlockName) -> model.Diff:
        """What differs between the states at two blocks."""
        return self._do(calls.diff(start, end))

    def history(self, key: Key, at: Optional[BlockName] = None, limit: Optional[int] = None) -> model.History:
        """Who wrote a key on the way to a block, the head by default, newest first."""
        return self._do(calls.history(key, at, limit))

    def status(self) -> model.Status:
        """What store, tree and drafts are like."""
        return self._do(calls.status())

    def locks(self) -> model.Locks:
        """The slots that are locked, and those that drafts have reserved."""
        return self._do(calls.locks())

    def drafts(self) -> List[model.DraftInfo]:
        """The drafts that are open, oldest first."""
        return self._do(calls.drafts())

    def pins(self) -> List[model.PinInfo]:
        """This client's pins; for operators, all."""
        return self._do(calls.pins())

    def draft(self, parent: BlockName, slot: int, *, owner: str = "", ttl: Optional[float] = None) -> Draft:
        """Begins a block on a parent, with a lease of ttl seconds: 30 by default, at most 60."""
        info = self._do(calls.begin_draft(parent, slot, owner, ttl))
        return Draft(self, info.id, info)

    def attach_draft(self, id: str) -> Draft:
        """A draft that was begun before, by its id: no request yet."""
        return Draft(self, id, None)

    def pin(
        self, block: BlockName, *, ttl: float = 60.0, owner: str = "", directory: Optional[bool] = None,
    ) -> Pin:
        """Keeps a block readable for ttl seconds, at most a day.

        A directory to read it from is made where that can be done; with True it must be.
        """
        info = self._do(calls.pin(block, ttl, owner, directory))
        return Pin(self, info.id, info)

    def attach_pin(self, id: str) -> Pin:
        """A pin that was made before, by its id: no request yet."""
        return Pin(self, id, None)

    def events(self, after: Optional[int] = None, kinds: Sequence[str] = ()) -> Events:
        """What happens from now on, or after the event with that position (1: the oldest kept)."""
        return Events(self, Subscription(after, kinds))

    # Sending.

    def _do(self, call: Call[T]) -> T:
        data = call.request(self._address.host, None if self._token is None else self._token())
        answer = None
        if self._idle and not call.once:
            try:
                sock = self._idle.pop()
            except IndexError:  # another thread was faster
                pass
            else:
                answer = self._exchange(sock, data, call, True)
        if answer is None:
            answer = self._exchange(self._connect(), data, call, False)
        assert answer is not None  # of a new connection there is one, or an error
        return call.answer(answer)

    def _walk(self, pages: Pages[T]) -> Iterator[T]:
        while not pages.done:
            yield from self._do(pages.call())

    def _new_token(self) -> Optional[str]:
        return None if self._token is None else self._token()

    def _connect(self) -> socket.socket:
        try:
            sock = connect(self._address, self._timeout)
        except socket.timeout as e:
            raise Deadline(f"connect: nothing in {self._timeout} s") from e
        except OSError as e:
            raise ConnectionFailed(f"connect to {self._address.path or self._address.host}: {e}") from e
        sock.settimeout(None)
        _limit(sock, self._timeout)
        return sock

    def _readable(self, sock: socket.socket, seconds: float) -> bool:
        return _poll(sock, select.POLLIN, seconds) != 0

    def _exchange(self, sock: socket.socket, data: bytes, call: Call[Any], reused: bool) -> Optional[Answer]:
        """Sends a request and reads its answer; None where a connection that was idle had been closed."""
        timeout = self._timeout
        if call.wait and timeout is not None:
            timeout += call.wait
            _limit(sock, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        reuse = True
        try:
            try:
                if len(data) <= SMALL:
                    sock.sendall(data)
                else:
                    reuse = self._send(sock, data, deadline)
            except (BrokenPipeError, ConnectionResetError):
                reuse = False  # closed: why, the server may have said
            got = receive(sock)
            answer = whole(got, self._max_body)
            if answer is None:
                reader = Reader(self._max_body)
                if reused and not got:
                    sock.close()
                    return None
                while not reader.done:
                    if not got:
                        raise ConnectionFailed("the server closed the connection before its answer's end")
                    reader.feed(got)
                    if not reader.done:
                        got = self._receive_until(sock, deadline)
                answer, reuse = reader.answer, reuse and reader.reusable
                _limit(sock, self._timeout)
        except BlockingIOError as e:
            sock.close()
            raise Deadline(f"{call.method} {call.target[:200]}: no answer in {timeout} s") from e
        except AccessorError:
            sock.close()
            raise
        except OSError as e:
            sock.close()
            raise ConnectionFailed(str(e)) from e
        except BaseException:
            sock.close()
            raise
        if reuse and not call.wait and len(self._idle) < IDLE:
            self._idle.append(sock)
        else:
            sock.close()
        return answer

    def _receive_until(self, sock: socket.socket, deadline: Optional[float]) -> bytes:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise BlockingIOError
            _limit(sock, left + 1e-6)
        return receive(sock)

    def _send(self, sock: socket.socket, data: bytes, deadline: Optional[float]) -> bool:
        """Sends a large request; False where the server has answered before it was all sent."""
        out = memoryview(data)
        while out:
            left = None if deadline is None else deadline - time.monotonic()
            ready = _poll(sock, select.POLLIN | select.POLLOUT, left)
            if not ready:
                raise BlockingIOError
            if ready & ~select.POLLOUT:
                return False
            try:
                out = out[sock.send(out[:1 << 20], socket.MSG_DONTWAIT):]
            except BlockingIOError:
                pass
        return True
