"""Explain: why A reaches B, or where and why not.

    records, wanted objects, hosts files  --> Terrain, Asker, Ends
    who is A, who is B                    --> a name looked up, a packet to walk
                                          --> Explanation: hops, verdict, advice
    check                                     the same walk over what the kernel has, and what differs on the way

Everything is read, nothing is touched and nothing is sent: the answer comes from
what is wanted, from what other people have put in the way, and from the way that the
kernel says it takes. Whether it has all of ours is a question of its own (``check``).

What it does not do: walk (``core.explain``), or know whether somebody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fairlead.core import hostsfile
from fairlead.core.asking import OUTSIDE, Ask, Asker, Ends, advise, is_address, look_up, parse
from fairlead.core.container import Container
from fairlead.core.explain import walk
from fairlead.core.model import Endpoint, Network
from fairlead.core.names import Names
from fairlead.core.others import Others
from fairlead.core.ruleset import Packet
from fairlead.core.steps import ELSEWHERE, NOWHERE, WORLD, Hop, Walked
from fairlead.core.terrain import Carried, Terrain, is_loopback
from fairlead.core.wanted import HOST, Wanted
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.kernel import Kernel
from fairlead.engine.naming import Naming
from fairlead.engine.overlays import Spread
from fairlead.engine.publisher import Publisher
from fairlead.engine.sandboxes import Stack
from fairlead.errors import Conflict, NotFound
from fairlead.host.base import Host


class Place(NamedTuple):
    """One end: what it is called, the stack it lives in, and the container it is (None: the host or the world)."""

    title: str
    ns: str
    container: Container | None = None
    address: str = ""
    """fixed by the question"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer. ``resolves`` None: no name was asked for."""

    question: str
    hops: tuple[Hop, ...]
    arrives: bool
    resolves: bool | None
    place: str
    source: str
    """the address that the caller seems to have, seen from there"""
    advice: tuple[str, ...] = ()
    differs: tuple[str, ...] | None = None
    """with ``check``: what the kernel has otherwise; None: nobody looked"""

    @property
    def works(self) -> bool:
        """As it was asked: by name, when a name was asked for."""
        return self.arrives and self.resolves is not False

    @property
    def verdict(self) -> str:
        if not self.arrives:
            return "does not arrive"
        by_address = ", but only by address: its name does not resolve there" if self.resolves is False else ""
        unsure = ", unless somebody else's rules stop it" if any(hop.unsure for hop in self.hops) else ""
        return f"arrives at {self.place}{by_address}{unsure}"


class Obstacle(NamedTuple):
    """Something of somebody else's between two places: whose it is, and what would take it away."""

    between: str
    found: str
    owner: str
    remedy: str


