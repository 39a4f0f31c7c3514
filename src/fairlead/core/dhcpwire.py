"""DHCP messages <-> bytes (RFC 2131, 2132, 3396, 3442), and the IPv4 datagrams that carry them on a raw socket.

    request(DISCOVER, …) --datagram--> bytes of an IP packet      before we have an address, nobody else can write one
    bytes --payload_of--> DHCP message --parse--> Reply | None    None: not for us, or nonsense

A LAN is full of strangers, and any of them may answer. So reading is strict
where a lie would break something, and deaf where it would only be odd:

    the whole message is refused    cut off, no cookie, options that run past their end, an address that no
                                    host can have (0, loopback, multicast, a broadcast), a mask with holes
    one option is left out          a router outside the subnet, an MTU below 576, a search list that is no list
                                    of names, a route to nearly everywhere (below /8), to loopback or to multicast

What it does not do: remember anything (``core.dhcp``), or touch a socket.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from fairlead.core.model import Lease

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)
SERVER_PORT, CLIENT_PORT = 67, 68
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"
FOREVER = 0xFFFFFFFF

_PAD, _END = 0, 255
_MASK, _ROUTER, _DNS, _HOSTNAME, _DOMAIN, _MTU = 1, 3, 6, 12, 15, 26
WISH, _SECONDS, _OVERLOAD, _KIND, SERVER, _WANTED, _LARGEST, _T1, _T2 = 50, 51, 52, 53, 54, 55, 57, 58, 59
_VENDOR, _IDENTITY, _ROUTES = 60, 61, 121
_ASKED = bytes((_ROUTES, _MASK, _ROUTER, _DNS, _DOMAIN, _MTU, _SECONDS, _T1, _T2))
_COOKIE = b"\x63\x82\x53\x63"
_HEAD = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s4s")
_ETHERNET, _UDP, _SMALLEST = 1, 17, 300
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NOWHERE = IPv4Network("0.0.0.0/8")
_SMALLEST_MTU, _MOST, _WIDEST_ROUTE = 576, 16, 8
SHORTEST = 10
"""seconds: who lends for less would only keep us busy"""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said. ``lease`` None: a refusal, or an answer without a usable address."""

    kind: int
    xid: int
    mac: str
    server: str = ""
    lease: Lease | None = None


# -- to bytes -----------------------------------------------------------------------------


def request(
    kind: int,
    xid: int,
    mac: str,
    *,
    seconds: int = 0,
    address: str = NOBODY,
    options: Mapping[int, bytes] | None = None,
) -> bytes:
    """A client's message. ``address``: the one it holds (ciaddr), to which answers may be sent."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    head = _HEAD.pack(
        1, _ETHERNET, 6, 0, xid, min(seconds, 0xFFFF), 0, _packed(address), b"", b"", b"", hardware, b"", b"", _COOKIE
    )
    said = {_KIND: bytes((kind,)), _IDENTITY: bytes((_ETHERNET,)) + hardware, **(options or {})}
    if kind in (DISCOVER, REQUEST):
        said |= {_WANTED: _ASKED, _LARGEST: (1472).to_bytes(2), _VENDOR: b"fairlead"}
    body = b"".join(bytes((code, len(value))) + value for code, value in said.items()) + bytes((_END,))
    return (head + body).ljust(_SMALLEST, b"\0")


def hostname_option(name: str) -> dict[int, bytes]:
    """The name that the LAN's server may put into its DNS: one label of letters, digits and hyphens, or none at all."""
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.partition(".")[0])[:63].strip("-")
    return {_HOSTNAME: label.encode()} if label else {}


def address_option(code: int, address: str) -> dict[int, bytes]:
    return {code: _packed(address)} if address else {}


def datagram(payload: bytes, source: str = NOBODY, destination: str = EVERYBODY) -> bytes:
    """The IPv4 packet that carries it from the client's port to the server's."""
    ends = _packed(source) + _packed(destination)
    length = len(payload) + 8
    udp = struct.pack(">HHHH", CLIENT_PORT, SERVER_PORT, length, 0)
    proof = _checksum(ends + struct.pack(">BBH", 0, _UDP, length) + udp + payload) or 0xFFFF
    head = struct.pack(">BBHHHBBH", 0x45, 0, length + 20, 0, 0, 64, _UDP, 0) + ends
    head = head[:10] + _checksum(head).to_bytes(2) + head[12:]
    return head + udp[:6] + proof.to_bytes(2) + payload


