"""Endpoints: who holds which address, name and port; the records behind every attachment.

    attach(container, stack, network, settings)
        choose addresses and MAC   (core.addresses: pure)
        remember the endpoint      (store: the intent, before the first deed)
        join the sandbox           (engine.sandboxes -> kernel)
        borrow an address          (engine.ipam: only where the LAN has the say, --ipam-driver)
        tell

An address is taken because an endpoint or a stopped container's ``--ip`` holds
it: there is no second list of leases that could disagree. So nothing can leak:
what has no endpoint has no address.

Rules
    1. Freed addresses are given out again lowest first; a container that is
       started again gets its old one back while it is free.
    2. Static addresses of stopped containers stay theirs.
    3. MACs are stable, unless asked for: where packets pass the host, an address of a network has one, whoever holds
       it, so that no neighbour remembers another; on a LAN a container has one, which its router may know.
    4. A failed attach leaves no record, no address, no device.
    5. A lent address goes back when its endpoint goes, also when its container only stops
       (docs/why/dhcp.md); a container that is started again asks for the one it had.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec

from fairlead.core import addresses, ports
from fairlead.core.container import Container
from fairlead.core.model import Endpoint, EndpointSettings, Lease, Network, PortBinding
from fairlead.core.ownoptions import MAC_FROM_ADDRESS
from fairlead.core.written import family_of
from fairlead.engine import ipam
from fairlead.engine.drivers.base import Driver
from fairlead.engine.events import Events
from fairlead.engine.members import Members
from fairlead.engine.records import Records
from fairlead.engine.sandboxes import Sandboxes, Stack
from fairlead.engine.services import Services
from fairlead.engine.sharing import Sharing
from fairlead.errors import FairleadError, Forbidden, Unavailable
from fairlead.store.base import Store

log = logging.getLogger(__name__)


MOST_SERVICES = 256
"""Ports of one endpoint that are told as SRV records: an image that exposes thousands means none in particular."""


class Endpoints:
    """All live endpoints, and the addresses promised to stopped containers."""

    def __init__(
        self,
        store: Store,
        sandboxes: Sandboxes,
        drivers: dict[str, Driver],
        events: Events,
        new_id: Callable[[], str],
        lenders: Mapping[str, ipam.Lender] | None = None,
        sharing: Sharing | None = None,
        services: Services | None = None,
    ) -> None:
        self._records = Records(store, "endpoints", Endpoint)
        self._sandboxes = sandboxes
        self._drivers = drivers
        self._events = events
        self._new_id = new_id
        self._lenders = lenders or {}
        self._sharing = sharing or Sharing()
        self._services = services
        self._members = Members()
        self._promised: dict[str, dict[str, EndpointSettings]] = defaultdict(dict)
        """network name or id as asked -> container id -> settings with static addresses"""
        self._last: dict[tuple[str, str], Endpoint] = {}
        """(container, network) -> the endpoint it had when it was stopped"""

    async def load(self) -> None:
        await self._records.load()
        for endpoint in self._records:
            self._members.put(endpoint)
            if self._services:
                part = endpoint.settings.part
                self._services.note(endpoint.network, endpoint.id, part, endpoint.address4, endpoint.address6)

    # -- asking -------------------------------------------------------------------------

    def of_network(self, network_id: str) -> list[Endpoint]:
        return self._members.of(network_id)

    def of_sandbox(self, sandbox_id: str) -> list[Endpoint]:
        stack = self._sandboxes.get(sandbox_id)
        return stack.endpoints if stack else []

    def holder(self, endpoint_id: str) -> str:
        """Id of its container, "" when there is no such endpoint."""
        endpoint = self._records.get(endpoint_id)
        return endpoint.container if endpoint else ""

    def everything(self) -> Iterable[Endpoint]:
        return iter(self._records)

    # -- promises to stopped containers ----------------------------------------------------

    def promise(self, container: Container) -> None:
        """Static addresses of this container are taken, whether it runs or not; a task has its from the swarm."""
        for network, settings in container.networks.items():
            if (settings.ipv4 or settings.ipv6) and settings.part is None:
                self._promised[network][container.id] = settings

    def release_promises(self, container_id: str, network: str = "") -> None:
        """Of one network (by the name asked for), or of all: then the container is gone, and its last addresses too."""
        for name in [network] if network else list(self._promised):
            promised = self._promised.get(name, {})
            promised.pop(container_id, None)
            if not promised:
                self._promised.pop(name, None)
        for key in [key for key in self._last if key[0] == container_id and not network]:
            del self._last[key]

    # -- attaching -------------------------------------------------------------------------

    async def attach(
        self,
        container: Container,
        stack: Stack,
        network: Network,
        settings: EndpointSettings,
        *,
        way_out: bool = False,
    ) -> Endpoint:
        """One more interface for a running (or starting) container; all or nothing."""
        endpoint = self.rehearse(container, stack, network, settings, way_out=way_out)
        endpoint = await self._claim(container, network, endpoint)
        # Taken in memory before anything waits: whoever chooses next must see it.
        self._members.put(endpoint)
        try:
            await self._records.put(endpoint)
            await self._sandboxes.join(stack, network, endpoint)
            endpoint = await self._borrow(container, stack, network, endpoint)
        except BaseException:
            await self._forget(endpoint)
            raise
        await self._tell_others(endpoint)
        self._tell("connect", network, endpoint)
        return endpoint

    async def detach(self, stack: Stack, network: Network, endpoint: Endpoint, *, sticky: bool = False) -> None:
        """The interface goes. ``sticky``: the container will be back for the same address."""
        await self.give_back(endpoint)
        await self._sandboxes.leave(stack, endpoint)
        await self.forget(network, endpoint, sticky=sticky)

    async def forget(self, network: Network | None, endpoint: Endpoint, *, sticky: bool = False) -> None:
        """Only the record: its sandbox is gone already."""
        await self._forget(endpoint)
        if sticky:
            self._last[endpoint.container, endpoint.network] = endpoint
        else:
            self._last.pop((endpoint.container, endpoint.network), None)
        if network is not None:
            self._tell("disconnect", network, endpoint)

    async def publish(self, stack: Stack, bindings: dict[str, tuple[PortBinding, ...]]) -> None:
        """From now on these endpoints (by id) carry these published ports, and no others of the sandbox do."""
        await self.change(stack, self.foresee(stack, bindings))

    def foresee(self, stack: Stack, bindings: dict[str, tuple[PortBinding, ...]]) -> list[Endpoint]:
        """The endpoints that are others with these ports: for ``change``, if it comes to that."""
        changed = [
            msgspec.structs.replace(endpoint, bindings=bindings.get(endpoint.id, ()))
            for endpoint in stack.endpoints
            if endpoint.bindings != bindings.get(endpoint.id, ())
        ]
        self._sandboxes.foresee(stack, *changed)
        return changed

    async def change(self, stack: Stack, changed: list[Endpoint]) -> None:
        """New values of endpoints of one stack: kernel first, then the records; nothing if it is gone."""
        if changed and not await self._sandboxes.change(stack, *changed):
            return
        for endpoint in changed:
            await self._records.put(endpoint)
            self._members.put(endpoint)
            await self._tell_others(endpoint)

    async def stand(self, endpoint: Endpoint) -> None:
        """An endpoint of no container, which others shall know."""
        await self._records.put(endpoint)
        self._members.put(endpoint)
        await self._tell_others(endpoint)

    async def unstand(self, endpoint: Endpoint) -> None:
        await self._forget(endpoint)

    # -- addresses of the cluster ---------------------------------------------------------------

    async def _claim(self, container: Container, network: Network, endpoint: Endpoint) -> Endpoint:
        """The endpoint with addresses that no other host has either; as it is on networks of this host alone."""
        if not network.shared:
            return endpoint
        cluster = self._sharing.cluster
        if cluster is None or cluster.scope != network.scope:
            if network.scope == "swarm":
                raise Unavailable(f"network {network.name} belongs to a swarm, and this node is in none")
            raise Unavailable(f"network {network.name} belongs to a cluster: start the engine with its --cluster-store")
        here = self._taken(container, network, 4) | self._taken(container, network, 6)
        endpoint = await cluster.lease(network, endpoint, here)
        return msgspec.structs.replace(endpoint, mac=endpoint.settings.mac or _mac(container, network, endpoint.ipv4))

    async def _tell_others(self, endpoint: Endpoint, *, gone: bool = False) -> None:
        """Other hosts, and other sandboxes of this one if it is a task of a service."""
        if self._services:
            part = None if gone else endpoint.settings.part
            await self._services.tell(endpoint.network, endpoint.id, part, endpoint.address4, endpoint.address6)
        if self._sharing.cluster is not None:
            self._sharing.cluster.changed(endpoint)

    # -- lent addresses -----------------------------------------------------------------------

    async def _borrow(self, container: Container, stack: Stack, network: Network, endpoint: Endpoint) -> Endpoint:
        """The endpoint with its lent address; as it is where addresses are ours to choose."""
        lender = self._lenders.get(network.ipam.driver)
        if lender is None:
            return endpoint
        try:
            lease = await lender.lease(self._holder(container, stack, network, endpoint))
            endpoint = _with_lease(network, endpoint, lease)
            await self.change(stack, [endpoint])
        except BaseException as error:
            await self.give_back(endpoint)
            await self._sandboxes.leave(stack, endpoint)
            if isinstance(error, Unavailable):
                raise FairleadError(f"failed to set up container networking: {error.message}") from error
            raise
        return endpoint

    def _holder(self, container: Container, stack: Stack, network: Network, endpoint: Endpoint) -> ipam.Holder:
        own = container.config.hostname
        last = self._last.get((container.id, network.id))
        return ipam.Holder(
            network=network,
            endpoint=endpoint,
            namespace=stack.sandbox.path,
            hostname=container.name if own in ("", container.short) else own,
            prefer=last.address4 if last else "",
        )

    async def give_back(self, *endpoints: Endpoint) -> None:
        """Their interfaces are about to go."""
        for endpoint in endpoints:
            for lender in self._lenders.values():
                await lender.release(endpoint.id)

    def adopt_lease(self, container: Container, stack: Stack, network: Network, endpoint: Endpoint) -> None:
        """After a restart: it goes on holding what it held."""
        lender = self._lenders.get(network.ipam.driver)
        if lender is not None:
            lender.adopt(self._holder(container, stack, network, endpoint))

    async def lease_changed(self, stack: Stack, network: Network, endpoint: Endpoint, why: str) -> None:
        """The lender has news: another address, none any more, or the same one for longer (which is no event)."""
        lease = self._lenders[network.ipam.driver].current(endpoint.id)
        before, endpoint = endpoint, _with_lease(network, endpoint, lease)
        await self.change(stack, [endpoint])
        if before.ipv4 == endpoint.ipv4:
            return
        now, was = endpoint.ipv4 or "no address", before.ipv4 or "none"
        log.warning("container %s has %s on %s (before: %s) %s", endpoint.name, now, network.name, was, why)
        said = {"name": endpoint.name, "network": network.name, "before": before.ipv4, "address": endpoint.ipv4}
        self._events.publish("fairlead", "lease" if lease else "lease_lost", endpoint.container, {**said, "why": why})

    # -- choosing ---------------------------------------------------------------------------

    def rehearse(
        self,
        container: Container,
        stack: Stack,
        network: Network,
        settings: EndpointSettings,
        *,
        way_out: bool = False,
    ) -> Endpoint:
        """The endpoint that ``attach`` would make now; nothing is taken or remembered."""
        self._refuse_double(container, stack, network)
        endpoint = self._choose(container, stack, network, settings)
        return _unnamed(endpoint) if way_out else endpoint

    def _choose(self, container: Container, stack: Stack, network: Network, settings: EndpointSettings) -> Endpoint:
        attachment = self._drivers[network.driver].attachment(network)
        mac = self._mac_address(container, network, settings)
        last, given = self._last.get((container.id, network.id)), settings.part is not None and network.shared
        ipv4, gateway4 = self._address(container, network, settings.ipv4, last.address4 if last else "", 4, given)
        ipv6, gateway6 = self._address(container, network, settings.ipv6, last.address6 if last else "", 6, given)
        id, holder = self._new_id(), (ipv4 or ipv6) if attachment.through_host else ""
        return Endpoint(
            id=id,
            network=network.id,
            container=container.id,
            sandbox=stack.sandbox.id,
            name=container.name,
            interface=self._interface(stack, attachment.interface_prefix, settings),
            device=f"veth{id[:7]}" if attachment.through_host else "",
            ipv4=ipv4,
            ipv6=ipv6,
            gateway4=gateway4,
            gateway6=gateway6,
            mac=mac or (_mac(container, network, ipv4, holder) if attachment.own_mac else ""),
            names=names_of(container, settings) if attachment.names else (),
            ports=_offered(container) if attachment.names else (),
            settings=settings,
        )

    def _mac_address(self, container: Container, network: Network, settings: EndpointSettings) -> str:
        """The wish, "" for none; refused where endpoints have no MAC of their own."""
        if settings.mac and not self._drivers[network.driver].attachment(network).own_mac:
            raise FairleadError(
                f"failed to set up container networking: failed to create endpoint {container.name} on network"
                f" {network.name}: {network.driver} interfaces do not support custom mac address assignment"
            )
        return settings.mac

    def _address(
        self, container: Container, network: Network, wish: str, prefer: str, family: int, leased: bool
    ) -> tuple[str, str]:
        """(address/prefix, gateway) of one family, ("", "") when the network has none of it.

        ``leased``: the wish is from whoever gives the network's addresses.
        """
        pools = [pool for pool in network.ipam.config if family_of(pool.subnet) == family]
        if not pools or (leased and not wish):
            return "", ""
        taken = set() if leased else self._taken_elsewhere(container, network, family)
        held = frozenset() if leased else self._members.numbers(network.id, family)
        address, pool = addresses.lease(pools, taken, wish, prefer, f"{network.name} ({network.id})", held)
        return f"{address}/{pool.subnet.partition('/')[2]}", "" if network.internal else addresses.gateway_of(pool)

    def _taken(self, container: Container, network: Network, family: int) -> set[str]:
        return {*self._members.addresses(network.id, family), *self._taken_elsewhere(container, network, family)}

    def _taken_elsewhere(self, container: Container, network: Network, family: int) -> set[str]:
        """What endpoints of other hosts have, and what was promised to other containers."""
        taken: set[str] = set()
        for other in self._sharing.cluster.others(network.id) if self._sharing.cluster else ():
            taken.add((other.ipv4 if family == 4 else other.ipv6).partition("/")[0])
        for name in (network.name, network.id):
            for owner, settings in self._promised.get(name, {}).items():
                if owner != container.id:
                    taken.add(settings.ipv4 if family == 4 else settings.ipv6)
        return taken - {""}

    def _interface(self, stack: Stack, prefix: str, settings: EndpointSettings) -> str:
        wish = settings.driver_opts.get("com.docker.network.endpoint.ifname", "")
        used = {endpoint.interface for endpoint in stack.endpoints}
        if wish:
            if wish in used:
                raise Forbidden(f"interface name {wish} is already in use in this container; choose another")
            return wish
        return next(name for number in range(len(used) + 1) if (name := f"{prefix}{number}") not in used)

    # -- inside ---------------------------------------------------------------------------------

    def _refuse_double(self, container: Container, stack: Stack, network: Network) -> None:
        if any(endpoint.network == network.id for endpoint in stack.endpoints):
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")

    async def _forget(self, endpoint: Endpoint) -> None:
        await self._records.drop(endpoint.id)
        self._members.drop(endpoint)
        await self._tell_others(endpoint, gone=True)

    def _tell(self, action: str, network: Network, endpoint: Endpoint) -> None:
        attributes = {"container": endpoint.container, "name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes)


def _unnamed(endpoint: Endpoint) -> Endpoint:
    """Nobody is to find it by a name: it is there for the way out only."""
    return msgspec.structs.replace(endpoint, name=f"gateway_{endpoint.sandbox[:12]}", names=(), ports=(), way_out=True)


def _with_lease(network: Network, endpoint: Endpoint, lease: Lease | None) -> Endpoint:
    gateway = lease.gateway if lease and not network.internal else ""
    return msgspec.structs.replace(endpoint, ipv4=lease.address if lease else "", gateway4=gateway, lease=lease)


def names_of(container: Container, settings: EndpointSettings) -> tuple[str, ...]:
    """What resolves to a container on a user network: name, aliases, short id, host name; each once, in that order."""
    names = (container.name, *settings.aliases, container.short, container.config.hostname)
    return tuple(dict.fromkeys(name for name in names if name))


def _offered(container: Container) -> tuple[str, ...]:
    exposed = {pair for spec in container.config.exposed_ports or {} for pair in ports.exposed_ports(spec)}
    published = {(one.port, one.protocol) for row in container.ports for one in row.each()}
    return tuple(f"{port}/{protocol}" for port, protocol in sorted(exposed | published)[:MOST_SERVICES])


def _mac(container: Container, network: Network, ipv4: str, holder: str = "") -> str:
    """``holder``: the address whose MAC it is, rather than the container's."""
    asked = network.options.get(MAC_FROM_ADDRESS, "").lower() in ("1", "true")
    if (asked or network.shared) and ipv4:
        return addresses.mac_from_address(ipv4.partition("/")[0])
    return addresses.mac_from_dice(hashlib.sha256(f"{holder or container.id} {network.id}".encode()).digest())