class Explainer:
    """Answers questions about one machine's networks."""

    def __init__(
        self,
        kernel: Kernel,
        host: Host,
        catalog: Catalog,
        controller: Controller,
        attachments: Attachments,
        publisher: Publisher,
        naming: Naming,
        files: HostFiles,
        forwards: Callable[[int], bool] = lambda family: True,
    ) -> None:
        """``forwards(family)``: the kernel forwards packets of that family now."""
        self._kernel, self._host = kernel, host
        self._catalog, self._controller, self._attachments = catalog, controller, attachments
        self._publisher, self._naming, self._files, self._forwards = publisher, naming, files, forwards

    async def explain(self, source: str, target: str, family: int = 0, check: bool = False) -> Explanation:
        """Walk from ``source`` to ``target`` (``NAME[:port]``, address, ``host``, ``world``). ``family`` 0: as it fits.

        ``Invalid`` and ``NotFound`` for ends that mean nothing, ``Conflict`` for a container that does not run."""
        ask = parse(target)
        family = family or _family_of(ask.who) or _family_of(source) or 4
        land = self._terrain(self._kernel.wanted())
        start, end = self._place(source, land), self._end(ask.who, land)
        hops, address, resolved = self._named(start, end, ask, family, land)
        # In a thread: it asks the kernel, and other people's rules may be thousands.
        walked = await asyncio.to_thread(self._walk, land, start, address, ask, family) if address else None
        differs = None
        if check and walked is not None:
            differs = await self._check(start, address, ask, family, walked)
        return self._explanation(f"{source} -> {target}", start, end, ask, hops, walked, resolved, differs)

    def _explanation(
        self,
        question: str,
        start: Place,
        end: Place | None,
        ask: Ask,
        hops: list[Hop],
        walked: Walked | None,
        resolved: bool | None,
        differs: tuple[str, ...] | None,
    ) -> Explanation:
        ends = self._ends(start, end)
        walked = walked or Walked(Packet(source="", target=OUTSIDE[4], protocol="tcp"), reason="name")
        arrives = walked.place != NOWHERE
        return Explanation(
            question=question,
            hops=(*hops, *walked.hops),
            arrives=arrives,
            resolves=resolved,
            place=self._title(walked.place) if arrives else "",
            source=walked.packet.source if arrives else "",
            advice=tuple(dict.fromkeys(advise(walked, ends, ask, resolved is not False))),
            differs=differs,
        )

    # -- the walk -------------------------------------------------------------------------

    def _walk(self, land: Terrain, start: Place, address: str, ask: Ask, family: int) -> Walked:
        ping = "icmp" if family == 4 else "ipv6-icmp"
        packet = Packet(source="", target=address, protocol=ask.protocol if ask.port else ping, port=ask.port)
        if start.ns == WORLD:
            outside = start.address or OUTSIDE[family]
            way = land.way(HOST, outside)
            device = way.device if start.address and way else land.uplink(family)
            packet = replace(packet, source=outside, arrives=device)
        return walk(land, start.ns, packet, forwarding=self._forwards(family))

    async def _check(self, start: Place, address: str, ask: Ask, family: int, walked: Walked) -> tuple[str, ...]:
        """What the kernel has otherwise than this walk relied on; empty when it agrees."""
        _, actual = await self._kernel.seen()
        there = {item.key: item for item in actual}
        wrong = [
            f"{'differs' if item.key in there else 'missing'}: {' '.join(item.key)} ({item.owner or 'the host'})"
            for hop in walked.hops
            for item in hop.objects
            if self._kernel.find(item.key) is not None and there.get(item.key) != self._kernel.find(item.key)
        ]
        real = await asyncio.to_thread(self._walk, self._terrain(actual), start, address, ask, family)
        if (real.place, real.packet) != (walked.place, walked.packet):
            wrong.append(f"with what the kernel has, it would {_fate(real, self._title(real.place))}")
        return tuple(dict.fromkeys(wrong))

    def _terrain(self, objects: Iterable[Wanted]) -> Terrain:
        networks = {self._controller.device(network): network.name for network in self._controller.networks()}
        titles, carried = {}, []
        for container, stack in self._running():
            titles[stack.sandbox.namespace] = f"container {container.name}"
            for endpoint in stack.endpoints:
                carried += self._publisher.relayed(endpoint)
        return Terrain(
            objects,
            self._host.addresses(),
            self._host.routes(),
            [Carried(p.protocol, p.address, p.port, p.target, p.target_port) for p in carried if p.target],
            titles,
            {**{device: name for device, name in networks.items() if device}, **self._spread()},
            self._host.road,
            lru_cache(lambda ns: Others(*self._host.rulesets(ns))),
        )

    def _spread(self) -> dict[str, str]:
        """Namespaces of overlay networks, and whose they are."""
        found = ((self._controller.driver(n), n) for n in self._controller.networks() if not n.config_only)
        return {driver.place(network): network.name for driver, network in found if isinstance(driver, Spread)}

    def _running(self) -> Iterable[tuple[Container, Stack]]:
        for container in self._catalog:
            stack = self._attachments.stack(container)
            if stack is not None and stack.sandbox.mode == "own":
                yield container, stack

    def _title(self, place: str) -> str:
        names = {stack.sandbox.namespace: f"container {container.name}" for container, stack in self._running()}
        fixed = {HOST: "the host", WORLD: "the world", ELSEWHERE: "another host", NOWHERE: "nobody"}
        return fixed.get(place) or names.get(place, place)

    # -- for the doctor ---------------------------------------------------------------------

    async def obstacles(self) -> list[Obstacle]:
        """What others have put between the host and containers, or containers and the world; each once."""
        land = self._terrain(self._kernel.wanted())
        found = await asyncio.to_thread(lambda: list(self._obstacles(land)))
        return list({(obstacle.found, obstacle.owner): obstacle for obstacle in reversed(found)}.values())[::-1]

    def _obstacles(self, land: Terrain) -> Iterator[Obstacle]:
        for container, stack in list(self._running()):
            me, title = Place(container.name, stack.sandbox.namespace, container), f"container {container.name}"
            free = container.host.privileged or {"ALL", "NET_ADMIN", "CAP_NET_ADMIN"} & set(
                container.host.cap_add or ()
            )
            for family in (4, 6):
                for network, endpoint in stack.attached:
                    address = endpoint.address4 if family == 4 else endpoint.address6
                    if address and land.home(address):
                        walked = self._walk(land, Place("the host", HOST), address, Ask(address), family)
                        yield from _obstacle(f"the host -> {title} on {network.name}", walked, free)
                if land.way(me.ns, OUTSIDE[family]) and land.uplink(family):
                    walked = self._walk(land, me, OUTSIDE[family], Ask("world", 443), family)
                    yield from _obstacle(f"{title} -> the world", walked, free)

    # -- who is who -----------------------------------------------------------------------

    def _place(self, text: str, land: Terrain) -> Place:
        """One end of the question; ``NotFound`` when it is nobody's name."""
        if text == "host":
            return Place("the host", HOST)
        if text == "world":
            return Place("the world", WORLD)
        if is_address(text):
            return self._at_address(text, land)
        return self._of_container(self._catalog.get(text))

    def _end(self, text: str, land: Terrain) -> Place | None:
        """The called end; None for a name that is no container's."""
        try:
            return self._place(text, land)
        except NotFound:
            return None

    def _at_address(self, address: str, land: Terrain) -> Place:
        for container, stack in self._running():
            if land.holds(stack.sandbox.namespace, address):
                return Place(f"container {container.name}", stack.sandbox.namespace, container, address)
        if land.is_hosts(address):
            return Place("the host", HOST, None, address)
        return Place("the world", WORLD, None, address)

    def _of_container(self, container: Container) -> Place:
        if not container.state.running:
            raise Conflict(f"container {container.name} is not running: it has no network stack")
        mode = mode_of(container)
        if mode == "host":
            return Place(f"container {container.name} (the host's own stack)", HOST, container)
        if mode == "container":
            other = self._of_container(self._catalog.get(container.host.network_mode.partition(":")[2]))
            return Place(f"container {container.name} (in the stack of {other.title})", other.ns, other.container)
        stack = self._attachments.stack(container)
        if stack is None:
            raise Conflict(f"container {container.name} has no network stack yet")
        return Place(f"container {container.name}", stack.sandbox.namespace, container)

    def _stack(self, place: Place | None) -> Stack | None:
        return self._attachments.stack(place.container) if place and place.container else None

    # -- names ----------------------------------------------------------------------------

    def _named(
        self, start: Place, end: Place | None, ask: Ask, family: int, land: Terrain
    ) -> tuple[list[Hop], str, bool | None]:
        """(hops, address to call, whether the name resolved: None when none was asked)."""
        known = self._address(start, end, family, land)
        lent = any(network.ipam.driver != "default" for network, _ in self._attached(end))
        why = ": its LAN's DHCP server lends it none now" if lent and family == 4 else ""
        lacking = Hop("name", f"{end.title if end else ask.who} has no IPv{family} address{why}", stops=True)
        if is_address(ask.who):
            return [], ask.who, None
        stack = self._stack(start)
        if ask.who in ("host", "world"):
            return ([], known, None) if known else ([lacking], "", None)
        if stack is None or start.ns in (HOST, WORLD):
            if end is None:
                raise NotFound(f"No such container: {ask.who}")
            hop = Hop("name", f"{start.title} knows no container names; {ask.who} is at {known}")
            return ([hop], known, None) if known else ([lacking], "", None)
        asker = self._asker(start, stack)
        answer = look_up(asker, ask.who, family)
        if answer.address:
            return [Hop("name", answer.says)], answer.address, True
        if end is not None:
            return ([Hop("name", answer.says)], known, False) if known else ([lacking], "", False)
        others = not answer.ours and asker.forwards and asker.upstreams  # theirs to say: walk to somewhere in the world
        stands = f" ({OUTSIDE[family]} stands for what they say)" if others else ""
        hop = Hop("name", answer.says + stands, not others)
        return [hop], OUTSIDE[family] if others else "", None if others else False

    def _address(self, start: Place, end: Place | None, family: int, land: Terrain) -> str:
        """At which address the caller would best call this end."""
        if end is None:
            return ""
        if end.address:
            return end.address
        if end.ns == WORLD:
            return OUTSIDE[family]
        if end.ns == HOST:
            return self._of_host(start, family, land)
        near = {network.id for network, _ in self._attached(start)}
        mine = self._attached(end)
        ranked = sorted(mine, key=lambda pair: pair[0].id not in near)
        found = [a for _, e in ranked if (a := e.address4 if family == 4 else e.address6)]
        return next(iter(found), "")

    def _of_host(self, start: Place, family: int, land: Terrain) -> str:
        if start.ns == HOST:
            return "127.0.0.1" if family == 4 else "::1"
        outer = land.own_address(land.uplink(family), family)
        gateway = self._gateway(start, family)
        return outer or gateway or next(iter(land.addresses(HOST, family)), "")

    def _gateway(self, place: Place, family: int = 4) -> str:
        return next((g for _, e in self._attached(place) if (g := e.gateway4 if family == 4 else e.gateway6)), "")

    def _attached(self, place: Place | None) -> list[tuple[Network, Endpoint]]:
        stack = self._stack(place)
        return stack.attached if stack else []

    def _asker(self, place: Place, stack: Stack) -> Asker:
        """How names are answered in this stack, from the same values the resolver was told."""
        told, _ = self._naming.told(stack)
        container = place.container
        conf = hostsfile.parse_resolv_conf(_text(self._files.paths(container.id)["resolv.conf"]) if container else "")
        names = Names()
        for _, other in self._running():
            for entry in self._naming.told(other)[1]:
                names.put(entry.network, entry.name, entry.endpoint, entry.names, entry.ipv4, entry.ipv6)
        for network, _ in stack.attached:
            for far in self._controller.elsewhere(network.id):
                four, six = far.ipv4.partition("/")[0], far.ipv6.partition("/")[0]
                names.put(network.id, network.name, far.id, far.names, four, six)
        names.sandbox(told.id, told.networks, told.links)
        return Asker(
            title=place.title,
            hosts=_hosts_lines(self._files.paths(container.id)["hosts"]) if container else (),
            sandbox=told.id,
            names=names if told.networks else None,
            networks=tuple(network.name for network, endpoint in stack.attached if endpoint.names),
            upstreams=tuple(address for address, _ in told.upstreams),
            forwards=told.forward,
            search=tuple(conf.search),
            ndots=next((int(o[6:]) for o in conf.options if o.startswith("ndots:") and o[6:].isdigit()), 1),
        )

    # -- for advice -----------------------------------------------------------------------

    def _ends(self, start: Place, end: Place | None) -> Ends:
        published: dict[int, tuple[str, ...]] = {}
        local = set()
        for _, stack in self._running():
            local |= {b.host_port for e in stack.endpoints for b in e.bindings if _is_local(b.host_ip)}
        for _, endpoint in self._attached(end):
            for binding in endpoint.bindings:
                if binding.host_port and ":" not in binding.host_ip:
                    place = f"{binding.host_ip}:{binding.host_port}"
                    published[binding.port] = (*published.get(binding.port, ()), place)
        return Ends(
            source=start.container.name if start.container and start.ns != HOST else "",
            target=end.container.name if end and end.container and end.ns != HOST else "",
            source_networks=tuple(network.name for network, _ in self._attached(start)),
            target_networks=tuple(network.name for network, _ in self._attached(end)),
            internal=frozenset(network.name for network in self._controller.networks() if network.internal),
            published=published,
            local_only=frozenset(local),
            gateway=self._gateway(start),
        )


