"""Roads: which way the kernel itself sends a packet, asked, not computed.

    road(target, source, arrives)  --RTM_GETROUTE, twice-->  how it would be sent, and the entry that says so

Asked with the device it came in by, the kernel also does what it does with such a
packet: looks whether an answer would leave there (rp_filter), and whether it forwards
at all. So whatever stands in tables, rules and settings, the answer is the true one.

Rules
    1. Of a refusal the kernel tells the errno only; what may have caused it is looked up.
    2. Marks that somebody's rules would set are not known here: it is asked without.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from fairlead.core.terrain import Road
from fairlead.host import links
from fairlead.host.netlink import Netlink, Refused, Request, attribute, attributes, family_of, string, u32
from fairlead.host.routing import RTM_GETROUTE, RTM_GETRULE

_MATCH: dict[int, int] = {socket.AF_INET: 0x3000, socket.AF_INET6: 0x2000}
"""the entry that matches, and the table it is in (which IPv6 tells unasked)"""
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_REFUSING = ("blackhole", "unreachable", "prohibit")
_ORIGINS = {1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp", 70: "fairlead", 186: "bgp"}
_ORIGINS |= {12: "bird", 11: "zebra", 42: "babel", 188: "ospf", 196: "zebra"}
_TABLES = {253: "default", 254: "main", 255: "local"}
_REASONS = {
    errno.EXDEV: "rp_filter",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "no route",
    errno.EACCES: "prohibit",
    errno.EINVAL: "blackhole",
}


def road(netlink: Netlink, target: str, source: str = "", arrives: str = "") -> Road | None:
    """How a packet for ``target`` is sent; ``arrives``: the device it came in by (then with a source).

    None when that cannot be asked: the device is gone."""
    came = _device(netlink, links.find(arrives)) if arrives else None
    index = came.index if came else 0
    if arrives and not index:
        return None
    answers = netlink.ask([_question(target, source, index, flags) for flags in (0, _MATCH[family_of(target)])])
    if isinstance(answers[0], bytes):
        entry = answers[1] if isinstance(answers[1], bytes) else answers[0]
        found = _read(netlink, answers[0], entry)
        found = _refused(netlink, target, found.kind) if found.kind in _REFUSING else found
        return _with_rules(netlink, found, target)
    if not isinstance(answers[0], Refused) or answers[0].errno not in _REASONS:
        return None
    found = _refused(netlink, target, _REASONS[answers[0].errno])
    if arrives and found.kind == "blackhole" and not found.prefix:  # since 6.14 one errno for what may not come in
        found = Road(kind="martian" if _returns(netlink, source) == arrives else "rp_filter")
    return _with_rules(netlink, found, target)


def _returns(netlink: Netlink, source: str) -> str:
    """The device by which an answer would leave."""
    back = road(netlink, source)
    return back.device if back else ""


def _device(netlink: Netlink, question: Request) -> links.Seen | None:
    (answer,) = netlink.ask([question])
    return links.seen(answer) if isinstance(answer, bytes) else None


def _question(target: str, source: str, index: int, flags: int) -> Request:
    family = family_of(target)
    size = 128 if family == socket.AF_INET6 else 32
    body = struct.pack("=BBBBBBBBI", family, size, size if source else 0, 0, 0, 0, 0, 0, flags)
    body += attribute(1, socket.inet_pton(family, target))
    if source:
        body += attribute(2, socket.inet_pton(family, source))
    if index:
        body += u32(3, index)
    return Request(RTM_GETROUTE, 0, body)


def _read(netlink: Netlink, answer: bytes, entry: bytes) -> Road:
    kind = struct.unpack_from("=B", answer, 7)[0]
    way, match = attributes(answer, 12), attributes(entry, 12)
    family, size, _, _, table, origin = struct.unpack_from("=BBBBBB", entry)
    table = struct.unpack("=I", match[15])[0] if 15 in match else table
    gateway = match.get(5) or way.get(5)
    device = _device(netlink, links.numbered(struct.unpack("=I", way[4])[0])) if 4 in way else None
    return Road(
        device=device.name if device else "",
        gateway=str(ip_address(gateway)) if gateway else "",
        source=str(ip_address(way[7])) if 7 in way else "",
        prefix=f"{ip_address(match.get(1, bytes(16 if family == socket.AF_INET6 else 4)))}/{size}",
        table=_TABLES.get(table, str(table)),
        origin=_ORIGINS.get(origin, str(origin)),
        kind=_KINDS.get(kind, str(kind)),
    )


def _with_rules(netlink: Netlink, found: Road, target: str) -> Road:
    """The policy rules that lead to the table that decided, or that refuse by themselves."""
    wanted = {found.table, "" if not found.leads else found.table}
    mine = tuple(words for table, words in _rules(netlink, family_of(target)) if table in wanted)
    return replace(found, rules=mine)


def _refused(netlink: Netlink, target: str, reason: str) -> Road:
    """A refusal, and the narrowest entry that may be why."""
    found = [each for each in _refusing_routes(netlink, target) if reason in (each.kind, "unreachable")]
    entry = max(found, key=lambda each: int(each.prefix.partition("/")[2]), default=None)
    if entry is None:
        return Road(kind=reason)
    return Road(kind=reason, prefix=entry.prefix, table=entry.table, origin=entry.origin)


def _refusing_routes(netlink: Netlink, target: str) -> Iterator[Road]:
    family = family_of(target)
    for message in netlink.dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
        if message[0] == family and _KINDS.get(message[7]) in _REFUSING:
            each = _read(netlink, message, message)
            if ip_address(target) in ip_network(each.prefix):
                yield each


def _rules(netlink: Netlink, number: int) -> Iterator[tuple[str, str]]:
    """(table, "" for a rule that refuses; as ``ip rule`` shows it) of every rule that not every machine has."""
    for message in netlink.dump(RTM_GETRULE, struct.pack("=BBBBBBBBI", number, 0, 0, 0, 0, 0, 0, 0, 0)):
        if message[0] != number:
            continue
        found = attributes(message, 12)
        table = struct.unpack("=I", found[15])[0] if 15 in found else message[4]
        priority = struct.unpack("=I", found[6])[0] if 6 in found else 0
        if table in _TABLES and priority in (0, 32766, 32767):
            continue
        words = [f"{priority}:", "from", _prefix(found.get(2), message[2])]
        words += ["to", _prefix(found.get(1), message[1])] if 1 in found else []
        words += ["fwmark", hex(struct.unpack("=I", found[10])[0])] if 10 in found else []
        words += ["iif", string(found[3])] if 3 in found else []
        words += ["oif", string(found[17])] if 17 in found else []
        action = {6: "blackhole", 7: "unreachable", 8: "prohibit"}.get(message[7])
        words += [action] if action else ["lookup", _TABLES.get(table, str(table))]
        yield "" if action else _TABLES.get(table, str(table)), " ".join(words)


def _prefix(packed: bytes | None, size: int) -> str:
    return f"{ip_address(packed)}/{size}" if packed else "all"
