"""The relay: one process for all ports that the kernel's maps cannot carry.

    client --[::1]:8080--> listener --connect--> 172.18.0.2:80       TCP: a splice with half-close
    client --udp 5353----> listener --a socket per client--> target  UDP: flows with a time limit
    client --tcp 8080----> listener --header, connect--> a task  a swarm's port whose tasks want PROXY's header

NAT cannot rewrite a connection to [::1] (its source would be [::1] too), and
with ``--iptables=false`` there is no NAT at all; nor does it put words before a
connection (``leads``). Everything else never comes
here; the relay only *holds* those ports, so that no other program takes them.

Rules
    1. What one side says last reaches the other before its end does: end of
       stream is passed on alone, a reset as a reset, a refused target as a reset.
    2. A slow reader slows its writer down: at most ``CHUNK`` bytes wait in each
       direction.
    3. A UDP flow is forgotten after ``FLOW_IDLE`` seconds of silence, the oldest
       of more than ``FLOWS`` before; answers leave from the address that the
       client wrote to.
    4. "state" replaces everything and keeps listeners that stay; connections of
       a listener end with it, but those of a swarm's port with their task. Other
       leads are told without a listener's leaving its port.
    5. A TCP port is bound without SO_REUSEADDR; only where a closing connection of before is in the way, with it. So
       that ours are never in anybody's way, each connection is given it when it comes: the kernel asks both, who was
       there and who comes. A held port does not listen.
    6. One socket may have a port of both families ("both"). Its IPv4 half is held:
       a client that comes by it is sent away with a reset, as from a port without
       a listener. (A thousand ports are a thousand sockets then, not two.)
    7. Ports in a row may be asked for as one ("take", ``span``); they are had, held and closed one by one.
    8. Whoever asks is answered as soon as all listen. Who comes before we look waits in the queue of his port, which
       is the kernel's. Looking at a thousand costs a third of having them, and just then the engine has to go on, on
       as few processors as there are: it is done a moment later.

What it leaves behind on failure: nothing; a port that cannot be bound is
answered with the kernel's words.
"""

from __future__ import annotations

import errno
import socket
from _socket import socket as Bare
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from fairlead.engine import control
from fairlead.engine.leads import Lead, Leads
from fairlead.engine.loop import Loop, reason
from fairlead.engine.splice import Splices, cut
from fairlead.engine.udpflows import Flows
from fairlead.errors import FairleadError, Invalid

BACKLOG = 512
_EVERY = ("0.0.0.0", "::")
_MAPPED = "::ffff:"
# linux/in.h, linux/in6.h; Python does not name them
_FREEBIND: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
_PAUSE = 1.0
SOON = 0.01
"""Seconds from the answer until a fresh port is looked at; its container's process will not answer much before."""
SCTP = 132
# Numbers, not names of them: a name costs more to compare and to combine than a socket to bind.
_FOUR, _SIX, _STREAM = int(socket.AF_INET), int(socket.AF_INET6), int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_DATAGRAM = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
_KINDS = {"tcp": (_STREAM, 0), "udp": (_DATAGRAM, 0), "sctp": (_STREAM, SCTP)}
_ONLY = (int(socket.IPPROTO_IPV6), int(socket.IPV6_V6ONLY))
_REUSE = (int(socket.SOL_SOCKET), int(socket.SO_REUSEADDR), 1)
Option = tuple[int, int, int]


class Way(NamedTuple):
    """How one is had: what a thousand ports of one request have in common."""

    protocol: str
    address: str
    family: int
    target: str
    both: bool
    carries: bool
    listens: bool
    kind: tuple[int, int, int]
    """of a socket, as socket(2) is told"""


class Port:
    """One port of ours: held, or with those who serve it."""

    __slots__ = ("number", "serving", "sock", "target_port", "way")

    def __init__(self, way: Way, number: int, target_port: int) -> None:
        self.way, self.number, self.target_port = way, number, target_port
        self.sock: Bare | None = None
        """without the class that Python puts around one, until somebody comes (``_ready``)"""
        self.serving: Splices | Flows | None = None

    @property
    def asked(self) -> tuple[object, ...]:
        """What makes it another listener."""
        return self.way, self.number, self.target_port

    def bound(self) -> int:
        return self.number or int(self.sock.getsockname()[1]) if self.sock is not None else self.number


