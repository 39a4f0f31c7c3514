"""Routing: addresses, routes, rules, neighbours and forwarding entries to messages and back.

Each kind has a line in ``add`` and ``drop`` and a reader of what the kernel dumps.

Rules
    1. Adding is asked with "only if it is not there" first: so we know what is our
       own doing, and must be undone when a later step fails. ``again`` is the second
       question, which replaces.
    2. IPv6 addresses skip duplicate detection: we choose them, and a second of
       waiting before a container can speak is a second too long.
    3. IPv6 routes without a metric get 1024 from the kernel; read back that is 0 again.
    4. Rules carry our number as their origin, so that they are known as ours.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface

from fairlead.core.wanted import Address, Forwarding, Neighbour, Route, Rule, Shaper
from fairlead.errors import Conflict, Internal
from fairlead.host import shaping
from fairlead.host.netlink import APPEND, CREATE, EXCL, REPLACE, Netlink, Request, attribute, attributes, family_of, u32

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
AF_BRIDGE = 7
PERMANENT, NOARP, SELF = 0x80, 0x40, 2
NODAD = 0x02
BOOT, KERNEL, OURS = 3, 2, 70
"""Origins of routes: made by a command (which is how ``ip route`` shows nothing), by the kernel; ours, for rules."""
MAIN, V6_METRIC, CONNECTED_V6 = 254, 1024, 256
UNIVERSE, ONLINK, LINK = 0, 253, 253
UNICAST, CACHED = 1, 0x200
EVERYONE = "00:00:00:00:00:00"

Item = Address | Route | Rule | Neighbour | Forwarding | Shaper


def in_the_way(route: Route) -> Conflict:
    """Of a route of the host that somebody else made."""
    return Conflict(f"a route to {route.destination} exists already: {route}; remove it, or choose another subnet")


def link_of(item: Item) -> str:
    """The device it is on, "" for none."""
    return "" if isinstance(item, Rule) else item.link


def add(item: Item, index: int, again: bool = False) -> Request:
    """Make it if it is not there; ``again``: replace what is there. ``index`` is of its link, 0 for none."""
    flags = CREATE | (REPLACE if again else EXCL)
    if isinstance(item, Address):
        return Request(RTM_NEWADDR, flags, _address(item, index))
    if isinstance(item, Route):
        return Request(RTM_NEWROUTE, flags, _route(item, index))
    if isinstance(item, Rule):
        return Request(RTM_NEWRULE, CREATE | EXCL, _rule(item))
    if isinstance(item, Neighbour):
        return Request(RTM_NEWNEIGH, flags, _neighbour(item, index))
    if isinstance(item, Shaper):
        return shaping.add(item, index, again)
    if item.mac == EVERYONE or int(item.mac[:2], 16) & 1:
        flags = CREATE | APPEND
    return Request(RTM_NEWNEIGH, flags, _forwarding(item, index))


def drop(item: Item, index: int) -> Request:
    if isinstance(item, Address):
        return Request(RTM_DELADDR, 0, _address(item, index))
    if isinstance(item, Route):
        return Request(RTM_DELROUTE, 0, _route(item, index))
    if isinstance(item, Rule):
        return Request(RTM_DELRULE, 0, _rule(item))
    if isinstance(item, Neighbour):
        return Request(RTM_DELNEIGH, 0, _neighbour(item, index))
    if isinstance(item, Shaper):
        return shaping.drop(index)
    return Request(RTM_DELNEIGH, 0, _forwarding(item, index))


def _address(item: Address, index: int) -> bytes:
    packed, prefix = _prefix(item.address)
    if len(packed) == 16:
        return struct.pack("=BBBBI", socket.AF_INET6, prefix, NODAD, 0, index) + attribute(1, packed)
    body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, index) + attribute(2, packed) + attribute(1, packed)
    if prefix < 31:
        broadcast = int.from_bytes(packed, "big") | (0xFFFFFFFF >> prefix)
        body += attribute(4, broadcast.to_bytes(4, "big"))
    return body


def _route(item: Route, index: int) -> bytes:
    target, prefix = _prefix(item.destination)
    family = family_of(item.destination)
    scope = ONLINK if not item.gateway and family == socket.AF_INET else UNIVERSE
    table = item.table if item.table < 256 else 0
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, table, BOOT, scope, 1, 0)
    if prefix:
        body += attribute(1, target)
    if index:
        body += u32(4, index)
    if item.gateway:
        body += attribute(5, _packed(item.gateway))
    if item.metric:
        body += u32(6, item.metric)
    if item.source:
        body += attribute(7, _packed(item.source))
    return body + u32(15, item.table)


def reconnect(netlink: Netlink, item: Address, index: int) -> Route | None:
    """The address is there; so shall be the route to its subnet. Returns what somebody else has in its place."""
    target = subnet(item)
    if target.prefixlen < target.max_prefixlen and netlink.do([_connect(item, index)]):
        there = [r for r, _ in routes(netlink, {index: item.link}, item.ns) if r.destination == str(target)]
        return next(iter(there), None) if item.link not in [route.link for route in there] else None
    return None


def _connect(item: Address, index: int) -> Request:
    """As the kernel makes it along with the address."""
    family, network = family_of(item.address), subnet(item)
    scope, metric = (LINK, 0) if family == socket.AF_INET else (UNIVERSE, CONNECTED_V6)
    body = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, MAIN, KERNEL, scope, 1, 0)
    body += attribute(1, network.network_address.packed) + u32(4, index)
    body += u32(6, metric) if metric else attribute(7, _packed(item.address.partition("/")[0]))
    return Request(RTM_NEWROUTE, CREATE | EXCL, body)


def subnet(item: Address) -> IPv4Network | IPv6Network:
    return ip_interface(item.address).network


def _rule(item: Rule) -> bytes:
    family = socket.AF_INET6 if item.family == 6 else socket.AF_INET
    source, prefix = _prefix(item.source) if item.source else (b"", 0)
    table = item.table if item.table < 256 else 0
    body = struct.pack("=BBBBBBBBI", family, 0, prefix, 0, table, 0, 0, 1, 0)
    if source:
        body += attribute(2, source)
    body += u32(6, item.priority) + u32(15, item.table) + attribute(21, bytes([OURS]))
    if item.mark:
        body += u32(10, item.mark)
    return body


def _neighbour(item: Neighbour, index: int) -> bytes:
    body = struct.pack("=BxxxiHBB", family_of(item.address), index, PERMANENT, 0, 0)
    return body + attribute(1, _packed(item.address)) + attribute(2, bytes.fromhex(item.mac.replace(":", "")))


def _forwarding(item: Forwarding, index: int) -> bytes:
    body = struct.pack("=BxxxiHBB", AF_BRIDGE, index, PERMANENT, SELF, 0)
    body += attribute(2, bytes.fromhex(item.mac.replace(":", "")))
    return body + attribute(1, _packed(item.via))


def _packed(address: str) -> bytes:
    """Values are canonical text by the time they come here; what is not is our mistake, and said so."""
    try:
        return socket.inet_pton(family_of(address), address)
    except OSError:
        raise Internal(f"{address!r} is no address") from None


def _prefix(text: str) -> tuple[bytes, int]:
    address, _, size = text.partition("/")
    packed = _packed(address)
    return packed, int(size) if size else 8 * len(packed)


# -- reading ----------------------------------------------------------------------


def addresses(netlink: Netlink, device: int = 0) -> Iterator[tuple[int, str, bool]]:
    """(index of the link, address/prefix, made by the kernel itself) of every address, or of one device's."""
    for message in netlink.dump(RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, device)):
        family, prefix, _, scope, index = struct.unpack_from("=BBBBI", message)
        found = attributes(message, 8)
        packed = found.get(2) or found.get(1)
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            address = ip_address(packed)
            kernels = (address.is_link_local and family == socket.AF_INET6) or (address.is_loopback and scope == 254)
            yield index, f"{address}/{prefix}", kernels


