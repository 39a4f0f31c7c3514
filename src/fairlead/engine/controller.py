"""Controller: networks, from the wish to the bridge and back.

    create:  check (names, driver's options) -> pools (core.addresses) -> remember -> kernel.want
    remove:  nobody on it? -> kernel.drop -> forget

Rules
    1. Everything is checked before anything is made; a refused network leaves
       nothing, not even its address pool: pools *are* the networks' records.
    2. ``bridge``, ``host`` and ``none`` are made anew from the settings at every
       start, under the id they had, and are never removed.
    3. A reference is a full id, a name, or an unambiguous start of an id, in
       that order.

What it does not do: attach containers (``engine.endpoints``), nor know what a
bridge is (``engine.drivers``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core import addresses, ownoptions, parents
from fairlead.core.model import Endpoint, Ipam, Network, NetworkRequest, Remote
from fairlead.core.wanted import Plan
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.events import Events
from fairlead.engine.kernel import Kernel
from fairlead.engine.machine import Machine
from fairlead.engine.overlays import Spread
from fairlead.engine.records import Records
from fairlead.engine.sharing import Sharing
from fairlead.engine.swarm import NO_MANAGER, NOT_A_MANAGER
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound
from fairlead.host.base import Host
from fairlead.store.base import Store

if TYPE_CHECKING:
    from fairlead.engine.cluster import Cluster
    from fairlead.engine.ipam import Lender

log = logging.getLogger(__name__)

SHARED_POOLS = (addresses.AddressPool("10.0.0.0/8", 24),)
"""Where chosen subnets of networks over many hosts come from: hosts' own networks are elsewhere."""
PREDEFINED = ("bridge", "host", "none")