def _each(said: dict[str, Any]) -> Iterator[tuple[str, Port]]:
    """The ports that an entry asks for, with their ids: one, or ``span`` of them in a row."""
    get, id_, number = said.get, str(said["id"]), int(said["port"])
    protocol, address, both, carries = (
        str(said["protocol"]),
        str(said["address"]),
        bool(get("both")),
        bool(get("carries")),
    )
    target, target_port, span = str(get("target") or ""), int(get("target_port") or 0), int(get("span") or 1)
    if protocol not in _KINDS or not 0 <= number <= number + span - 1 < 65536:
        raise Invalid(f"bad port {number}/{protocol}")
    if carries and protocol != "tcp":
        raise Invalid(f"{number}/{protocol} cannot be carried")
    if both and (protocol, address) != ("tcp", "::"):
        raise Invalid(f"{number}/{protocol} of {address} has no second family")
    family, listens = _SIX if ":" in address else _FOUR, carries or (bool(target) and protocol == "tcp")
    way = Way(protocol, address, family, target, both, carries, listens, (family, *_KINDS[protocol]))
    yield id_, Port(way, number, target_port)
    head = id_.removesuffix(str(number))
    for more in range(1, span):
        yield f"{head}{number + more}", Port(way, number + more, target_port + more)


def _all(entries: Iterable[dict[str, Any]], failed: dict[str, str]) -> Iterator[tuple[str, Port, dict[str, Any]]]:
    """Every port that is asked for, with its id and its entry. Entries that make no sense are told in ``failed``."""
    for entry in entries:
        try:
            for id_, port in _each(entry):
                yield id_, port, entry
        except Invalid as error:
            failed[str(entry["id"])] = error.message


def _leads(said: dict[str, Any]) -> Leads:
    return Leads([Lead(*words) for words in said.get("leads") or ()], str(said.get("policy") or ""))