# -- from bytes ---------------------------------------------------------------------------


def payload_of(packet: bytes, checked: bool = True) -> bytes | None:
    """What an IPv4 packet carries to a DHCP client; None for every other packet.

    ``checked`` False: it comes from this very machine, which leaves the UDP checksum to a card it never reaches.
    """
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return None
    size, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
    fragment = int.from_bytes(packet[6:8]) & 0x3FFF
    if size < 20 or fragment or not size + 8 <= length <= len(packet) or _checksum(packet[:size]):
        return None
    udp = packet[size:length]
    _, port, told, proof = struct.unpack_from(">HHHH", udp)
    if port != CLIENT_PORT or not 8 <= told <= len(udp):
        return None
    pseudo = packet[12:20] + struct.pack(">BBH", 0, _UDP, told)
    if checked and proof and _checksum(pseudo + udp[:told]):
        return None
    return udp[8:told]


def parse(payload: bytes) -> Reply | None:
    """A server's message; None when it is none, or damaged."""
    if len(payload) < _HEAD.size:
        return None
    op, kind, size, _, xid, _, _, _, yours, _, _, hardware, name, file, cookie = _HEAD.unpack_from(payload)
    if (op, kind, size, cookie) != (2, _ETHERNET, 6, _COOKIE):
        return None
    try:
        options = _options(payload[_HEAD.size :], file, name)
        said = options.get(_KIND, b"")
        server = str(IPv4Address(options[SERVER])) if SERVER in options else ""
        lease = _lease(yours, server, options) if said in (b"\x02", b"\x05") else None
    except ValueError:
        return None
    if len(said) != 1:
        return None
    return Reply(kind=said[0], xid=xid, mac=hardware[:6].hex(":"), server=server, lease=lease)


def _options(area: bytes, file: bytes, name: bytes) -> dict[int, bytes]:
    """All options, those in borrowed fields too (overload); parts of one option are put together (RFC 3396)."""
    found: dict[int, bytes] = {}
    _collect(area, found)
    overload = found.get(_OVERLOAD, b"\0")[-1:]
    if overload in (b"\x01", b"\x03"):
        _collect(file, found)
    if overload in (b"\x02", b"\x03"):
        _collect(name, found)
    return found


def _collect(area: bytes, into: dict[int, bytes]) -> None:
    at = 0
    while at < len(area) and area[at] != _END:
        code = area[at]
        at += 1
        if code == _PAD:
            continue
        if at >= len(area) or at + 1 + area[at] > len(area):
            raise ValueError("an option runs past its end")
        into[code] = into.get(code, b"") + area[at + 1 : at + 1 + area[at]]
        at += 1 + area[at]


# -- what was offered ---------------------------------------------------------------------


def _lease(yours: bytes, server: str, options: Mapping[int, bytes]) -> Lease:
    held = IPv4Interface(f"{IPv4Address(yours)}/{_length(options.get(_MASK), yours[0])}")
    if not _can_be_a_host(held):
        raise ValueError("no host can have that address")
    seconds = int.from_bytes(options[_SECONDS]) if len(options.get(_SECONDS, b"")) == 4 else 0
    if seconds < SHORTEST or not server or not _is_unicast(IPv4Address(server)):
        raise ValueError("an offer says by whom and for how long")
    endless = seconds == FOREVER
    t1, t2 = (int.from_bytes(options.get(code, b"")) for code in (_T1, _T2))
    if not 0 < t1 < t2 < seconds:
        t1, t2 = seconds // 2, seconds * 7 // 8
    routes = tuple(_routes(options.get(_ROUTES, b"")))
    # With classless routes the router's own option counts no more (RFC 3442).
    defaults = [gateway for prefix, gateway in routes if not prefix.prefixlen]
    routers = defaults if routes else _addresses(options, _ROUTER)
    near = [held.network, *(prefix for prefix, gateway in routes if not int(gateway) and _is_somewhere(prefix, held))]
    return Lease(
        address=str(held),
        server=server,
        seconds=0 if endless else seconds,
        renew=0 if endless else t1,
        rebind=0 if endless else t2,
        gateway=next((str(router) for router in routers if _is_near(router, held, near)), ""),
        dns=tuple(str(address) for address in _addresses(options, _DNS) if _is_unicast(address)),
        search=tuple(_names(options.get(_DOMAIN, b""))),
        mtu=_mtu(options.get(_MTU, b"")),
        routes=tuple(
            (str(prefix), str(gateway) if int(gateway) else "")
            for prefix, gateway in sorted(routes, key=lambda route: int(route[1]) != 0)
            if _is_somewhere(prefix, held) and (not int(gateway) or _is_near(gateway, held, near))
        ),
    )


