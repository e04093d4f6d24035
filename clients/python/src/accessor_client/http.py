"""HTTP/1.1 without I/O: an answer is read from bytes as they come.

Whatever the server sends is bounded before it is kept, and what is not HTTP is a BadAnswer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from .errors import BadAnswer

MAX_HEAD = 64 << 10
MAX_CHUNK_LINE = 1 << 10
MAX_PROBLEM = 1 << 20
MAX_BODY = 256 << 20
RECV = 64 << 10


class Address(NamedTuple):
    """Where a server is: a socket's path, or host and port; and the Host of requests."""

    path: Optional[str]
    tcp: Tuple[str, int]
    host: str


def parse_address(text: str) -> Address:
    """Reads unix:///path, a path, or http://host:port. Error: ValueError."""
    if text.startswith("unix://"):
        path = text[len("unix://"):]
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a socket's path is absolute: unix:///run/accessor/accessor.sock")
        return Address(path, ("", 0), "localhost")
    if text.startswith("https://"):
        raise ValueError("https:// is not supported: let TLS end in front of the client, and use http://")
    if text.startswith("http://"):
        url = urlsplit(text)
        if not url.hostname or url.path not in ("", "/") or url.query or url.username is not None:
            raise ValueError(f"{text!r}: want http://host:port")
        return Address(None, (url.hostname, url.port or 80), url.netloc)
    if "://" not in text and ("/" in text or text.endswith(".sock")):
        return Address(text, ("", 0), "localhost")
    raise ValueError(f"{text!r}: want unix:///path, a socket's path, or http://host:port")


def signer(kid: str, secret: bytes, roles: Optional[Sequence[str]] = None) -> Callable[[], str]:
    """Makes the tokens of a client over TCP (docs/SERVE.md): a new one for each request.

    The secret is the bytes that its file has in hex; roles only narrow the client's.
    """

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(json.dumps({"alg": "HS256", "kid": kid}).encode())
    narrowed = {} if roles is None else {"roles": list(roles)}

    def token() -> str:
        text = head + b"." + part(json.dumps({"iat": int(time.time()), **narrowed}).encode())
        return (text + b"." + part(hmac.new(secret, text, hashlib.sha256).digest())).decode()

    return token


