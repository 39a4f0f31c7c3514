"""Terrain: wanted objects as the land a packet crosses: who holds which address, what is plugged where, which way on.

    plan (of all owners) + the host's own addresses and routes
        --> way(ns, target)         the route a stack chooses, and the address it speaks from
        --> neighbour(bridge, a)    whose interface on that bridge answers for an address

It works on any tuple of wanted objects: on what should be, to explain it, and on
what ``Host.look`` read back, to check that explanation against the kernel.

What it does not do: follow a packet (``core.explain``), or know the firewall (``core.ruleset``).
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fairlead.core.others import Others
from fairlead.core.ruleset import Ruleset, Surroundings, within
from fairlead.core.wanted import (
    HOST,
    Address,
    Element,
    Forwarding,
    Inlet,
    Leg,
    Link,
    MeshPort,
    Neighbour,
    Policy,
    Route,
    Rule,
    Skeleton,
    Sysctl,
    Vip,
    Wanted,
)
from fairlead.core.written import family_of

MAIN = 254
"""the table in which a stack's ordinary routes are"""
DIRECT = ("macvlan", "ipvlan")
"""Devices that are on their parent's cable: the host's bridges and rules do not see what they send."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A port of the host that the relay serves by hand: whoever calls it is called on to ``target``; or, where it is
    the swarm's, to one of ``tasks`` (address, port, weight), as ``policy`` says."""

    protocol: str
    address: str
    port: int
    target: str = ""
    target_port: int = 0
    swarm: bool = False
    tasks: tuple[tuple[str, int, int], ...] = ()
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a packet leaves a stack: the prefix that matched, the device, the gateway ("": on the link), the source."""

    prefix: str
    device: str
    gateway: str
    source: str
    objects: tuple[Wanted, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """The kernel's own answer to where a packet goes. ``kind``: unicast, local; or why it goes nowhere: no route,
    unreachable, prohibit, blackhole, rp_filter (answers would leave elsewhere), martian (an address that is the
    host's own)."""

    kind: str
    device: str = ""
    gateway: str = ""
    source: str = ""
    prefix: str = ""
    """of the entry that says so, in this ``table`` (main, or a number), made by ``origin`` (kernel, static, bird …)"""
    table: str = "main"
    origin: str = ""
    rules: tuple[str, ...] = ()
    """policy rules that lead to that table, or refuse; as ``ip rule`` shows them"""

    @property
    def leads(self) -> bool:
        return self.kind in ("unicast", "local")

    def __str__(self) -> str:
        """The entry as ``ip route`` shows it, and where it is."""
        words = [] if self.kind in ("unicast", "local", "no route", "rp_filter") else [self.kind]
        words += [self.prefix or "no entry"]
        words += ["via", self.gateway] if self.gateway else []
        words += ["dev", self.device] if self.device else []
        words += ["proto", self.origin] if self.origin else []
        rules = "".join(f", by rule {rule}" for rule in self.rules)
        return f"{' '.join(words)} (table {self.table}{rules})"


@dataclass(frozen=True, slots=True)
class Socket:
    """One end of a cable: a device in a stack, and the ``Link`` that makes it."""

    ns: str
    device: str
    link: Link
    address: Address


class Terrain:
    """The land as one set of objects describes it."""

    def __init__(
        self,
        objects: Iterable[Wanted],
        host_addresses: Sequence[tuple[str, str]] = (),
        host_routes: Sequence[tuple[str, str]] = (),
        carried: Sequence[Carried] = (),
        titles: Mapping[str, str] | None = None,
        networks: Mapping[str, str] | None = None,
        ask: Callable[[str, str, str, str], Road | None] = lambda ns, target, source, arrives: None,
        others: Callable[[str], Others] = lambda ns: Others(),
        connects: Callable[[str, str], bool] = lambda ns, address: False,
    ) -> None:
        """``host_addresses``: (device, address/length), ``host_routes``: (prefix, device), as the host has them.

        ``titles``: namespace -> who lives there; ``networks``: device -> name of the network it is the switch of.

        ``ask(namespace, target, source, device it came in by)``: the kernel's own answer, if it can be asked;
        ``others(namespace)``: other people's rules there; ``connects(namespace, virtual address)``: processes there are
        connected to its targets, over TCP."""
        self.ask, self.others, self.connects = ask, others, connects
        self.titles, self.networks, self.carried = dict(titles or {}), dict(networks or {}), tuple(carried)
        self.skeleton: Skeleton | None = None
        self.closed: dict[str, Sysctl] = {}
        """devices from which nothing is forwarded, by our own will"""
        self._addresses: dict[str, list[Address]] = defaultdict(list)
        self._routes: dict[str, list[Route]] = defaultdict(list)
        self._links: dict[tuple[str, str], Link] = {}
        self._answered: dict[tuple[str, str], Neighbour] = {}
        self._forwarded: dict[tuple[str, str], Forwarding] = {}
        self._policies: list[Policy] = []
        self.vips: dict[tuple[str, str], Vip] = {}
        self.ports: dict[tuple[str, str, int], MeshPort] = {}
        """(protocol, address of the host or "", port) -> what the swarm publishes there"""
        self.legs: dict[str, Leg] = {}
        self.inlets: dict[str, Inlet] = {}
        self._policed: dict[tuple[str, int, int], Rule] = {}
        """(stack, family, mark) -> where what has that mark goes"""
        self._elements: list[Element] = []
        for item in objects:
            self._add(item)
        self._add_the_hosts(host_addresses, host_routes)
        self.rules = Ruleset(self.skeleton, self._elements, Surroundings(self.is_hosts, self._kind, self.own_address))

    def _add(self, item: Wanted) -> None:
        if isinstance(item, Address):
            self._addresses[item.ns].append(item)
        elif isinstance(item, Route):
            self._routes[item.ns].append(item)
        elif isinstance(item, Link):
            self._links[item.ns, item.name] = item
            if item.peer:
                self._links[item.peer_ns, item.peer] = item
        elif isinstance(item, Neighbour):
            self._answered[item.ns, item.address] = item
        elif isinstance(item, Forwarding):
            self._forwarded[item.ns, item.mac] = item
        elif isinstance(item, Policy) and item.way == "out":
            self._policies.append(item)
        elif isinstance(item, Sysctl) and item.ns == HOST and item.path.endswith("/forwarding") and item.value == "0":
            self.closed[item.path.split("/")[-2]] = item
        elif isinstance(item, Skeleton) and item.ns == HOST:
            self.skeleton = item
        elif isinstance(item, Element) and item.ns == HOST:
            self._elements.append(item)
        else:
            self._add_of_services(item)

    def _add_of_services(self, item: Wanted) -> None:
        if isinstance(item, Vip):
            self.vips[item.ns, item.address] = item
        elif isinstance(item, MeshPort):
            self.ports[item.protocol, item.address, item.port] = item
        elif isinstance(item, Leg):
            self.legs[item.link] = item
        elif isinstance(item, Inlet):
            self.inlets[item.ns] = item
        elif isinstance(item, Rule) and item.mark:
            self._policed[item.ns, item.family, item.mark] = item

    def _add_the_hosts(self, addresses: Sequence[tuple[str, str]], routes: Sequence[tuple[str, str]]) -> None:
        known = {(item.link, item.address) for item in self._addresses[HOST]}
        for device, address in addresses:
            if (device, address) not in known:
                self._addresses[HOST].append(Address(link=device, address=address))
        for prefix, device in routes:
            self._routes[HOST].append(Route(destination=prefix, link=device))

    # -- who is where -----------------------------------------------------------------------

    def title(self, ns: str) -> str:
        return self.titles.get(ns, ns) if ns != HOST else "the host"

    def network(self, device: str, ns: str = HOST) -> str:
        """``network RED`` for its switch (an overlay: by its namespace); the device's own name for any other."""
        place = device if ns == HOST else ns
        return f"network {self.networks[place]}" if place in self.networks else device

    def holds(self, ns: str, address: str) -> Address | None:
        """The object that gives this stack the address."""
        return next((item for item in self._addresses[ns] if _plain(item) == address), None)

    def is_hosts(self, address: str) -> bool:
        return is_loopback(address) or self.holds(HOST, address) is not None

    def addresses(self, ns: str, family: int, link: str = "") -> list[str]:
        """Without lengths; link-local ones last. ``link``: of that device alone."""
        here = [item for item in self._addresses[ns] if link in ("", item.link)]
        mine = [_plain(item) for item in here if family_of(item.address) == family]
        return sorted((a for a in mine if not is_loopback(a)), key=lambda a: a.startswith("fe80:"))

    def home(self, address: str) -> str:
        """The switch of ours whose subnet the address is of, "" for none."""
        ours = (item for item in self._addresses[HOST] if item.link in self.networks)
        return next((item.link for item in ours if within(address, item.address)), "")

    def link(self, ns: str, device: str) -> Link | None:
        return self._links.get((ns, device))

    def neighbour(self, bridge: str, address: str, ns: str = HOST) -> Socket | None:
        """Whose interface plugged into this bridge has the address; the bridge's own (the host's) counts."""
        own = next((i for i in self._addresses[ns] if i.link == bridge and _plain(i) == address), None)
        if own is not None:
            link = self._links.get((ns, bridge)) or Link(name=bridge, kind="bridge", ns=ns)
            return Socket(ns, bridge, link, own)
        for link in self._links.values():
            if (link.ns, link.master) != (ns, bridge) or not link.peer:
                continue
            for item in self._addresses[link.peer_ns]:
                if item.link == link.peer and _plain(item) == address:
                    return Socket(link.peer_ns, link.peer, link, item)
        return None

    def beyond(self, ns: str, address: str) -> tuple[Neighbour, Forwarding] | None:
        """Who answers for an address that another host has, and where frames for it go (an overlay's namespace)."""
        answer = self._answered.get((ns, address))
        way = self._forwarded.get((ns, answer.mac)) if answer else None
        return (answer, way) if answer and way else None

    def sealing(self, ns: str, way: Forwarding) -> Policy | None:
        """What frames that leave so need to be encrypted with; None: they leave in clear."""
        port = self.tunnel_port(ns, way.link)
        found = [item for item in self._policies if item.port == port and within(way.via, item.target)]
        return max(found, key=lambda item: int(item.target.partition("/")[2]), default=None)

    def tunnel_port(self, ns: str, device: str) -> int:
        """The UDP port of a tunnel's frames."""
        tunnel = self._links.get((ns, device))
        return int(dict(tunnel.options).get("port", 0)) if tunnel else 0

    def on_cable(self, parent: str, address: str) -> Socket | None:
        """Whose macvlan or ipvlan device on the same parent has the address."""
        for (ns, device), link in self._links.items():
            if link.kind in DIRECT and link.parent == parent:
                for item in self._addresses[ns]:
                    if item.link == device and _plain(item) == address:
                        return Socket(ns, device, link, item)
        return None

    # -- which way --------------------------------------------------------------------------

    def way(self, ns: str, target: str) -> Way | None:
        """The most specific route of a stack that leads to ``target``; None: the network is unreachable."""
        found: list[tuple[tuple[int, int], Way]] = []
        for item in self._addresses[ns]:
            network = ipaddress.ip_interface(item.address).network
            if within(target, str(network)):
                way = Way(str(network), item.link, "", _plain(item), (item,))
                found.append(((network.prefixlen * 2 + 1, 0), way))
        for route in self._routes[ns]:
            if route.table == MAIN and within(target, route.destination):
                length = int(route.destination.partition("/")[2] or 0)
                source = route.source or self._source(ns, route, family_of(target))
                way = Way(route.destination, route.link, route.gateway, source, (route,) if ns != HOST else ())
                found.append(((length * 2, -route.metric), way))
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def marked(self, ns: str, family: int, mark: int) -> tuple[Rule, Route] | None:
        """By which rule and route of a stack packets with that mark go."""
        rule = self._policed.get((ns, family, mark))
        tables = (route for route in self._routes[ns] if rule and route.table == rule.table)
        road = next((route for route in tables if family_of(route.gateway) == family), None)
        return (rule, road) if rule and road else None

    def _source(self, ns: str, route: Route, family: int) -> str:
        mine = [item for item in self._addresses[ns] if item.link == route.link and family_of(item.address) == family]
        near = [item for item in mine if route.gateway and within(route.gateway, item.address)]
        candidates = [_plain(item) for item in (*near, *mine)]
        return next((a for a in candidates if not a.startswith("fe80:")), next(iter(candidates), ""))

    def uplink(self, family: int) -> str:
        """The device by which the world is reached; else any that is neither a switch of ours nor the loopback."""
        everything = "::/0" if family == 6 else "0.0.0.0/0"
        for route in self._routes[HOST]:
            if route.destination == everything:
                return route.link
        others = (i.link for i in self._addresses[HOST] if family_of(i.address) == family and i.link != "lo")
        return next((device for device in others if self._kind(device) != "bridge"), "")

    def own_address(self, device: str, family: int) -> str:
        """The host's address on a device: what masquerading gives."""
        mine = [_plain(i) for i in self._addresses[HOST] if i.link == device and family_of(i.address) == family]
        return next((address for address in mine if not address.startswith("fe80:")), next(iter(mine), ""))

    def _kind(self, device: str) -> str:
        link = self._links.get((HOST, device))
        return link.kind if link else "bridge" if device in self.networks else ""


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _plain(item: Address) -> str:
    return item.address.partition("/")[0]