class Controller:
    """All networks of this machine."""

    def __init__(
        self,
        store: Store,
        host: Host,
        kernel: Kernel,
        machine: Machine,
        drivers: Mapping[str, Driver],
        facts: Facts,
        endpoints: Endpoints,
        events: Events,
        pools: addresses.PoolPlan,
        now: Callable[[], str],
        new_id: Callable[[], str],
        lenders: Mapping[str, Lender] | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._records = Records(store, "networks", Network)
        self._host = host
        self._kernel = kernel
        self._machine = machine
        self._drivers = drivers
        self._facts = facts
        self._endpoints = endpoints
        self._events = events
        self._pools = pools
        self._now = now
        self._new_id = new_id
        self._lenders = lenders or {}
        self._sharing = sharing or Sharing()

    async def load(self) -> None:
        await self._records.load()

    # -- asking ---------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        return list(self._records)

    def network(self, ref: str) -> Network:
        """By id, name, or start of an id; ``NotFound``, or ``Invalid`` when several are meant."""
        exact = self._records.get(ref)
        if exact is not None:
            return exact
        named = [network for network in self._records if network.name == ref]
        found, by = (named, "name") if named else (self._records.starting_with(ref), "ID prefix")
        if not found:
            raise NotFound(f"network {ref} not found")
        if len(found) > 1:
            raise Invalid(f"network {ref} is ambiguous ({len(found)} matches found based on {by})")
        return found[0]

    def endpoints(self, network_id: str) -> list[Endpoint]:
        return self._endpoints.of_network(network_id)

    def elsewhere(self, network_id: str) -> list[Remote]:
        """The endpoints that other hosts have on a network."""
        return self._sharing.cluster.others(network_id) if self._sharing.cluster else []

    async def strike(self, network: Network, ref: str) -> None:
        """Take an endpoint that another, dead host has off a network of the cluster; ``NotFound``."""
        if self._sharing.scope() != "global" or network.scope != "global":
            raise NotFound(f"endpoint {ref} not found")
        await self._store_cluster().strike(network, ref)

    def _store_cluster(self) -> Cluster:
        """The one of ``--cluster-store``: its networks are any host's to make."""
        if self._sharing.cluster is None or self._sharing.scope() != "global":
            raise Forbidden(self._sharing.lacks or NOT_A_MANAGER)
        return self._sharing.cluster

    def driver(self, network: Network) -> Driver:
        return self._drivers[network.driver]

    def device(self, network: Network) -> str:
        return "" if network.config_only else self._drivers[network.driver].device(network)

    # -- create ---------------------------------------------------------------------------

    async def create(self, request: NetworkRequest) -> Network:
        """Make a network of what was asked; raises in Docker's words and changes nothing."""
        if self._sharing.scope() == "global" and self._is_shared(request):
            network = await self._store_cluster().found(lambda others: self.settle(request, others))
        else:
            network = self.settle(request)
        await self._bring_up(network)
        self._events.publish("network", "create", network.id, {"name": network.name, "type": network.driver})
        return network

    def settle(self, request: NetworkRequest, elsewhere: Iterable[Network] = (), of: Network | None = None) -> Network:
        """The network that ``create`` would make of this now, every check passed and nothing made.

        ``elsewhere``: networks of the cluster that this host may not know yet. ``of``: what it is in a swarm.
        """
        self._check_name(request, elsewhere)
        check_config_only(request)
        request = self._with_defaults(request, own=of is None)
        self._check_kind(request)
        if not request.config_only:
            self._drivers[request.driver].check(request, self._facts)
            parents.check(request, self._records, self._host.link_exists)
        network = self._settle(request, elsewhere, of)
        self._check_device(network)
        return network

    def _is_shared(self, request: NetworkRequest) -> bool:
        driver = self._drivers.get(request.driver)
        return driver is not None and driver.scope == "global" and not request.config_only

    async def accept(self, network: Network) -> None:
        """Some host of the cluster made it."""
        if self._records.get(network.id) != network:
            await self._records.put(network)

    async def bring(self, network: Network) -> None:
        """One of the swarm's, of a driver whose networks are each node's own: as its configuration network says here.

        Raises as ``create`` does.
        """
        if network.id in self._records:
            return
        request = NetworkRequest(
            name=network.name,
            driver=network.driver,
            internal=network.internal,
            attachable=network.attachable,
            config_from=network.config_from,
            ipv6=network.ipv6 or None,
            options=network.options,
            labels=network.labels,
        )
        await self._bring_up(self.settle(request, of=network))

    async def dismiss(self, id: str) -> None:
        """Some host of the cluster removed it."""
        network = self._records.get(id)
        if self._endpoints.of_network(id):
            log.error("network %s was removed from the cluster while containers of this host are on it", id)
        elif network is not None:
            await self._take_away(network)

    async def _take_away(self, network: Network) -> None:
        await self._hand_on(network)
        self._kernel.drop(network.id)
        await self._records.drop(network.id)

    async def ensure(self, network: Network) -> None:
        """A predefined network, as the settings want it now (under its old id if it was there before)."""
        if self._machine.stood and self._records.get(network.id) == network:
            self.adopt(network)
        else:
            await self._bring_up(network)

    async def _bring_up(self, network: Network) -> None:
        known = network.id in self._records
        await self._records.put(network)
        try:
            self._machine.ready(network.ipv6 and not network.config_only)
            self._kernel.want(network.id, self.plan(network), f"network {network.name}")
        except BaseException:
            if not known:
                await self._records.drop(network.id)
            raise

    def plan(self, network: Network) -> Plan:
        """What the kernel holds for this network while it exists."""
        return () if network.config_only else self._drivers[network.driver].network(network, self._facts)

    def whole(self, network: Network) -> Plan:
        """The same, and what the first container on this host would bring."""
        driver = None if network.config_only else self._drivers[network.driver]
        return driver.path(network, self._facts) if isinstance(driver, Spread) else self.plan(network)

    def adopt(self, network: Network) -> None:
        """After a restart: note what should be there; ``Kernel.repair`` makes what is missing."""
        self._machine.ready(network.ipv6 and not network.config_only)
        plan = self.plan(network)
        missing = parents.missing(plan, self._host.link_exists)
        if missing:
            log.error("network %s hangs on %s, which is gone: nobody can join it now", network.name, ", ".join(missing))
            plan = ()
        self._kernel.adopt(network.id, plan, f"network {network.name}")

    def _check_name(self, request: NetworkRequest, elsewhere: Iterable[Network]) -> None:
        if not request.name.strip():
            raise Invalid("invalid name: name is empty")
        if request.name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
        if any(network.name == request.name for network in (*self._records, *elsewhere)):
            raise Conflict(f"network with name {request.name} already exists")

    def _with_defaults(self, request: NetworkRequest, own: bool) -> NetworkRequest:
        """``--config-from``: the other network's settings are this one's. ``own``: it is not one of a swarm's."""
        if not request.config_from:
            return request
        source = next((n for n in self._records if request.config_from in (n.id, n.name)), None)
        if source is None:
            raise NotFound(f'configuration network "{request.config_from}" does not exist')
        if not source.config_only:
            raise Forbidden(f'"{request.config_from}" is not a configuration network')
        depends = "not supported if the network depends on a configuration network"
        if own and (request.ipam.config or request.ipam.options or request.ipv6 or request.labels):
            raise Forbidden(f"user specified configurations are {depends}")
        if own and request.options:
            raise Forbidden(f"network driver options are {depends}")
        return replace(
            request,
            ipam=source.ipam,
            options=source.options,
            ipv4=source.ipv4,
            ipv6=source.ipv6,
            labels={**source.labels, **request.labels},
        )

    def _check_kind(self, request: NetworkRequest) -> None:
        if request.ingress:
            raise Forbidden("Ingress network can only be global scope network")
        if request.scope == "swarm":
            raise Forbidden("cannot create a swarm scoped network when swarm is not active")
        if self._is_shared(request) and self._sharing.scope() != "global":
            raise Forbidden(self._sharing.lacks or NOT_A_MANAGER)
        if request.driver in ("host", "null"):
            raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
        if request.driver not in self._drivers:
            raise NotFound(f'plugin "{request.driver}" not found')
        if request.ipam.driver not in ("", "default", *self._lenders):
            raise NotFound(f'plugin "{request.ipam.driver}" not found')
        if request.ipam.driver in self._lenders and not request.config_only:
            self._lenders[request.ipam.driver].check(request)
        if request.ipv4 is False and not request.ipv6:
            raise Invalid("IPv4 or IPv6 must be enabled")
        for complaint in ownoptions.of_network(request.driver, request.options):
            raise Invalid(complaint)

    def _settle(self, request: NetworkRequest, elsewhere: Iterable[Network], of: Network | None) -> Network:
        """The request with every open question answered: id, time, families, address pools."""
        ipv4, ipv6 = request.ipv4 is not False, bool(request.ipv6)
        network = Network(
            id=of.id if of else self._new_id(),
            name=request.name,
            created=of.created if of else self._now(),
            driver="null" if request.config_only else request.driver,
            scope=of.scope if of else "global" if self._is_shared(request) else "local",
            internal=request.internal,
            attachable=request.attachable,
            config_only=request.config_only,
            config_from=request.config_from,
            ipv4=ipv4,
            ipv6=ipv6,
            ipam=replace(request.ipam, driver=request.ipam.driver or "default", given=False),
            options=request.options,
            labels=request.labels,
        )
        if request.config_only:
            return network
        made = parents.to_make(network, self._host.link_exists)
        return replace(network, ipam=self._pools_for(network, elsewhere), made=made)

    def _pools_for(self, network: Network, elsewhere: Iterable[Network]) -> Ipam:
        """Canonical pools, chosen ones where the user left it to us; ``Forbidden`` on an overlap, naming the other."""
        others = [other for other in self._records if not other.config_only]
        routes = [prefix for prefix, device in self._host.routes() if not self._is_device_of(others, device)]
        pools = self._pools if not network.shared else replace(self._pools, pools=SHARED_POOLS)
        return addresses.settle_pools(network, [*others, *elsewhere], routes, pools)

    def _is_device_of(self, networks: list[Network], device: str) -> bool:
        return bool(device) and any(self.device(network) == device for network in networks)

    def _check_device(self, network: Network) -> None:
        device = self.device(network)
        for other in self._records:
            if device and self.device(other) == device:
                raise Forbidden(
                    f"cannot create network {network.id} ({device}): conflicts with network {other.id} ({device}):"
                    " networks have same bridge name"
                )

    # -- remove ---------------------------------------------------------------------------

    async def remove(self, ref: str) -> None:
        network = self.network(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        active = self._endpoints.of_network(network.id)
        if active:
            held = " ".join(f'name:"{endpoint.name}" id:"{endpoint.id[:12]}"' for endpoint in active)
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({held})")
        if network.config_only:
            self._refuse_if_copied(network)
        if network.scope == "swarm":
            raise Forbidden(NO_MANAGER)
        if network.scope == "global":
            await self._dissolve(network)
        await self._take_away(network)
        self._events.publish("network", "destroy", network.id, {"name": network.name, "type": network.driver})

    async def _dissolve(self, network: Network) -> None:
        if self._sharing.scope() != "global":
            raise Forbidden(
                f"network {network.name} belongs to a cluster: start the engine with its --cluster-store to remove it"
            )
        await self._store_cluster().dissolve(network)

    async def _hand_on(self, network: Network) -> None:
        """The device that was made for this network goes to another one that hangs on it, untouched."""
        heir = parents.heir(network, self._records)
        if heir is None:
            return
        heir = replace(heir, made=network.made)
        network = replace(network, made="")
        for changed in (heir, network):
            await self._records.put(changed)
        for changed in (network, heir):
            self.adopt(changed)

    def _refuse_if_copied(self, network: Network) -> None:
        users = [other.name for other in self._records if other.config_from in (network.name, network.id)]
        if users:
            raise Forbidden(
                f'error while removing network: configuration network "{network.name}" is in use: by {", ".join(users)}'
            )

    async def prune(self, wants: Callable[[Network], bool]) -> list[str]:
        """Remove the networks that ``wants`` says and nobody is on; names of what went."""
        gone = []
        for network in self.networks():
            if (
                network.predefined
                or network.scope == "swarm"
                or self._endpoints.of_network(network.id)
                or not wants(network)
            ):
                continue
            try:
                await self.remove(network.id)
            except FairleadError as problem:
                log.info("network %s stays: %s", network.name, problem.message)
            else:
                gone.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return gone


def check_config_only(request: NetworkRequest) -> None:
    """A network that is only others' configuration says of itself no more than that."""
    if not request.config_only:
        return
    if request.ingress or request.internal or request.attachable or request.scope:
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like"
            " [ ingress | internal | attachable | scope ] are not supported."
        )
    if request.config_from:
        raise Forbidden("a configuration network cannot depend on another configuration network")
