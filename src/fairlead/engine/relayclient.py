"""The engine's side of the relay: which ports are carried by hand, and which are only held.

    open(port, …)   with a target: the relay accepts there and passes everything on to it;
                    without: nobody else gets the port while the kernel's maps carry it
    close(id, …)    either of them ends

As with the resolver, the client remembers what should be and tells everything
to a relay it meets anew. A port that cannot be had is ``Conflict`` with
Docker's words, and is not remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from fairlead.core.written import bracketed
from fairlead.engine import controlclient
from fairlead.engine.controlclient import Afterwards, ControlClient, Line
from fairlead.errors import Conflict

if TYPE_CHECKING:
    from fairlead.engine.leads import Lead


class RelayPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One port of the host, or a row of them. ``target`` empty: only held."""

    id: str
    """of a row's first; it ends with the number, and the others' are made alike"""
    protocol: str
    """tcp or udp; sctp can only be held"""
    address: str
    """of the host: ``::1``, ``0.0.0.0``"""
    port: int
    """0: any, the answer tells which"""
    target: str = ""
    target_port: int = 0
    span: int = 1
    """how many ports in a row; each leads to the port of the target that is as far on"""
    both: bool = False
    """of a TCP port of ``::``: the port of 0.0.0.0 is held as well, by the same socket"""
    container: str = ""
    """where a held port leads to, for people"""
    carries: bool = False
    """a TCP port of a swarm: each connection goes to one of ``leads``, if there is any"""
    leads: tuple[Lead, ...] = ()
    policy: str = ""
    """how one is chosen (``core.serving.POLICIES``)"""

    def each(self) -> list[RelayPort]:
        """The row, one by one."""
        if self.span == 1:
            return [self]
        head = self.id.removesuffix(str(self.port))
        return [
            replace(self, id=f"{head}{self.port + on}", port=self.port + on, target_port=self.target_port + on, span=1)
            for on in range(self.span)
        ]

    def __str__(self) -> str:
        """As Docker names a binding: ``0.0.0.0:8080:172.17.0.2:80/tcp``; of both families, IPv4's."""
        address = "0.0.0.0" if self.both else self.address
        target = self.target or self.container
        return f"{bracketed(address)}:{self.port}:{bracketed(target)}:{self.target_port}/{self.protocol}"


def command(path: str) -> list[str]:
    """The command that runs a relay with its control socket at ``path``."""
    return controlclient.command("relay", path)


class RelayClient:
    """The relay as the engine sees it, and every port it should have."""

    def __init__(
        self,
        path: str,
        start: Callable[[], Awaitable[object]] | None = None,
        lost: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        """``lost(id, reason)``: a port could not be had again by a fresh relay."""
        self._ports: dict[str, RelayPort] = {}
        self._lost = lost
        self._control = ControlClient(path, self._state, self._told, start)
        self.connect = self._control.connect
        self.keep = self._control.keep
        self.close_connection = self._control.close

    def adopt(self, ports: Iterable[RelayPort]) -> None:
        """Note what should be, without telling yet (after a restart, before ``connect``)."""
        self._ports.update((port.id, port) for port in ports)

    async def open(self, *ports: RelayPort, meanwhile: Callable[[], object] | None = None) -> dict[str, int]:
        """Listen on (or hold) ports, all or none, in one round trip; id -> port. ``Conflict`` when one is taken.

        ``meanwhile``: as for ``ControlClient.say``; a thousand ports take the relay longer than us to see to others."""
        if not ports:
            return {}
        self.adopt(ports)
        answer = await self._ask(ports, meanwhile)
        failed = answer["failed"] if answer["ok"] else {ports[0].id: answer.get("error")}
        if failed:
            self._forget(port.id for port in ports)
            id_, why = next(iter(failed.items()))
            port = next(one for port in ports for one in port.each() if one.id == id_)
            raise Conflict(f"failed to bind host port for {port}: {why}")
        chosen: dict[str, int] = answer["ports"]
        return {port.id: port.port for port in ports} | chosen

    async def _ask(self, ports: Sequence[RelayPort], meanwhile: Callable[[], object] | None) -> Line:
        """A relay that an earlier version of us started knows no rows: it refuses them, and is asked for each port."""
        if any(port.span > 1 for port in ports):
            (answer,) = await self._control.say({"do": "take", "ports": ports}, meanwhile=meanwhile, others_first=True)
            if answer["ok"]:
                return answer
        line = {"do": "open", "ports": _singly(ports)}
        (answer,) = await self._control.say(line, meanwhile=meanwhile, others_first=True)
        return answer

    async def close(self, *ids: str) -> None:
        """Stop listening or holding; established connections of these ports end with it."""
        self._forget(ids)
        if ids:
            await self._control.say({"do": "close", "ids": ids})

    def _forget(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            self._ports.pop(id_, None)

    async def statistics(self) -> Line:
        return (await self._control.say({"do": "statistics"}))[0]

    async def held(self) -> set[str] | None:
        """The ports that the relay says it has, by id; None: it is an older one, which does not know the question."""
        answer = (await self._control.say({"do": "held"}))[0]
        return set(answer["ids"]) if answer.get("ok") else None

    async def exit(self) -> None:
        """Make the relay end."""
        await self._control.say({"do": "exit"})
        await self._control.close()

    def _state(self) -> Line:
        return {"do": "state", "ports": _singly(self._ports.values())}

    def _told(self, answer: Line) -> list[Afterwards]:
        if self._lost is None:
            return []
        return [partial(self._lost, id_, reason) for id_, reason in answer["failed"].items()]


def _singly(ports: Iterable[RelayPort]) -> list[RelayPort]:
    return [one for port in ports for one in port.each()]