def _length(mask: bytes | None, first: int) -> int:
    """Prefix length of a mask; without one, that of the address's class, as it was before there were masks."""
    if mask is None:
        return 8 if first < 128 else 16 if first < 192 else 24
    holes = ~int(IPv4Address(mask)) & 0xFFFFFFFF
    if holes & (holes + 1):
        raise ValueError("a mask with holes")
    return 32 - holes.bit_length()


def _is_unicast(address: IPv4Address) -> bool:
    return not (address.is_multicast or address.is_loopback or address.is_reserved or address in _NOWHERE)


def _can_be_a_host(held: IPv4Interface) -> bool:
    return _is_unicast(held.ip) and held.network.prefixlen >= _WIDEST_ROUTE and not _is_edge(held.ip, held)


def _is_edge(address: IPv4Address, held: IPv4Interface) -> bool:
    """The subnet's own address, or its broadcast."""
    net = held.network
    return net.prefixlen < 31 and address in (net.network_address, net.broadcast_address)


def _is_near(address: IPv4Address, held: IPv4Interface, near: list[IPv4Network]) -> bool:
    """Whether it can be our router: the kernel refuses ourselves, broadcasts, and what is behind another router."""
    return address != held.ip and not _is_edge(address, held) and any(address in net for net in near)


def _is_somewhere(prefix: IPv4Network, held: IPv4Interface) -> bool:
    """Whether a route there is honest. (The default route is ``gateway``'s business, our subnet the address's.)"""
    return (
        prefix.prefixlen >= _WIDEST_ROUTE
        and prefix != held.network
        and not (prefix.is_loopback or prefix.is_multicast or prefix.subnet_of(_NOWHERE))
    )


def _addresses(options: Mapping[int, bytes], code: int) -> list[IPv4Address]:
    value = options.get(code, b"")
    whole = len(value) - len(value) % 4
    return [IPv4Address(value[at : at + 4]) for at in range(0, min(whole, 4 * _MOST), 4)]


def _routes(value: bytes) -> Iterator[tuple[IPv4Network, IPv4Address]]:
    """RFC 3442: prefix length, as many bytes of the prefix as that needs, gateway."""
    at = 0
    while at < len(value):
        length = value[at]
        size = (length + 7) // 8
        if length > 32 or at + 1 + size + 4 > len(value):
            raise ValueError("a route is cut off")
        prefix = value[at + 1 : at + 1 + size].ljust(4, b"\0")
        gateway = IPv4Address(value[at + 1 + size : at + 5 + size])
        yield IPv4Network((prefix, length), strict=False), gateway
        at += 5 + size


def _names(value: bytes) -> Iterator[str]:
    for name in value.rstrip(b"\0").decode("ascii", "replace").split()[:6]:
        if len(name) < 254 and all(_LABEL.fullmatch(label) for label in name.rstrip(".").split(".")):
            yield name.rstrip(".")


def _mtu(value: bytes) -> int:
    number = int.from_bytes(value) if len(value) == 2 else 0
    return number if number >= _SMALLEST_MTU else 0


def _packed(address: str) -> bytes:
    return IPv4Address(address).packed


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071); 0 over data that carries a right one."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
