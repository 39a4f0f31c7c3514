"""Crossings: frames of an overlay network go from port to port, past its bridge.

    container a --> veth --[ MAC: whose? ]--> vxlan0 --> the other host          known
    the other host --> vxlan0 --[ whose? ]--> eth0 of container b                known, and here
                                  `--> br0 --> vxlan0, veth ...                  unknown, or for many

    lay(doors, objects)    ports and endpoints of a plan that was made
    leave(doors, objects)  of one that goes: nothing crosses to them, or from them, from now on
    forget(ns)             the namespace is gone

One map for a namespace, MAC -> device, and a filter with the same program (``core.crossing``) at each port. What a
bridge asks of each frame is a twentieth of its price, and all of it is known beforehand (docs/why/overlay-cost.md).

Rules
    1. A short cut, never the only way: the bridge stands complete beside it, and who is not in the map goes by it.
       Where the kernel has no such filters, it is said once in the log.
    2. Map and program are held by the filters, not by us: frames cross while the engine is away, and the next one
       finds the map by the tunnel's filter. Where the tunnel has none, all begins anew: never two maps in a namespace.
    3. Only in namespaces that have a tunnel. On a host's own bridge people expect to see what passes.
    4. Where a port has a queue (a rate is kept there), frames go out by the port, through it; else the port's own way
       is left out, too, and they come in by its peer.

What it leaves behind on failure: a port without a filter. What it does not do: look whether a filter was taken away.

Source: tc-bpf(8); linux/rtnetlink.h, linux/pkt_cls.h.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from fairlead.core import crossing
from fairlead.core.protocol import Protocol
from fairlead.core.wanted import HOST, Forwarding, Link, Wanted
from fairlead.errors import FairleadError
from fairlead.host import bpf, links
from fairlead.host.netlink import CREATE, EXCL, Netlink, Refused, Request, attributes, nested, string, text, u32
from fairlead.host.removing import GONE

log = logging.getLogger(__name__)

MOST = 1 << 16
"""endpoints of one network"""
TUNNEL = "vxlan"
NOBODY = "00:00:00:00:00:00"
"""in a forwarding entry: who hears what is for everybody"""
RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_GETTFILTER = 36, 37, 44, 46
_DISCIPLINE, _ABOVE, _INCOMING = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2
"""handle and parent of ``clsact``, and the parent of filters for what comes in"""
_FIRST_OF_ALL = 1 << 16 | socket.htons(3)
"""priority 1, every protocol"""
_KIND, _OPTIONS = 1, 2
_FD, _NAME, _FLAGS, _ID = 6, 7, 8, 11
_DIRECT = 1
_QUEUE, _NO_QUEUE = 6, "noqueue"
"""IFLA_QDISC of a device, and of one whose frames wait for nothing"""
_OURS = "fairlead"
_FINE = GONE | {errno.EEXIST, errno.EINVAL}
"""a device that is gone, a discipline that is there; EINVAL: there was none to take away"""


class Door(Protocol):
    """As ``doors.Door``."""

    netlink: Netlink

    def devices(self) -> list[links.Seen]: ...


class Doors(Protocol):
    """As ``doors.Doors``."""

    def __getitem__(self, ns: str) -> Door: ...


class Lane:
    """Descriptors of one namespace's map and program."""

    def __init__(self, table: int, program: int) -> None:
        self.table, self.program = table, program

    def close(self) -> None:
        os.close(self.table)
        os.close(self.program)


class Crossings:
    """Those of all namespaces."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._lacking = False

    def lay(self, doors: Doors, objects: Iterable[Wanted]) -> None:
        """All of these are there."""
        for ns, part in _parts(objects).items():
            if (lane := self._lane(ns, doors)) is not None:
                there = _ports(doors[ns], {*part.ports, *part.ways.values()})
                for mac, name in part.ways.items():
                    if name in there:
                        _put(lane, mac, there[name])
                numbers = [there[name].number for name in part.ports if name in there]
                _try(doors[ns], [words for number in numbers for words in _on(number, lane)])

    def leave(self, doors: Doors, objects: Iterable[Wanted], stays: Callable[[str], bool] = lambda ns: True) -> None:
        """In namespaces that stay."""
        for ns, part in _parts(objects).items():
            if stays(ns) and (lane := self._lane(ns, doors)) is not None:
                for mac in part.ways:
                    bpf.take(lane.table, crossing.key(mac))
                _try(doors[ns], [_off(port.number) for port in _ports(doors[ns], part.ports).values()])

    def forget(self, ns: str) -> None:
        if lane := self._lanes.pop(ns, None):
            lane.close()

    def close(self) -> None:
        for ns in list(self._lanes):
            self.forget(ns)

    def _lane(self, ns: str, doors: Doors) -> Lane | None:
        """As the tunnel's filter has it, or a new one."""
        if ns not in self._lanes:
            door = doors[ns]
            devices = door.devices()
            tunnel = next((device.index for device in devices if device.kind == TUNNEL), 0)
            if tunnel and (lane := _found(door, tunnel) or self._begun(door, tunnel, devices)):
                self._lanes[ns] = lane
        return self._lanes.get(ns)

    def _begun(self, door: Door, tunnel: int, devices: Iterable[links.Seen]) -> Lane | None:
        """Anew; where the kernel cannot, the others are not asked either, but those that stand are kept right."""
        if self._lacking:
            return None
        try:
            return _begun(door, tunnel, devices)
        except (FairleadError, OSError, Refused) as problem:
            self._lacking = True
            log.info("frames of overlay networks go by their bridges, each one asked: %s", problem)
            return None


