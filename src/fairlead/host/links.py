"""Links: network devices to messages and back.

    Link --create, dress, up--> messages          (made down, marked, with their port options)
    RTM_NEWLINK --seen--> Seen --as_link--> Link  (read back as the wish it fulfils)

How it works
    A veth pair is one message: both ends, each in its namespace under its final
    name, MAC and MTU, the near end enslaved. A second message of the same batch
    *dresses* the device: our mark (``ifalias``) and its options as a bridge port,
    which the kernel does not take at birth. It goes by name, never by index: if the
    first message was refused because somebody has that index, the second must not
    touch that somebody.

    We choose the interface indices (``doors`` counts them), so that nothing need be
    asked between making a device and giving it addresses.

Rules
    1. Ours is what carries ``fairlead:`` in its alias; the far end of a veth pair
       belongs to its near end and carries no mark (people see it in a container).
    2. What a wish leaves open (no MTU, no MAC, an option it does not name) is left
       open when reading back, so that it compares equal.
    3. Bridges never speak STP, never wait before forwarding and never send frames
       through ip(6)tables, unless their options say so.
"""

import ipaddress
import struct
from collections.abc import Callable, Mapping

import msgspec

from fairlead.core.wanted import HOST, Link
from fairlead.errors import Unsupported
from fairlead.host.netlink import CREATE, EXCL, Request, attribute, attributes, nested, string, text, u8, u16, u32

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWNSID, NSID, NSID_FILE = 88, 1, 3
AF_BRIDGE = 7
UP, RUNNING = 1, 0x40
ADDRESS, IFNAME, MTU, LOWER, MASTER, PROTINFO, LINKINFO = 1, 3, 4, 5, 10, 12, 18
IFALIAS, GROUP, NET_NS_FD, EXT_MASK, NETNSID = 20, 27, 28, 29, 37
KIND, DATA, SLAVE_KIND, SLAVE_DATA = 1, 2, 4, 5
SKIP_STATISTICS = 8
LONGEST_ALIAS = 255
MARK = "fairlead:"


class Option(msgspec.Struct, frozen=True):
    """How one option travels: its attribute, its shape, names for its values."""

    attribute: int
    shape: str
    names: Mapping[str, int] = {}


_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

OPTIONS: dict[str, dict[str, Option]] = {
    "bridge": {
        "forward_delay": Option(1, "u32"),
        "ageing_time": Option(4, "u32"),
        "stp": Option(5, "u32"),
        "stp_state": Option(5, "u32"),
        "priority": Option(6, "u16"),
        "vlan_filtering": Option(7, "u8"),
        "group_fwd_mask": Option(9, "u16"),
        "mcast_router": Option(22, "u8"),
        "mcast_snooping": Option(23, "u8"),
        "mcast_querier": Option(25, "u8"),
        "nf_call_iptables": Option(36, "u8"),
        "nf_call_ip6tables": Option(37, "u8"),
        "nf_call_arptables": Option(38, "u8"),
        "vlan_default_pvid": Option(39, "u16"),
    },
    "vxlan": {
        "id": Option(1, "u32"),
        "group": Option(2, "ip4"),
        "local": Option(4, "ip4"),
        "ttl": Option(5, "u8"),
        "learning": Option(7, "u8"),
        "ageing": Option(8, "u32"),
        "proxy": Option(11, "u8"),
        "rsc": Option(12, "u8"),
        "l2miss": Option(13, "u8"),
        "l3miss": Option(14, "u8"),
        "port": Option(15, "be16"),
        "dstport": Option(15, "be16"),
        "group6": Option(16, "ip6"),
        "local6": Option(17, "ip6"),
        "udp_csum": Option(18, "u8"),
        "udp_zero_csum6_tx": Option(19, "u8"),
        "udp_zero_csum6_rx": Option(20, "u8"),
    },
    "macvlan": {"mode": Option(1, "u32", _MACVLAN_MODES)},
    "ipvlan": {"mode": Option(1, "u16", _IPVLAN_MODES), "flags": Option(2, "u16", _IPVLAN_FLAGS)},
    "vlan": {"id": Option(1, "u16")},
}
"""Kind of device -> its own options."""

