"""Published ports: from ``-p 8080:80`` to a container that answers there.

    requests --core.ports.choose--> bindings --relay: hold or listen--> endpoints --> nft elements
    (what was asked)                 (which)    (nobody else has it)                   (the kernel carries it)

Each family's bindings belong to the endpoint that is the container's gateway of
that family. The relay process holds every port, so that no other program can
take it, and *carries* what the kernel cannot: a binding on an IPv6 address of
the host for a container without IPv6, and everything while ``--iptables=false``.

Rules
    1. A port is taken because an endpoint holds it or a program has it. The first
       is asked of the endpoints, the second of the machine (by taking it); there
       is no list of our own that could go stale.
    2. A taken port fails before anything is published, in Docker's words. Where
       the choice was ours (a random port, a range) the next one is tried.
    3. Flows that conntrack remembers for a host port are flushed when its mapping
       goes, and those of UDP also when it comes: a restarted container gets its
       clients back. (A TCP flow that is there by then is another program's.)

What it leaves behind on failure: no binding, no listener.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from fairlead.core import ports
from fairlead.core.container import Container
from fairlead.core.gateway import Candidate
from fairlead.core.model import Endpoint, Network, PortBinding
from fairlead.core.written import family_of
from fairlead.engine.controller import Controller
from fairlead.engine.drivers.base import Facts, Publishing
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.relayclient import RelayClient, RelayPort
from fairlead.engine.sandboxes import Sandboxes, Stack
from fairlead.errors import Conflict, FairleadError
from fairlead.host.base import Host

if TYPE_CHECKING:
    from fairlead.engine.leads import Leads

Bindings = dict[str, tuple[PortBinding, ...]]
"""by id of the endpoint that carries them"""

Row = tuple[int, int, int]
"""ports of the host from, ports of the container from, how many"""

EVERY = ("0.0.0.0", "::")
_BOTH = tuple(("tcp", every) for every in EVERY)
TRIES = 16
"""How often a port of our own choice may turn out to be taken by a program before we give up."""


class Publisher:
    """Bindings of all containers."""

    def __init__(
        self,
        host: Host,
        controller: Controller,
        endpoints: Endpoints,
        sandboxes: Sandboxes,
        relay: RelayClient,
        facts: Facts,
        first: Callable[[], object],
    ) -> None:
        """``first`` is called once, when the relay is needed for the first time: an engine without ports has none."""
        self._host = host
        self._controller = controller
        self._endpoints = endpoints
        self._sandboxes = sandboxes
        self._relay = relay
        self._facts = facts
        self._first: Callable[[], object] | None = first
        self._published = False
        self._reserved: set[tuple[str, str, int]] = set()
        """(protocol, address, port) of this host that is none of a container's"""

    async def publish(self, container: Container, stack: Stack) -> None:
        """Everything this container asked to publish, at its gateways; all or nothing."""
        gateways = self._gateways(stack)
        if not container.ports or not gateways:
            return
        try:
            await self._endpoints.change(stack, await self._take(container, stack, gateways))
        except FairleadError as error:
            await self.withdraw(stack)
            owner = next(iter(gateways.values())).endpoint
            where = f"endpoint {owner.name} ({owner.id})"
            raise FairleadError(
                f"driver failed programming external connectivity on {where}: {error.message}"
            ) from error
        self.flush(stack.endpoints, ("udp",))

    async def withdraw(self, stack: Stack) -> None:
        """No port of this stack is published any more."""
        before = list(stack.endpoints)
        await self._endpoints.publish(stack, {})
        await self.close(before)
        self.flush(before)

    async def close(self, endpoints: Iterable[Endpoint]) -> None:
        """Only the relay's part, for a stack whose kernel objects go anyway."""
        held = [port.id for endpoint in endpoints for port in self.relayed(endpoint)]
        if held:
            await self._relay.close(*held)

    async def moved(self, container: Container, stack: Stack, before: tuple[str, ...]) -> None:
        """The gateways may be others now: publish there instead."""
        if container.ports and self.where(stack) != before:
            await self.withdraw(stack)
            await self.publish(container, stack)

    def where(self, stack: Stack) -> tuple[str, ...]:
        """The endpoints (ids) that published ports of this stack lead to."""
        return tuple(found.endpoint.id for found in self._gateways(stack).values())

    def adopt(self, attached: Iterable[tuple[Network, Endpoint]]) -> None:
        """After a restart of the engine: note what the relay should have; ``resume`` follows when all is noted."""
        for _, endpoint in attached:
            self._relay.adopt(self._relay_ports(endpoint, endpoint.bindings))
            self._published = self._published or bool(endpoint.bindings)

    async def resume(self) -> None:
        """Tell the relay everything that was adopted, in one go."""
        if self._published:
            self._wake_relay()
            await self._relay.connect()

    # -- ports of a swarm -----------------------------------------------------------------------

    async def reserve(
        self, protocol: str, port: int, addresses: Collection[str] = EVERY, carried: Leads | None = None
    ) -> None:
        """A port of these addresses is no container's, nor another program's; ``Conflict`` when it is by now.

        ``carried``: where the relay leads its connections, else the kernel does. Again, with others: they are told.
        """
        if (protocol, next(iter(addresses), ""), port) in self._reserved:
            await self._relay.open(*self._held(protocol, port, addresses, carried))
            return
        rows = [row for endpoint in self._endpoints.everything() for row in endpoint.bindings if row.host_port]
        for binding in rows:
            meets = binding.host_ip in addresses or binding.host_ip in EVERY or addresses == EVERY
            if binding.protocol == protocol and 0 <= port - binding.host_port < binding.span and meets:
                raise Conflict(f"Bind for {binding.host_ip}:{port} failed: port is already allocated")
        self._wake_relay()
        await self._relay.open(*self._held(protocol, port, addresses, carried))
        self._reserved |= {(protocol, address, port) for address in addresses}

    def adopt_reserved(
        self, protocol: str, port: int, addresses: Collection[str] = EVERY, carried: Leads | None = None
    ) -> None:
        """After a restart of the engine: it was, and is."""
        self._relay.adopt(self._held(protocol, port, addresses, carried))
        self._reserved |= {(protocol, address, port) for address in addresses}
        self._published = True

    async def unreserve(
        self, protocol: str, port: int, addresses: Collection[str] = EVERY, carried: Leads | None = None
    ) -> None:
        self._reserved -= {(protocol, address, port) for address in addresses}
        await self._relay.close(*(held.id for held in self._held(protocol, port, addresses, carried)))

    def _held(
        self, protocol: str, port: int, addresses: Collection[str], carried: Leads | None = None
    ) -> list[RelayPort]:
        """One socket holds a TCP port of both families, two carry it."""
        six = self._host_has_ipv6()
        both = protocol == "tcp" and addresses == EVERY and six and carried is None
        here = ["::"] if both else [address for address in addresses if ":" not in address or six]
        return [
            RelayPort(
                id=f"mesh {protocol} {address} {port}", protocol=protocol, address=address, port=port, both=both,
                container="mesh", carries=carried is not None, leads=carried.all if carried else (),
                policy=carried.policy if carried else "",
            )
            for address in here
        ]  # fmt: skip

    def flush(self, endpoints: Iterable[Endpoint], protocols: Collection[str] = ()) -> None:
        """Forget the flows through these endpoints' host ports, those of all protocols where none is named."""
        rows = [row for endpoint in endpoints for row in endpoint.bindings if row.host_port]
        flows = [flow for row in rows if not protocols or row.protocol in protocols for flow in row.places()]
        if flows:
            self._host.forget_flows(flows)

    def relayed(self, endpoint: Endpoint) -> list[RelayPort]:
        """What the relay should have for this endpoint: ports it holds, and (with a target) ports it carries."""
        return [one for row in self._relay_ports(endpoint, endpoint.bindings) for one in row.each()]

    def rehearse(self, container: Container, stack: Stack) -> Bindings:
        """The bindings that ``publish`` would choose now, without taking one; ``Conflict`` when a port is allocated."""
        gateways = self._gateways(stack)
        return self._choose(container, gateways, set()) if container.ports and gateways else {}

    # -- choosing and taking --------------------------------------------------------------------

    async def _take(self, container: Container, stack: Stack, gateways: dict[int, Candidate]) -> list[Endpoint]:
        """Choose bindings and have the relay hold them; the next choice where one of ours was taken by a program.

        Returns the endpoints as they are with them."""
        self._wake_relay()
        refused: set[tuple[str, str, int]] = set()
        for _ in range(TRIES):
            bindings = self._choose(container, gateways, refused)
            try:
                return await self._held_by_relay(stack, bindings)
            except Conflict:
                ours = {place for rows in bindings.values() for row in rows for place in row.places()}
                if all(request.host_first == request.host_last != 0 for request in container.ports):
                    raise
                refused |= ours
        raise Conflict("every host port that was tried is in use by another program")

    async def _held_by_relay(self, stack: Stack, bindings: Bindings) -> list[Endpoint]:
        """The endpoints as they are with these bindings, which the relay has taken; while it does, we look ahead."""
        wanted = [port for e in stack.endpoints for port in self._relay_ports(e, bindings.get(e.id, ()))]
        before, ahead = stack.endpoints, list[Endpoint]()

        def look_ahead() -> None:
            ahead[:] = self._endpoints.foresee(stack, bindings)

        await self._relay.open(*wanted, meanwhile=look_ahead)
        return ahead if ahead and stack.endpoints == before else self._endpoints.foresee(stack, bindings)

    def _choose(
        self, container: Container, gateways: dict[int, Candidate], refused: set[tuple[str, str, int]]
    ) -> Bindings:
        bound = (row for endpoint in self._endpoints.everything() for row in endpoint.bindings)
        taken = refused | self._reserved | {place for row in bound for place in row.places()}
        of4, of6 = self._publishing(gateways, 4), self._publishing(gateways, 6)
        chosen = ports.choose(
            container.ports,
            taken,
            of4.host_ip4,
            of6.host_ip6,
            ipv4=4 in gateways,
            ipv6=6 in gateways or self._can_relay_ipv6(of4),
            mode4=of4.mode4,
            mode6=of6.mode6 if 6 in gateways else "nat",
        )
        bindings: dict[str, list[PortBinding]] = {}
        for binding in chosen:
            if binding.protocol == "sctp" and binding.host_ip == "::" and 6 not in gateways:
                continue  # the relay knows no SCTP, and nobody asked for this address
            family = family_of(binding.host_ip)
            owner = gateways.get(family) or gateways[4 if family == 6 else 6]
            bindings.setdefault(owner.endpoint.id, []).append(binding)
        return {id: tuple(carried) for id, carried in bindings.items()}

    def _wake_relay(self) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            first()

    def _gateways(self, stack: Stack) -> dict[int, Candidate]:
        found = {family: self._sandboxes.gateway(stack, family) for family in (4, 6)}
        return {family: candidate for family, candidate in found.items() if candidate and self._leads_here(candidate)}

    def _leads_here(self, candidate: Candidate) -> bool:
        """Ports are published on the host; a container that is on the LAN itself has them all open there."""
        return self._controller.driver(candidate.network).attachment(candidate.network).through_host

    def _publishing(self, gateways: dict[int, Candidate], family: int) -> Publishing:
        network = (gateways.get(family) or next(iter(gateways.values()))).network
        return self._controller.driver(network).publishing(network)

    def _can_relay_ipv6(self, publishing: Publishing) -> bool:
        """Whether [::]:port may lead to a container that has only IPv4."""
        on_every_address = publishing.host_ip4 == "0.0.0.0" and publishing.mode4 in ports.NAT_MODES
        return self._facts.userland_proxy and on_every_address and self._host_has_ipv6()

    def _host_has_ipv6(self) -> bool:
        return any(":" in address for _, address in self._host.addresses("lo"))

    def _relay_ports(self, endpoint: Endpoint, bindings: Iterable[PortBinding]) -> list[RelayPort]:
        """What the relay does for these bindings: carries those that the kernel cannot, holds the others.

        The same port of every IPv4 and of every IPv6 address is one socket, unless both have to be carried. Ports in a
        row that lead to ports in a row are one wish: a thousand of them are as soon said as one.
        """
        places: defaultdict[tuple[str, str], dict[Row, None]] = defaultdict(dict)
        for binding in bindings:
            if binding.host_port:
                places[binding.protocol, binding.host_ip][binding.host_port, binding.port, binding.span] = None
        # Who asked for both families has rows of one shape in both.
        four, six = (places[place].keys() if place in places else set() for place in _BOTH)
        pairs = four & six if self._ipv4_is_held() else set()
        found: list[RelayPort] = []
        for place, held in places.items():
            together = pairs if place in _BOTH else set()
            found += self._rows(endpoint, *place, [pair for pair in held if pair not in together])
            if together and place[1] == "::":
                found += self._rows(endpoint, *place, [pair for pair in held if pair in together], both=True)
        return found

    def _rows(
        self, endpoint: Endpoint, protocol: str, address: str, held: Iterable[Row], *, both: bool = False
    ) -> Iterator[RelayPort]:
        """Of one protocol and address."""
        target, container = self._way(endpoint, address)
        for port, target_port, span in ports.rows(held):
            yield RelayPort(
                id=f"{endpoint.id[:12]} {protocol} {address} {port}",
                protocol=protocol,
                address=address,
                port=port,
                target=target,
                target_port=target_port,
                span=span,
                both=both,
                container=container,
            )

    def _ipv4_is_held(self) -> bool:
        return self._facts.firewall or not self._facts.userland_proxy

    def _way(self, endpoint: Endpoint, host_ip: str) -> tuple[str, str]:
        """Where the relay carries what comes to this address, "" if it only holds it; and where that leads then."""
        six = ":" in host_ip
        address = endpoint.address6 if six and endpoint.ipv6 else endpoint.address4
        carried = self._facts.userland_proxy and ((six and not endpoint.ipv6) or not self._facts.firewall)
        return (address, "") if carried else ("", address)
