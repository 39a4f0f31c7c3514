"""Forwarding: names that are not ours are asked of the servers the sandbox was given.

    client query --ask--> Exchange --line--> upstream 1      answer, checked --> client
                              |  refused, silent, malformed
                              +------> upstream 2 ...  nobody left: SERVFAIL

An upstream marked ``sandbox`` is asked from inside the sandbox's namespace, so
the container's own routes and rules hold for its DNS as well; one marked
``host`` (a resolver on the host's loopback) from the host's.

Rules
    1. A sandbox that may not forward never gets here; there is no socket of it
       to the world (``Sandbox.forward`` is asked before, and ``close`` after a
       change takes what was open).
    2. Every line is a connected socket on a port the kernel rolled, every query
       on it carries a 16-bit id of our own: the kernel checks where an answer
       comes from, we check its id and its question. A line is retired after
       ``LINE_QUERIES`` queries or ``LINE_AGE`` seconds, so that ports change.
    3. At most ``FAIR`` queries of one sandbox are on their way; the next ones
       are refused at once instead of queued: a flood hurts only its sender.
    4. A server that was silent is asked last for ``SULK`` seconds.
    5. The answer goes back as it came, except for the id. One that is too long
       for the client is cut to its question with TC set; one that was cut by the
       upstream arrives cut, and the client comes again over TCP.

What it leaves behind on failure: nothing; every exchange ends with an answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fairlead.core import dnswire
from fairlead.core.dnswire import Malformed, Query
from fairlead.engine.loop import READ, WRITE, Loop, Timer
from fairlead.errors import FairleadError

FAIR = 512
PATIENCE = 1.6
"""Seconds one server gets; three of them fit into the five of every libc."""
MOST_SERVERS = 3
LINES = 4
"""Sockets to one server; a new one is opened when the last is CROWDED."""
CROWDED = 8
LINE_QUERIES = 2000
LINE_AGE = 20.0
SULK = 10.0
_TICK = 0.2
_BURST = 64

OpenSocket = Callable[[str, int, int], socket.socket]
"""(namespace path, family, type) -> a socket living in that namespace"""
Upstream = tuple[str, str]
"""(address, ``sandbox`` | ``host``)"""


class Asker(Protocol):
    """What the forwarder needs to know of a sandbox."""

    id: str
    namespace: str
    upstreams: Sequence[Upstream]
    outstanding: int


class Exchange:
    """One query on its way: to whom it was sent, whom to try next, how to answer."""

    __slots__ = ("asker", "best", "deadline", "limit", "packet", "query", "reply", "servers")

    def __init__(self, asker: Asker, query: Query, packet: bytes, limit: int, reply: Callable[[bytes], None]) -> None:
        self.asker, self.query, self.packet, self.limit, self.reply = asker, query, packet, limit, reply
        self.servers: list[Upstream] = []
        self.deadline = 0.0
        self.best = b""
        """an answer that is an error: told when no server has a better one"""


class _Line:
    """One connected UDP socket to one server."""

    __slots__ = ("born", "key", "pending", "sock", "used")

    def __init__(self, key: tuple[str, Upstream], sock: socket.socket, now: float) -> None:
        self.key, self.sock, self.born = key, sock, now
        self.used = 0
        self.pending: dict[int, Exchange] = {}
        """by our id, oldest first: deadlines are in order"""


class Forwarder:
    """Asks upstreams for all sandboxes of the process."""

    def __init__(self, loop: Loop, open_socket: OpenSocket) -> None:
        self._loop = loop
        self._open = open_socket
        self._lines: dict[tuple[str, Upstream], list[_Line]] = {}
        self._streams: dict[str, set[_Stream]] = {}
        self._sulking: dict[tuple[str, Upstream], float] = {}
        self._buffer = memoryview(bytearray(dnswire.LARGEST))
        self._ticking: Timer | None = None
        self._pace = 0.0
        self._dice: list[int] = []
        self.forwarded = self.failed = 0

    # -- asking ----------------------------------------------------------------------------

    def ask(self, asker: Asker, query: Query, packet: bytes, limit: int, reply: Callable[[bytes], None]) -> None:
        """Ask the sandbox's servers over UDP; ``reply`` is called once, with at most ``limit`` bytes."""
        exchange = Exchange(asker, query, packet, limit, reply)
        if not self._admit(exchange):
            return
        self._next(exchange)

    def ask_stream(self, asker: Asker, query: Query, packet: bytes, reply: Callable[[bytes], None]) -> None:
        """The same over TCP, for a client that came over TCP."""
        exchange = Exchange(asker, query, packet, dnswire.LARGEST, reply)
        if not self._admit(exchange):
            return
        self._next_stream(exchange)

    def close(self, asker: str) -> None:
        """Take away the sandbox's own sockets; what was on its way is answered SERVFAIL."""
        self._sulking = {key: until for key, until in self._sulking.items() if key[0] != asker}
        for key in [key for key in self._lines if key[0] == asker]:
            for line in self._lines.pop(key):
                self._drop(line)
                for exchange in line.pending.values():
                    self._finish(exchange, b"")
        for stream in tuple(self._streams.get(asker, ())):
            stream.end()
            self._finish(stream.exchange, b"")

    def statistics(self) -> dict[str, int]:
        return {
            "forwarded": self.forwarded,
            "failed": self.failed,
            "lines": sum(map(len, self._lines.values())),
            "streams": sum(map(len, self._streams.values())),
        }

    def _admit(self, exchange: Exchange) -> bool:
        asker = exchange.asker
        if asker.outstanding >= FAIR or not asker.upstreams:
            self.failed += 1
            refusal = dnswire.reply(exchange.query, dnswire.SERVFAIL, limit=exchange.limit)
            exchange.reply(exchange.packet[:2] + refusal[2:])
            return False
        asker.outstanding += 1
        self.forwarded += 1
        servers = list(asker.upstreams[:MOST_SERVERS])
        if self._sulking:
            now = self._loop.now()
            servers.sort(key=lambda server: self._sulking.get((_place(asker, server), server), 0) > now)
        exchange.servers = servers
        return True

    def _finish(self, exchange: Exchange, answer: bytes) -> None:
        """Exactly one answer for every exchange, with the client's id."""
        exchange.asker.outstanding -= 1
        answer = answer or exchange.best
        if not answer:
            self.failed += 1
            answer = dnswire.reply(exchange.query, dnswire.SERVFAIL, limit=exchange.limit)
        elif len(answer) > exchange.limit or (answer[2] & 0x02 and exchange.limit < dnswire.LARGEST):
            answer = dnswire.reply(exchange.query, answer[3] & 15, authoritative=False, truncated=True)
        exchange.reply(exchange.packet[:2] + answer[2:])

    def _accept(self, exchange: Exchange, data: bytes) -> bool:
        """Whether the answer ends the exchange; ``Malformed`` when it is no answer to it."""
        rcode = dnswire.check_answer(data, exchange.query.question)
        if rcode in (dnswire.NOERROR, dnswire.NXDOMAIN):
            return True
        exchange.best = data if data[4:6] == b"\0\1" else dnswire.reply(exchange.query, rcode, limit=exchange.limit)
        return False

    # -- datagrams -------------------------------------------------------------------------

    def _next(self, exchange: Exchange) -> None:
        """Send to the next server that can be sent to; answer when there is none."""
        while exchange.servers:
            server = exchange.servers.pop(0)
            try:
                line = self._line(exchange.asker, server)
                number = self._number(line)
                line.sock.send(number.to_bytes(2, "big") + exchange.packet[2:])
            except (OSError, FairleadError):
                self._sulk(exchange.asker, server)
                continue
            line.used += 1
            exchange.deadline = self._loop.now() + PATIENCE
            line.pending[number] = exchange
            self._tick_in(_TICK)
            return
        self._finish(exchange, b"")

    def _number(self, line: _Line) -> int:
        """An id that cannot be foreseen and is not on its way on this line."""
        while True:
            if not self._dice:
                self._dice = memoryview(os.urandom(1024)).cast("H").tolist()
            number = self._dice.pop()
            if number not in line.pending:
                return number

    def _line(self, asker: Asker, server: Upstream) -> _Line:
        """A socket to the server, in the right namespace: one of a few, or a new one."""
        key = (_place(asker, server), server)
        lines = self._lines.get(key, [])
        now = self._loop.now()
        fresh = [line for line in lines if line.used < LINE_QUERIES and now - line.born < LINE_AGE]
        if len(fresh) >= LINES:
            return min(fresh, key=lambda line: len(line.pending))
        if fresh and len(fresh[-1].pending) < CROWDED:
            return fresh[-1]
        line = _Line(key, connect(self._open, asker.namespace, server, socket.SOCK_DGRAM), now)
        self._lines.setdefault(key, []).append(line)
        self._loop.watch(line.sock, lambda: self._receive(line))
        return line

    def _receive(self, line: _Line) -> None:
        for turn in range(_BURST):
            if turn and not line.pending:
                return
            try:
                size = line.sock.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                self._refused(line)
                return
            data = bytes(self._buffer[:size])
            number = int.from_bytes(data[:2], "big")
            exchange = line.pending.get(number)
            if exchange is None:
                continue
            try:
                good = self._accept(exchange, data)
            except Malformed:
                continue
            del line.pending[number]
            if good:
                self._finish(exchange, data)
            else:
                self._next(exchange)

    def _refused(self, line: _Line) -> None:
        """Nobody listens there: the line is useless, its queries go on to the next server now."""
        waiting, line.pending = list(line.pending.values()), {}
        self._retire(line)
        for exchange in waiting:
            self._sulk(exchange.asker, line.key[1])
            self._next(exchange)

    def _tick(self) -> None:
        """Give up on silent servers, close lines that are old and idle; sleep again when none is left."""
        now = self._loop.now()
        self._ticking = None
        self._pace = 0.0
        late: list[Exchange] = []
        for line in [line for lines in self._lines.values() for line in lines]:
            while line.pending:
                number, exchange = next(iter(line.pending.items()))
                if exchange.deadline > now:
                    break
                del line.pending[number]
                self._sulk(exchange.asker, line.key[1])
                late.append(exchange)
            if not line.pending and (line.used >= LINE_QUERIES or now - line.born >= LINE_AGE):
                self._retire(line)
        for exchange in late:
            self._next(exchange)
        if self._lines:
            busy = any(line.pending for lines in self._lines.values() for line in lines)
            self._tick_in(_TICK if busy else LINE_AGE / 4)

    def _tick_in(self, pace: float) -> None:
        """See to the lines at least this often; idle ones are not worth many wake-ups."""
        if self._ticking is None or pace < self._pace:
            if self._ticking is not None:
                self._ticking.cancel()
            self._pace = pace
            self._ticking = self._loop.later(pace, self._tick)

    def _retire(self, line: _Line) -> None:
        lines = self._lines.get(line.key, [])
        if line in lines:
            lines.remove(line)
            self._drop(line)
        if not lines:
            self._lines.pop(line.key, None)

    def _drop(self, line: _Line) -> None:
        self._loop.unwatch(line.sock)
        line.sock.close()

    def _sulk(self, asker: Asker, server: Upstream) -> None:
        now = self._loop.now()
        if len(self._sulking) > 1000:
            self._sulking = {key: until for key, until in self._sulking.items() if until > now}
        self._sulking[(_place(asker, server), server)] = now + SULK

    # -- streams ---------------------------------------------------------------------------

    def _next_stream(self, exchange: Exchange) -> None:
        while exchange.servers:
            server = exchange.servers.pop(0)
            try:
                sock = connect(self._open, exchange.asker.namespace, server, socket.SOCK_STREAM)
            except (OSError, FairleadError):
                self._sulk(exchange.asker, server)
                continue
            stream = _Stream(self._loop, sock, exchange, self._streamed, self._streams)
            self._streams.setdefault(exchange.asker.id, set()).add(stream)
            return
        self._finish(exchange, b"")

    def _streamed(self, exchange: Exchange, data: bytes) -> None:
        """What a stream brought: an answer, or b"" when it failed or was too slow."""
        try:
            good = bool(data) and self._accept(exchange, data)
        except Malformed:
            good = False
        if good:
            self._finish(exchange, data)
        else:
            self._next_stream(exchange)


