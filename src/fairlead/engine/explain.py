"""Explain: why A reaches B, or where and why not.

    records, wanted objects, hosts files  --> Terrain, Asker, Ends
    who is A, who is B                    --> a name looked up, a packet to walk
    a service                             --> a packet for each of its tasks
                                          --> Explanation: hops, verdict, advice
    check                                     the same walk over what the kernel has, and what differs on the way

Everything is read, nothing is touched and nothing is sent: the answer comes from
what is wanted, from what other people have put in the way, and from the way that the
kernel says it takes. Whether it has all of ours is a question of its own (``check``).

What it does not do: walk (``core.explain``), know services (``engine.explainservices``) or how they are called
(``engine.explaincalls``), or whether somebody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from fairlead.core import webmesh
from fairlead.core.asking import OUTSIDE, Ask, Ends, advise, is_address, look_up, parse
from fairlead.core.explain import walk
from fairlead.core.others import Others
from fairlead.core.ruleset import Packet
from fairlead.core.steps import ELSEWHERE, NOWHERE, WORLD, Hop, Lot, Walked
from fairlead.core.terrain import Carried, Terrain
from fairlead.core.wanted import HOST, Wanted
from fairlead.core.written import family_of
from fairlead.engine.attachments import Attachments
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.explaincalls import Caller, Finding, call, web
from fairlead.engine.explainplaces import FAR, Place, Places
from fairlead.engine.explainservices import Directory, Route
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.kernel import Kernel
from fairlead.engine.naming import Naming
from fairlead.engine.overlays import Spread
from fairlead.engine.publisher import Publisher
from fairlead.engine.webmesh import SERVICE
from fairlead.errors import NotFound
from fairlead.host.base import Host

WORKER = "is it a service? This is a worker, which knows those with tasks on its networks: ask on a manager"
MOST = 20
"""tasks of a service that are walked to"""


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
    share: str = ""
    """some tasks of a service are reached, others not: ``2 of 3 tasks``"""

    @property
    def works(self) -> bool:
        """As it was asked: by name, when a name was asked for."""
        return self.arrives and self.resolves is not False

    @property
    def verdict(self) -> str:
        if not self.arrives:
            return f"arrives at {self.share} only" if self.share else "does not arrive"
        by_address = ", but only by address: its name does not resolve there" if self.resolves is False else ""
        unsure = ", unless somebody else's rules stop it" if any(hop.unsure for hop in self.hops) else ""
        return f"arrives at {self.place}{by_address}{unsure}"


class Obstacle(NamedTuple):
    """Something of somebody else's between two places: whose it is, and what would take it away."""

    between: str
    found: str
    owner: str
    remedy: str