def _obstacle(between: str, walked: Walked, free: bool) -> Iterator[Obstacle]:
    """Of a walk that others stopped or led astray; not by a rule of theirs, which is meant, but by a policy, which may
    only be forgotten; and not by what a container that may do so (``free``) did to its own stack."""
    opinion = walked.stopped_by_others
    meant = walked.reason == "others" and opinion is not None and opinion.by is not None and opinion.by.rule != ""
    if meant or (free and any(walked.crossed)):
        return
    if walked.reason in ("others", "detour", "refused", "rp_filter"):
        hop = walked.hops[-1]
    else:
        hop = next((hop for hop in walked.hops if hop.foreign), Hop("", ""))
    if hop.says:
        remedy = next(iter(advise(walked, Ends(), Ask(""), True)), "") if hop.stops else ""
        yield Obstacle(between, hop.says, walked.owner, remedy)


def _family_of(text: str) -> int:
    return (6 if ":" in text else 4) if is_address(text) else 0


def _is_local(address: str) -> bool:
    return is_address(address) and is_loopback(address)


def _fate(walked: Walked, title: str) -> str:
    if walked.place == NOWHERE:
        return f"stop: {walked.hops[-1].says}"
    return f"arrive at {title} as {walked.packet.target}, from {walked.packet.source}"


def _text(path: Path) -> str:
    """What is in a file; a file that is not there is empty."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _hosts_lines(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(address, names) of each line of a hosts file."""
    lines = [line.partition("#")[0].split() for line in _text(path).splitlines()]
    return tuple((words[0], tuple(words[1:])) for words in lines if len(words) > 1 and is_address(words[0]))
