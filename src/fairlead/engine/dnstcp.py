"""DNS over TCP for one sandbox: two bytes of length, then the message (RFC 1035 4.2.2, 7766).

    accept --> Connection: bytes in --whole query--> answer(query, write) --> bytes out

Clients here are containers, and a container may be hostile: it may hold
connections open, send a byte a second, never read, or go away in the middle.

Rules
    1. Only a *complete query* counts as activity. A connection without one for
       ``IDLE`` seconds is closed, however many bytes trickle.
    2. A sandbox has at most ``MOST`` connections; a new one pushes out the one
       that was idle longest, so holding connections keeps nobody else out.
    3. A client with ``MOST_UNREAD`` bytes of answers unread is cut off.
    4. When the process runs out of files, listening pauses for a second
       instead of spinning.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from fairlead.engine.loop import READ, WRITE, Loop, Timer

IDLE = 10.0
MOST = 64
MOST_UNREAD = 256 << 10
SHORTEST = 12
"""A header. Empty messages would be a way to look active for ever."""
_PAUSE = 1.0

Answer = Callable[[bytes, Callable[[bytes], None]], None]
"""(query, where to write the answer); the answer may come later or never"""


class Listener:
    """The TCP side of one sandbox's port."""

    def __init__(self, loop: Loop, sock: socket.socket, answer: Answer) -> None:
        self._loop, self.sock, self._answer = loop, sock, answer
        self._connections: dict[_Connection, None] = {}
        """oldest activity first"""
        self._timer: Timer | None = None
        loop.watch(sock, self._accept)

    def __len__(self) -> int:
        return len(self._connections)

    def _accept(self) -> None:
        for _ in range(16):
            try:
                sock, _address = self.sock.accept()
            except BlockingIOError:
                return
            except OSError:
                self._loop.unwatch(self.sock)
                self._loop.later(_PAUSE, self._listen_again)
                return
            sock.setblocking(False)
            if len(self._connections) >= MOST:
                next(iter(self._connections)).close()
            connection = _Connection(self._loop, sock, self)
            self._connections[connection] = None
            if self._timer is None:
                self._timer = self._loop.later(IDLE, self._sweep)

    def _listen_again(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.watch(self.sock, self._accept)

    def _sweep(self) -> None:
        """Close what was idle too long, and come again when the next one would be."""
        self._timer = None
        now = self._loop.now()
        while self._connections:
            oldest = next(iter(self._connections))
            if oldest.active + IDLE > now:
                self._timer = self._loop.later(oldest.active + IDLE - now, self._sweep)
                return
            oldest.close()

    def serve(self, connection: _Connection, query: bytes) -> None:
        """A whole query came: the connection is the most active one now."""
        self._connections.pop(connection, None)
        self._connections[connection] = None
        self._answer(query, connection.write)

    def gone(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)

    def close(self) -> None:
        self._loop.unwatch(self.sock)
        self.sock.close()
        for connection in tuple(self._connections):
            connection.close()
        if self._timer is not None:
            self._timer.cancel()


class _Connection:
    """One client's connection."""

    def __init__(self, loop: Loop, sock: socket.socket, listener: Listener) -> None:
        self._loop, self._sock, self._listener = loop, sock, listener
        self._in, self._out = bytearray(), bytearray()
        self._writing = False
        self.active = loop.now()
        loop.watch(sock, self._ready)

    def _ready(self) -> None:
        try:
            if self._out and not self._flush():
                return
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        while len(self._in) >= 2:
            size = self._in[0] << 8 | self._in[1]
            if size < SHORTEST:
                self.close()
                return
            if len(self._in) < 2 + size:
                return
            query = bytes(self._in[2 : 2 + size])
            del self._in[: 2 + size]
            self.active = self._loop.now()
            self._listener.serve(self, query)
            if self._sock.fileno() < 0:
                return

    def write(self, answer: bytes) -> None:
        """Send an answer, now or when the client reads again; to a closed connection: nothing."""
        if self._sock.fileno() < 0:
            return
        self._out += len(answer).to_bytes(2, "big") + answer
        if len(self._out) > MOST_UNREAD:
            self.close()
            return
        try:
            self._flush()
        except OSError:
            self.close()

    def _flush(self) -> bool:
        """Whether everything is out."""
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            self._loop.watch(self._sock, self._ready, READ | WRITE if self._writing else READ)
        return not self._out

    def close(self) -> None:
        self._listener.gone(self)
        self._loop.unwatch(self._sock)
        self._sock.close()
