"""Both clients against servers that do what they shouldn't, or do it at a bad time."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import signal
import socket
import tempfile
import threading
import time
import unittest
from typing import Any, Awaitable, Callable, List

from accessor_client import (
    AccessorError, AsyncClient, BadAnswer, BadProof, Client, ConnectionFailed, Deadline, Event, TooManyRequests,
)
from accessor_client.errors import of_problem
from accessor_client.http import MAX_PROBLEM, whole
from accessor_client.streams import Imports, Subscription
from harness import ServerCase

BLOCK = "a1" * 32
ABOUT = f"Accessor-Block: {BLOCK}\r\nAccessor-Slot: 7\r\nAccessor-Root: {'00' * 32}\r\n".encode()
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\n%s%sContent-Length: %d\r\n\r\n%s" % (status, ABOUT, head, len(body), body)


def chunk(text: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


def event(position: int) -> str:
    return f'id: {position}\ndata: {{"kind":"x","position":{position}}}\n\n'


class Fake:
    """A server that deals with connection n, from 1, as it is told."""

    def __init__(self, serve: Callable[[socket.socket, int], None], backlog: int = 16) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="acc")
        self.path = self.folder.name + "/s.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(backlog)
        self.serve, self.count = serve, 0
        self.threads: List[threading.Thread] = []

    def __enter__(self) -> Fake:
        self.begin(self.accept)
        return self

    def begin(self, work: Callable[..., None], *args: object) -> None:
        self.threads.append(threading.Thread(target=work, args=args))
        self.threads[-1].start()

    def accept(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.count += 1
            self.begin(self.one, connection, self.count)

    def one(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(5)
        with connection:
            try:
                self.serve(connection, number)
            except OSError:
                pass

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)
        self.folder.cleanup()


def texts(*answers: bytes) -> Callable[[socket.socket, int], None]:
    """Answers each request of each connection by the next text."""

    def serve(connection: socket.socket, _: int) -> None:
        for text in answers:
            if not connection.recv(65536):
                return
            connection.sendall(text)
        connection.recv(1)

    return serve


def both(test: Callable[[Any, Any, Callable[[Any], Awaitable[Any]]], Awaitable[None]]) -> Callable[[Any], None]:
    """A test of either client: it awaits results by ``ask``."""

    def run(self: unittest.TestCase) -> None:
        for client in (Client, AsyncClient):
            with self.subTest(client.__name__):

                async def ask(result: Any) -> Any:
                    return await result if inspect.isawaitable(result) else result

                asyncio.run(test(self, client, ask))  # type: ignore[arg-type]

    return run


class Calls(unittest.TestCase):
    @both
    async def test_unasked_answer(self, client: Any, ask: Any) -> None:
        """What comes between two calls is not the answer to the second."""
        with Fake(texts(answer(b"one"), answer(b"two"))) as fake:
            c = client(fake.path, timeout=2)
            view = c.at(BLOCK)
            self.assertEqual(await ask(view.get("slot")), b"one")
            idle = c._idle[0][0]
            ours, theirs = socket.socketpair(socket.AF_UNIX)
            ours.setblocking(client is Client)
            theirs.sendall(answer(b"forged"))
            c._idle[0] = (ours, time.monotonic() - 1)
            self.assertEqual(await ask(view.get("slot")), b"one")  # of a new connection
            idle.close()
            theirs.close()
            await ask(c.close())

    @both
    async def test_connection_close(self, client: Any, ask: Any) -> None:
        with Fake(texts(answer(b"one", b"Connection: close\r\n"))) as fake:
            c = client(fake.path, timeout=2)
            await ask(c.at(BLOCK).get("slot"))
            self.assertEqual(c._idle, [])

    @both
    async def test_absence_of_no_state(self, client: Any, ask: Any) -> None:
        """Absence is told of a block, as values are; and an answer without content is no empty value."""
        absent = b'{"kind":"absent-key","detail":"d"}'
        for text, good in (
            (answer(absent, status=b"404 Not Found"), True),
            (answer(absent, status=b"404 Not Found").replace(ABOUT, b""), False), (answer(b"", status=b"204 No Content"), False),
        ):
            with Fake(texts(text)) as fake:
                c = client(fake.path, timeout=2)
                if good:
                    self.assertIsNone(await ask(c.at(BLOCK).get("slot")))
                else:
                    with self.assertRaises(BadAnswer):
                        await ask(c.at(BLOCK).get("slot"))
                await ask(c.close())

    @both
    async def test_page_of_others(self, client: Any, ask: Any) -> None:
        """A page has what was asked for: a server that passes over a parameter is found out."""
        page = b'{"pairs":[["0b00","01"],["0b01","02"]],"next":null}'
        for named, good in (
            ({}, True), ({"prefix": b"\x0b"}, True), ({"start": b"\x0b"}, True), ({"start": b"\x0b\1", "reverse": True}, False),
            ({"prefix": b"\x0b\1"}, False), ({"start": b"\x0b\1"}, False), ({"page": 1}, False),
        ):
            with Fake(texts(answer(page))) as fake:
                c = client(fake.path, timeout=2)
                walk = c.at(BLOCK).items(**named)
                try:
                    pairs = [p async for p in walk] if client is AsyncClient else list(walk)
                    self.assertEqual((len(pairs), good), (2, True))
                except BadAnswer:
                    self.assertFalse(good, named)
                await ask(c.close())

    @both
    async def test_one_deadline(self, client: Any, ask: Any) -> None:
        """The timeout is that of the whole call, whatever happens in it."""

        def serve(connection: socket.socket, number: int) -> None:
            connection.recv(65536)
            if number == 1:
                connection.sendall(answer(b"one"))
                connection.recv(65536)
                time.sleep(0.3)  # and closes it: the request goes again
            else:
                for byte in answer(b"x" * 1000):
                    time.sleep(0.1)
                    connection.sendall(bytes([byte]))

        with Fake(serve) as fake:
            c = client(fake.path, timeout=0.5)
            await ask(c.at(BLOCK).get("slot"))
            started = time.monotonic()
            with self.assertRaises(Deadline):
                await ask(c.at(BLOCK).get("slot"))
            self.assertLess(time.monotonic() - started, 0.7)
            await ask(c.close())

    @both
    async def test_full_queue(self, client: Any, ask: Any) -> None:
        """A server that is slow to accept is waited for."""
        fake = Fake(texts(answer(b"one")), backlog=0)
        first = socket.socket(socket.AF_UNIX)
        first.connect(fake.path)
        c = client(fake.path, timeout=0.3)
        with self.assertRaises(Deadline):
            await ask(c.at(BLOCK).get("slot"))
        c = client(fake.path, timeout=5)
        late = threading.Timer(0.2, fake.__enter__)
        late.start()
        self.assertEqual(await ask(c.at(BLOCK).get("slot")), b"one")
        first.close()
        await ask(c.close())
        late.join()
        fake.__exit__()

    def test_many_tasks(self) -> None:
        """A server takes so many connections, and so many requests of a client: tasks wait for each other."""
        busy, most, lock = 0, 0, threading.Lock()

        def serve(connection: socket.socket, _: int) -> None:
            nonlocal busy, most
            while connection.recv(65536):
                with lock:
                    busy += 1
                    most = max(most, busy)
                time.sleep(0.05)
                with lock:
                    busy -= 1
                connection.sendall(answer(b"one"))

        async def main() -> None:
            async with AsyncClient(fake.path) as client:
                values = await asyncio.gather(*(client.at(BLOCK).get("slot") for _ in range(500)))
                self.assertEqual(set(values), {b"one"})

        with Fake(serve, backlog=512) as fake:
            asyncio.run(main())
        self.assertTrue(100 < most <= 128, most)

    @both
    async def test_root_of_verified(self, client: Any, ask: Any) -> None:
        info = b'{"block":"%s"}' % BLOCK.encode()
        with Fake(texts(answer(info))) as fake:
            c = client(fake.path, timeout=2)
            with self.assertRaises(BadProof):
                await ask(c.at(BLOCK).verified("11" * 32).about())
            await ask(c.close())

    def test_kinds_of_clients(self) -> None:
        """A server can't say that its connection failed."""
        for kind in ("connection", "deadline", "bad-answer", "bad-proof"):
            with self.assertRaises(ValueError):
                of_problem({"kind": kind, "detail": "d"})

    def test_huge_numbers(self) -> None:
        stream = Imports(1)
        stream.line({"hash": BLOCK})
        line = b'{"line":1,"status":201,"hash":"%s","slot":1,"root":"","walkback":null,"ms":1%s}\n' % (BLOCK.encode(), b"0" * 400)
        with self.assertRaises(BadAnswer):
            stream.feed(answer(line))

    def test_whole_in_any_case(self) -> None:
        good = answer(b"abcd")
        for name in (b"content-length: 5", b"transfer-encoding: chunked", b"connection: close"):
            self.assertIsNone(whole(good.replace(b"\r\n\r\n", b"\r\n" + name + b"\r\n\r\n"), 100), name)
        self.assertIsNone(whole(good.replace(b": 4\r", b": 0000000000045\r"), 100))


