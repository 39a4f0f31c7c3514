"""Overlays: the parts of overlay networks that are on this host, and what it knows of the other hosts'.

    first container of RED here  -->  path: guard, namespace, bridge, tunnel       last one gone: all of it goes
    an endpoint elsewhere        -->  one entry to reach it, one to answer for it; its names are served

    owner "<network>"            the path
    owner "<network> <vtep>"     that host, and its endpoints: a change costs what that host has there

Rules
    1. What other hosts have is known for every network and remembered in the local
       store; the kernel and the resolver are told only of networks that are here.
    2. An endpoint with addresses that are not its network's to give is known, not believed.
       One with an address or MAC that another is known by waits until that one is gone.
    3. What the kernel refuses is noted all the same: ``healing`` tries again; what the
       resolver cannot be told now, it is told when it is back. One bad entry keeps
       nobody from the rest.
    4. Losing sight of the cluster changes nothing here: traffic goes on.
    5. An encrypted network is entered only where it can be encrypted, guard first (``engine.encryption``).

What it does not do: ask the cluster (``engine.cluster``), make sandboxes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fairlead.core import remotes, serving
from fairlead.core.model import Network, Remote
from fairlead.core.wanted import Plan
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.kernel import Kernel
from fairlead.engine.records import Records
from fairlead.engine.resolverclient import EndpointNames
from fairlead.engine.services import Later, Services
from fairlead.errors import FairleadError, Unavailable
from fairlead.store.base import Store

if TYPE_CHECKING:
    from fairlead.core.keying import Peer
    from fairlead.engine.encryption import Encryption

log = logging.getLogger(__name__)


@runtime_checkable
class Spread(Driver, Protocol):
    """A driver whose networks are on several hosts."""

    def place(self, network: Network) -> str:
        """Name of the network's own namespace."""

    def sealed_port(self, network: Network) -> int:
        """The UDP port of its frames if they must be encrypted, else 0."""

    def path(self, network: Network, facts: Facts) -> Plan: ...

    def remote(self, network: Network, other: Remote, facts: Facts) -> Plan: ...

    def vtep(self, network: Network, address: str, facts: Facts) -> Plan: ...


class Names(Protocol):
    """The resolver (``engine.resolverclient``)."""

    async def set_names(self, *names: EndpointNames) -> None: ...

    async def unname(self, network: str, endpoint: str) -> None: ...

    def adopt(self, sandboxes: Iterable[Any], names: Iterable[EndpointNames]) -> None: ...