class Answer:
    """An answer's status, its head and its body."""

    __slots__ = ("status", "head", "body")

    def __init__(self, status: int, head: bytes) -> None:
        self.status, self.head, self.body = status, head, b""

    def header(self, name: bytes) -> Optional[bytes]:
        """The value of a header, named in lower case; None where it is missing. Twice is an error: BadAnswer."""
        mark = b"\r\n" + name + b":"
        head = self.head.lower()
        at = head.find(mark)
        if at < 0:
            return None
        at += len(mark)
        if head.find(mark, at) >= 0:
            raise BadAnswer(f"the header {name.decode()} comes twice")
        return self.head[at:self.head.find(b"\r\n", at)].strip()

    def json(self) -> Any:
        """The body as JSON. Error: ValueError."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("JSON that is nested too deep") from None


class Reader:
    """Reads one answer: ``feed`` it until it is ``done``.

    ``limit`` is the most bytes of a body; None is for streams, from which ``take`` takes
    what has come so far.
    """

    __slots__ = ("answer", "done", "reusable", "_limit", "_left", "_chunked", "_raw", "_body", "_size")

    def __init__(self, limit: Optional[int]) -> None:
        self.answer: Optional[Answer] = None
        self.done = False
        self.reusable = False
        self._limit = limit
        self._left = -1  # bytes of the body, or of a chunk with its line end, still to come; -1 not known
        self._chunked = False
        self._raw = b""  # what has come and can't be read yet
        self._body = bytearray()
        self._size = 0

    @property
    def untouched(self) -> bool:
        """Whether nothing has come yet."""
        return self.answer is None and not self._raw

    def feed(self, data: bytes) -> None:
        """Takes the next bytes from the connection. Error: BadAnswer."""
        if self.done:
            raise BadAnswer("bytes after an answer's end")
        if self.answer is None:
            data = self._raw + data
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MAX_HEAD:
                if len(data) > MAX_HEAD:
                    raise BadAnswer(f"an answer's head of more than {MAX_HEAD} bytes")
                self._raw = data
                return
            self._raw = b""
            self._head(data[:end + 2])
            data = data[end + 4:]
        if self._chunked:
            self._chunks(data)
        else:
            self._plain(data)

    def take(self) -> bytes:
        """Takes what has come of the body."""
        body = bytes(self._body)
        self._body.clear()
        return body

    def _head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit() or head[12:13] not in (b" ", b"\r"):
            raise BadAnswer(f"not an answer in HTTP/1.1: {head[:80]!r}")
        answer = Answer(int(head[9:12]), head)
        if answer.status < 200:
            raise BadAnswer(f"status {answer.status} that nobody asked for")
        if answer.status >= 400 or (self._limit is None and answer.status != 200):
            self._limit = MAX_PROBLEM  # nobody takes from it
        length = answer.header(b"content-length")
        coding = answer.header(b"transfer-encoding")
        if answer.status in (204, 304):
            self._left = 0
        elif coding is not None:
            if coding.lower() != b"chunked" or length is not None:
                raise BadAnswer(f"a body of unknown length: {coding[:80]!r}")
            self._chunked = True
        elif length is None or not length.isdigit() or len(length) > 18:
            raise BadAnswer(f"a body of unknown length: {length!r:.80}")
        else:
            self._left = int(length)
            self._room(self._left)
        self.reusable = (answer.header(b"connection") or b"").lower() != b"close"
        self.answer = answer

    def _room(self, more: int) -> None:
        if self._limit is not None and self._size + more > self._limit:
            raise BadAnswer(f"a body of more than {self._limit} bytes")

    def _plain(self, data: bytes) -> None:
        if len(data) >= self._left:
            self._end(data[:self._left], len(data) > self._left)
        else:
            self._left -= len(data)
            self._body += data

    def _end(self, data: bytes, more: bool) -> None:
        assert self.answer is not None
        self.done = True
        if more:
            raise BadAnswer("bytes after an answer's end")
        if self._limit is not None and not self._body:
            self.answer.body = data
            return
        self._body += data
        if self._limit is not None:
            self.answer.body = self.take()

    def _chunks(self, data: bytes) -> None:
        data, at = self._raw + data, 0
        self._raw = b""
        while True:
            if self._left < 0:  # a chunk's first line
                end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
                if end < 0:
                    if len(data) - at >= MAX_CHUNK_LINE:
                        raise BadAnswer(f"not a chunk's length: {data[at:at + 80]!r}")
                    self._raw = data[at:]
                    return
                digits = data[at:end].partition(b";")[0].rstrip()
                if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
                    raise BadAnswer(f"not a chunk's length: {digits!r}")
                size = int(digits, 16)
                self._room(size)
                if size == 0:
                    return self._last(data[end:])
                self._size += size
                at, self._left = end + 2, size + 2
            piece = data[at:at + self._left]
            at += len(piece)
            if len(piece) == self._left:
                whole, self._left = self._left, -1
                if piece[-2:] not in (b"\r\n", b"\n") or (whole == 1 and piece != b"\n"):
                    raise BadAnswer("a chunk is longer than it said")
                self._body += piece[:-2]
            else:
                self._left -= len(piece)
                # The line end may have begun: it is not the body's.
                self._body += piece if self._left >= 2 else piece[:-1]
                if self._left == 1 and piece[-1:] != b"\r":
                    raise BadAnswer("a chunk is longer than it said")
                return

    def _last(self, rest: bytes) -> None:
        end = rest.find(b"\r\n\r\n")  # what stands before that are trailers
        if end > MAX_CHUNK_LINE or (end < 0 and len(rest) > MAX_CHUNK_LINE):
            raise BadAnswer(f"trailers of more than {MAX_CHUNK_LINE} bytes")
        if end >= 0:
            self._end(b"", len(rest) > end + 4)
        else:
            self._raw = b"0" + rest


def whole(data: bytes, limit: int) -> Optional[Answer]:
    """A good answer that has come at once: what Reader would read, in a fifth of the time. None for any other."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0 or data[:13] != b"HTTP/1.1 200 ":
        return None
    head = data[:end + 2].lower()
    at = head.find(b"\r\ncontent-length: ") + 18
    digits = head[at:head.find(b"\r", at)]
    size = len(data) - end - 4
    if at < 18 or not digits.isdigit() or len(digits) > 18 or int(digits) != size or size > limit:
        return None
    if head.find(b"\r\ncontent-length:", at) >= 0 or b"\r\ntransfer-encoding:" in head or b"\r\nconnection:" in head:
        return None
    answer = Answer(200, data[:end + 2])
    answer.body = data[end + 4:]
    return answer
