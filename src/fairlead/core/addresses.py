"""Addresses: which subnet a network gets, and which address an endpoint.

    settle_pools(network, others, routes)   a network's pools: the user's, checked, or chosen by us
    lease(pools, taken, wish, prefer)       one address out of them
    check_wishes(network, settings)         may this container ask for that address here?

There is no list of leases. The caller knows who is alive and says what is
``taken``; we answer with the lowest address that is not. So nothing can leak,
and an address is free the moment its holder is gone.

How it works
    Both choices look for the lowest gap between things that are taken. For
    addresses, we count upwards from the first and step over what is taken: at most
    one step a taken address, whatever the size of the subnet. For subnets, what is
    in use is sorted once and every obstacle is jumped over in one step. A /8 or
    a /64 costs no more than a /24.

Rules
    1. Docker's pools come first, in Docker's order; when they are full, many small
       ones follow. ``--default-address-pool`` replaces both.
    2. Nothing we choose overlaps another network, a host route or a resolver of the
       host. What the *user* chose is refused for the same overlaps, naming the other
       party, except for networks whose subnet is the LAN's by design (macvlan, ipvlan).
    3. A default route is no reason, and neither are the two halves of one that some
       VPNs install: routes of length 0 and 1 say nothing about what is near.
    4. The network address and IPv4's broadcast are nobody's, except in subnets too
       small to spare them (/31, /32, /127, /128). With a range inside the subnet,
       the range's own first and last address are as good as any: the first
       of 172.20.1.0/24 within 172.20.0.0/16 is 172.20.1.0.
    5. Every text that goes out is canonical (``str`` of ``ipaddress``).

What it does not do: remember (``engine.endpoints``), look at the machine, or
roll dice. Why these pools: docs/why/address-pools.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec
from msgspec.structs import replace

from fairlead.core.model import EndpointSettings, Ipam, Network, Subnet
from fairlead.core.parents import LAN_DRIVERS, has_gateway
from fairlead.core.written import family_of
from fairlead.errors import FairleadError, Forbidden, Invalid, Unavailable

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


class Full(Unavailable):
    """Every address of a network is given out; one that is freed will do. dockerd answers this with 500, not 503."""

    status = 500


@lru_cache(maxsize=16384)
def _network(prefix: str) -> IPNetwork:
    """Every question reads the same few thousand texts again; parsing them is what would cost."""
    return ipaddress.ip_network(prefix, strict=False)


@lru_cache(maxsize=65536)
def number_of(address: str) -> int:
    return int(ipaddress.ip_address(address))


class AddressPool(msgspec.Struct, frozen=True):
    """A prefix that is cut into subnets of ``size``: ``AddressPool("192.168.0.0/16", 20)`` gives 16 of them."""

    base: str
    size: int


DOCKER_POOLS = (
    *(AddressPool(f"172.{second}.0.0/16", 16) for second in range(17, 32)),
    AddressPool("192.168.0.0/16", 20),
)
"""Docker's, in Docker's order: 31 networks."""

SMALL_POOLS = (AddressPool("10.0.0.0/8", 24), AddressPool("172.16.0.0/16", 24), AddressPool("100.64.0.0/10", 24))
"""What follows when Docker's are full: 82,176 networks more."""


class PoolPlan(msgspec.Struct, frozen=True):
    """Where chosen subnets come from, and what they must keep clear of besides networks and routes."""

    pools: tuple[AddressPool, ...] = (*DOCKER_POOLS, *SMALL_POOLS)
    """both families; IPv6 pools, if any, replace ``ula``"""
    ula: str = "fd5f:fa1b:1ead::/48"
    """this engine's own unique local prefix (see ``ula_prefix``)"""
    resolvers: tuple[str, ...] = ()
    """addresses of the host's DNS servers"""

    def of_family(self, family: int) -> tuple[AddressPool, ...]:
        """The pools of 4 or 6; a family the user gave no pool for keeps its defaults."""
        mine = tuple(pool for pool in self.pools if family_of(pool.base) == family)
        return mine or ((AddressPool(self.ula, 64),) if family == 6 else (*DOCKER_POOLS, *SMALL_POOLS))


def ula_prefix(seed: bytes) -> str:
    """A /48 of fd00::/8 (RFC 4193) from at least five bytes that are this engine's own and stay."""
    if len(seed) < 5:
        raise ValueError("a unique local prefix needs five bytes")
    return str(IPv6Network((b"\xfd" + seed[:5] + bytes(10), 48)))


# -- a network's pools -----------------------------------------------------------------