class Overlays:
    """``hold`` from the sandboxes, ``learn`` and ``unlearn`` from the cluster."""

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        driver: Spread,
        facts: Facts,
        names: Names,
        encryption: Encryption | None = None,
    ) -> None:
        self.encryption = encryption
        self.services = Services(kernel, names)
        self._records = Records(store, "remotes", Remote)
        self._kernel = kernel
        self._driver = driver
        self._facts = facts
        self._names = names
        self._here: dict[str, Network] = {}
        self._stacks: dict[str, set[str]] = defaultdict(set)
        """network -> the sandboxes on it"""
        self._others: dict[str, dict[str, dict[str, Remote]]] = defaultdict(lambda: defaultdict(dict))
        """network -> VTEP -> endpoint -> what is known of it"""
        self._holders: dict[str, dict[str, str]] = {}
        """network -> address or MAC -> the endpoint that is known by it; of networks on which something changed since
        the start, which is not to pay for all"""
        self._waiting: dict[str, Remote] = {}
        """those that want what another has"""

    async def load(self) -> None:
        if self.encryption:
            await self.encryption.load()
        await self._records.load()
        for other in self._records:
            self._others[other.network][other.vtep][other.id] = other
            if other.part is not None or self.services.listeners:
                self.services.note(other.network, other.id, other.part, *_addresses(other))

    def find(self, id: str) -> Remote | None:
        return self._records.get(id)

    def everything(self) -> Iterable[Remote]:
        return iter(self._records)

    def others(self, network_id: str) -> list[Remote]:
        """The endpoints of other hosts on a network, wherever it is."""
        return [other for host in self._others.get(network_id, {}).values() for other in host.values()]

    def named(self) -> int:
        """How many endpoints of other hosts the resolver serves."""
        told = (network for network in self._here.values() if not network.ingress)
        return sum(len(self._believed(network)) for network in told) + self.services.named

    # -- this host ------------------------------------------------------------------------

    async def hold(self, stack: str, networks: Iterable[Network]) -> None:
        """A sandbox is on exactly these networks; those of other drivers are none of ours.

        Who is cancelled here has told the kernel all the same, and is known to be where he is; the resolver may not be
        told."""
        wanted = {network.id: network for network in networks if network.driver == self._driver.name}
        held = [id for id, stacks in self._stacks.items() if stack in stacks]
        for id, network in wanted.items():
            fresh = id not in self._here
            if fresh:
                self._enter(network)
            self._stacks[id].add(stack)
            if fresh:
                await self._name(*(_named(network, other) for other in self._believed(network)))
            await self.services.enter(network, stack, stack[:12])
        named: list[tuple[str, str]] = []
        gone: list[Network] = []
        for id in [id for id in held if id not in wanted]:
            named += self.services.leave(id, stack)
            self._stacks[id].discard(stack)
            if not self._stacks[id]:
                gone.append(self._leave(id))
        await self.services.unname(named)
        for network in gone:
            for other in self._believed(network):
                if network.id not in self._here:  # else somebody came meanwhile
                    await self._unname(network, other)

    def adopt(self, stack: str, networks: Iterable[Network]) -> None:
        """After a restart: a sandbox that is on these networks; ``Kernel.repair`` makes what is missing."""
        for network in networks:
            if network.driver != self._driver.name:
                continue
            self.services.adopt(network, stack, stack[:12])
            self._stacks[network.id].add(stack)
            self._here[network.id] = network
            self._kernel.adopt(network.id, self._driver.path(network, self._facts), f"network {network.name}")
            for vtep in self._others.get(network.id, {}):
                self._kernel.adopt(*self._host(network, vtep))
            if self.encryption and self._driver.sealed_port(network):
                self.encryption.adopt(network.id, partial(self._peers, network))
            self._names.adopt((), [_named(network, other) for other in self._believed(network)])

    def _enter(self, network: Network) -> None:
        if self._driver.sealed_port(network):
            if self.encryption is None:
                raise Unavailable(f"network {network.name} is encrypted, and there is no cluster to agree on keys with")
            self.encryption.enter(network.id, partial(self._peers, network))
        try:
            self._kernel.want(network.id, self._driver.path(network, self._facts), f"network {network.name}")
        except Exception:
            self._forgo(network)
            raise
        self._here[network.id] = network
        for vtep in self._others.get(network.id, {}):
            self._show(network, vtep)

    def _leave(self, id: str) -> Network:
        network = self._here.pop(id)
        del self._stacks[id]
        for vtep in self._others.get(id, {}):
            self._kernel.drop(f"{id} {vtep}")
        self._kernel.drop(id)
        self._forgo(network)
        return network

    def _forgo(self, network: Network) -> None:
        """It is not here any more."""
        if self.encryption and self._driver.sealed_port(network):
            self.encryption.leave(network.id)

    def _peers(self, network: Network) -> set[Peer]:
        from fairlead.core.keying import Peer  # of encrypted networks alone

        return {Peer(other.node, other.vtep) for other in self._believed(network)}

    async def move(self, encryption: Encryption | None) -> None:
        """Frames arrive elsewhere from now on (``facts.vtep``), and are encrypted otherwise; containers stay."""
        for id in self._here:
            for vtep in self._others.get(id, {}):
                self._kernel.drop(f"{id} {vtep}")
        if self.encryption:
            self.encryption.end()
        self.encryption = encryption
        if encryption:
            await encryption.load()
        for id, network in self._here.items():
            wish = id, self._driver.path(network, self._facts), f"network {network.name}"
            try:
                if encryption and self._driver.sealed_port(network):
                    encryption.enter(id, partial(self._peers, network))
                self._kernel.want(*wish)
            except FairleadError as problem:
                log.warning("%s: %s; it will be tried again", wish[2], problem.message)
                self._kernel.adopt(*wish)
            for vtep in self._others.get(id, {}):
                self._show(network, vtep)

    async def forget(self) -> None:
        """No other host is known any more."""
        for other in list(self._records):
            await self.unlearn(other.id)

    # -- other hosts ----------------------------------------------------------------------

    async def learn(self, other: Remote, later: Later | None = None) -> None:
        """An endpoint of another host, new or changed; on return it can be reached and resolved from here.

        ``later``: as in ``Services.tell``."""
        known = self._records.get(other.id)
        if known == other:
            return
        holders = self._holders_on(other.network)
        rival = next((id for key in _held(other) if (id := holders.get(key, other.id)) != other.id), None)
        if known is not None and (rival or known.vtep != other.vtep or _held(known) != _held(other)):
            await self.unlearn(known.id, moves=not rival and _held(known) == _held(other), later=later)
        if rival and self._records[rival].away:
            await self.unlearn(rival, later=later)
            rival = None
        if rival:
            log.warning("%s on %s has an address or MAC of endpoint %s: it waits", other.name, other.host, rival[:12])
            self._waiting[other.id] = other
            return
        self._waiting.pop(other.id, None)
        await self._records.put(other)
        self._note(other)
        network = self._here.get(other.network)
        if network is not None and remotes.fits(other, network):
            self._show(network, other.vtep)
            await self._name(_named(network, other))
        await self.services.tell(other.network, other.id, other.part, *_addresses(other), later=later)

    async def unlearn(self, id: str, moves: bool = False, later: Later | None = None) -> None:
        """An endpoint of another host is gone; who waited for what it had, has it now. ``moves``: it is back at
        once, at another address of its host, and connections to it go on."""
        self._waiting.pop(id, None)
        other = self._records.get(id)
        if other is None:
            return
        await self.services.tell(other.network, id, None, moves=moves, later=later)
        await self._records.drop(id)
        holders = self._holders_on(other.network)
        for key in _held(other):
            holders.pop(key, None)
        hosts = self._others[other.network]
        hosts[other.vtep].pop(id)
        if not hosts[other.vtep]:
            del hosts[other.vtep]
        network = self._here.get(other.network)
        if network is not None and remotes.fits(other, network):
            self._show(network, other.vtep)
            await self._unname(network, other)
        for waiting in [each for each in self._waiting.values() if each.network == other.network]:
            await self.learn(waiting, later)

    def _note(self, other: Remote) -> None:
        self._others[other.network][other.vtep][other.id] = other
        self._holders_on(other.network).update((key, other.id) for key in _held(other))

    def _holders_on(self, network: str) -> dict[str, str]:
        held = self._holders.get(network)
        if held is None:
            held = self._holders[network] = {key: other.id for other in self.others(network) for key in _held(other)}
        return held

    def _show(self, network: Network, vtep: str) -> None:
        """Tell the kernel what another host has on a network now."""
        if self.encryption and self._driver.sealed_port(network):
            self.encryption.look_again()
        owner, plan, title = self._host(network, vtep)
        try:
            self._kernel.want(owner, plan, title)
        except FairleadError as problem:
            log.warning("%s: %s; it will be tried again", title, problem.message)
            self._kernel.adopt(owner, plan, title)

    async def _name(self, *names: EndpointNames) -> None:
        """Have other hosts' endpoints resolved here, now or when the resolver is back (it is told everything then)."""
        try:
            if names := tuple(entry for entry in names if entry.names):
                await self._names.set_names(*names)
        except FairleadError as problem:
            log.warning("%s on network %s: %s", names[0].container, names[0].name, problem.message)

    async def _unname(self, network: Network, other: Remote) -> None:
        try:
            if not network.ingress:
                await self._names.unname(other.network, other.id)
        except FairleadError as problem:
            log.warning("%s, which is gone: %s", other.name, problem.message)

    def _believed(self, network: Network) -> list[Remote]:
        """Those whose addresses are the network's to give."""
        return [other for other in self.others(network.id) if remotes.fits(other, network)]

    def _host(self, network: Network, vtep: str) -> tuple[str, Plan, str]:
        """Owner, plan and title of one other host on one network; nothing is wanted when it has nothing there."""
        there = self._others.get(network.id, {}).get(vtep, {}).values()
        others = [other for other in there if remotes.fits(other, network)]
        plan = [*self._driver.vtep(network, vtep, self._facts)] if others else []
        for other in others:
            plan.extend(self._driver.remote(network, other, self._facts))
        name = others[0].host if others else vtep
        return f"{network.id} {vtep}", tuple(plan), f"host {name} on network {network.name}"


def _held(other: Remote) -> tuple[str, ...]:
    """What an endpoint alone may have on its network."""
    return other.mac, *filter(None, _addresses(other))


def _addresses(other: Remote) -> tuple[str, str]:
    """Without prefix length."""
    return other.ipv4.partition("/")[0], other.ipv6.partition("/")[0]


def _named(network: Network, other: Remote) -> EndpointNames:
    return EndpointNames(
        network=network.id,
        name=network.name,
        endpoint=other.id,
        names=() if network.ingress else (*other.names, *serving.names(other.part)),
        ipv4=other.ipv4.partition("/")[0],
        ipv6=other.ipv6.partition("/")[0],
        container=other.name,
        ports=other.ports,
    )