class Streams(unittest.TestCase):
    @both
    async def test_position(self, client: Any, ask: Any) -> None:
        """Where to go on is after what was given, not after what has come."""
        text = "id: 4\n\n" + event(5) + event(6) + event(7)
        with Fake(texts(EVENTS + chunk(text))) as fake:
            c = client(fake.path, timeout=2)
            events = c.events()
            got = []
            for position in (5, 6, 7):
                got.append((await ask(events.next(2))).position)
                self.assertEqual(events.position, position)
            self.assertEqual(got, [5, 6, 7])
            await ask(events.close())
            await ask(c.close())

    def test_position_before(self) -> None:
        stream = Subscription(None, ())
        stream.feed(EVENTS + chunk("id: 4\n\n" + event(5) + event(6)))
        self.assertEqual((stream.position, stream.last), (4, 6))
        stream.take()
        self.assertEqual(stream.position, 5)

    @both
    async def test_opening_deadline(self, client: Any, ask: Any) -> None:
        """A server that doesn't begin a stream is not waited for longer than for other answers."""

        def serve(connection: socket.socket, _: int) -> None:
            for byte in EVENTS:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

        with Fake(serve) as fake:
            c = client(fake.path, timeout=0.2)
            started = time.monotonic()
            with self.assertRaises(Deadline):
                await ask(c.events().next())
            self.assertLess(time.monotonic() - started, 2)

    @both
    async def test_goes_on(self, client: Any, ask: Any) -> None:
        """Breaks, and refusals for now, don't end a stream; nothing is told twice."""
        asked: List[bytes] = []

        def serve(connection: socket.socket, number: int) -> None:
            asked.append(connection.recv(65536).split(b" ")[1])
            if number == 2:
                problem = b'{"kind":"too-many-requests","detail":"d"}'
                return connection.sendall(answer(problem, status=b"429 No"))
            connection.sendall(EVENTS + chunk("retry: 10\n" + event(number) + "id: 9"))

        with Fake(serve) as fake:
            c = client(fake.path, timeout=2)
            events = c.events()
            self.assertEqual([(await ask(events.next(2))).position for _ in range(2)], [1, 3])
            await ask(events.close())
        self.assertEqual(asked[:3], [b"/v1/events", b"/v1/events?after=1", b"/v1/events?after=1"])

    def test_pause(self) -> None:
        stream = Subscription(None, ())
        refused = TooManyRequests("d")
        refused.status, refused.retry_after = 429, 5.0
        self.assertEqual(stream.pause(refused), 5)
        self.assertEqual((stream.pause(Deadline("d")), stream.pause(ConnectionFailed("d"))), (2, 2))
        self.assertIsNone(stream.pause(BadAnswer("d")))

    def test_bounded(self) -> None:
        stream = Subscription(None, ())
        with self.assertRaises(BadAnswer):
            stream.feed(EVENTS)
            for _ in range(40):
                stream.feed(chunk("data:\n" * 50_000))
        for status in (b"201", b"302"):
            for of in (Subscription(None, ()), Imports(1)):
                with self.assertRaises(BadAnswer):
                    of.feed(EVENTS.replace(b"200", status))
                    for _ in range(2 * MAX_PROBLEM >> 16):
                        of.feed(chunk("x" * (1 << 16)))

    @both
    async def test_answers_amid_a_block(self, client: Any, ask: Any) -> None:
        """Answers are read also while a large block is on its way: the server may wait for that."""
        count = 6000

        def serve(connection: socket.socket, _: int) -> None:
            data = b""
            while data.count(b"\n{") < count:
                data += connection.recv(65536)
            lines = [b'{"line":%d,"status":201,"hash":"%s","slot":1,"root":"","walkback":null,"ms":1}\n' % (i + 1, BLOCK.encode())
                     for i in range(count + 1)]
            connection.sendall(answer(b"".join(lines))[:-len(lines[-1])])
            while b"\r\n0\r\n\r\n" not in data:
                data = data[-8:] + connection.recv(1 << 20)
            connection.sendall(lines[-1])

        def blocks() -> Any:
            for _ in range(count):
                yield {"hash": BLOCK}
            yield {"hash": BLOCK, "header": "00" * (2 << 20)}

        with Fake(serve) as fake:
            c = client(fake.path, timeout=3)
            walk = c.import_many(blocks(), window=10_000)
            found = [r async for r in walk] if client is AsyncClient else list(walk)
            self.assertEqual(len(found), count + 1)

    @both
    async def test_left_early(self, client: Any, ask: Any) -> None:
        """A stream of blocks that is left closes its connection."""
        closed = threading.Event()

        def serve(connection: socket.socket, _: int) -> None:
            data = b""
            while b"\n{" not in data:
                data += connection.recv(65536)
            line = b'{"line":1,"status":201,"hash":"%s","slot":1,"root":"","walkback":null,"ms":1}\n' % BLOCK.encode()
            connection.sendall(answer(line + b" " * 9)[:-9])
            while connection.recv(65536):
                pass
            closed.set()

        with Fake(serve) as fake:
            walk = client(fake.path, timeout=2).import_many([{"hash": BLOCK}] * 3, window=1)
            if client is AsyncClient:
                await walk.__anext__()
                await walk.aclose()
            else:
                next(walk)
                walk.close()
            self.assertTrue(closed.wait(2))


