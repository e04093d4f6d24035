"""The reader of answers against what a hostile server may send."""

from __future__ import annotations

import unittest
from typing import List, Optional

from accessor_client import BadAnswer, ConnectionFailed, Event, signer
from accessor_client.http import MAX_HEAD, MAX_PROBLEM, Reader, parse_address, whole
from accessor_client.streams import Imports, Subscription

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nA: b\r\n\r\n"


def read(data: bytes, step: int, limit: Optional[int] = 100) -> Reader:
    reader = Reader(limit)
    for i in range(0, len(data), step):
        reader.feed(data[i:i + step])
    return reader


class Answers(unittest.TestCase):
    def test_every_cut(self) -> None:
        for data in (GOOD, CHUNKED):
            for step in range(1, len(data) + 1):
                reader = read(data, step)
                assert reader.answer is not None
                self.assertEqual((reader.done, reader.answer.body), (True, b"abcd"), step)
            for end in range(len(data)):
                self.assertFalse(read(data[:end], 7).done, end)

    def test_no_http(self) -> None:
        for data in (
            b"SSH-2.0-x\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\ncontent-length: 5\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", GOOD + b"x", CHUNKED + b"x",
            CHUNKED.replace(b"3\r\n", b"2\r\n"), CHUNKED.replace(b"3\r\n", b"4\r\n"), CHUNKED.replace(b"3\r\n", b"-3\r\n"),
            CHUNKED.replace(b"3\r\n", b"65\r\n"), CHUNKED.replace(b"3\r\n", b"f" * 17 + b"\r\n"),
            CHUNKED.replace(b"3\r\n", b"\r\n"), CHUNKED.replace(b"x=y", b"x" * 2000), CHUNKED.replace(b"A:", b"A" * 2000),
            b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n" % (MAX_PROBLEM + 1), b"A" * (MAX_HEAD + 1),
            b"HTTP/1.1 200 OK\r\nX: " + b"A" * MAX_HEAD + b"\r\nContent-Length: 0\r\n\r\n",
        ):
            for step in (1, 3, len(data)):
                with self.assertRaises(BadAnswer, msg=(data[:100], step)):
                    read(data, step, None if data.startswith(b"HTTP/1.1 404") else 100)

    def test_whole_agrees_with_reader(self) -> None:
        """The short way takes nothing that the long one wouldn't, and reads it alike."""
        answer = whole(GOOD, 100)
        assert answer is not None
        self.assertEqual((answer.status, answer.body, answer.header(b"content-length")), (200, b"abcd", b"4"))
        for data in (
            GOOD[:-1], GOOD + b"x", CHUNKED, GOOD.replace(b"200", b"404"), GOOD.replace(b"4", b"4\r\nContent-Length: 5"),
            GOOD.replace(b"4", b"4\r\nTransfer-Encoding: chunked"), GOOD.replace(b"4", b"+4"), GOOD.replace(b"HTTP", b"http"),
            GOOD.replace(b"4\r\n\r\n", b"4\r\n"), b"", GOOD.replace(b"4\r", b" 4\r"),
        ):
            self.assertIsNone(whole(data, 100), data)
        self.assertIsNone(whole(GOOD, 3))


class Streams(unittest.TestCase):
    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def events(self, text: bytes, step: int = 5) -> List[Event]:
        self.stream = Subscription(None, ())
        data = self.HEAD + b"%x\r\n%s\r\n" % (len(text), text)
        for i in range(0, len(data), step):
            self.stream.feed(data[i:i + step])
        return list(iter(self.stream.take, None))

    def test_events(self) -> None:
        text = b"retry: 50\n:\nid: 7\n\nevent: x\r\nid: 9\r\ndata: {\"kind\":\"x\",\ndata: \"position\":9}\n\nid: 11\n"
        for step in range(1, len(text)):
            events = self.events(text, step)
            self.assertEqual([(e.kind, e.position) for e in events], [("x", 9)])
            # 11 is no event's yet: its line end is missing.
            self.assertEqual((self.stream.last, self.stream.retry), (9, 0.05))
        self.assertIn(b"after=9 ", self.stream.request("h", None))

    def test_ids_are_numbers(self) -> None:
        self.events(b"id: 5 HTTP/1.1\n\nid: -1\n\nid: 1e3\n\nid: " + b"9" * 30 + b"\n\n")
        self.assertIsNone(self.stream.last)

    def test_nonsense(self) -> None:
        for text in (b"data: []\n\n", b"data: {}\n\n", b"data: {\"kind\":1,\"position\":2}\n\n", b"data: \xff\n\n",
                     b"data: " + b"[" * 5000 + b"\n\n", b"x" * ((1 << 20) + 1), b"data: aaaaaaaaa\n" * 120_000):
            with self.assertRaises(BadAnswer, msg=text[:50]):
                self.events(text, 1 << 16)
        with self.assertRaises(ConnectionFailed):
            Subscription(None, ()).feed(b"")

    def test_answers_to_blocks(self) -> None:
        line = b'{"line":1,"status":201,"hash":"%s","slot":1,"root":"","walkback":null,"ms":1}\n'
        for text, good in ((line % (b"a1" * 32), True), (line % (b"a2" * 32), False), (b"[]\n", False), (b"{}\n", False)):
            stream = Imports(1)
            stream.line({"hash": "a1" * 32})
            self.assertFalse(stream.room)
            data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
            if good:
                self.assertEqual([r.status for r in stream.feed(data)], [201])
                self.assertTrue(stream.room)
            else:
                with self.assertRaises(BadAnswer):
                    stream.feed(data)


class Addresses(unittest.TestCase):
    def test_forms(self) -> None:
        self.assertEqual(parse_address("unix:///a/b.sock").path, "/a/b.sock")
        self.assertEqual(parse_address("./a").path, "./a")
        self.assertEqual(parse_address("a.sock").path, "a.sock")
        self.assertEqual(parse_address("http://[::1]:80/").tcp, ("::1", 80))
        for text in ("https://a", "unix://a/b", "a", "", "http://", "http://a/b", "http://u@a", "ftp://a", "http://a:b"):
            with self.assertRaises(ValueError, msg=text):
                parse_address(text)

    def test_token(self) -> None:
        self.assertRegex(signer("a", b"s" * 32, ["observer"])(), r"^[\w-]+\.[\w-]+\.[\w-]{43}$")
