"""The blocking client."""

from __future__ import annotations

import select
import socket
import time
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Sequence, TypeVar, Union

from . import calls, erasure, items, model
from .calls import Call, Pages
from .erasure import Shard, Spec
from .errors import AccessorError, ConnectionFailed, Deadline
from .http import RECV, Answer, Reader, whole
from .model import About, Block, BlockName, Key
from .pool import Pool, limit, poll
from .reads import BlockReads
from .streams import ImportResult, Imports, Subscription
from .views import Draft, Events, Pin, View

T = TypeVar("T")

SMALL = 64 << 10  # bytes of a request that are sent without looking for an early answer


def left(deadline: Optional[float]) -> Optional[float]:
    """Seconds until then. Error: BlockingIOError where there are none, as of a socket with a limit."""
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds < 1e-5:
        raise BlockingIOError
    return seconds


def receive(sock: socket.socket) -> bytes:
    """The next bytes; b"" where the server has closed."""
    try:
        return sock.recv(RECV)
    except ConnectionResetError:
        return b""


class Client(Pool):
    """A client of ``accessor serve``; threads may share it.

    ``address`` is unix:///path, a socket's path, or http://host:port. ``timeout`` is in
    seconds, for each call as a whole; None is for ever. A sidecar that lacks something asks
    its peers, for state 10 s as a rule, for items 30 s. ``token`` gives the token of a request
    over TCP: ``signer`` makes such a function. Every call may raise an AccessorError: the
    server's, by its kind, or ConnectionFailed, Deadline, BadAnswer.
    """

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are idle; the client may go on to be used."""
        self._drop_idle()

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
        with self._stream(self._timeout) as sock:
            out = memoryview(stream.request(self._address.host, self._new_token()))
            while not stream.done:
                idle = not out and stream.room
                wanted = select.POLLIN | (select.POLLOUT if out else 0)
                ready = poll(sock, wanted, 0 if idle else self._timeout)
                if ready & ~select.POLLOUT:
                    yield from stream.feed(receive(sock))
                elif ready:
                    try:
                        out = out[sock.send(out, socket.MSG_DONTWAIT):]
                    except BlockingIOError:
                        pass
                    except OSError:
                        out = out[:0]
                        stream.stop()
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

    # Items.

    def item(self, hash: str) -> bytes:
        """An item by its BLAKE2b-256 hash, which is checked: from the sidecar's store, else from its peers.

        UnknownItem: nobody who could be asked has it. NotFetched: peers could not be asked, or
        did not answer; it may exist.
        """
        return self._do(items.item(hash))

    def put_item(self, item: bytes) -> str:
        """Has the sidecar keep an item, of at most 16 MiB, for a time, for readers and peers; gives its hash."""
        return self._do(items.put_item(item))

    # Erasure-coded work packages.

    def encode(
        self, bundle: bytes, segments: Sequence[bytes] = (), *, shards: int = 1023, keep: Union[None, str, Iterable[int]] = None,
    ) -> Spec:
        """Encodes a work package: its bundle, and the segments of 4,104 bytes that it exports.

        ``shards`` is 1,023, or 6 of the tiny chain. The sidecar keeps, and serves, those in
        ``keep``: indices, or "all"; by default none.
        """
        return self._do(erasure.encode(bundle, segments, shards, keep))

    def bundle(self, spec: Spec) -> bytes:
        """A bundle from shards that the sidecar keeps, and peers; errors as of ``item``, and BadEncoding."""
        return self._do(erasure.bundle(spec))

    def segment(self, spec: Spec, index: int) -> bytes:
        """An exported segment, counted from 0, that the sidecar has checked by its page of proofs; errors as of ``bundle``."""
        return self._do(erasure.segment(spec, index))

    def shard(self, root: str, index: int) -> Shard:
        """A shard that the sidecar keeps itself, else UnknownItem. It is not checked: whom you give it to does."""
        return self._do(erasure.shard(root, index))

    def put_shard(self, spec: Spec, index: int, shard: Shard) -> None:
        """Has the sidecar check a shard, and keep it: it is on its disk when this returns."""
        self._do(erasure.put_shard(spec, index, shard))

    # Sending.

    def _do(self, call: Call[T]) -> T:
        data = call.request(self._address.host, self._new_token())
        timeout = self._timeout
        if timeout is not None:
            timeout += call.wait
        deadline = None if timeout is None else time.monotonic() + timeout
        most = min(call.most, self._max_body)
        answer = None
        try:
            sock = None if call.once else self._pop()
            if sock is not None:
                answer = self._exchange(sock, data, most, call.wait > 0, deadline, True)
            if answer is None:
                answer = self._exchange(self._connect(deadline), data, most, True, deadline, False)
        except BlockingIOError as e:
            raise Deadline(f"{call.method} {call.target[:200]}: no answer in {timeout} s") from e
        assert answer is not None  # of a new connection there is one, or an error
        return call.answer(answer)

    def _walk(self, pages: Pages[T]) -> Iterator[T]:
        while not pages.done:
            yield from self._do(pages.call())

    def _connect(self, deadline: Optional[float]) -> socket.socket:
        """A new connection, of which no wait lasts longer than until then. Error: BlockingIOError for that."""
        path, tcp, host = self._address
        try:
            if path is None:
                sock = socket.create_connection(tcp, left(deadline))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(None)
                limit(sock, left(deadline))
                if path is not None:
                    sock.connect(path)
            except BaseException:
                sock.close()
                raise
        except socket.timeout as e:
            raise BlockingIOError from e
        except BlockingIOError:
            raise
        except OSError as e:
            raise ConnectionFailed(f"connect to {path or host}: {e}") from e
        return sock

    def _stream(self, timeout: Optional[float]) -> socket.socket:
        """A connection for a stream. Error: Deadline."""
        try:
            return self._connect(None if timeout is None else time.monotonic() + timeout)
        except BlockingIOError as e:
            raise Deadline(f"connect: nothing in {timeout} s") from e

    def _exchange(
        self, sock: socket.socket, data: bytes, most: int, limited: bool, deadline: Optional[float], reused: bool,
    ) -> Optional[Answer]:
        """Sends a request and reads its answer; None where a connection that was idle had been closed.

        ``most``: bytes of its body. ``limited``: the waits of the connection are not those of other calls. Error: BlockingIOError at the deadline.
        """
        reuse = True
        try:
            if limited:
                limit(sock, left(deadline))
            try:
                if len(data) <= SMALL:
                    sock.sendall(data)
                else:
                    reuse = self._send(sock, data, deadline)
            except (BrokenPipeError, ConnectionResetError):
                reuse = False  # closed: why, the server may have said
            got = receive(sock)
            answer = whole(got, most)
            if answer is None:
                if reused and not got:
                    sock.close()
                    return None
                reader = Reader(most)
                while not reader.done:
                    if not got:
                        raise ConnectionFailed("the server closed the connection before its answer's end")
                    reader.feed(got)
                    if not reader.done:
                        limit(sock, left(deadline))
                        got = receive(sock)
                answer, reuse, limited = reader.answer, reuse and reader.reusable, True
            if limited and reuse:
                limit(sock, self._timeout)
        except (AccessorError, BlockingIOError):
            sock.close()
            raise
        except OSError as e:
            sock.close()
            raise ConnectionFailed(str(e)) from e
        except BaseException:
            sock.close()
            raise
        if not reuse or not self._keep(sock):
            sock.close()
        return answer

    def _send(self, sock: socket.socket, data: bytes, deadline: Optional[float]) -> bool:
        """Sends a large request; False where the server has answered before it was all sent."""
        out = memoryview(data)
        while out:
            ready = poll(sock, select.POLLIN | select.POLLOUT, left(deadline))
            if ready & ~select.POLLOUT:
                return False
            if ready:
                try:
                    out = out[sock.send(out[:1 << 20], socket.MSG_DONTWAIT):]
                except BlockingIOError:
                    pass
        return True