PORT_OPTIONS: dict[str, Option] = {
    "hairpin": Option(4, "u8"),
    "guard": Option(5, "u8"),
    "learning": Option(8, "u8"),
    "flood": Option(9, "u8"),
    "unicast_flood": Option(9, "u8"),
    "proxy_arp": Option(10, "u8"),
    "mcast_flood": Option(27, "u8"),
    "bcast_flood": Option(30, "u8"),
    "group_fwd_mask": Option(31, "u16"),
    "neigh_suppress": Option(32, "u8"),
    "isolated": Option(33, "u8"),
    "locked": Option(39, "u8"),
}
"""Options of a device as a port of a bridge; a kind's own option of the same name goes first."""

_BRIDGE_DEFAULTS = {
    name: "0" for name in ("stp_state", "forward_delay", "nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables")
}

STAYS_BEHIND = frozenset({"vxlan", "macvlan", "ipvlan", "vlan"})
"""Kinds born from the host wherever they go: there they keep their underlay or parent."""

INSIDE = frozenset({"macvlan", "ipvlan"})
"""Kinds that are a container's own interface where they are in its namespace: what it puts on them is its affair."""

CHANGEABLE = frozenset({"bridge", "macvlan"})
"""Kinds whose own options may change while the device stands."""


class Seen(msgspec.Struct, frozen=True):
    """A device as the kernel reports it; indices are of its own namespace unless ``elsewhere``."""

    index: int
    name: str
    kind: str
    alias: str
    mtu: int
    mac: str
    master: int
    up: bool
    group: int
    lower: int
    """index of the veth's other end, or of the device it sits on"""
    elsewhere: bool
    """``lower`` counts in another namespace"""
    own: bytes
    """its kind's own options, as they came"""
    as_port: bytes
    """its options as a bridge port; empty for what is none"""

    @property
    def data(self) -> dict[int, bytes]:
        return attributes(self.own)

    @property
    def port(self) -> dict[int, bytes]:
        return attributes(self.as_port)

    @property
    def ours(self) -> bool:
        return self.alias.startswith(MARK)


# -- to the kernel ----------------------------------------------------------------


def header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def find(name: str) -> Request:
    """The question for one device by name."""
    return Request(RTM_GETLINK, 0, header() + text(IFNAME, name) + u32(EXT_MASK, SKIP_STATISTICS))


def numbered(index: int) -> Request:
    """The question for one device by number; there is none with number 0."""
    return Request(RTM_GETLINK, 0, header(index) + u32(EXT_MASK, SKIP_STATISTICS))


EVERY = header() + u32(EXT_MASK, SKIP_STATISTICS)
"""Body of a dump of all devices."""


class Place(msgspec.Struct, frozen=True):
    """Where a device is to be born, in numbers."""

    index: int
    namespace: int = -1
    """open file of its namespace, -1: where the request is made"""
    master: int = 0
    parent: int = 0
    peer_index: int = 0
    peer_namespace: int = -1


def create(link: Link, place: Place) -> Request:
    """The device, down; refused if the name or the index is taken."""
    body = header(place.index) + text(IFNAME, link.name)
    if place.namespace >= 0:
        body += u32(NET_NS_FD, place.namespace)
    if link.mtu:
        body += u32(MTU, _other_mtu(link.mtu) if link.kind == "bridge" else link.mtu)
    if link.mac:
        body += attribute(ADDRESS, mac_bytes(link.mac))
    if link.group:
        body += u32(GROUP, link.group)
    if place.master:
        body += u32(MASTER, place.master)
    if place.parent and link.kind != "vxlan":
        body += u32(LOWER, place.parent)
    data = _peer(link, place) if link.kind == "veth" else _data(link, place)
    body += nested(LINKINFO, text(KIND, link.kind), nested(DATA, data))
    return Request(RTM_NEWLINK, CREATE | EXCL, body)


def _other_mtu(mtu: int) -> int:
    """A bridge keeps to its MTU, whatever its ports have, only if that was changed after birth: so it must change."""
    return mtu - 4


def dress(link: Link) -> Request:
    """Our mark, and the options as a port; by name."""
    body = header() + text(IFNAME, link.name) + alias(link)
    if link.kind == "bridge" and link.mtu:
        body += u32(MTU, link.mtu)
    if ("mode", "passthru") in link.options and link.mac:
        body += attribute(ADDRESS, mac_bytes(link.mac))
    if port := _encode_all(link, port=True):
        body += nested(LINKINFO, text(SLAVE_KIND, "bridge"), nested(SLAVE_DATA, port))
    return Request(RTM_NEWLINK, 0, body)