def settle_pools(network: Network, others: Iterable[Network], routes: Iterable[str], plan: PoolPlan) -> Ipam:
    """The network's pools with every open question answered.

    ``others``: the networks that exist, without ``network`` itself. ``routes``:
    prefixes of the host's routes, without those of our own devices. Subnets of
    a family that the network does not have are left out; where somebody else
    lends the IPv4 addresses (``--ipam-driver``) there is no pool for them.

    Raises ``Invalid`` for nonsense and when every pool is full, ``Forbidden``
    for an overlap (naming the other).
    """
    others, routes = tuple(others), tuple(routes)
    ipam = check_ipam(network.ipam, network.ipv4, network.ipv6)
    near = () if network.driver in LAN_DRIVERS else routes
    pools: list[Subnet] = []
    for pool in ipam.config:
        conflicts(pool.subnet, others, near, mine=[other.subnet for other in pools])
        pools.append(pool)
    used = [pool.subnet for other in others for pool in other.ipam.config]
    for family, wanted in ((4, network.ipv4), (6, network.ipv6)):
        lent = family == 4 and ipam.driver != "default"
        if wanted and not lent and not any(family_of(pool.subnet) == family for pool in pools):
            prefix = choose_subnet(plan.of_family(family), [*used, *(p.subnet for p in pools)], routes, plan.resolvers)
            pools.append(Subnet(subnet=prefix, chosen=True))
    for pool in pools:
        _refuse_collisions(pool)
    routed = {family for family in (4, 6) if has_gateway(network, family)}
    return replace(ipam, config=tuple(_with_gateway(p) if family_of(p.subnet) in routed else p for p in pools))


def choose_subnet(
    pools: Iterable[AddressPool], in_use: Iterable[str], routes: Iterable[str], resolvers: Iterable[str] = ()
) -> str:
    """The first subnet out of ``pools`` (of one family) that overlaps nothing; ``Invalid`` when there is none."""
    obstacles = [_network(prefix) for prefix in in_use]
    obstacles += [route for route in map(_route, routes) if route is not None]
    obstacles += [ipaddress.ip_network(address.partition("%")[0]) for address in resolvers]
    for pool in pools:
        base = ipaddress.ip_network(pool.base)
        found = _first_gap(base, pool.size, [other for other in obstacles if other.version == base.version])
        if found is not None:
            return str(found)
    raise Invalid(
        "all predefined address pools have been fully subnetted; remove networks nobody uses (docker network prune),"
        " name a subnet (--subnet), or start the engine with more pools (--default-address-pool)"
    )