class Relay:
    """All ports, one loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ports: dict[str, Port] = {}
        self._fresh: list[Port] = []
        """listening, not accepted from yet: the request that asked for them is answered first"""
        self._told: Way | None = None
        """the way of the port before, and what its socket was told"""
        self._options: tuple[Option, ...] = ()

    def deeds(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]]:
        """The control protocol: word -> deed."""
        return {
            "open": self.open,
            "take": self.take,
            "close": self.close,
            "state": self.state,
            "statistics": self.statistics,
            "held": self.held,
        }

    def open(self, said: dict[str, Any]) -> dict[str, Any]:
        """Have all of these ports, or none: the first that cannot be had is told in ``failed``. The same again changes
        nothing."""
        answer = self._have(said["ports"], all_or_none=True)
        if answer["failed"]:
            self.close({"ids": [id_ for id_, *_ in _all(said["ports"], {})]})
        return answer

    def take(self, said: dict[str, Any]) -> dict[str, Any]:
        """``open`` of entries with a ``span``; no numbers are told, they are as asked. (A word of its own: a relay that
        knows no spans refuses it, and is asked for each port.)"""
        return {**self.open(said), "ports": {}}

    def close(self, said: dict[str, Any]) -> None:
        """Give ports up; unknown ones are fine."""
        for id_ in said["ids"]:
            port = self._ports.pop(id_, None)
            if port is None:
                continue
            if port.serving is not None and not port.way.carries:
                port.serving.close()
            if port.sock is not None:
                self._loop.close(port.sock)

    def state(self, said: dict[str, Any]) -> dict[str, Any]:
        """Replace everything; what cannot be had is told in ``failed``."""
        entries = said.get("ports") or ()
        wanted = {id_ for id_, *_ in _all(entries, {})}
        self.close({"ids": [id_ for id_ in self._ports if id_ not in wanted]})
        return self._have(entries)

    def _have(self, entries: Iterable[dict[str, Any]], all_or_none: bool = False) -> dict[str, Any]:
        """Ports had, by id -> number; refused, by id -> reason. With ``all_or_none`` the first refusal is the end."""
        self._told = None
        ports: dict[str, int] = {}
        failed: dict[str, str] = {}
        for id_, port, entry in _all(entries, failed):
            try:
                ports[id_] = self._one(id_, port, entry)
            except OSError as error:
                failed[id_] = reason(error)
            except FairleadError as error:
                failed[id_] = error.message
            if failed and all_or_none:
                break
        if self._fresh:
            self._loop.later(SOON, self._welcome)
        return {"ports": ports, "failed": failed}

    def _one(self, id_: str, port: Port, said: dict[str, Any]) -> int:
        """Have a port: serve it when it leads somewhere, else hold it; its number."""
        known = self._ports.get(id_)
        if known:
            if known.asked == port.asked:
                if isinstance(known.serving, Splices) and known.way.carries:
                    known.serving.leads = _leads(said)
                return known.bound()
            self.close({"ids": [id_]})
        if port.way.carries:
            port.serving = Splices(self._loop, _leads(said))
        port.sock = self._socket(port)
        self._ports[id_] = port
        return port.number or port.bound()

    def statistics(self, said: dict[str, Any]) -> dict[str, Any]:
        serving = [port.serving for port in self._ports.values()]
        return {
            "ports": len(self._ports),
            "connections": sum(len(item) for item in serving if isinstance(item, Splices)),
            "flows": sum(len(item) for item in serving if isinstance(item, Flows)),
        }

    def held(self, said: dict[str, Any]) -> dict[str, Any]:
        """Which ports there are, by id."""
        return {"ids": list(self._ports)}

    def _socket(self, port: Port) -> Bare | None:
        """Bound, and at work when it leads somewhere; None where the kernel does not know the protocol at all."""
        way = port.way
        if way.target and way.protocol == "sctp":
            raise Invalid("sctp cannot be relayed")
        try:
            sock = Bare(*way.kind)
        except OSError:
            if way.protocol == "sctp":
                return None
            raise
        try:
            self._bind(sock, port)
            if way.listens:
                sock.listen(BACKLOG)
                self._fresh.append(port)
            elif way.target:
                port.serving = flows = Flows(self._loop, sock, (way.target, port.target_port))
                self._loop.watch(sock, flows.ready)
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind(self, sock: Bare, port: Port) -> None:
        way = port.way
        if self._told is not way:
            self._told, self._options = way, tuple(_options(way, sock))
        for option in self._options:
            sock.setsockopt(*option)
        try:
            sock.bind((way.address, port.number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or way.protocol == "udp":
                raise
            # Perhaps only connections on their way out (TIME_WAIT) are in the way; a listener still refuses this.
            sock.setsockopt(*_REUSE)
            sock.bind((way.address, port.number))

    def _welcome(self) -> None:
        """Accept who came to fresh ports, and who will come."""
        fresh, self._fresh = self._fresh, []
        for port in fresh:
            self._watch(port)

    def _watch(self, port: Port) -> None:
        """Unless it was closed meanwhile. Without room for one more to be watched, waiting for some beats losing it."""
        if port.sock is None or port.sock.fileno() < 0:
            return
        try:
            self._loop.watch(port.sock, partial(self._accept, port))
        except OSError:
            self._loop.later(_PAUSE, partial(self._watch, port))

    def _ready(self, port: Port) -> tuple[socket.socket, Splices]:
        """What it takes to serve somebody, made for the first who comes: to most of a thousand ports nobody does."""
        assert port.sock is not None
        if not isinstance(port.sock, socket.socket):
            port.sock = socket.socket(port.way.family, _STREAM, fileno=port.sock.detach())
        if not isinstance(port.serving, Splices):
            port.serving = Splices(self._loop, Lead(port.way.target, port.target_port))
        return port.sock, port.serving

    def _accept(self, port: Port) -> None:
        sock, splices = self._ready(port)
        for _ in range(16):
            try:
                client, address = sock.accept()
                client.setsockopt(*_REUSE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # No room for more: waiting for some beats asking the kernel for ever.
                    self._loop.unwatch(sock)
                    self._loop.later(_PAUSE, partial(self._watch, port))
                return
            if port.way.both and address[0].startswith(_MAPPED):
                cut(client)
            else:
                splices.add(client)


def _options(way: Way, sock: Bare) -> Iterator[Option]:
    """What a socket for this way is told before it is bound; ``sock``: one of them, to ask the kernel's default."""
    if way.family == _SIX and bool(sock.getsockopt(*_ONLY)) == way.both:
        yield *_ONLY, not way.both
    # An address that the host does not have yet may be published all the same: one that moves between hosts (VRRP).
    if way.address not in _EVERY:
        yield *_FREEBIND[way.family], 1
    if way.protocol == "udp" and not way.target:
        yield int(socket.SOL_SOCKET), int(socket.SO_RCVBUF), 0


def main(words: Sequence[str]) -> int:
    """``fairlead relay --socket PATH``; exit codes as in ``control.run``."""
    return control.run("relay", words, lambda loop: Relay(loop).deeds())