def change(link: Link, index: int, place: Place) -> Request:
    """Everything that can be changed on a device that stands, except up."""
    body = header(index) + alias(link)
    if link.mtu:
        body += u32(MTU, link.mtu)
    if link.mac:
        body += attribute(ADDRESS, mac_bytes(link.mac))
    if link.group:
        body += u32(GROUP, link.group)
    body += u32(MASTER, place.master)
    if link.kind in CHANGEABLE and (data := _encode_all(link, port=False)):
        body += nested(LINKINFO, text(KIND, link.kind), nested(DATA, data))
    return Request(RTM_NEWLINK, 0, body)


def set_state(index: int, up: bool) -> Request:
    return Request(RTM_NEWLINK, 0, header(index, UP if up else 0, UP))


def set_mac(index: int, mac: str) -> Request:
    return Request(RTM_NEWLINK, 0, header(index) + attribute(ADDRESS, mac_bytes(mac)))


def set_mtu(index: int, mtu: int) -> Request:
    return Request(RTM_NEWLINK, 0, header(index) + u32(MTU, mtu))


def change_peer(link: Link, index: int) -> list[Request]:
    """The far end of a pair: its MTU and MAC."""
    return ([set_mtu(index, link.mtu)] if link.mtu else []) + ([set_mac(index, link.peer_mac)] if link.peer_mac else [])


def cut(index: int) -> Request:
    """No frame passes this bridge port from now on; unlike deleting, this costs no waiting.

    Asked as a bridge matter: the same wish as a device matter is followed by a notice that enables the port again.
    """
    head = struct.pack("=BxHiII", AF_BRIDGE, 0, index, 0, 0)
    return Request(RTM_SETLINK, 0, head + nested(PROTINFO, u8(1, 0)))


def delete(index: int) -> Request:
    return Request(RTM_DELLINK, 0, header(index))


def number(namespace: int) -> Request:
    """Give the namespace of that open file a number here, so that ``monitor`` hears of it; it may have one already."""
    return Request(RTM_NEWNSID, 0, struct.pack("=B3x", 0) + u32(NSID, 0xFFFFFFFF) + u32(NSID_FILE, namespace))


def set_group(index: int, group: int) -> Request:
    return Request(RTM_NEWLINK, 0, header(index) + u32(GROUP, group))


def delete_group(group: int) -> Request:
    """All devices of a group at the price of one."""
    return Request(RTM_DELLINK, 0, header() + u32(GROUP, group))


def alias(link: Link) -> bytes:
    mark = (MARK + link.owner).encode()[:LONGEST_ALIAS].decode(errors="ignore")
    return attribute(IFALIAS, mark.encode())


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _peer(link: Link, place: Place) -> bytes:
    body = header(place.peer_index) + text(IFNAME, link.peer)
    if place.peer_namespace >= 0:
        body += u32(NET_NS_FD, place.peer_namespace)
    if link.peer_mac:
        body += attribute(ADDRESS, mac_bytes(link.peer_mac))
    if link.mtu:
        body += u32(MTU, link.mtu)
    return nested(1, body)


def _data(link: Link, place: Place) -> bytes:
    body = _encode_all(link, port=False)
    if link.kind == "vxlan" and place.parent:
        body += u32(3, place.parent)
    return body


def _encode_all(link: Link, port: bool) -> bytes:
    own = OPTIONS.get(link.kind, {})
    wishes = dict(link.options)
    if link.kind == "bridge" and not port:
        wishes = {**{k: v for k, v in _BRIDGE_DEFAULTS.items() if not (k == "stp_state" and "stp" in wishes)}, **wishes}
    parts = []
    for name, value in wishes.items():
        option = own.get(name) or PORT_OPTIONS.get(name)
        if option is None:
            raise Unsupported(f"a {link.kind} device has no option {name} ({link.name})")
        if port == (name not in own):
            parts.append(_encode(option, name, value))
    return b"".join(parts)


_PLAIN: dict[str, Callable[[int, int], bytes]] = {"u8": u8, "u16": u16, "u32": u32}


def _encode(option: Option, name: str, value: str) -> bytes:
    try:
        if option.shape in ("ip4", "ip6"):
            return attribute(option.attribute, ipaddress.ip_address(value).packed)
        number = option.names[value] if value in option.names else int(value, 0)
        if option.shape == "be16":
            return attribute(option.attribute, struct.pack(">H", number))
        return _PLAIN[option.shape](option.attribute, number)
    except (ValueError, struct.error):
        raise Unsupported(f"{value!r} is no value for the device option {name}") from None


