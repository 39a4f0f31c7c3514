"""Short cuts: virtual addresses as the kernel knows them where a process connects, beside the tables of ``host.vips``.

    lead(namespace, vips)    from now on who connects to these over TCP gets a task at once
    leave(vips)              from now on the table decides
    forget(ns)               the namespace is gone

Two programs of each family (``core.shortcut``) at the top of the control groups, and one map for all namespaces, told
apart by their cookies, which the kernel never gives twice. They are made when the first address has tasks.

Rules
    1. A short cut, never the only way: the table stands complete beside it. Whatever is wanting (BPF, cookies, control
       groups of version 2, closing others' connections), it is said once in the log, and all goes by the tables.
    2. What the map says of an address is never older than its table: it is left before the table is changed, and led
       again after that.
    3. The programs end with the engine. Who is connected stays so: nothing of a connection is asked of us again, but
       that ``getpeername()`` names the task from then on.
    4. No packet of such a connection can be led elsewhere once its task is gone: it is closed (``host.connections``).

What it leaves behind on failure: nothing. What it does not do: look at tables.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from fairlead.core import shortcut
from fairlead.core.wanted import Vip
from fairlead.errors import FairleadError, Unsupported
from fairlead.host import bpf, connections, turns
from fairlead.host.cgroups import ROOT
from fairlead.host.netlink import Netlink

log = logging.getLogger(__name__)

MOST = 1 << 16
"""addresses, of all namespaces together"""


class Shortcuts:
    """Those of one engine."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._held = ExitStack()
        self._map = -1
        self._tried = False
        self._led: dict[str, dict[str, tuple[bytes, bytes]]] = {}
        """namespace -> address -> what the map has of it"""

    @property
    def open(self) -> bool:
        """Whether there are any, or were."""
        return self._map >= 0

    def lead(self, namespace: Netlink, vips: Iterable[Vip]) -> None:
        """``namespace``: a socket of theirs. Those that stand so already keep whose turn it is."""
        for vip in vips:
            value = shortcut.value(turns.places(vip.targets), vip.policy)
            if value is not None and self._ready():
                try:
                    self._put(vip, shortcut.key(namespace.cookie, vip.address), value)
                except OSError as problem:
                    log.warning("%s has no short cut: %s", vip, problem)

    def _put(self, vip: Vip, key: bytes, value: bytes) -> None:
        led = self._led.setdefault(vip.ns, {})
        if led.get(vip.address) != (key, value):
            bpf.put(self._map, key, value)
            led[vip.address] = key, value

    def leave(self, vips: Iterable[Vip]) -> None:
        for vip in vips:
            if known := self._led.get(vip.ns, {}).pop(vip.address, None):
                bpf.take(self._map, known[0])

    def leads(self, ns: str, address: str) -> bool:
        return address in self._led.get(ns, {})

    def forget(self, ns: str) -> None:
        for key, _ in self._led.pop(ns, {}).values():
            bpf.take(self._map, key)

    def close(self) -> None:
        """The tables decide from now on."""
        self._held.close()
        self._led.clear()
        self._map, self._tried = -1, True

    def _ready(self) -> bool:
        """Made when first asked for."""
        if not self._tried:
            self._tried = True
            try:
                connections.check()
                with ExitStack() as held:
                    found = _attach(self._root, held)
                    self._held = held.pop_all()
                self._map = found
            except (FairleadError, OSError) as problem:
                log.info("packets to services' addresses are turned one by one: %s", problem)
        return self.open


def _attach(root: Path, held: ExitStack) -> int:
    """The map of addresses; what goes with it is closed with ``held``."""

    def keep(descriptor: int) -> int:
        held.callback(os.close, descriptor)
        return descriptor

    top = keep(_top(root))
    addresses = keep(bpf.make_map(bpf.HASH, shortcut.KEY_SIZE, shortcut.VALUE_SIZE, MOST, bpf.UNRESERVED))
    types = keep(bpf.load_types(shortcut.TYPES)), shortcut.NUMBER, shortcut.NOTE
    notes = keep(bpf.make_map(bpf.SOCKET_STORAGE, 4, shortcut.NOTE_SIZE, 0, bpf.UNRESERVED, types))
    for family in (4, 6):
        for place, code in (
            (bpf.AT_PEER_NAME, shortcut.naming(family, notes)),
            (bpf.AT_CONNECT, shortcut.connecting(family, addresses, notes)),
        ):
            program = keep(bpf.load(bpf.PROGRAM_SOCKET_ADDRESS, place[family], code))
            keep(bpf.attach(program, top, place[family]))
    return addresses


def _top(root: Path) -> int:
    """Of version 2's control groups: every process is below it."""
    for place in (root, root / "unified"):
        if (place / "cgroup.controllers").exists():
            return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    raise Unsupported(f"no control groups of version 2 are mounted at {root} or {root}/unified")
