"""The lease process: one DHCP client for each container's interface that has one, whether the engine lives or not.

    engine --lease (namespace, interface, MAC, name)--> core.dhcp.Client --> a socket in that namespace --> the LAN
    engine <-------- news: got, lost --------------------------'

An address that nobody prolongs is lost to the container in an hour, and engines
may be stopped for longer. So what prolongs leases is not the engine but this
process, which outlives it as the resolver does. What it cannot do alone is change
an interface: a lease lost or changed while the engine is away is told when it is back.

Rules
    1. The machine decides (``core.dhcp``); here are only clocks, sockets and who is told.
    2. A socket is open only while an answer is awaited. Asking for more goes from the
       lease's own address, by UDP, to the server; everything else by raw packets.
    3. A namespace or interface that is gone is like a LAN that is silent: asked again,
       ever more rarely, and told (``trouble``) to who asks.
    4. "state" replaces everything: leases that nobody wants any more are given back.
    5. Time is that since boot, which goes on while a machine sleeps; so nothing waits longer than
       ``NAP`` without looking at the clock.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from fairlead.core import dhcpwire
from fairlead.core.dhcp import Client, Effect, Got, Lost, Phase, Send
from fairlead.core.model import Lease
from fairlead.engine import control
from fairlead.engine.control import News
from fairlead.engine.loop import Loop, Timer, reason
from fairlead.errors import FairleadError

NAP = 600.0
BURST = 32


class Wire(Protocol):
    """The sockets (``host.dhcp``)."""

    def listen(self, namespace: str, interface: str) -> socket.socket: ...

    def say(self, sock: socket.socket, packet: bytes, mac: bytes = ...) -> None: ...

    def hear(self, sock: socket.socket) -> tuple[bytes, bool, bytes]: ...

    def call(self, namespace: str, interface: str, address: str) -> socket.socket: ...


class Ask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One interface that wants an address from its LAN."""

    id: str
    """of the endpoint"""
    namespace: str
    """path of its network namespace"""
    interface: str
    mac: str
    hostname: str = ""
    prefer: str = ""
    """the address it had before"""
    lease: Lease | None = None
    """the one it has"""