# -- and back ---------------------------------------------------------------------


def seen(message: bytes) -> Seen:
    """A RTM_NEWLINK body as values."""
    index, flags = struct.unpack_from("=iI", message, 4)
    found = attributes(message, 16)
    info = attributes(found.get(LINKINFO, b""))
    bridged = string(info.get(SLAVE_KIND, b"")) == "bridge"
    return Seen(
        index=index,
        name=string(found.get(IFNAME, b"")),
        kind=string(info.get(KIND, b"")),
        alias=string(found.get(IFALIAS, b"")),
        mtu=_u32(found.get(MTU)),
        mac=found.get(ADDRESS, b"").hex(":"),
        master=_u32(found.get(MASTER)),
        up=bool(flags & UP),
        group=_u32(found.get(GROUP)),
        lower=_u32(found.get(LOWER)),
        elsewhere=NETNSID in found,
        own=info.get(DATA, b""),
        as_port=info.get(SLAVE_DATA, b"") if bridged else b"",
    )


def running(message: bytes) -> bool:
    """Whether the device of a RTM_NEWLINK body is up and lets packets through: the kernel has noticed the carrier."""
    return bool(struct.unpack_from("=I", message, 8)[0] & RUNNING)


class Around(msgspec.Struct, frozen=True):
    """What a device alone does not tell: names of those around it."""

    master: str = ""
    parent: str = ""
    peer: str = ""
    peer_ns: str = HOST
    peer_mac: str = ""
    peer_up: bool = True


def as_link(found: Seen, ns: str, around: Around, wish: Link | None) -> Link:
    """The device as a wish; with a ``wish`` of the same key, what that leaves open is left open."""
    if wish is None:
        wish = Link(name=found.name, kind=found.kind, ns=ns, mtu=1, mac="x", peer_mac="x" if around.peer else "")
    own, data, port = OPTIONS.get(found.kind, {}), found.data, found.port
    options = []
    for name, _ in wish.options:
        option, source = (own[name], data) if name in own else (PORT_OPTIONS.get(name), port)
        if option is not None and option.attribute in source:
            options.append((name, _decode(option, source[option.attribute])))
    return Link(
        name=found.name,
        kind=found.kind,
        ns=ns,
        master=around.master,
        peer=around.peer,
        peer_ns=around.peer_ns,
        peer_mac=around.peer_mac if wish.peer_mac else "",
        parent=around.parent,
        mtu=found.mtu if wish.mtu else 0,
        mac=found.mac if wish.mac else "",
        up=found.up and around.peer_up,
        group=found.group if wish.group else 0,
        options=_as_spelled(tuple(options), wish.options),
        owner=found.alias.removeprefix(MARK) if found.ours else "",
    )


def parent_of(found: Seen) -> int:
    """Index of the device it sits on, 0 for none."""
    return _u32(found.data.get(3)) if found.kind == "vxlan" else found.lower


def can_become(now: Link, wish: Link) -> bool:
    """Whether the standing device can be changed into the wanted one without being made anew."""

    def own(link: Link) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in link.options if pair[0] in OPTIONS.get(link.kind, {}))

    same = all(getattr(now, name) == getattr(wish, name) for name in ("kind", "parent", "peer", "peer_ns"))
    return same and (wish.kind in CHANGEABLE or own(now) == own(wish))


def _as_spelled(
    options: tuple[tuple[str, str], ...], wished: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Numbers in the spelling of the wish (``0x8``, ``08``) if they are the same number."""
    spelled = dict(wished)

    def same(name: str, value: str) -> str:
        wish = spelled.get(name, value)
        try:
            return wish if int(wish, 0) == int(value, 0) else value
        except ValueError:
            return value

    return tuple((name, same(name, value)) for name, value in options)


def _decode(option: Option, data: bytes) -> str:
    if option.shape in ("ip4", "ip6"):
        return str(ipaddress.ip_address(data))
    number = int.from_bytes(data, "big" if option.shape == "be16" else "little")
    return next((name for name, value in option.names.items() if value == number), str(number))


def _u32(data: bytes | None) -> int:
    return int(struct.unpack_from("=I", data)[0]) if data and len(data) >= 4 else 0