def routes(netlink: Netlink, names: Mapping[int, str], ns: str) -> Iterator[tuple[Route, int]]:
    """Every unicast route and its origin, as wishes."""
    for family, prefix, table, origin, found in _unicast(netlink):
        yield _as_route(found, family, prefix, table, names, ns), origin


def way_out(netlink: Netlink) -> int:
    """Number of the device by which packets leave for the world, IPv4's if there is one, else IPv6's; 0: none."""
    defaults = (found for _, prefix, table, _, found in _unicast(netlink) if not prefix and table == MAIN)
    return next((index for found in defaults if (index := _number(found.get(4)))), 0)


def mtus(netlink: Netlink, device: int, family: int) -> Iterator[int]:
    """What the routes of a family (4 or 6) by a device say that packets may be at most; most say nothing."""
    number = socket.AF_INET6 if family == 6 else socket.AF_INET
    for found_family, _, table, _, found in _unicast(netlink):
        if found_family != number or table != MAIN or _number(found.get(4)) != device:
            continue
        if told := _number(attributes(found.get(8, b"")).get(2)):
            yield told


def _unicast(netlink: Netlink) -> Iterator[tuple[int, int, int, int, Mapping[int, bytes]]]:
    """(family, length of the prefix, table, origin, attributes) of every unicast route."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in netlink.dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
            found_family, prefix, _, _, table, origin, _, kind, flags = struct.unpack_from("=BBBBBBBBI", message)
            if found_family == family and kind == UNICAST and not flags & CACHED:
                yield family, prefix, table, origin, attributes(message, 12)


def _as_route(
    found: Mapping[int, bytes], family: int, prefix: int, table: int, names: Mapping[int, str], ns: str
) -> Route:
    empty = bytes(4 if family == socket.AF_INET else 16)
    target = ip_address(found.get(1, empty))
    metric = _number(found.get(6))
    if family == socket.AF_INET6 and metric == V6_METRIC:
        metric = 0
    return Route(
        destination=f"{target}/{prefix}",
        link=names.get(_number(found.get(4)), ""),
        gateway=str(ip_address(found[5])) if 5 in found else "",
        ns=ns,
        table=_number(found.get(15)) or table,
        metric=metric,
        source=str(ip_address(found[7])) if 7 in found else "",
    )


def rules(netlink: Netlink, ns: str, family: int) -> Iterator[tuple[Rule, bool]]:
    """Every rule of a family (4 or 6), and whether it is ours."""
    number = socket.AF_INET6 if family == 6 else socket.AF_INET
    for message in netlink.dump(RTM_GETRULE, struct.pack("=BBBBBBBBI", number, 0, 0, 0, 0, 0, 0, 0, 0)):
        found_family, _, source_size, _, table = struct.unpack_from("=BBBBB", message)
        if found_family != number:
            continue
        found = attributes(message, 12)
        source = f"{ip_address(found[2])}/{source_size}" if 2 in found else ""
        rule = Rule(
            family=family,
            priority=_number(found.get(6)),
            table=_number(found.get(15)) or table,
            ns=ns,
            source=source,
            mark=_number(found.get(10)),
        )
        yield rule, found.get(21, b"\0")[0] == OURS


def neighbours(netlink: Netlink, names: Mapping[int, str], ns: str) -> Iterator[Neighbour]:
    """Every permanent neighbour entry."""
    for message in netlink.dump(RTM_GETNEIGH, struct.pack("=BxxxiHBB", 0, 0, 0, 0, 0)):
        family, index, state = struct.unpack_from("=BxxxiH", message)
        found = attributes(message, 12)
        if family in (socket.AF_INET, socket.AF_INET6) and state & PERMANENT and 2 in found and index in names:
            yield Neighbour(link=names[index], address=str(ip_address(found[1])), mac=found[2].hex(":"), ns=ns)


def forwardings(netlink: Netlink, names: Mapping[int, str], ns: str) -> Iterator[Forwarding]:
    """Every permanent forwarding entry that leads to another machine."""
    for message in netlink.dump(RTM_GETNEIGH, struct.pack("=BxxxiHBB", AF_BRIDGE, 0, 0, 0, 0)):
        index, state = struct.unpack_from("=iH", message, 4)
        found = attributes(message, 12)
        if state & PERMANENT and 1 in found and 2 in found and index in names:
            yield Forwarding(link=names[index], mac=found[2].hex(":"), via=str(ip_address(found[1])), ns=ns)


def same_route(one: Route, other: Route) -> bool:
    """Equal, where ``one`` may leave the link or the source open."""
    return (
        one.key == other.key
        and one.gateway == other.gateway
        and one.link in ("", other.link)
        and (one.source in ("", other.source))
    )


def same_address(netlink: Netlink, wish: Address, index: int) -> str:
    """The address on that device that equals the wanted one, whatever its prefix length."""
    bare = wish.address.partition("/")[0]
    found = [address for at, address, _ in addresses(netlink) if at == index and address.partition("/")[0] == bare]
    return wish.address if wish.address in found or not found else found[0]


def _number(data: bytes | None) -> int:
    return int(struct.unpack_from("=I", data)[0]) if data else 0
