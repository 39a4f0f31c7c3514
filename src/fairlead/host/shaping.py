"""Shaping: how fast a device may send, to messages and back.

    Shaper(link, rate) --add--> a token bucket (tbf) as the device's root queue, handle f1a1:
                       <--read-- ours is the one with that handle

A token bucket lets bursts through and holds the rate on average. The burst is 20
milliseconds' worth, and never less than the largest segment the kernel hands down in
one piece; what waits longer than 50 milliseconds is dropped, so a shaped
connection does not become a slow *and late* one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from fairlead.core.wanted import Shaper
from fairlead.host.netlink import (
    CREATE,
    EXCL,
    REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
    nested,
    string,
    text,
    u32,
)

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
ROOT, OURS = 0xFFFFFFFF, 0xF1A10000
KIND, OPTIONS = 1, 2
PARAMETERS, RATE64, BURST = 1, 4, 6
ETHERNET = 1
LARGEST = 1 << 16
"""A segment before the device cuts it."""


def add(item: Shaper, index: int, again: bool = False) -> Request:
    speed = item.rate // 8
    burst = max(LARGEST + (LARGEST >> 2), speed // 50)
    plain = struct.pack("=BBHhHI", 0, ETHERNET, 0, 0, 0, min(speed, 0xFFFFFFFF))
    none = struct.pack("=BBHhHI", 0, 0, 0, 0, 0, 0)
    body = attribute(PARAMETERS, plain + none + struct.pack("=III", burst + speed // 20, 0, 0)) + u32(BURST, burst)
    if speed > 0xFFFFFFFF:
        body += attribute(RATE64, struct.pack("=Q", speed))
    flags = CREATE | (REPLACE if again else EXCL)
    return Request(RTM_NEWQDISC, flags, _head(index) + text(KIND, "tbf") + nested(OPTIONS, body))


def drop(index: int) -> Request:
    return Request(RTM_DELQDISC, 0, _head(index))


def shapers(netlink: Netlink, names: Mapping[int, str], ns: str) -> Iterator[Shaper]:
    """Every shaper of ours in the namespace."""
    for message in netlink.dump(RTM_GETQDISC, _head(0)[:20]):
        index, handle, parent = struct.unpack_from("=iII", message, 4)
        found = attributes(message, 20)
        if (handle, parent) != (OURS, ROOT) or string(found.get(KIND, b"")) != "tbf" or index not in names:
            continue
        options = attributes(found.get(OPTIONS, b""))
        if RATE64 in options:
            speed = struct.unpack_from("=Q", options[RATE64])[0]
        else:
            speed = struct.unpack_from("=I", options[PARAMETERS], 8)[0]
        yield Shaper(link=names[index], rate=speed * 8, ns=ns)


def _head(index: int) -> bytes:
    """Family, device, our handle, at the root; a dump of all has no device and asks for nothing."""
    return struct.pack("=BxxxiIII", 0, index, OURS if index else 0, ROOT if index else 0, 0)
