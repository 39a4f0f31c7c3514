"""The three networks that are always there: ``bridge``, ``host`` and ``none``, made from the settings at every start.

    --bip, --fixed-cidr, --default-gateway, --mtu, --icc, --ip, --ip-masq ... ----> bridge (docker0)
    -b cookbook   the default network on a bridge somebody else made: its address is the gateway
    -b none       no default network at all

They keep their ids across restarts. A ``docker0`` that is not ours is not
touched: the engine refuses to start and says what to do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from fairlead.core import addresses
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.engine.controller import Controller
from fairlead.errors import Conflict, Invalid
from fairlead.host.base import Host
from fairlead.settings import Settings

DOCKER0 = "docker0"
BRIDGE = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"


class Predefined:
    """Makes the predefined networks agree with the settings."""

    def __init__(
        self,
        controller: Controller,
        host: Host,
        settings: Settings,
        pools: addresses.PoolPlan,
        now: Callable[[], str],
        new_id: Callable[[], str],
        mtu: int = 1500,
    ) -> None:
        """``mtu``: of the host's way to the world."""
        self._controller = controller
        self._host = host
        self._settings = settings
        self._pools = pools
        self._now = now
        self._new_id = new_id
        self._mtu = mtu

    async def ensure(self) -> None:
        """All three, as the settings want them now; raises before anything is made when the bridge is not ours."""
        if self._settings.bridge != "none":
            await self._controller.ensure(self._bridge())
        await self._controller.ensure(self._simple("host", "host"))
        await self._controller.ensure(self._simple("none", "null"))

    def _known(self, name: str) -> tuple[str, str]:
        """(id, created) of the network of that name, new ones when it is the first start."""
        for network in self._controller.networks():
            if network.predefined and network.name == name:
                return network.id, network.created
        return self._new_id(), self._now()

    def _simple(self, name: str, driver: str) -> Network:
        id, created = self._known(name)
        return Network(id=id, name=name, created=created, driver=driver, predefined=True)

    def _bridge(self) -> Network:
        settings = self._settings
        id, created = self._known("bridge")
        device = settings.bridge or DOCKER0
        self._refuse_foreign(device)
        options = {
            BRIDGE + "default_bridge": "true",
            BRIDGE + "enable_icc": _word(settings.icc),
            BRIDGE + "enable_ip_masquerade": _word(settings.ip_masq),
            BRIDGE + "host_binding_ipv4": settings.ip,
            BRIDGE + "name": device,
            MTU: str(settings.mtu or self._mtu),
            **settings.default_network_opts.get("bridge", {}),
        }
        network = Network(
            id=id, name="bridge", created=created, ipv6=settings.ipv6, options=options, predefined=True, ipam=Ipam()
        )
        return self._with_pools(network, device)

    def _with_pools(self, network: Network, device: str) -> Network:
        fixed = tuple(self._subnets(device))
        known = next((other for other in self._controller.networks() if other.id == network.id), None)
        standing = self._standing(known, device) if known is not None and not fixed else ()
        if known is not None and standing and known.ipv6 == network.ipv6:
            return replace(network, ipam=known.ipam)
        asked = Ipam(config=fixed or standing)
        others = [other for other in self._controller.networks() if other.id != network.id and not other.config_only]
        routes = [prefix for prefix, link in self._host.routes() if link != device]
        routes = [] if asked.config and all(pool.chosen for pool in asked.config) else routes
        ipam = addresses.settle_pools(replace(network, ipam=asked), others, routes, self._pools)
        return replace(network, ipam=ipam)

    def _standing(self, known: Network, device: str) -> tuple[Subnet, ...]:
        """The pools we chose before, while their bridge stands: a route that came since must not move it."""
        if not self._host.link_exists(device):
            return ()
        return tuple(pool for pool in known.ipam.config if pool.chosen)

    def _subnets(self, device: str) -> Iterator[Subnet]:
        """The pools the settings (or the foreign bridge's addresses) fix."""
        settings = self._settings
        own = dict(self._bridge_addresses(device)) if settings.bridge else {4: settings.bip, 6: settings.bip6}
        extra = {"DefaultGatewayIPv4": settings.default_gateway} if settings.default_gateway else {}
        if own.get(4):
            yield _pool(own[4], settings.fixed_cidr, extra)
        elif settings.fixed_cidr:
            yield Subnet(subnet=settings.fixed_cidr, auxiliary=extra)
        if settings.ipv6 and own.get(6):
            yield _pool(own[6], settings.fixed_cidr_v6, {})
        elif settings.ipv6 and settings.fixed_cidr_v6:
            yield Subnet(subnet=settings.fixed_cidr_v6)

    def _bridge_addresses(self, device: str) -> Iterator[tuple[int, str]]:
        for _, address in reversed(self._host.addresses(device)):
            interface = ipaddress.ip_interface(address)
            if not interface.is_link_local:
                yield interface.version, address

    def _refuse_foreign(self, device: str) -> None:
        there, ours = self._host.link_exists(device), self._host.is_ours(device)
        if self._settings.bridge and not there:
            raise Invalid(
                f"bridge {device} does not exist: make it first (ip link add {device} type bridge) or start without -b"
            )
        if not self._settings.bridge and there and not ours:
            raise Conflict(
                f"{device} exists and is not ours, so it is not touched. If nobody needs it, remove it"
                f" (ip link delete {device}); to use it as it is, start with -b {device};"
                " for no default network, -b none"
            )


def _pool(interface: str, ip_range: str, auxiliary: dict[str, str]) -> Subnet:
    parsed = ipaddress.ip_interface(interface)
    return Subnet(subnet=str(parsed.network), gateway=str(parsed.ip), ip_range=ip_range, auxiliary=auxiliary)


def _word(value: bool) -> str:
    return "true" if value else "false"