class _Stream:
    """One query to one server over TCP: connect, send, read one answer, close."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        exchange: Exchange,
        done: Callable[[Exchange, bytes], None],
        members: dict[str, set[_Stream]],
    ) -> None:
        self._loop, self._sock, self.exchange, self._done, self._members = loop, sock, exchange, done, members
        self._id = os.urandom(2)
        packet = self._id + exchange.packet[2:]
        self._out = len(packet).to_bytes(2, "big") + packet
        self._in = bytearray()
        self._timer = loop.later(PATIENCE, lambda: self._over(b""))
        loop.watch(sock, self._ready, READ | WRITE)

    def _ready(self) -> None:
        try:
            if self._out:
                self._out = self._out[self._sock.send(self._out) :]
                if not self._out:
                    self._loop.watch(self._sock, self._ready, READ)
                return
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._in += data
        size = int.from_bytes(self._in[:2], "big")
        if not data:
            self._over(b"")
        elif len(self._in) >= 2 + size:
            answer = bytes(self._in[2 : 2 + size])
            self._over(answer if answer[:2] == self._id else b"")

    def _over(self, answer: bytes) -> None:
        self.end()
        self._done(self.exchange, answer)

    def end(self) -> None:
        """Close, without a word to anybody."""
        self._timer.cancel()
        self._loop.unwatch(self._sock)
        self._sock.close()
        streams = self._members.get(self.exchange.asker.id, set())
        streams.discard(self)
        if not streams:
            self._members.pop(self.exchange.asker.id, None)


def _place(asker: Asker, server: Upstream) -> str:
    """Sockets of the host's namespace are shared, those within a sandbox are its own."""
    return "" if server[1] == "host" else asker.id


def connect(open_socket: OpenSocket, namespace: str, server: Upstream, kind: int) -> socket.socket:
    """A non-blocking socket to port 53 of the server, in the sandbox's namespace or the host's; ``OSError`` if not."""
    address, place = server
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind) if place == "host" else open_socket(namespace, family, kind)
    try:
        sock.setblocking(False)
        target: Any = (address, 53)
        if "%" in address:
            bare, _, zone = address.partition("%")
            target = (bare, 53, 0, socket.if_nametoindex(zone))
        sock.connect(target)
    except BlockingIOError:
        pass
    except BaseException:
        sock.close()
        raise
    return sock
