"""What both clients have: where the server is, and the connections that are kept."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
import weakref
from typing import Callable, List, NoReturn, Optional, Tuple

from .http import MAX_BODY, parse_address

IDLE = 16  # connections that are kept
FRESH = 0.01  # seconds in which one is taken as it is: to look costs a tenth of a read

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    # A connection that parent and child share would give each the other's answers.
    for pool in list(_pools):
        pool._drop_idle()


os.register_at_fork(after_in_child=_after_fork)


class Pool:
    """A server's address, how it is to be spoken to, and idle connections to it."""

    def __init__(
        self, address: str, *, timeout: Optional[float] = 60.0, token: Optional[Callable[[], str]] = None,
        max_body: int = MAX_BODY,
    ) -> None:
        if timeout is not None and not 0 < timeout < 1e8:
            raise ValueError(f"a timeout of {timeout} s: want more than 0, or None for ever")
        self._name, self._address = address, parse_address(address)
        self._timeout, self._token, self._max_body = timeout, token, max_body
        self._idle: List[Tuple[socket.socket, float]] = []  # with the time since when
        _pools.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"connections can't be pickled: make another {type(self).__name__} there")

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    def _pop(self) -> Optional[socket.socket]:
        """An idle connection, if there is one. Those that were closed meanwhile, or spoke unasked, go."""
        while self._idle:
            try:
                sock, since = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < FRESH or not poll(sock, select.POLLIN, 0):
                return sock
            sock.close()
        return None

    def _keep(self, sock: socket.socket) -> bool:
        """Keeps a connection whose answer was read; False where there are enough."""
        if len(self._idle) >= IDLE:
            return False
        self._idle.append((sock, time.monotonic()))
        return True

    def _new_token(self) -> Optional[str]:
        return None if self._token is None else self._token()


def poll(sock: socket.socket, events: int, seconds: Optional[float]) -> int:
    """Waits so long for events; gives those that are there."""
    waiting = select.poll()
    waiting.register(sock, events)
    ready = waiting.poll(None if seconds is None else max(0, seconds) * 1000)
    return ready[0][1] if ready else 0


def limit(sock: socket.socket, seconds: Optional[float]) -> None:
    """Bounds each wait of a blocking socket, by the kernel: Python's own timeouts cost a poll a call."""
    whole = struct.pack("@ll", int(seconds or 0), int(((seconds or 0) % 1) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, whole)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, whole)
