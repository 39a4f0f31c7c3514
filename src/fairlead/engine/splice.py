"""TCP connections of one relayed port: bytes from either side to the other until both are done.

    client  --READ--> [≤ CHUNK waiting] --WRITE-->  target
            <-------- [≤ CHUNK waiting] <---------

Each direction reads only when nothing waits in it, so memory is bounded and a
slow reader slows its writer. A socket nobody waits for is not watched at all:
the kernel would report its hang-up for ever. Where a connection leads, and what
is said before its first byte, is for ``leads`` to say; that and what the client
has said by then are one packet, for a server with a full queue resets whom it
hears the second of two from first. Whoever is gone without a word is missed
after a minute of silence.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from fairlead.engine.leads import Lead, Leads, header
from fairlead.engine.loop import READ, WRITE, Loop

CHUNK = 1 << 17
TURNS = 4
"""How many chunks one direction may move before others have their turn."""
PATIENCE = 10.0
"""Seconds a target may take to accept."""
_AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""said again, it sends what was held back, too"""
_OPTIONS = (
    _AT_ONCE,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_RESET = struct.pack("ii", 1, 0)


class Splices:
    """All connections of one port."""

    def __init__(self, loop: Loop, leads: Lead | Leads) -> None:
        self._loop, self.leads = loop, leads
        self._splices: set[_Splice] = set()

    def __len__(self) -> int:
        return len(self._splices)

    def add(self, client: socket.socket) -> None:
        """A client came: connect to a target for it. A target that cannot be had resets the client."""
        server = None
        try:
            client.setblocking(False)
            lead = self.leads.choose(client.getpeername()[0])
            if lead is None:
                cut(client)
                return
            first = header(client) if lead.proxied else b""
            server = socket.socket(socket.AF_INET6 if ":" in lead.address else socket.AF_INET, socket.SOCK_STREAM)
            server.setblocking(False)
            server.connect_ex((lead.address, lead.port))
            for side in (client, server):
                for level, option, value in _OPTIONS:
                    side.setsockopt(level, option, value)
        except OSError:
            cut(client)
            if server is not None:
                server.close()
            return
        self._splices.add(_Splice(self._loop, client, server, self, first))

    def gone(self, splice: _Splice) -> None:
        self._splices.discard(splice)

    def close(self) -> None:
        for splice in tuple(self._splices):
            splice.end(reset=True)


class _Way:
    """One direction."""

    __slots__ = ("ended", "sink", "source", "waiting")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting = memoryview(b"")
        self.ended = False
        """the source said its last, and the sink heard of it"""

    def move(self) -> None:
        """Write what waits, read what is there, until one side is not ready. ``OSError``: the connection broke."""
        for _ in range(TURNS):
            try:
                while self.waiting:
                    self.waiting = self.waiting[self.sink.send(self.waiting) :]
                if self.ended:
                    return
                self.waiting = memoryview(self.source.recv(CHUNK))
            except BlockingIOError:
                return
            if not self.waiting:
                # Told in the same turn: there may not be another, and an ended source is watched no more.
                self.ended = True
                self.sink.shutdown(socket.SHUT_WR)
                return


class _Splice:
    """One client, one target."""

    def __init__(
        self, loop: Loop, client: socket.socket, server: socket.socket, owner: Splices, first: bytes = b""
    ) -> None:
        self._loop, self._owner = loop, owner
        self._sockets = (client, server)
        self._server = server
        self._first = first
        self._ways = (_Way(client, server), _Way(server, client))
        self._masks = {client: 0, server: WRITE}
        self._timer = loop.later(PATIENCE, lambda: self.end(reset=True))
        self._connected = False
        loop.watch(server, self._ready, WRITE)

    def _ready(self) -> None:
        try:
            if not self._connected:
                self._begin()
            for way in self._ways:
                way.move()
        except OSError:
            self.end(reset=True)
            return
        if all(way.ended for way in self._ways):
            self.end(reset=False)
            return
        self._watch()

    def _begin(self) -> None:
        """The server is there, or ``OSError``."""
        number = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, "connect")
        self._connected = True
        self._timer.cancel()
        if self._first:
            self._server.send(self._first, socket.MSG_MORE)
            self._ways[0].move()
            self._server.setsockopt(*_AT_ONCE)

    def _watch(self) -> None:
        """Wait for exactly what would let something move."""
        wanted = dict.fromkeys(self._sockets, 0)
        for way in self._ways:
            if way.waiting:
                wanted[way.sink] |= WRITE
            elif not way.ended:
                wanted[way.source] |= READ
        for sock, mask in wanted.items():
            if mask == self._masks[sock]:
                continue
            self._masks[sock] = mask
            if mask:
                self._loop.watch(sock, self._ready, mask)
            else:
                self._loop.unwatch(sock)

    def end(self, reset: bool) -> None:
        """Close both sides, with a reset when the conversation was broken off."""
        self._timer.cancel()
        self._owner.gone(self)
        for sock in self._sockets:
            self._loop.unwatch(sock)
            if reset:
                cut(sock)
            sock.close()


def cut(sock: socket.socket) -> None:
    """Close with a reset."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