def clock() -> float:
    """Seconds since boot, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holder:
    """One client and its sockets."""

    def __init__(self, loop: Loop, wire: Wire, ask: Ask, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._loop, self._wire, self._tell = loop, wire, tell
        self.ask = ask
        self.trouble = ""
        self.client = Client(ask.mac, ask.hostname, random.SystemRandom().random, ask.prefer)
        self._socket: socket.socket | None = None
        self._raw = True
        self._timer: Timer | None = None
        self._server = b"\xff" * 6
        """the MAC that its last answer came from: the server's, or the router's on the way to it"""

    def begin(self) -> None:
        now, lease = clock(), self.ask.lease
        self._do(self.client.start(now) if lease is None else self.client.resume(lease, now))

    def end(self) -> None:
        """Give the lease back, as far as somebody hears it."""
        for effect in self.client.stop():
            if isinstance(effect, Send):
                self._try(self._release, effect)
        self._do(())

    def told(self) -> dict[str, Any]:
        """How it stands."""
        lease = self.client.lease
        return {
            "phase": self.client.phase,
            "lease": msgspec.to_builtins(lease) if lease else None,
            "trouble": self.trouble,
        }

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._try(self._send, effect)
            elif isinstance(effect, Got):
                self._tell({"id": self.ask.id, "lease": msgspec.to_builtins(effect.lease), "why": ""})
            elif isinstance(effect, Lost):
                self._tell({"id": self.ask.id, "lease": None, "why": effect.why})
        if self.client.phase in (Phase.BOUND, Phase.ENDED):
            self._hang_up()
        self._set_alarm()

    def _send(self, send: Send) -> None:
        """A question: the answer comes back to the same socket."""
        if send.destination == dhcpwire.EVERYBODY:
            self._wire.say(self._open(raw=True, address=""), dhcpwire.datagram(send.message, send.source))
        else:
            own = self._open(raw=False, address=send.source)
            own.sendto(send.message, (send.destination, dhcpwire.SERVER_PORT))

    def _release(self, send: Send) -> None:
        """Nobody answers this, and the interface may be gone in a moment: no time to find out where the server is."""
        packet = dhcpwire.datagram(send.message, send.source, send.destination)
        self._wire.say(self._open(raw=True, address=""), packet, self._server)

    def _try(self, deed: Callable[[Send], None], send: Send) -> None:
        """A LAN that cannot be reached now is like a silent one: the alarm is set all the same."""
        try:
            deed(send)
            self.trouble = ""
        except (OSError, FairleadError) as error:
            self.trouble = reason(error) if isinstance(error, OSError) else error.message
            self._hang_up()

    # -- sockets and the alarm -----------------------------------------------------------------

    def _open(self, *, raw: bool, address: str) -> socket.socket:
        if self._socket is not None and self._raw == raw:
            return self._socket
        self._hang_up()
        place = self.ask.namespace, self.ask.interface
        sock = self._wire.listen(*place) if raw else self._wire.call(*place, address)
        self._socket, self._raw = sock, raw
        self._loop.watch(sock, self._ready)
        return sock

    def _hang_up(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.unwatch(sock)
            sock.close()

    def _ready(self) -> None:
        for _ in range(BURST):
            if self._socket is None:
                return
            try:
                payload, sender = self._read(self._socket)
            except BlockingIOError:
                return
            except OSError as error:  # the interface is down or gone; the next question opens it anew
                self.trouble = reason(error)
                self._hang_up()
                return
            effects = self.client.heard(payload, clock()) if payload is not None else []
            if effects:
                self._server = sender or self._server
                self._do(effects)

    def _read(self, sock: socket.socket) -> tuple[bytes | None, bytes]:
        if not self._raw:
            return sock.recv(2048), b""
        packet, checked, sender = self._wire.hear(sock)
        return dhcpwire.payload_of(packet, checked), sender

    def _set_alarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.client.wake_at is not None:
            self._timer = self._loop.later(min(max(self.client.wake_at - clock(), 0.0), NAP), self._due)

    def _due(self) -> None:
        self._do(self.client.due(clock()))


class Leases:
    """All clients, one loop."""

    def __init__(self, loop: Loop, wire: Wire, news: News) -> None:
        self._loop, self._wire, self._news = loop, wire, news
        self._holders: dict[str, Holder] = {}

    def deeds(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]]:
        """The control protocol: word -> deed."""
        return {
            "lease": self.lease,
            "release": self.release,
            "state": self.state,
            "held": self.held,
            "watch": self.held,
        }

    def lease(self, said: dict[str, Any]) -> None:
        """Begin to get a lease, or go on with one; an interface that has a client keeps it."""
        ask = msgspec.convert(said["ask"], Ask)
        known = self._holders.get(ask.id)
        if known is not None and known.client.phase is not Phase.ENDED:
            known.ask = replace(ask, lease=known.ask.lease)
            return
        holder = self._holders[ask.id] = Holder(self._loop, self._wire, ask, self._news.tell)
        holder.begin()

    def release(self, said: dict[str, Any]) -> None:
        """Give a lease back; an unknown one is fine."""
        holder = self._holders.pop(str(said["id"]), None)
        if holder is not None:
            holder.end()

    def state(self, said: dict[str, Any]) -> None:
        """These and no others."""
        asks = {str(entry["id"]): entry for entry in said["asks"]}
        for id_ in self._holders.keys() - asks.keys():
            self.release({"id": id_})
        for entry in asks.values():
            self.lease({"ask": entry})

    def held(self, said: dict[str, Any]) -> dict[str, Any]:
        """How every client stands, by id."""
        return {"leases": {id_: holder.told() for id_, holder in self._holders.items()}}


def main(words: Sequence[str], wire: Wire) -> int:
    """``fairlead leases --socket PATH``; exit codes as in ``control.run``."""
    news = News()
    return control.run("leases", words, lambda loop: Leases(loop, wire, news).deeds(), news)