class _Part:
    """Of a plan, what is in one namespace."""

    def __init__(self) -> None:
        self.ports: list[str] = []
        self.ways: dict[str, str] = {}
        """MAC -> device"""


def _parts(objects: Iterable[Wanted]) -> dict[str, _Part]:
    found: dict[str, _Part] = defaultdict(_Part)
    for item in objects:
        if isinstance(item, Forwarding) and item.ns != HOST and item.mac != NOBODY:
            found[item.ns].ways[item.mac] = item.link
        elif isinstance(item, Link) and item.ns != HOST and item.master:
            found[item.ns].ports.append(item.name)
            if item.peer_mac:
                found[item.ns].ways[item.peer_mac] = item.name
    return found


class _Port:
    def __init__(self, number: int, within: bool) -> None:
        """``within``: frames for it come in by its peer."""
        self.number, self.within = number, within


def _ports(door: Door, names: Iterable[str]) -> dict[str, _Port]:
    """Those that are there."""
    found = {}
    for answer in door.netlink.ask([links.find(name) for name in names]):
        if isinstance(answer, bytes):
            device = links.seen(answer)
            queue = string(attributes(answer, 16).get(_QUEUE, b""))
            found[device.name] = _Port(device.index, device.kind == "veth" and queue == _NO_QUEUE)
    return found


def _put(lane: Lane, mac: str, port: _Port) -> None:
    try:
        bpf.put(lane.table, crossing.key(mac), crossing.value(port.number, within=port.within))
    except OSError as problem:  # the map is full: by the bridge, then
        bpf.take(lane.table, crossing.key(mac))
        log.warning("frames for %s go by the bridge: %s", mac, problem)


# -- in the kernel --------------------------------------------------------------------------------------------------


def _found(door: Door, tunnel: int) -> Lane | None:
    """By the filter that is there."""
    try:
        for message in door.netlink.dump(RTM_GETTFILTER, _head(tunnel, 0, _INCOMING)):
            options = attributes(attributes(message, 20).get(_OPTIONS, b""))
            if string(options.get(_NAME, b"")) == _OURS and _ID in options:
                program = bpf.program_by_id(struct.unpack("=I", options[_ID])[0])
                return Lane(bpf.map_of(program), program)
    except (FairleadError, OSError, Refused) as problem:
        log.debug("no filter of a tunnel can be read: %s", problem)
    return None


def _begun(door: Door, tunnel: int, devices: Iterable[links.Seen]) -> Lane:
    """A new map; who has a filter with another goes by the bridge, until its port is made again."""
    table = bpf.make_map(bpf.HASH, crossing.KEY_SIZE, crossing.VALUE_SIZE, MOST, bpf.UNRESERVED)
    try:
        lane = Lane(table, bpf.load(bpf.PROGRAM_FILTER, 0, crossing.program(table)))
    except Exception:
        os.close(table)
        raise
    try:
        _do(door, [_off(device.index) for device in devices])
        _do(door, _on(tunnel, lane))
    except Exception:
        lane.close()
        raise
    return lane


def _try(door: Door, requests: Sequence[Request]) -> None:
    """A port without its filter goes by the bridge: nothing else fails for that."""
    try:
        _do(door, requests)
    except Refused as problem:
        log.warning("a port of an overlay network goes by its bridge: %s", problem)


def _do(door: Door, requests: Sequence[Request]) -> None:
    for refusal in door.netlink.do(requests).values():
        if refusal.errno not in _FINE:
            raise refusal


def _on(index: int, lane: Lane) -> list[Request]:
    """A port has the program, whatever it had before."""
    options = nested(_OPTIONS, u32(_FD, lane.program), text(_NAME, _OURS), u32(_FLAGS, _DIRECT))
    return [
        Request(RTM_NEWQDISC, CREATE | EXCL, _head(index, _DISCIPLINE, _ABOVE) + text(_KIND, "clsact")),
        Request(RTM_NEWTFILTER, CREATE, _head(index, 1, _INCOMING, _FIRST_OF_ALL) + text(_KIND, "bpf") + options),
    ]


def _off(index: int) -> Request:
    return Request(RTM_DELQDISC, 0, _head(index, _DISCIPLINE, _ABOVE))


def _head(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    """struct tcmsg"""
    return struct.pack("=BxxxiIII", 0, index, handle, parent, info)
