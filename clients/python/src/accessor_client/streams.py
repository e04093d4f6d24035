"""Streams without I/O: blocks that are imported one after the other, and events."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Deque, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import model
from .calls import LINES, Call, expect, nothing, of_answer, query_text
from .errors import AccessorError, BadAnswer, ConnectionFailed, Deadline, of_problem
from .http import Reader
from .model import Block, Event, decode, whole_hash

MAX_LINE = 1 << 20


class ImportResult(NamedTuple):
    """The answer to one block of a stream: ``block``, or ``error`` where it was refused."""

    line: int  #: which block, from 1
    status: int
    block: Optional[model.Imported]
    error: Optional[AccessorError]


class Imports:
    """A stream of blocks and of the answers to them.

    While there is ``room`` another line may be sent; bytes that have come go to ``feed``.
    """

    def __init__(self, window: int) -> None:
        self.reader = Reader(None)
        self.ended = False  # nothing more will be sent
        self._unanswered: Deque[Optional[str]] = deque()
        self._last: Optional[ImportResult] = None
        self._window = max(1, window)
        self._rest = b""

    def request(self, host: str, token: Optional[str]) -> bytes:
        call = Call("POST", "/v1/blocks", nothing, accept=LINES, kind=LINES, body=b"")
        head = call.request(host, token).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        return head

    @property
    def done(self) -> bool:
        return self.reader.done

    @property
    def room(self) -> bool:
        return not self.ended and len(self._unanswered) < self._window

    def line(self, block: Union[Block, Mapping[str, Any]]) -> bytes:
        """A block's line as it is sent."""
        data = block.to_json() if isinstance(block, Block) else dict(block)
        text = json.dumps(data).encode() + b"\n"
        self._unanswered.append(whole_hash(data.get("hash")))
        return b"%x\r\n%s\r\n" % (len(text), text)

    def last(self) -> bytes:
        """What is sent after the last line."""
        self.ended = True
        return b"0\r\n\r\n"

    def stop(self) -> None:
        """Nothing more can be sent: why, the server may have said."""
        self._window = 0

    def feed(self, data: bytes) -> List[ImportResult]:
        """Takes bytes that have come; b"" is the end. Errors: that of the server, BadAnswer, ConnectionFailed."""
        if not data:
            raise ConnectionFailed("the server closed the connection within a stream of blocks")
        reader = self.reader
        reader.feed(data)
        if reader.answer is None:
            return []
        if reader.answer.status != 200:
            if reader.done:
                raise of_answer(reader.answer)
            return []
        text = self._rest + reader.take()
        *lines, self._rest = text.split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise BadAnswer("a line of more than 1 MiB")
        return [self._result(line) for line in lines if line]

    def missing(self) -> None:
        """At the end. Errors where blocks were not answered: ConnectionFailed if the server said why, BadAnswer."""
        if self._unanswered or not self.ended:
            text = f"the server ended the stream, {len(self._unanswered)} blocks are unanswered"
            if self._last is None or self._last.error is None:
                raise BadAnswer(text)
            raise ConnectionFailed(f"{text}: {self._last.error}")

    def _result(self, line: bytes) -> ImportResult:
        try:
            data = json.loads(line)
            refused = data.get("error")
            error = None if refused is None else of_problem(refused)
            done = None if refused is not None else decode(
                model.Imported, {**data, "new": data["status"] == 201})
            result = self._last = ImportResult(int(data["line"]), int(data["status"]), done, error)
        except AccessorError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as e:
            raise BadAnswer(f"not the answer to a block: {line[:200]!r}") from e
        if error is not None and not self._unanswered:
            raise error  # the stream's end, not a block's
        want = self._unanswered.popleft() if self._unanswered else ""
        expect("block", error.block or want if error is not None else done and done.hash, want)
        return result


class Subscription:
    """A stream of events that goes on where it was after it broke off.

    ``last`` is the newest id that has come, ``retry`` the seconds to wait before the next
    connection. Each connection begins with ``request``; its bytes go to ``feed``.
    """

    def __init__(self, after: Optional[int], kinds: Sequence[str]) -> None:
        self.last = after
        self.retry = 2.0
        self._ready: Deque[Tuple[Optional[int], Event]] = deque()  # with what was the last id before each
        self._kinds = ",".join(kinds) or None
        self.begin()

    def begin(self) -> None:
        """Forgets what was half read of the connection before."""
        self._reader = Reader(None)
        self._rest = b""
        self._id: Optional[int] = None
        self._data: List[bytes] = []
        self._size = 0

    def take(self) -> Optional[Event]:
        """The next event that has come; None where there is none yet."""
        try:
            return self._ready.popleft()[1]
        except IndexError:
            return None

    @property
    def position(self) -> Optional[int]:
        """Where to go on after what was taken."""
        return self._ready[0][0] if self._ready else self.last

    def request(self, host: str, token: Optional[str]) -> bytes:
        target = "/v1/events" + query_text(kinds=self._kinds, after=self.last)
        return Call("GET", target, nothing, accept="text/event-stream").request(host, token)

    @property
    def open(self) -> bool:
        """Whether the server has begun its answer."""
        answer = self._reader.answer
        if answer is None or answer.status != 200:
            return False
        if not (answer.header(b"content-type") or b"").startswith(b"text/event-stream"):
            raise BadAnswer("not a stream of events")
        return True

    def pause(self, error: AccessorError) -> Optional[float]:
        """Seconds until the next connection after an error; None: refusals and nonsense end the stream."""
        if isinstance(error, (ConnectionFailed, Deadline)) or error.status == 429 or (error.status or 0) >= 500:
            return max(self.retry, error.retry_after or 0)
        return None

    def feed(self, data: bytes) -> None:
        """Takes bytes that have come; b"" is the end. Errors: that of the server, BadAnswer, ConnectionFailed."""
        reader = self._reader
        if data:
            reader.feed(data)
        if reader.done and reader.answer is not None and reader.answer.status != 200:
            raise of_answer(reader.answer)
        begun = self.open
        if not data or reader.done:
            raise ConnectionFailed("the server ended the stream of events")
        if not begun:
            return
        *lines, self._rest = (self._rest + reader.take()).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise BadAnswer("a line of more than 1 MiB")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            self._size += len(value) + 1
            if self._size > MAX_LINE:
                raise BadAnswer("an event of more than 1 MiB")
            self._data.append(value)
        elif name == b"id" and value.isdigit() and len(value) < 20:
            self._id = int(value)
        elif name == b"retry" and value.isdigit() and len(value) < 8:
            self.retry = int(value) / 1000

    def _dispatch(self) -> None:
        before = self.last
        if self._id is not None:
            self.last, self._id = self._id, None
        if not self._data:
            return
        text, self._data, self._size = b"\n".join(self._data), [], 0
        try:
            event = decode(Event, json.loads(text))
        except (ValueError, RecursionError) as e:
            raise BadAnswer(f"not an event: {text[:200]!r}") from e
        self._ready.append((before, event))
