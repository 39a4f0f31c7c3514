"""Announcing: who holds an address now tells everybody on its network, mostly behind the caller's back.

    making: the device is up, its port forwards --announce(ns, link, moved)--> thread: visit, a frame for each address
                                               <--------- if moved -----------

Whoever spoke with the address before remembers the MAC it had then, for seconds or for ever; a gratuitous ARP request
(IPv4) or an unsolicited neighbour advertisement (IPv6) puts that right. The kernel would send them by itself
(``arp_notify``, ``ndisc_notify``), but within the call that brings the device up, and once more when told that the port
forwards by now: a broadcast is received by every port of the bridge, before the call returns. Among 200 containers that
was a third of all that connecting one more costs. So nobody waits, unless the address had another MAC a while ago:
then somebody may be about to send to that one.

Rules
    1. What is announced are the addresses that the device has at that moment, with the MAC that it has; not those that
       the kernel made of the MAC.
    2. Several wishes for one device that were not met yet are one.
    3. A device or a namespace that is gone by then has nothing to announce. What cannot be sent is not sent again.
    4. The thread begins a breath later, when whoever asked has long gone on: two threads of this process at work
       at once, each of many short calls to the kernel, take three times as long as one after the other.

What it does not do: wait until the port forwards (``making``). What was before this process it does not know.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_interface

from fairlead.errors import Internal
from fairlead.host import routing
from fairlead.host.netlink import Netlink, Refused
from fairlead.host.netns import inside

_ETHER, _ARP, _IPV6 = 1, 0x0806, 0x86DD
_EVERYBODY, _ALL_NODES = b"\xff" * 6, bytes.fromhex("333300000001")
_ALL_NODES_ADDRESS = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ADVERTISEMENT, _OVERRIDE, _TARGET_MAC, _ICMPV6 = 136, 0x20000000, 2, 58
_GET_FLAGS, _NO_ARP = 0x8913, 0x80
_REMEMBERED = 1 << 16
BREATH, LINGER = 0.02, 50
"""Seconds until the thread looks whether there is something to say; how many looks in vain it takes to its end."""


class Announcer:
    """The thread and its work. ``path``: of a namespace, by its name."""

    def __init__(self, path: Callable[[str], str]) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._queue: dict[tuple[str, str], None] = {}
        self._running = self._busy = self._hurried = False
        self._macs: dict[str, OrderedDict[str, str]] = defaultdict(OrderedDict)
        """bridge or parent -> address -> the MAC it had last"""

    def moves(self, where: str, address: str, mac: str) -> bool:
        """Whether an address (on the network of that device) had another MAC before, and has this one now."""
        known = self._macs[where]
        before = known.pop(address, mac)
        known[address] = mac
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        return before != mac

    def forget(self, where: str) -> None:
        """That bridge is gone, and who remembered anything with it."""
        self._macs.pop(where, None)

    def announce(self, ns: str, link: str, moved: bool = False) -> None:
        """Soon; before it returns, if it ``moved``."""
        with self._changed:
            self._queue[ns, link] = None
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="announcing addresses", daemon=True).start()
        if moved:
            self.settle()

    def settle(self) -> None:
        """Return when everything was announced."""
        with self._changed:
            while self._queue or self._busy:
                self._hurried = True
                self._changed.notify_all()
                self._changed.wait()

    def _run(self) -> None:
        idle = 0
        while idle < LINGER:
            with self._changed:
                self._changed.wait_for(lambda: self._hurried, BREATH)
                waiting, self._queue, self._hurried = self._queue, {}, False
                idle = 0 if waiting else idle + 1
                self._busy, self._running = bool(waiting), idle < LINGER
            for ns, link in waiting:
                with suppress(OSError, Refused, Internal):
                    _announce(self._path(ns), link)
            with self._changed:
                self._busy = False
                self._changed.notify_all()


def _announce(path: str, link: str) -> None:
    with inside(path):
        index, netlink = socket.if_nametoindex(link), Netlink.here()
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
    try:
        wire.bind((link, 0))
        *_, kind, mac = wire.getsockname()
        flags = struct.unpack_from("=16xH", fcntl.ioctl(wire, _GET_FLAGS, struct.pack("=16sH22x", link.encode(), 0)))[0]
        if kind == _ETHER and not flags & _NO_ARP:
            for where, address, by_itself in routing.addresses(netlink):
                if where == index and not by_itself:
                    wire.send(frame(mac, address))
    finally:
        wire.close()
        netlink.close()


def frame(mac: bytes, address: str) -> bytes:
    """The Ethernet frame that says: this address (with or without its length) is at this MAC. RFC 5227, RFC 4861."""
    packed = ip_interface(address).ip.packed
    if len(packed) == 4:
        head = struct.pack(">6s6sHHHBBH", _EVERYBODY, mac, _ARP, _ETHER, 0x0800, 6, 4, 1)
        return head + mac + packed + bytes(6) + packed
    said = struct.pack(">I16sBB6s", _OVERRIDE, packed, _TARGET_MAC, 1, mac)
    pseudo = packed + _ALL_NODES_ADDRESS + struct.pack(">II", 4 + len(said), _ICMPV6)
    checksum = _checksum(pseudo + struct.pack(">BBH", _ADVERTISEMENT, 0, 0) + said)
    head = struct.pack(">6s6sHIHBB", _ALL_NODES, mac, _IPV6, 6 << 28, 4 + len(said), _ICMPV6, 255)
    return head + packed + _ALL_NODES_ADDRESS + struct.pack(">BBH", _ADVERTISEMENT, 0, checksum) + said


def _checksum(data: bytes) -> int:
    """The Internet's, of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
