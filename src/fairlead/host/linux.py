"""LinuxHost: the hands. Wanted objects become kernel objects, and are read back.

    make(plan)    -> making    (the order of steps, all or nothing)
    remove(plan)  -> here      (backwards, forgiving) -> removing (the slow part, in a thread)
    look(wanted)  -> looking
                        |
        netns  links  routing  nft  sysctls  files  conntrack      (what each kind of object is)
        doors  netlink                                             (how to get there)

Rules
    1. The host's namespace is the one the maker's thread was in. From then on it does
       not matter which thread calls; calls take turns.
    2. We remove what we are told to, and of the host's devices only those that carry
       our mark. A device of somebody else that took the name stays.
    3. Nothing here waits for a network or a program; no process is ever started.

What it leaves behind on failure: see ``making``. What it does not do: decide.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.core.wanted import (
    HOST,
    Address,
    Element,
    Fence,
    File,
    Link,
    Namespace,
    Plan,
    Skeleton,
    Sysctl,
    Wanted,
    by_namespace,
)
from fairlead.errors import FairleadError, Internal
from fairlead.host import (
    beside,
    connections,
    conntrack,
    fences,
    files,
    ipsec,
    links,
    listings,
    looking,
    making,
    nft,
    routing,
    sysctls,
)
from fairlead.host.announcing import Announcer
from fairlead.host.doors import Doors
from fairlead.host.monitor import Monitor
from fairlead.host.netlink import Netlink
from fairlead.host.netns import Namespaces, inside
from fairlead.host.removing import GONE, Leaving, Remover
from fairlead.host.watched import Watched

if TYPE_CHECKING:
    from fairlead.core.terrain import Road

BETWEEN = 0.0003
"""Seconds between two steps of a gentle look: a lock that is let go of and taken at once is passed to nobody."""
DONE = object()


class LinuxHost:
    """``host.base.Host`` on a Linux kernel. ``exec_root``: namespaces are kept in its directory ``netns``."""

    def __init__(self, exec_root: str | Path) -> None:
        self._namespaces = Namespaces(Path(exec_root) / "netns")
        listings.remember(Path(exec_root) / "listings")
        self._doors = Doors(self._namespaces)
        self._remover = Remover(self._open_netlink)
        self._announcer = Announcer(self._namespaces.path)
        self._settings = Watched(self._doors[HOST].settings.near)
        self._turn = threading.RLock()

    def close(self) -> None:
        """Let go of every socket; what was made stays."""
        with self._turn:
            self._announcer.settle()
            self._remover.close()
            self._doors.close()
            self._namespaces.close()
            self._settings.close()

    # -- Host -------------------------------------------------------------------------

    def make(self, objects: Sequence[Wanted]) -> None:
        with self._turn:
            self._remover.wait_for(
                name
                for item in objects
                if isinstance(item, Link)
                for name in ((item.ns, item.name), (item.peer_ns, item.peer))
            )
            making.Making(objects, self._doors, self._namespaces, self._remover, self._announcer).run()
            self._settings.also(_settings_of(objects))

    def foresee(self, objects: Iterable[Wanted]) -> None:
        elements = [item for item in objects if isinstance(item, Element) and item.ns == HOST]
        if elements:
            with self._turn:
                self._doors[HOST].nft.foresee(elements)

    def remove(self, objects: Sequence[Wanted]) -> None:
        with self._turn:
            self._settings.forget(_settings_of(objects))
            errors = _Removal(objects, self._doors, self._namespaces, self._remover).run()
            for item in objects:
                if isinstance(item, Link) and item.kind == "bridge":
                    self._announcer.forget(item.name)
        if errors:
            raise ExceptionGroup("not everything could be removed", errors)

    def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> Plan:
        objects = tuple(objects)
        with self._turn:
            self._settings.only(_settings_of(objects))
            look = looking.Look(self._doors, self._namespaces, objects, self._remover.pending)
        steps = look.steps()
        more = True
        while more:
            with self._turn:
                more = next(steps, DONE) is not DONE
            if gently:
                time.sleep(BETWEEN)
        return look.found()

    def devices_amiss(self, wanted: Iterable[Link]) -> set[str]:
        with self._turn:
            messages = self._doors[HOST].device_messages()
            leaving = {name for ns, name in self._remover.pending if ns == HOST}
        devices = [links.seen(message) for message in messages]
        names = {device.index: device.name for device in devices}
        ours = {device.name: device for device in devices if device.ours and device.name not in leaving}
        asked = {link.name: link for link in wanted if link.ns == HOST}
        return {
            name
            for name in ours.keys() | asked.keys()
            if (device := ours.get(name)) is None
            or (link := asked.get(name)) is None
            or (device.up, names.get(device.master, "")) != (link.up, link.master)
        }

    def rules_stand(self) -> bool:
        with self._turn:
            return self._doors[HOST].nft.exists()

    def namespaces_lost(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if not self._namespaces.exists(name)}

    def keep_namespace(self, name: str, pid: int) -> None:
        with self._turn:
            self._doors.forget(name)
            self._namespaces.keep(name, pid)

    def settle(self) -> None:
        self._announcer.settle()
        self._remover.settle()

    def declare(self, text: str) -> None:
        with self._turn:
            try:
                if not self._doors[HOST].nft.declared(text):
                    self._doors[HOST].nft.run(text)
            except nft.Denied as error:
                raise error.as_error("the declared tables") from None

    def namespace_path(self, name: str) -> str:
        return self._namespaces.path(name)

    # -- questions about the host --------------------------------------------------------

    def routes(self) -> list[tuple[str, str]]:
        with self._turn:
            going, door = self._remover.pending, self._doors[HOST]
            names = {device.index: device.name for device in door.devices()}
            found = [route for route, _ in routing.routes(door.netlink, names, HOST) if route.table == routing.MAIN]
            return [(route.destination, route.link) for route in found if (HOST, route.link) not in going]

    def road(self, ns: str, target: str, source: str = "", arrives: str = "") -> Road | None:
        from fairlead.host import roads  # late, for it knows all that explain knows, and only explain asks

        with self._turn:
            if not (ns == HOST or self._namespaces.exists(ns)):
                return None
            return roads.road(self._doors[ns].netlink, target, source, arrives)

    def leads_at_connect(self, ns: str, address: str) -> bool:
        with self._turn:
            return self._doors.shortcuts.leads(ns, address)

    def rulesets(self, ns: str) -> tuple[str, tuple[str, ...]]:
        with self._turn:
            if not (ns == HOST or self._namespaces.exists(ns)):
                return "", ()
            with self._doors.visit(ns):
                return self._doors[ns].nft.everything(), sysctls.legacy_tables()

    def addresses(self, link: str = "") -> list[tuple[str, str]]:
        with self._turn:
            netlink = self._doors[HOST].netlink
            if link:
                device = self._find(link)
                return [(link, address) for _, address, _ in routing.addresses(netlink, device.index)] if device else []
            names = {device.index: device.name for device in self._doors[HOST].devices()}
            return [(names.get(index, ""), address) for index, address, _ in routing.addresses(netlink)]

    def sysctl(self, path: str) -> str:
        found = sysctls.read(Sysctl(path=path, value=""))
        return found.value if found else ""

    def link_mtu(self, link: str = "") -> int:
        if link:
            device = self._find(link)
            return device.mtu if device else 0
        with self._turn:
            netlink = self._doors[HOST].netlink
            answer = netlink.ask([links.numbered(routing.way_out(netlink))])[0]
            return links.seen(answer).mtu if isinstance(answer, bytes) else 0

    def path_mtu(self, link: str, family: int) -> int:
        device = self._find(link)
        if device is None:
            return 0
        with self._turn:
            return min([device.mtu, *routing.mtus(self._doors[HOST].netlink, device.index, family)])

    def link_exists(self, link: str) -> bool:
        return (HOST, link) not in self._remover.pending and self._find(link) is not None

    def is_ours(self, link: str) -> bool:
        device = self._find(link)
        return device is not None and device.ours

    def check_encryption(self, address: str) -> None:
        with self._turn:
            try:
                ipsec.check(self._doors[HOST].ipsec, address)
            except OSError as error:
                raise ipsec.lacking(error, address) from None

    def forget_flows(self, bindings: Sequence[tuple[str, str, int]]) -> None:
        with self._turn, self._doors.visit(HOST):
            conntrack.forget(bindings)

    def forget_answers(self, targets: Sequence[tuple[str, str, int]], ns: str = HOST) -> None:
        with self._turn:
            if ns == HOST or self._namespaces.exists(ns):
                gone = [address for protocol, address, _ in targets if not protocol and ns != HOST]
                with self._doors.visit(ns):
                    conntrack.forget_answers(targets)
                    if gone and self._doors.shortcuts.open:
                        connections.cut_to(gone)

    def monitor(self) -> Monitor:
        """Tells when something of ours may have changed by another hand; see ``host.monitor``."""
        with self._turn, self._doors.visit(HOST):
            monitor = Monitor(self._doors.ports, self._remover.expected, self._settings)
            monitor.note(self._doors[HOST].devices())
            return monitor

    # -- inside -----------------------------------------------------------------------

    def _find(self, link: str) -> links.Seen | None:
        with self._turn:
            answer = self._doors[HOST].netlink.ask([links.find(link)])[0]
            return links.seen(answer) if isinstance(answer, bytes) else None

    def _open_netlink(self, ns: str) -> Netlink:
        with inside(self._doors.home if ns == HOST else self._namespaces.path(ns)):
            return Netlink.here()


def _settings_of(objects: Iterable[Wanted]) -> list[str]:
    return [sysctls.place(item) for item in objects if isinstance(item, Sysctl) and item.ns == HOST]


class _Removal:
    """One call of ``remove``."""

    def __init__(self, objects: Sequence[Wanted], doors: Doors, namespaces: Namespaces, remover: Remover) -> None:
        self._objects = [*reversed(objects)]
        self._doors = doors
        self._namespaces = namespaces
        self._remover = remover
        self._doomed = {item.name for item in objects if isinstance(item, Namespace)}
        self._errors: list[Exception] = []

    def run(self) -> list[Exception]:
        self._doors.crossings.leave(self._doors, self._objects, lambda ns: ns not in self._doomed and self._stands(ns))
        leaving = self._cut()
        self._drop_traffic({name for one in leaving for name in one.names})
        self._drop_protection()
        self._drop_firewall()
        for item in self._objects:
            if isinstance(item, File):
                self._try(partial(files.remove, item))
        self._remover.begin(leaving)
        for name in self._doomed:
            self._doors.forget(name)
            self._namespaces.destroy(name)
        return self._errors

    def _try(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except (FairleadError, OSError) as error:
            self._errors.append(error)

    def _stands(self, ns: str) -> bool:
        return ns == HOST or self._namespaces.exists(ns)

    def _cut(self) -> list[Leaving]:
        """Stop traffic through the devices that go; returns them."""
        leaving = []
        for ns, wanted in by_namespace(item for item in self._objects if isinstance(item, Link)).items():
            if not self._stands(ns):
                continue
            netlink = self._doors[ns].netlink
            ports = []
            for link, answer in zip(wanted, netlink.ask([links.find(link.name) for link in wanted]), strict=True):
                device = links.seen(answer) if isinstance(answer, bytes) else None
                if device is None or not (device.ours or ns != HOST):
                    continue
                if device.as_port:
                    ports.append(links.cut(device.index))
                names = {(ns, link.name)} | ({(link.peer_ns, link.peer)} if link.peer else set())
                leaving.append(Leaving(ns, link.name, device.index, frozenset(names)))
            netlink.do(ports)
        return leaving

    def _drop_traffic(self, leaving: set[tuple[str, str]]) -> None:
        items = [item for item in self._objects if isinstance(item, routing.Item)]
        items = [
            item for item in items if item.ns not in self._doomed and (item.ns, routing.link_of(item)) not in leaving
        ]
        for ns, group in by_namespace(items).items():
            if not self._stands(ns):
                continue
            netlink = self._doors[ns].netlink
            names = list(dict.fromkeys(routing.link_of(item) for item in group))
            answers = zip(names, netlink.ask([links.find(name or "lo") for name in names]), strict=True)
            there = {name: links.seen(answer).index for name, answer in answers if isinstance(answer, bytes)}
            there[""] = 0
            group = [item for item in group if routing.link_of(item) in there]
            self._spare_other_addresses(ns, {item.link for item in group if isinstance(item, Address)})
            refused = netlink.do([routing.drop(item, there[routing.link_of(item)]) for item in group])
            self._errors += [
                Internal(f"cannot remove {group[at]}: {refusal}")
                for at, refusal in refused.items()
                if refusal.errno not in GONE
            ]

    def _spare_other_addresses(self, ns: str, devices: set[str]) -> None:
        """Without this the kernel drops, with the first address of an IPv4 subnet, all others of it on that device."""
        if devices:
            with self._doors.visit(ns):
                for device in devices:
                    setting = Sysctl(path=f"net/ipv4/conf/{device}/promote_secondaries", value="1")
                    self._try(partial(sysctls.write, setting))

    def _drop_protection(self) -> None:
        items = [item for item in self._objects if isinstance(item, ipsec.Item)]
        if not items:
            return
        try:
            refused = self._doors[HOST].ipsec.do([ipsec.drop(item) for item in items])
        except OSError as error:
            self._errors.append(error)
            return
        self._errors += [
            Internal(f"cannot remove {items[at]}: {refusal}")
            for at, refusal in refused.items()
            if refusal.errno not in GONE
        ]

    def _drop_firewall(self) -> None:
        if items := [item for item in self._objects if isinstance(item, Fence)]:
            self._try(partial(fences.remove, self._doors[HOST].nft, items))
        for deed in beside.remove(self._doors, self._objects, lambda ns: ns not in self._doomed and self._stands(ns)):
            self._try(deed)
        skeletons = {item.ns for item in self._objects if isinstance(item, Skeleton)}
        elements = by_namespace(item for item in self._objects if isinstance(item, Element))
        for ns in dict.fromkeys([*elements, *skeletons]):
            if ns in self._doomed or not self._stands(ns):
                continue
            context = self._doors[ns].nft
            if ns in skeletons:
                self._try(partial(nft.remove_table, context))
            else:
                self._try(partial(nft.remove, context, elements[ns]))