class Explainer(Places):
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
        services: Directory,
        forwards: Callable[[int], bool] = lambda family: True,
    ) -> None:
        """``forwards(family)``: the kernel forwards packets of that family now."""
        super().__init__(catalog, controller, attachments, naming, files, services)
        self._kernel, self._host, self._publisher, self._forwards = kernel, host, publisher, forwards

    async def explain(self, source: str, target: str, family: int = 0, check: bool = False) -> Explanation:
        """Walk from ``source`` to ``target`` (``NAME[:port]``, address, ``host``, ``world``). ``family`` 0: as it fits.

        ``Invalid`` and ``NotFound`` for ends that mean nothing, ``Conflict`` for a container that does not run."""
        ask = parse(target)
        family = family or _family_of(ask.who) or _family_of(source) or 4
        land = self._terrain(self._kernel.wanted())
        start, end = self._place(source, land), self._end(ask.who, land)
        found = self._found(start, end, ask, family, land)
        # In a thread: it asks the kernel, and other people's rules may be thousands.
        walks = await asyncio.to_thread(self._walks, land, start, found.address, found.ask, family)
        differs = None
        if check and walks:
            differs = await self._check(start, found.address, found.ask, family, walks[0])
        if found.route and walks and all(walked.arrived for walked in walks):
            onward = await asyncio.to_thread(self._onward, land, found.route, family)
            found = found._replace(hops=[*found.hops, *self._drawn(walks)[0]])
            walks = onward or walks
        if end is not None and end.ns == HOST and walks and not walks[0].lots:
            found = self._services_port(found, walks[0])
        return self._explanation(f"{source} -> {target}", start, end, found, walks, differs)

    def _services_port(self, found: Finding, walked: Walked) -> Finding:
        """A port of this host that led to no task: with what there is to say of services' ports."""
        owner, others = self._services.publisher(found.ask.protocol, found.ask.port)
        if walked.reason == "vip" and owner is not None:
            return found._replace(service=owner)
        if owner is not None:
            says = f"port {found.ask.port} is {owner.name}'s on every node but this one: see what else has it here"
            return found._replace(advice=(says,))
        return found._replace(advice=(f"no service publishes port {found.ask.port}: {others}",)) if others else found

    def _explanation(
        self,
        question: str,
        start: Place,
        end: Place | None,
        found: Finding,
        walks: list[Walked],
        differs: tuple[str, ...] | None,
    ) -> Explanation:
        none = Walked(Packet(source="", target=OUTSIDE[4], protocol="tcp"), reason="name")
        hops, walked = self._drawn(walks) if walks else ([], none)
        ends = replace(self._ends(start, end), service=found.service.name if found.service else "")
        reached = sum(each.arrived for each in walks)
        arrives = reached == len(walks) > 0
        several = len(walks) > 1
        return Explanation(
            question=question,
            hops=(*found.hops, *hops),
            arrives=arrives,
            resolves=found.resolved,
            place=(f"each of {reached} tasks" if several else self._whose(walked)) if arrives else "",
            source=walked.packet.source if arrives else "",
            advice=found.advice or tuple(dict.fromkeys(advise(walked, ends, found.ask, found.resolved is not False))),
            differs=differs,
            share=f"{reached} of {len(walks)} tasks" if several and 0 < reached < len(walks) else "",
        )

    def _whose(self, walked: Walked) -> str:
        """Where a walk came out, in words."""
        there = self._services.task(walked.packet.target) if walked.place == ELSEWHERE else ""
        return there or self._title(walked.place)

    def _drawn(self, walks: list[Walked]) -> tuple[list[Hop], Walked]:
        """One walk in full, the first that fails if there is one; of the others how they end."""
        shown = next((walked for walked in walks if not walked.arrived), walks[0])
        if not shown.lots:
            return shown.hops, shown
        at = next((number for number, hop in enumerate(shown.hops, 1) if hop.at in ("vip", "mesh")), 1)
        total = sum(lot.weight for lot in shown.lots)
        lines = [self._lot(lot, total, walked, walked is shown) for lot, walked in zip(shown.lots, walks, strict=False)]
        if (more := len(shown.lots) - len(walks)) > 0:
            lines.append(Hop("task", f"and {more} more, not looked at"))
        return [*shown.hops[:at], *lines, *shown.hops[at:]], shown

    def _lot(self, lot: Lot, total: int, walked: Walked, shown: bool) -> Hop:
        chance = f"{lot.weight} of {total}: " if lot.weight < total else ""
        says = f"{chance}{self._services.task(lot.address) or 'a task'}, {lot.address}"
        if walked.arrived or shown:
            return Hop("task", says)
        return Hop("task", f"{says}; {walked.hops[-1].says}", stops=True)

    # -- the walk -------------------------------------------------------------------------

    def _walks(self, land: Terrain, start: Place, address: str, ask: Ask, family: int) -> list[Walked]:
        """To each task that may be chosen; nothing when nobody is called."""
        if not address:
            return []
        first = self._walk(land, start, address, ask, family)
        lots = range(1, min(len(first.lots), MOST))
        return [first, *(self._walk(land, start, address, ask, family, lot) for lot in lots)]

    def _onward(self, land: Terrain, route: Route, family: int) -> list[Walked]:
        """From the HTTP mesh's HAProxy on this node to the tasks that it has for a place."""
        ours = ((c, s) for c, s in self._running() if (c.config.labels or {}).get(SERVICE) == webmesh.NAME)
        proxy = next((Place(f"container {c.name}", s.sandbox.namespace, c) for c, s in ours), None)
        tasks = [spot.backend for spot in route.service.spots if spot.backend.part.serving and spot.backend.part.routes]
        if proxy is None:
            return []
        lots = tuple(Lot(task.ipv4 or task.ipv6, route.port, task.part.weight) for task in tasks)
        walks = [self._walk(land, proxy, lot.address, Ask(lot.address, lot.port), family) for lot in lots[:MOST]]
        for walked in walks:
            walked.lots = lots
            walked.hops.insert(0, Hop("http", f"{proxy.title} calls one of its servers, in turn"))
        return walks

    def _walk(self, land: Terrain, start: Place, address: str, ask: Ask, family: int, lot: int = 0) -> Walked:
        ping = "icmp" if family == 4 else "ipv6-icmp"
        packet = Packet(source="", target=address, protocol=ask.protocol if ask.port else ping, port=ask.port)
        if start.ns == WORLD:
            outside = start.address or OUTSIDE[family]
            way = land.way(HOST, outside)
            device = way.device if start.address and way else land.uplink(family)
            packet = replace(packet, source=outside, arrives=device)
        return walk(land, start.ns, packet, forwarding=self._forwards(family), lot=lot)

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
            [
                *(Carried(p.protocol, p.address, p.port, p.target, p.target_port) for p in carried if p.target),
                *self._services.relayed(),
            ],
            titles,
            {**{device: name for device, name in networks.items() if device}, **self._spread()},
            self._host.road,
            lru_cache(lambda ns: Others(*self._host.rulesets(ns))),
            self._host.leads_at_connect,
        )

    def _spread(self) -> dict[str, str]:
        """Namespaces of overlay networks, and whose they are."""
        found = ((self._controller.driver(n), n) for n in self._controller.networks() if not n.config_only)
        return {driver.place(network): network.name for driver, network in found if isinstance(driver, Spread)}

    # -- for the doctor ---------------------------------------------------------------------

    async def obstacles(self) -> list[Obstacle]:
        """What others have put between the host and containers, or containers and the world; each once."""
        land = self._terrain(self._kernel.wanted())
        found = await asyncio.to_thread(lambda: list(self._obstacles(land)))
        return list({(obstacle.found, obstacle.owner): obstacle for obstacle in reversed(found)}.values())[::-1]

    def _obstacles(self, land: Terrain) -> Iterator[Obstacle]:
        for container, stack in list(self._running()):
            me, title = Place(container.name, stack.sandbox.namespace, container), f"container {container.name}"
            given = {"ALL", "NET_ADMIN", "CAP_NET_ADMIN"}.intersection(container.host.cap_add or ())
            free = container.host.privileged or bool(given)
            for family in (4, 6):
                for network, endpoint in stack.attached:
                    address = endpoint.address4 if family == 4 else endpoint.address6
                    if address and land.home(address):
                        walked = self._walk(land, Place("the host", HOST), address, Ask(address), family)
                        yield from _obstacle(f"the host -> {title} on {network.name}", walked, free)
                if land.way(me.ns, OUTSIDE[family]) and land.uplink(family):
                    walked = self._walk(land, me, OUTSIDE[family], Ask("world", 443), family)
                    yield from _obstacle(f"{title} -> the world", walked, free)

    # -- names ----------------------------------------------------------------------------

    def _found(self, start: Place, end: Place | None, ask: Ask, family: int, land: Terrain) -> Finding:
        """What is called in the end, and how that was found out."""
        exact = any(container.name == ask.who for container in self._catalog) or ask.who in ("host", *FAR)
        service = None if exact else self._services.find(ask.who)
        if service is None and end is None and (route := self._services.route(ask.who, ask.path)):
            return web(self._services, route, self._caller(start, family, land), ask)
        if service is None:
            found = Finding(*self._named(start, end, ask, family, land), ask)
            if found.resolved is None and end is None and "." not in ask.who and self._services.is_worker:
                found = found._replace(advice=(WORKER,))
            return found
        return call(self._services, service, self._caller(start, family, land), ask, family)

    def _caller(self, start: Place, family: int, land: Terrain) -> Caller:
        stack, container = self._stack(start), start.container
        own = stack is not None and start.ns not in (HOST, WORLD)
        part = next((e.settings.part for _, e in self._attached(start) if e.settings.part), None)
        return Caller(
            title=start.title,
            asker=self._asker(start, stack) if stack is not None and own else None,
            networks={network.id: network.name for network, endpoint in self._attached(start) if endpoint.names},
            host=self._of_host(start, family, land),
            container=container.name if container else "",
            service=part.name if part else "",
        )

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
        if ask.who in ("host", *FAR):
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
    return family_of(text) if is_address(text) else 0


def _fate(walked: Walked, title: str) -> str:
    if walked.place == NOWHERE:
        return f"stop: {walked.hops[-1].says}"
    return f"arrive at {title} as {walked.packet.target}, from {walked.packet.source}"