class Many(ServerCase):
    def test_cancelled(self) -> None:
        """Calls that are given up at any moment leave no connection with half an answer."""

        async def main() -> None:
            async with AsyncClient(self.server.path) as client:
                view = client.at("head")
                want = {key: value async for key, value in view.items()}
                keys = list(want)
                for n in range(300):
                    task = asyncio.ensure_future(view.get_many(keys * 20))
                    await asyncio.sleep(n % 30 / 10_000)
                    task.cancel()
                    key = keys[n % len(keys)]
                    self.assertEqual(await view.get(key), want[key])

        asyncio.run(main())

    def test_interrupted(self) -> None:
        """So do calls of which the wait ends by an exception, as a signal's handler raises it."""
        view = self.client.at("head")
        want = dict(view.items())
        keys = list(want)

        class Interrupted(BaseException):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for n in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + n % 20 / 10_000)
                    while True:
                        view.get_many(keys * 20)
                except Interrupted:
                    pass
                key = keys[n % len(keys)]
                self.assertEqual(view[key], want[key])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_fork_asyncio(self) -> None:
        async def once() -> None:
            await client.status()

        client = AsyncClient(self.server.path)
        asyncio.run(once())
        self.assertTrue(client._idle)
        child = os.fork()
        if child == 0:
            os._exit(1 if client._idle else 0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        asyncio.run(client.close())


class Objects(unittest.TestCase):
    def test_texts(self) -> None:
        self.assertEqual(repr(Client("a.sock")), "Client('a.sock')")
        self.assertEqual(repr(Client("a.sock").at("head")), "View(/v1/blocks/head)")
        self.assertEqual(repr(AsyncClient("a.sock").at(BLOCK)), f"AsyncView({BLOCK})")

    def test_pickling(self) -> None:
        for thing in (Client("a.sock"), AsyncClient("a.sock")):
            with self.assertRaises(TypeError):
                pickle.dumps(thing)
        error = of_problem({"kind": "absent-key", "detail": "d", "key": "00"}, 3)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), str(again), again.key, again.retry_after), (type(error), "absent-key: d", "00", 3))
        self.assertIsInstance(again, AccessorError)
        self.assertEqual(pickle.loads(pickle.dumps(Event("x", 1))), Event("x", 1))

    def test_arguments(self) -> None:
        for timeout in (0, -1, float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                Client("a.sock", timeout=timeout)
        key: Any = bytearray(b"slot")
        with self.assertRaises(TypeError):
            Client("a.sock").at("head").get(key)
