"""Sandboxes: a container's own network stack, as one plan.

    open ---- join ---- join ---- publish ----- ... ---- leave ---- close
      |         |         |          |
      namespace eth0      eth1       ports                   each step: plan(stack) -> kernel.want

A sandbox's plan is a pure function of its endpoints: the namespace, each
endpoint's own plan (asked of its driver), one default route per family
(``core.gateway``), the published ports at the gateways. Every verb changes the
list of endpoints and wants the new plan; the kernel does the difference. So a
connect with a higher gateway priority moves the default route and the published
ports without a line of code about it.

Rules
    1. The list of endpoints changes only after the kernel agreed.
    2. Names are served before ``join`` returns: a container that is started can
       be resolved.
    3. hosts, hostname and resolv.conf are written here (``engine.hostfiles``) and
       are the container's from then on: edited lines are kept, repair leaves them.

What it leaves behind on failure: what it found. What it does not do: choose
addresses or host ports (``engine.endpoints``), or start anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from fairlead.core import mesh
from fairlead.core.addresses import overlap
from fairlead.core.gateway import Candidate, gateway
from fairlead.core.model import Endpoint, Lease, Network, Sandbox
from fairlead.core.protocol import Protocol
from fairlead.core.wanted import Namespace, Plan, Route, Wanted, owned
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.kernel import Kernel
from fairlead.errors import FairleadError, NotFound


class Names(Protocol):
    """The resolver as sandboxes see it (``engine.resolverclient``)."""

    async def serve(self, stack: Stack, meanwhile: Callable[[], None] | None = None) -> None:
        """Serve the names this stack may see, in its namespace.

        ``meanwhile``: what to do between telling and being answered, twice if it is told twice; it raises nothing."""

    async def forget(self, stack: Stack) -> None: ...

    def adopt(self, stack: Stack) -> None:
        """After a restart: note what should be served, without telling yet."""

    async def resume(self) -> None:
        """Tell the resolver everything that was adopted, in one go."""


class Spreading(Protocol):
    """Networks that are on this host only while a sandbox is on them (``engine.overlays``)."""

    async def hold(self, stack: str, networks: Iterable[Network]) -> None:
        """The sandbox is on exactly these networks."""

    def adopt(self, stack: str, networks: Iterable[Network]) -> None: ...


class Resolving(msgspec.Struct, frozen=True):
    """Where names go that are not ours: (address, ``sandbox`` or ``host``) in order, and resolv.conf's other lines."""

    upstreams: tuple[tuple[str, str], ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    given: bool = False
    """the servers were named by the user"""


Attached = tuple[Network, Endpoint]


class Stack(msgspec.Struct):
    """A sandbox at work: what it is, and which endpoints are in it, in the order of their interfaces."""

    sandbox: Sandbox
    title: str
    resolving: Resolving = Resolving()
    lent: Lease | None = None
    """what the LAN said to the endpoint through which this stack reaches the world"""
    attached: list[Attached] = msgspec.field(default_factory=list)
    published: dict[str, tuple[Network, Endpoint, Plan]] = msgspec.field(default_factory=dict)
    """by endpoint: what its ports were found to want of the kernel"""
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    """whoever changes it or takes it down: a task is withdrawn while its container is removed"""

    @property
    def endpoints(self) -> list[Endpoint]:
        return [endpoint for _, endpoint in self.attached]

    @property
    def networks(self) -> list[Network]:
        return [network for network, _ in self.attached]


class Sandboxes:
    """Every network stack of this machine, by sandbox id."""

    def __init__(
        self, kernel: Kernel, drivers: Mapping[str, Driver], facts: Facts, names: Names, overlays: Spreading
    ) -> None:
        self._kernel = kernel
        self._overlays = overlays
        self._drivers = drivers
        self._facts = facts
        self._names = names
        self._stacks: dict[str, Stack] = {}

    def get(self, sandbox_id: str) -> Stack | None:
        return self._stacks.get(sandbox_id)

    async def open(self, sandbox: Sandbox, title: str, resolving: Resolving) -> Stack:
        """A namespace with nothing but ``lo``."""
        stack = Stack(sandbox, title, resolving)
        self._want(stack)
        self._stacks[sandbox.id] = stack
        return stack

    async def close(self, stack: Stack) -> None:
        """Everything of it goes, the namespace last."""
        async with stack.turn:
            self._stacks.pop(stack.sandbox.id, None)
            try:
                self._kernel.drop(stack.sandbox.id)
            finally:
                await self._overlays.hold(stack.sandbox.id, ())
                await self._names.forget(stack)

    async def join(self, stack: Stack, network: Network, endpoint: Endpoint) -> None:
        """The endpoint's interface appears, with addresses, routes, ports and names."""
        if not await self._become(stack, lambda attached: [*attached, (network, endpoint)]):
            raise NotFound(f"{stack.title} runs no more: it cannot be connected to {network.name}")

    async def leave(self, stack: Stack, endpoint: Endpoint) -> None:
        await self._become(stack, lambda attached: [pair for pair in attached if pair[1].id != endpoint.id])

    def foresee(self, stack: Stack, *endpoints: Endpoint) -> None:
        """They will be what ``change`` is told: what it takes to know what they want is done now."""
        networks = {endpoint.id: network for network, endpoint in stack.attached}
        for endpoint in endpoints:
            self._kernel.foresee(self.publishing(stack, networks[endpoint.id], endpoint))

    async def change(self, stack: Stack, *endpoints: Endpoint) -> bool:
        """The same endpoints, otherwise: bindings published or withdrawn, a name changed. False: it is gone."""
        new = {endpoint.id: endpoint for endpoint in endpoints}
        return await self._become(stack, lambda attached: [(net, new.get(old.id, old)) for net, old in attached])

    def adopt(
        self, sandbox: Sandbox, title: str, resolving: Resolving, attached: list[tuple[Network, Endpoint]]
    ) -> Stack:
        """After a restart: note a stack that should still be there; ``resume`` follows when all are noted."""
        stack = self._stacks[sandbox.id] = Stack(sandbox, title, resolving, attached=attached)
        stack.lent = self._lent(stack)
        self._overlays.adopt(sandbox.id, stack.networks)
        if self._has_names(stack):
            self._names.adopt(stack)
        return stack

    async def resume(self) -> None:
        """Names first, then the plans. ``Kernel.repair`` follows."""
        await self._names.resume()
        for stack in self._stacks.values():
            self._kernel.adopt(stack.sandbox.id, self.plan(stack), stack.title)

    async def _become(self, stack: Stack, change: Callable[[list[Attached]], list[Attached]]) -> bool:
        """False: it was taken down meanwhile."""
        async with stack.turn:
            if self._stacks.get(stack.sandbox.id) is not stack:
                return False
            await self._turn(stack, change(stack.attached))
            return True

    async def _turn(self, stack: Stack, attached: list[Attached]) -> None:
        before = stack.networks
        old, stack.attached = stack.attached, attached
        try:
            stack.lent = self._lent(stack)
            await self._overlays.hold(stack.sandbox.id, [*before, *stack.networks])
            await self._make(stack)
            if not self._has_names(stack):
                await self._names.forget(stack)  # it may have left its last network with names: they must go too
            await self._overlays.hold(stack.sandbox.id, stack.networks)
            for id in stack.published.keys() - {endpoint.id for endpoint in stack.endpoints}:
                del stack.published[id]
        except BaseException as error:
            stack.attached = old
            stack.lent = self._lent(stack)
            try:
                self._want(stack)
            except FairleadError as second:
                error.add_note(f"and could not be undone: {second}")
            await self._overlays.hold(stack.sandbox.id, before)
            if self._has_names(stack):
                await self._names.serve(stack)
            raise

    async def _make(self, stack: Stack) -> None:
        """Names and devices as the endpoints say. The resolver is a process of its own: while it learns the names, we
        are in the kernel."""
        if not self._has_names(stack):
            self._want(stack)
            return
        refusals: list[FairleadError] = []

        def meanwhile() -> None:
            refusals.clear()
            try:
                self._want(stack)
            except FairleadError as refusal:
                refusals.append(refusal)

        await self._names.serve(stack, meanwhile)
        if refusals:
            raise refusals[0]

    def _want(self, stack: Stack) -> None:
        self._kernel.want(stack.sandbox.id, self.plan(stack), stack.title)

    # -- the plan -----------------------------------------------------------------------

    def plan(self, stack: Stack) -> Plan:
        """Everything this stack should have, in the order of making."""
        plan: list[Wanted] = []
        if stack.sandbox.mode == "own":
            plan.append(Namespace(name=stack.sandbox.namespace, why="the container's own network stack"))
        for network, endpoint in stack.attached:
            plan.extend(self._drivers[network.driver].endpoint(network, endpoint, self._facts))
            if network.ingress:
                plan.extend(mesh.inlet(network, endpoint, self._answers(stack)))
        plan.extend(self._routes(stack))
        for network, endpoint in stack.attached:
            plan.extend(self.publishing(stack, network, endpoint))
        return tuple(plan)

    def publishing(self, stack: Stack, network: Network, endpoint: Endpoint) -> Plan:
        """What leads an endpoint's ports to it. Found once, for they may be a thousand."""
        if not endpoint.bindings:
            stack.published.pop(endpoint.id, None)
            return ()
        known = stack.published.get(endpoint.id)
        if known is not None and known[0] is network and known[1] is endpoint:
            return known[2]
        found = owned(self._drivers[network.driver].publish(network, endpoint, self._facts), stack.title)
        stack.published[endpoint.id] = network, endpoint, found
        return found

    def gateway(self, stack: Stack, family: int) -> Candidate | None:
        """The endpoint through which this stack reaches the world, and is reached at published ports."""
        return gateway(self._candidates(stack), family)

    def _answers(self, stack: Stack) -> tuple[str, str]:
        """Where its programs answer strangers from."""
        four, six = self.gateway(stack, 4), self.gateway(stack, 6)
        return four.endpoint.address4 if four else "", six.endpoint.address6 if six else ""

    def _candidates(self, stack: Stack) -> list[Candidate]:
        return [
            Candidate(endpoint, network, self._drivers[network.driver].attachment(network).default_route)
            for network, endpoint in stack.attached
        ]

    def _lent(self, stack: Stack) -> Lease | None:
        found = self.gateway(stack, 4)
        return found.endpoint.lease if found else None

    def _routes(self, stack: Stack) -> list[Route]:
        routes = list(_lent_routes(stack))
        for family, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
            found = self.gateway(stack, family)
            if found is None:
                continue
            via = found.endpoint.gateway4 if family == 4 else found.endpoint.gateway6
            if via or not self._drivers[found.network.driver].attachment(found.network).gateway_needed:
                why = f"{found.network.name} leads to the world"
                ns, link = stack.sandbox.namespace, found.endpoint.interface
                routes.append(Route(ns=ns, destination=everything, gateway=via, link=link, why=why))
        return routes

    def _has_names(self, stack: Stack) -> bool:
        return any(self._drivers[network.driver].attachment(network).names for network, _ in stack.attached)


def _lent_routes(stack: Stack) -> Iterator[Route]:
    """What LANs said about ways to elsewhere. Nobody's word leads a container's packets for *another* network astray:
    what overlaps a subnet of another network of this stack is not believed."""
    seen: set[str] = set()
    for network, endpoint in stack.attached:
        lease = endpoint.lease
        if lease is None or network.internal:
            continue
        others = [other for other in stack.endpoints if other.id != endpoint.id]
        foreign = [address for other in others for address in (other.ipv4, other.ipv6) if address]
        for prefix, via in lease.routes:
            if prefix not in seen and not any(overlap(prefix, address) for address in foreign):
                seen.add(prefix)
                ns, link = stack.sandbox.namespace, endpoint.interface
                why = f"the DHCP server of {network.name} says so"
                yield Route(ns=ns, destination=prefix, gateway=via, link=link, why=why)
