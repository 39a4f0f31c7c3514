"""Looking: what of ours is there, as the wishes it would fulfil.

    for each namespace:  devices, addresses, routes, rules, neighbours     one dump each
                         our nftables table                                one listing
    of the host:         associations and policies                         one dump each
    for what is asked:   settings, files, and things that carry no mark

Reported are
    - namespaces in our directory, our table and its elements in each of them;
    - devices with our mark, and what is on them;
    - whatever else was asked for by name, in whatever state it is.

Not reported: what the kernel makes by itself (connected routes, whose loss is told of the address; fe80::), and what a
container does to the inside of its own stack: addresses and routes on the far end of a
veth pair are compared with what is wanted, but a stranger among them is the container's
own affair.

A look takes a millisecond or two a sandbox, so it is taken in steps, and others may change the machine in between. What
they changed looks here as it was before, or after, or half of each: whoever compares knows what was changed meanwhile.

A wish that leaves something open is answered with that left open, so that
``wanted.difference`` is empty when all is well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from msgspec.structs import replace

from fairlead.core.wanted import (
    HOST,
    Element,
    Fence,
    File,
    Forwarding,
    Key,
    Link,
    Namespace,
    Neighbour,
    Plan,
    Route,
    Rule,
    Shaper,
    Skeleton,
    Sysctl,
    Wanted,
)
from fairlead.core.wanted import Address as AddressWish
from fairlead.host import beside, fences, files, ipsec, links, nft, routing, shaping, sysctls
from fairlead.host.doors import Doors
from fairlead.host.netns import Namespaces
from fairlead.host.removing import Name

_BY_THEMSELVES = (routing.KERNEL, 9)
"""origins of routes: the kernel, router advertisements"""


class Look:
    """Everything of ours, and those of ``objects`` that exist. ``leaving`` devices are gone already."""

    def __init__(self, doors: Doors, namespaces: Namespaces, objects: Iterable[Wanted], leaving: set[Name]) -> None:
        self._doors = doors
        self._asked: dict[Key, Wanted] = {item.key: item for item in objects}
        self._kinds = {(type(item), getattr(item, "ns", HOST)) for item in self._asked.values()}
        self._spelled = {
            (item.ns, item.map, nft.canonical(item.item)): item
            for item in self._asked.values()
            if isinstance(item, Element)
        }
        self._namespaces = namespaces
        self._names = namespaces.names()
        self._leaving = leaving
        self._devices: dict[str, dict[int, links.Seen]] = {}
        self._ways: dict[str, list[tuple[Route, int]]] = {}
        self._found: dict[Key, Wanted] = {}

    def steps(self) -> Iterator[None]:
        """The work; nobody else may change the machine during one step."""
        for name in self._names:
            self._report(Namespace(name=name))
        for ns in self._still([HOST, *self._names]):
            devices = self._doors[ns].devices()
            self._devices[ns] = {d.index: d for d in devices if (ns, d.name) not in self._leaving}
            yield
        for ns in self._still(self._devices):
            self._links(ns)
            self._addresses(ns)
            self._routes(ns)
            self._neighbours(ns)
            self._firewall(ns)
            yield
        for fence in fences.look(self._doors[HOST].nft, (i for i in self._asked.values() if isinstance(i, Fence))):
            self._report(fence)
        self._protection()
        yield
        wishes = beside.by_place(self._asked.values())
        for ns in self._still(wishes.keys() & self._devices):
            for item in beside.look(self._doors, ns, wishes[ns]):
                self._report(item)
            yield
        yield from self._settings()

    def found(self) -> Plan:
        """After the last step."""
        return tuple(self._found.values())

    def _still(self, places: Iterable[str]) -> Iterator[str]:
        """Those that are there when their turn comes."""
        return (ns for ns in tuple(places) if ns == HOST or self._namespaces.exists(ns))

    def _report(self, item: Wanted) -> None:
        """Once per key; what equals the wish goes before what merely has its key."""
        if item.key not in self._found or item == self._asked.get(item.key):
            self._found[item.key] = item

    def _ours(self, ns: str, name: str) -> bool:
        return any(self._keeps(ns, device) for device in self._devices[ns].values() if device.name == name)

    def _keeps(self, ns: str, device: links.Seen) -> bool:
        """Whether strangers on this device are ours to remove; not on a container's own interface, marked or not."""
        return device.ours and not (ns != HOST and device.kind in links.INSIDE)

    # -- devices ------------------------------------------------------------------------

    def _links(self, ns: str) -> None:
        for device in self._devices[ns].values():
            wish = self._asked.get(Link(name=device.name, kind="", ns=ns).key)
            if device.ours or wish is not None:
                assert wish is None or isinstance(wish, Link)
                self._report(links.as_link(device, ns, self._around(ns, device, wish), wish))

    def _around(self, ns: str, device: links.Seen, wish: Link | None) -> links.Around:
        master = self._devices[ns].get(device.master)
        if device.kind == "veth":
            peer_ns, peer = self._peer(ns, device, wish)
            return links.Around(
                master=master.name if master else "",
                peer=peer.name if peer else "",
                peer_ns=peer_ns,
                peer_mac=peer.mac if peer else "",
                peer_up=peer is not None and peer.up == device.up,
            )
        parent = self._devices[HOST].get(links.parent_of(device))
        return links.Around(master=master.name if master else "", parent=parent.name if parent else "")

    def _peer(self, ns: str, device: links.Seen, wish: Link | None) -> tuple[str, links.Seen | None]:
        """The other end of a pair: each end has the other's number."""
        likely = [wish.peer_ns] if wish and wish.peer_ns in self._devices else []
        for where in [*likely, *self._devices]:
            other = self._devices[where].get(device.lower)
            if other and other.kind == "veth" and other.lower == device.index and (where != ns) == device.elsewhere:
                return where, other
        return HOST, None

    # -- what is on them ------------------------------------------------------------------

    def _addresses(self, ns: str) -> None:
        lost = self._unrouted() if ns == HOST else set()
        for index, address, kernels in routing.addresses(self._doors[ns].netlink):
            device = self._devices[ns].get(index)
            if device is None:
                continue
            item = AddressWish(link=device.name, address=address, ns=ns)
            item = replace(item, routed=item.key not in lost)
            if item.key in self._asked or (self._keeps(ns, device) and not kernels):
                self._report(item)

    def _unrouted(self) -> set[Key]:
        """Wanted addresses of the host whose subnet lost the route that came with them."""
        up = {device.name for device in self._devices[HOST].values() if device.up}
        found = {
            (item.link, str(subnet)): item.key
            for item in self._asked.values()
            if isinstance(item, AddressWish) and item.ns == HOST and item.link in up
            if (subnet := routing.subnet(item)).prefixlen < subnet.max_prefixlen
        }
        for route, origin in self._routed(HOST) if found else ():
            if origin == routing.KERNEL and route.table == routing.MAIN:
                found.pop((route.link, route.destination), None)
        return set(found.values())

    def _routed(self, ns: str) -> list[tuple[Route, int]]:
        """Every route and its origin, asked once."""
        if ns not in self._ways:
            names = {index: device.name for index, device in self._devices[ns].items()}
            self._ways[ns] = list(routing.routes(self._doors[ns].netlink, names, ns))
        return self._ways[ns]

    def _routes(self, ns: str) -> None:
        for route, origin in self._routed(ns):
            wish = self._asked.get(route.key)
            if isinstance(wish, Route):
                route = replace(route, link=route.link if wish.link else "", source=route.source if wish.source else "")
                self._report(route)
            elif origin not in _BY_THEMSELVES and self._ours(ns, route.link):
                self._report(route)
        if ns == HOST or (Rule, ns) in self._kinds:
            for family in (4, 6):
                for rule, ours in routing.rules(self._doors[ns].netlink, ns, family):
                    if ours or rule.key in self._asked:
                        self._report(rule)

    def _neighbours(self, ns: str) -> None:
        names = {index: device.name for index, device in self._devices[ns].items()}
        netlink = self._doors[ns].netlink
        overlay = any(device.kind == "vxlan" and device.ours for device in self._devices[ns].values())
        readers = []
        if overlay or (Neighbour, ns) in self._kinds:
            readers.append(routing.neighbours)
        if overlay or (Forwarding, ns) in self._kinds:
            readers.append(routing.forwardings)  # type: ignore[arg-type]
        if (Shaper, ns) in self._kinds:
            readers.append(shaping.shapers)  # type: ignore[arg-type]
        for reader in readers:
            for item in reader(netlink, names, ns):
                if item.key in self._asked or self._ours(ns, item.link):
                    self._report(item)

    # -- firewall, settings, files ------------------------------------------------------------

    def _firewall(self, ns: str) -> None:
        wish = self._asked.get(Skeleton(ns=ns, text="").key)
        assert wish is None or isinstance(wish, Skeleton)
        door = self._doors[ns]
        if ns != HOST and wish is None and not nft.is_there(door.wire):
            return
        skeleton, elements = nft.look(door.nft, ns, wish)
        if skeleton is None:
            return
        self._report(skeleton)
        for item in elements:
            asked = self._spelled.get((ns, item.map, item.item))
            if asked is not None:
                same = nft.canonical(asked.value) == item.value
                item = replace(item, item=asked.item, value=asked.value if same else item.value)
            self._report(item)

    def _protection(self) -> None:
        with suppress(OSError):  # a kernel without IPsec
            for item in ipsec.look(self._doors[HOST].ipsec):
                self._report(item)

    def _settings(self) -> Iterator[None]:
        by_namespace: dict[str, list[Sysctl]] = {}
        for item in self._asked.values():
            if isinstance(item, Sysctl):
                by_namespace.setdefault(item.ns, []).append(item)
            elif isinstance(item, File) and (file := files.read(item)):
                self._report(file)
        for ns in self._still(by_namespace.keys() & self._devices):
            with self._doors.visit(ns):
                for found in map(sysctls.read, by_namespace[ns]):
                    if found:
                        self._report(found)
            yield
