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
    5. A held TCP port is bound without listening and without SO_REUSEADDR; only
       where a closing connection of before is in the way, with it.
    6. One socket may have a port of both families ("both"). Its IPv4 half is held:
       a client that comes by it is sent away with a reset, as from a port without
       a listener. (A thousand ports are a thousand sockets then, not two.)

What it leaves behind on failure: nothing; a port that cannot be bound is
answered with the kernel's words.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
SCTP = 132
_KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, SCTP)}

Asked = tuple[str, str, int, tuple[str, int], bool, bool]
"""What makes it another listener: protocol, address, port, target, both, carries."""


class Port:
    """One port of ours: held, or with those who serve it."""

    __slots__ = ("address", "asked", "both", "carries", "family", "port", "protocol", "serving", "sock", "target")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.protocol, self.address, self.port, self.target, self.both, self.carries = asked
        self.family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        if self.protocol not in _KINDS or not 0 <= self.port < 65536:
            raise Invalid(f"bad port {self.port}/{self.protocol}")
        if self.carries and self.protocol != "tcp":
            raise Invalid(f"{self.port}/{self.protocol} cannot be carried")
        if self.both and (self.protocol, self.address) != ("tcp", "::"):
            raise Invalid(f"{self.port}/{self.protocol} of {self.address} has no second family")
        self.sock: socket.socket | None = None
        self.serving: Splices | Flows | None = None

    def bound(self) -> int:
        return self.port or int(self.sock.getsockname()[1]) if self.sock is not None else self.port


def _asked(said: dict[str, Any]) -> Asked:
    get = said.get
    target = str(get("target") or ""), int(get("target_port") or 0)
    return (
        str(said["protocol"]), str(said["address"]), int(said["port"]), target, bool(get("both")), bool(get("carries"))
    )  # fmt: skip


def _leads(said: dict[str, Any]) -> Leads:
    return Leads([Lead(*words) for words in said.get("leads") or ()], str(said.get("policy") or ""))


class Relay:
    """All ports, one loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ports: dict[str, Port] = {}

    def deeds(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]]:
        """The control protocol: word -> deed."""
        return {
            "open": self.open,
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
            self.close({"ids": [entry["id"] for entry in said["ports"]]})
        return answer

    def close(self, said: dict[str, Any]) -> None:
        """Give ports up; unknown ones are fine."""
        for id_ in said["ids"]:
            port = self._ports.pop(id_, None)
            if port is None:
                continue
            if port.serving is not None and not port.carries:
                port.serving.close()
            if port.sock is not None:
                self._loop.close(port.sock)

    def state(self, said: dict[str, Any]) -> dict[str, Any]:
        """Replace everything; what cannot be had is told in ``failed``."""
        entries = said.get("ports") or ()
        wanted = {str(entry["id"]) for entry in entries}
        self.close({"ids": [id_ for id_ in self._ports if id_ not in wanted]})
        return self._have(entries)

    def _have(self, entries: Iterable[dict[str, Any]], all_or_none: bool = False) -> dict[str, Any]:
        """Ports had, by id -> number; refused, by id -> reason. With ``all_or_none`` the first refusal is the end."""
        ports: dict[str, int] = {}
        failed: dict[str, str] = {}
        for entry in entries:
            try:
                ports[entry["id"]] = self._one(entry)
            except OSError as error:
                failed[entry["id"]] = reason(error)
            except FairleadError as error:
                failed[entry["id"]] = error.message
            if failed and all_or_none:
                break
        return {"ports": ports, "failed": failed}

    def _one(self, said: dict[str, Any]) -> int:
        """Have a port: serve it when it leads somewhere, else hold it; its number."""
        id_, asked = str(said["id"]), _asked(said)
        known = self._ports.get(id_)
        if known is not None:
            if known.asked == asked:
                if isinstance(known.serving, Splices) and known.carries:
                    known.serving.leads = _leads(said)
                return known.bound()
            self.close({"ids": [id_]})
        port = Port(asked)
        if port.carries:
            self._serve(port, _leads(said))
        elif port.target[0]:
            self._serve(port, Lead(*port.target))
        else:
            port.sock = _held(port)
        self._ports[id_] = port
        return port.bound()

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

    def _serve(self, port: Port, leads: Lead | Leads) -> None:
        if port.protocol == "sctp":
            raise Invalid("sctp cannot be relayed")
        sock = _socket(port)
        try:
            if port.protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.address, port.port))
            if port.protocol == "tcp":
                sock.listen(BACKLOG)
                port.serving = splices = Splices(self._loop, leads)
                self._loop.watch(sock, lambda: self._accept(port, sock, splices))
            else:
                port.serving = flows = Flows(self._loop, sock, port.target)
                self._loop.watch(sock, flows.ready)
        except BaseException:
            sock.close()
            raise
        port.sock = sock

    def _accept(self, port: Port, sock: socket.socket, splices: Splices) -> None:
        for _ in range(16):
            try:
                client, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # No room for more: waiting for some beats asking the kernel for ever.
                    self._loop.unwatch(sock)
                    self._loop.later(_PAUSE, lambda: self._listen_again(port, sock, splices))
                return
            if port.both and address[0].startswith(_MAPPED):
                cut(client)
            else:
                splices.add(client)

    def _listen_again(self, port: Port, sock: socket.socket, splices: Splices) -> None:
        if port.sock is sock and sock.fileno() >= 0:
            self._loop.watch(sock, lambda: self._accept(port, sock, splices))


def _socket(port: Port) -> socket.socket:
    kind, protocol = _KINDS[port.protocol]
    sock = socket.socket(port.family, kind | socket.SOCK_NONBLOCK, protocol)
    if port.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not port.both)
    # An address that the host does not have yet may be published all the same, as dockerd allows.
    if port.address not in _EVERY:
        level, option = _FREEBIND[port.family]
        sock.setsockopt(level, option, 1)
    return sock


def _held(port: Port) -> socket.socket | None:
    """A bound socket that does nothing; None where the kernel does not know the protocol at all."""
    try:
        sock = _socket(port)
    except OSError:
        if port.protocol == "sctp":
            return None
        raise
    try:
        if port.protocol == "udp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        try:
            sock.bind((port.address, port.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port.protocol == "udp":
                raise
            # Perhaps only connections on their way out (TIME_WAIT) are in the way; a listener still refuses this.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.address, port.port))
    except BaseException:
        sock.close()
        raise
    return sock


def main(words: Sequence[str]) -> int:
    """``fairlead relay --socket PATH``; exit codes as in ``control.run``."""
    return control.run("relay", words, lambda loop: Relay(loop).deeds())