def _first_gap(base: IPNetwork, size: int, obstacles: Sequence[IPNetwork]) -> IPNetwork | None:
    step = 1 << (base.max_prefixlen - size)
    candidate, end = int(base.network_address), int(base.broadcast_address)
    for first, last in sorted((int(o.network_address), int(o.broadcast_address)) for o in obstacles):
        if first >= candidate + step:
            break
        if last >= candidate:
            candidate = (last // step + 1) * step
    if candidate > end:
        return None
    return ipaddress.ip_network((type(base.network_address)(candidate), size))


def conflicts(prefix: str, others: Iterable[Network], routes: Iterable[str], mine: Iterable[str] = ()) -> None:
    """Raise ``Forbidden``, naming who has (part of) this subnet already; ``mine``: subnets of the same network."""
    subnet = _network(prefix)
    for other in others:
        for pool in other.ipam.config:
            if pool.subnet and subnet.overlaps(_network(pool.subnet)):
                raise Forbidden(f"{OVERLAP}: {subnet} overlaps {pool.subnet} of network {other.name} ({other.short})")
    for own in mine:
        if subnet.overlaps(_network(own)):
            raise Forbidden(f"{OVERLAP}: {subnet} overlaps {own} of the same network")
    for text in routes:
        route = _route(text)
        if route is not None and subnet.overlaps(route):
            raise Forbidden(f"{OVERLAP}: {subnet} overlaps the host's route to {route}")


def _route(prefix: str) -> IPNetwork | None:
    """The route as a reason to keep clear; None for default routes, halves of them, link-local and multicast."""
    route = _network(prefix)
    if route.prefixlen <= 1 or route.is_multicast or (route.version == 6 and route.is_link_local):
        return None
    return route


def _refuse_collisions(pool: Subnet) -> None:
    """What the user gave away twice, or what is nobody's: the subnet's own address, and where everybody hears."""
    subnet = ipaddress.ip_network(pool.subnet)
    taken = set(_nobody(subnet))
    said = {f"gateway ({pool.gateway})": pool.gateway} if pool.gateway else {}
    said |= {f"secondary ip address ({name}:{address})": address for name, address in pool.auxiliary.items()}
    for what, text in said.items():
        address = ipaddress.ip_address(text)
        if address in taken:
            raise FairleadError(f"failed to allocate {what}: Address already in use")
        taken.add(address)


def _with_gateway(pool: Subnet) -> Subnet:
    if pool.gateway:
        return pool
    gateway = choose(pool, frozenset(pool.auxiliary.values()))
    return replace(pool, gateway=gateway, gateway_chosen=not pool.chosen)


# -- what users say about pools ----------------------------------------------------------


def check_ipam(ipam: Ipam, ipv4: bool, ipv6: bool) -> Ipam:
    """The user's pools in canonical spelling; ``Invalid`` in dockerd's words, all complaints at once.

    Subnets of a family that is off are left out, unread, as dockerd does.
    """
    complaints: list[str] = []
    pools = []
    for pool in ipam.config:
        subnet = _prefix(pool.subnet)
        if subnet is None:
            complaints.append(f"invalid subnet {pool.subnet}: invalid CIDR block notation")
        elif ipv4 if subnet.version == 4 else ipv6:
            complaints.extend(_complaints(pool, subnet))
            pools.append((pool, subnet.network))
    if complaints:
        raise Invalid(f"invalid network config:\n{_joined(complaints)}")
    return replace(ipam, config=tuple(_canonical(pool, subnet) for pool, subnet in pools), given=bool(pools))


def _complaints(pool: Subnet, written: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> Iterator[str]:
    subnet: IPNetwork = written.network
    if written.ip != subnet.network_address:
        yield f"invalid subnet {pool.subnet}: it should be {subnet}"
    if pool.ip_range:
        yield from (f"invalid ip-range {pool.ip_range}: {words}" for words in _about_range(pool.ip_range, subnet))
    if pool.gateway:
        yield from (f"invalid gateway {pool.gateway}: {words}" for words in _about_address(pool.gateway, subnet))
    for name, address in pool.auxiliary.items():
        yield from (f"invalid auxiliary address {name}: {words}" for words in _about_address(address, subnet))


def _about_range(text: str, subnet: IPNetwork) -> Iterator[str]:
    found = _prefix(text)
    if found is None:
        yield "invalid CIDR block notation"
    elif found.version != subnet.version:
        yield f"parent subnet is an IPv{subnet.version} block"
    else:
        if found.network.prefixlen < subnet.prefixlen:
            yield f"CIDR block is bigger than its parent subnet {subnet}"
        if found.ip != found.network.network_address:
            yield f"it should be {found.network}"
        if not subnet.overlaps(found.network):
            yield f"parent subnet {subnet} doesn't contain ip-range"


def _about_address(text: str, subnet: IPNetwork) -> Iterator[str]:
    address = _address(text)
    if address is None:
        yield "invalid address"
    elif address.version != subnet.version:
        yield f"parent subnet is an IPv{subnet.version} block"
    elif address not in subnet:
        yield f"parent subnet {subnet} doesn't contain this address"


def _canonical(pool: Subnet, subnet: IPNetwork) -> Subnet:
    return Subnet(
        subnet=str(subnet),
        ip_range=str(ipaddress.ip_network(pool.ip_range)) if pool.ip_range else "",
        gateway=str(ipaddress.ip_address(pool.gateway)) if pool.gateway else "",
        auxiliary={name: str(ipaddress.ip_address(address)) for name, address in pool.auxiliary.items()},
    )


def _prefix(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """``address/bits`` with bits as a number, nothing else (Python alone would take netmasks and bare addresses)."""
    address, _, bits = text.partition("/")
    try:
        return ipaddress.ip_interface(f"{address}/{bits}") if bits.isdecimal() and bits.isascii() else None
    except ValueError:
        return None


def _address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _joined(complaints: Sequence[str]) -> str:
    """One line alone, several as a list: the way Go's joined errors look in dockerd's answers."""
    return complaints[0] if len(complaints) == 1 else "\n".join(f"* {line}" for line in complaints)


# -- one address -------------------------------------------------------------------------


def check_wishes(network: Network, settings: EndpointSettings) -> None:
    """May an endpoint on ``network`` be asked for so? ``Invalid("invalid endpoint settings:…")``, all at once.

    Only pools the user configured take wishes: an address in one that was chosen
    for him would not survive the network's being made again.
    """
    given = [pool for pool in network.ipam.config if not pool.chosen]
    complaints: list[str] = []
    if network.predefined and settings.aliases:
        complaints.append("network-scoped alias is supported only for containers in user defined networks")
    if network.predefined and (settings.ipv4 or settings.ipv6):
        complaints.append("user specified IP address is supported on user defined networks only")
    for family, wish in ((4, settings.ipv4), (6, settings.ipv6)):
        parsed = _address(wish) if wish else None
        if wish and (parsed is None or parsed.version != family):
            complaints.append(f"invalid IPv{family} address: {wish}")
    for text in settings.link_local:
        if _address(text) is None:
            complaints.append(f"invalid link-local IP address: {text}")
    if settings.part is None:
        for family, wish in ((4, settings.ipv4), (6, settings.ipv6)):
            complaints.extend(_about_wish(wish, [pool for pool in given if family_of(pool.subnet) == family]))
    if complaints:
        raise Invalid(f"invalid endpoint settings:\n{_joined(complaints)}")


def _about_wish(wish: str, given: Sequence[Subnet]) -> Iterator[str]:
    if wish and not given:
        yield "user specified IP address is supported only when connecting to networks with user configured subnets"
    elif wish and not any(contains(pool.subnet, wish) for pool in given):
        yield f"no configured subnet or ip-range contain the IP address {wish}"


def lease(
    pools: Sequence[Subnet],
    taken: Set[str],
    wish: str = "",
    prefer: str = "",
    name: str = "",
    held: Set[int] = frozenset(),
) -> tuple[str, Subnet]:
    """An address and the pool it is from, out of several pools of one family: the wish's, else the first with room.

    ``held``: what is taken besides, as numbers. Whoever has many does not make them of text for each one more.
    """
    if wish or (prefer and prefer not in taken and number_of(prefer) not in held):
        for pool in pools:
            if contains(pool.subnet, wish or prefer):
                return choose(pool, taken, wish, prefer, held), pool
    for pool in pools:
        try:
            return choose(pool, taken, wish, prefer, held), pool
        except Full:
            continue
    version = family_of(pools[0].subnet) if pools else 4
    raise Full(f"no available IPv{version} addresses on this network's address pools: {name}")


def choose(subnet: Subnet, taken: Set[str], wish: str = "", prefer: str = "", held: Set[int] = frozenset()) -> str:
    """One address of ``subnet``, without prefix length.

    ``wish`` is what the user insists on: ``Invalid`` when it is outside,
    ``Forbidden`` when it is taken or nobody's. ``prefer`` is what the container had
    before: used if free. Else the lowest free address of the range, or of the subnet
    when there is no range; ``Full`` when all are taken.
    """
    whole = _network(subnet.subnet)
    nobody = _nobody(whole)
    if wish:
        address = ipaddress.ip_address(wish)
        if address not in whole:
            raise Invalid(f"no configured subnet or ip-range contain the IP address {wish}")
        if str(address) in taken or int(address) in held or address in nobody or str(address) == subnet.gateway:
            raise Forbidden("Address already in use")
        return str(address)
    others = {*taken, *subnet.auxiliary.values(), subnet.gateway} - {""}
    six = whole.version == 6
    busy = {number_of(address) for address in others if (":" in address) is six}
    busy |= {int(address) for address in nobody}
    if prefer and contains(subnet.subnet, prefer) and number_of(prefer) not in busy and number_of(prefer) not in held:
        return prefer
    part = _network(subnet.ip_range) if subnet.ip_range else whole
    number, last = int(part.network_address), int(part.broadcast_address)
    while number in busy or number in held:
        number += 1
    if number > last:
        raise Full(f"no available IPv{whole.version} addresses on this network's address pools: {part}")
    return str(type(whole.network_address)(number))


def _nobody(subnet: IPNetwork) -> tuple[IPAddress, ...]:
    """The addresses of a subnet that are no host's."""
    if subnet.num_addresses <= 2:
        return ()
    if subnet.version == 6:
        return (subnet.network_address,)
    return subnet.network_address, subnet.broadcast_address


def gateway_of(pool: Subnet) -> str:
    """Where containers send what leaves: the bridge, or the router that an auxiliary address of Docker's name says."""
    name = "DefaultGatewayIPv6" if family_of(pool.subnet) == 6 else "DefaultGatewayIPv4"
    return pool.auxiliary.get(name) or pool.gateway


def overlap(one: str, other: str) -> bool:
    """Whether two prefixes (or addresses with a prefix length) have addresses in common."""
    return family_of(one) == family_of(other) and _network(one).overlaps(_network(other))


def contains(prefix: str, address: str) -> bool:
    """Whether the address is in the prefix; False for what is no address."""
    found = _address(address)
    return found is not None and found in _network(prefix)


# -- MAC addresses -----------------------------------------------------------------------


def mac_from_address(ipv4: str) -> str:
    """02:42 and the four bytes of the address: the MAC an engine before 28 would have chosen."""
    return (b"\x02\x42" + IPv4Address(ipv4).packed).hex(":")


def mac_from_dice(dice: bytes) -> str:
    """A locally administered unicast MAC from six bytes that are random, or a hash: equal bytes, equal MAC."""
    if len(dice) < 6:
        raise ValueError("a MAC needs six bytes")
    return bytes([dice[0] & 0xFC | 0x02, *dice[1:6]]).hex(":")
