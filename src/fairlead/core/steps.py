"""Steps: what a walk does at each station: asks the kernel for the way, and all rules what they say.

    _way(ns)       what our objects say, or what the kernel says when that is another
    _judged(hook)  our rules and those of others, in the order of their priorities

Rules
    1. Where the kernel can be asked, its way is the one that is walked: a route, rule or setting of
       somebody else is told, with the entry that says so.
    2. Of other people's rules those are told that stop the packet or may stop it; what surely
       passes is nobody's business.

What it does not do: know stations (``core.explain``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.core.others import Opinion, describe
from fairlead.core.ruleset import Judgement, Met, Packet
from fairlead.core.terrain import Road, Terrain, Way, is_loopback
from fairlead.core.wanted import HOST, Sysctl, Wanted

WORLD = "world"
"""Where a packet is that has left the host; ``Walked.place`` holds a namespace's name, "" for the host, or this."""
NOWHERE = "nowhere"
ELSEWHERE = "elsewhere"
"""On another host of the same overlay network."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One station. ``stops``: here it ends; ``objects``: what this relies on."""

    at: str
    says: str
    stops: bool = False
    objects: tuple[Wanted, ...] = ()
    unsure: bool = False
    """here it may end: somebody's rules depend on what cannot be told"""
    foreign: bool = False
    """here it takes a route that is not ours"""


class Lot(NamedTuple):
    """A task that could have been chosen; ``weight`` of all weights is its chance."""

    address: str
    port: int
    weight: int


@dataclass(slots=True)
class Walked:
    """A walk. ``place``: where the packet came out (``NOWHERE``: it was stopped), ``packet``: as it is there."""

    packet: Packet
    place: str = NOWHERE
    hops: list[Hop] = field(default_factory=list)
    stopped_by: Met | None = None
    """the rule that dropped it"""
    reason: str = ""
    """the word for why it stopped: rule, route, switch, key, nobody, loopback, forwarding, answer; or by others:
    others, detour, refused, rp_filter; of a service: vip (nobody serves), inlet (not by ingress)"""
    stopped_by_others: Opinion | None = None
    owner: str = ""
    """of the table that stopped it, as far as its name tells"""
    road: Road | None = None
    """the kernel's way, where that is another than ours or none"""
    crossed: list[str] = field(default_factory=list)
    """namespaces in which a route that is not ours took it elsewhere, or somebody's rules stopped it"""
    switch: str = ""
    """the last bridge it was on"""
    lots: tuple[Lot, ...] = ()
    """the tasks of a service that one was chosen from"""

    @property
    def arrived(self) -> bool:
        return self.place != NOWHERE


class Steps:
    """One packet under way."""

    def __init__(self, terrain: Terrain, forwarding: bool, walked: Walked) -> None:
        self.terrain, self.forwarding, self.walked = terrain, forwarding, walked

    @property
    def packet(self) -> Packet:
        return self.walked.packet

    @packet.setter
    def packet(self, packet: Packet) -> None:
        self.walked.packet = packet

    def note(self, at: str, says: str, *objects: Wanted) -> None:
        self.walked.hops.append(Hop(at, says, False, objects))

    def stop(self, reason: str, at: str, says: str, *objects: Wanted) -> None:
        self.walked.hops.append(Hop(at, says, True, objects))
        self.walked.reason, self.walked.place = reason, NOWHERE

    def arrive(self, ns: str, says: str, *objects: Wanted) -> None:
        self.walked.place = ns
        self.note("arrive", f"{says}, from {self.packet.source}", *objects)

    # -- which way ---------------------------------------------------------------------------

    def _kernel(self, ns: str) -> Road | None:
        """The kernel's own answer for the packet as it is now."""
        packet, arrives = self.packet, self.packet.arrives if ns == HOST else ""
        return self.terrain.ask(ns, packet.target, packet.source if arrives else "", arrives)

    def _way(self, ns: str) -> Way | None:
        """The way our objects give, unless the kernel takes another: then that one. None: it ended here."""
        target, title = self.packet.target, self.terrain.title(ns)
        ours, road = self.terrain.way(ns, target), self._kernel(ns)
        if ours is None and (road is None or not road.leads):
            self.stop("route", "route", f"{title} has no route to {target}: network is unreachable")
            return None
        home = self.terrain.home(target) if ns == HOST else ""
        if road is not None and road.leads and home not in ("", road.device):
            self.walked.road, name = road, self.terrain.network(home)
            says = f"the host sends {target} out by {road.device}, not to {name}: a route of somebody else, {road}"
            self.stop("detour", "route", says)
            return None
        if road is None or (ours is not None and _same_way(ours, road)):
            return ours
        if not road.leads:
            self._refuse(ns, road)
            return None
        if ours is None or ns != HOST or road.rules:
            self.walked.road = self.walked.road or road
            self.walked.crossed.append(ns)
            self.walked.hops.append(Hop("route", f"a route that is not ours takes {target}: {road}", foreign=True))
        return Way(road.prefix, road.device, road.gateway, road.source or (ours.source if ours else ""))

    def _refuse(self, ns: str, road: Road) -> None:
        """The kernel sends it nowhere, and why."""
        self.walked.road, packet = road, self.packet
        reason = "rp_filter" if road.kind in ("rp_filter", "martian") else "refused"
        if road.kind == "rp_filter":
            says = f"{packet.arrives} takes nothing from {packet.source}, as answers would not leave by it"
            says += f": net/ipv4/conf/{packet.arrives}/rp_filter, or that of all, is on"
        elif road.kind == "martian":
            says = f"{packet.arrives} takes nothing from {packet.source}: that address is the host's own"
        elif ours := self.terrain.closed.get(packet.arrives):
            name = self.terrain.network(packet.arrives)
            return self.stop(
                "internal", "route", f"{name} is internal: the host forwards nothing that comes from it", ours
            )
        elif road.kind == "unreachable" and not road.prefix and not road.rules and packet.arrives:
            says = f"the host forwards nothing that comes in by {packet.arrives}"
            says += f": net/ipv4/conf/{packet.arrives}/forwarding is off"
        else:
            says = f"{self.terrain.title(ns)} refuses {packet.target}: {road}"
        self.stop(reason, "route", says)

    # -- rules -------------------------------------------------------------------------------

    def _judged(self, hook: str) -> bool:
        """Ask all rules, ours and others', in the order of their priorities; True when the packet ended here."""
        translated = self.packet.translated
        for priority in sorted({*self.terrain.rules.priorities(hook), *self._priorities(hook)}):
            if self._judged_by_ours(hook, priority):
                return True
            if self._others(hook, priority=priority, nat=self.packet.translated == translated):
                return True
        return False

    def _priorities(self, hook: str) -> list[int]:
        return [chain.priority for chain in self.terrain.others(HOST).chains(hook, self._family)]

    @property
    def _family(self) -> str:
        return "ip6" if self.packet.family == 6 else "ip"

    def _others(
        self, hook: str, family: str = "", *, ns: str = HOST, priority: int | None = None, nat: bool = True
    ) -> bool:
        """Ask the rules of other people; what surely passes is not told. True: the packet ended here."""
        others = self.terrain.others(ns)
        for chain in others.chains(hook, family or self._family, self.packet.arrives):
            if priority not in (None, chain.priority) or (chain.kind == "nat" and not nat):
                continue
            opinion = others.opinion(chain, self.packet, self.terrain.is_hosts)
            if not opinion.drops and not opinion.doubts:
                continue
            inside = f"in {self.terrain.title(ns)}: " if ns != HOST else ""
            says, owner = inside + describe(opinion, others.owner(chain)), others.owner(chain)
            self.walked.hops.append(Hop("others", says, stops=opinion.drops, unsure=not opinion.drops))
            if opinion.drops:
                self.walked.crossed.append(ns)
                self.walked.stopped_by_others, self.walked.owner = opinion, "" if ns != HOST else owner
                self.walked.reason, self.walked.place = "others", NOWHERE
                return True
        return False

    def _judged_by_ours(self, hook: str, priority: int) -> bool:
        before, verdict = self.packet, self.terrain.rules.at(hook, self.packet, priority)
        self.packet = verdict.packet
        for number, met in enumerate(verdict.met, 1):
            last = verdict.dropped and number == len(verdict.met)
            hop = Hop("rule", f"{met.chain}: {met.rule}{_element(met)}", last, _objects(met))
            self.walked.hops.append(hop)
        if verdict.dropped:
            self.walked.reason, self.walked.place, self.walked.stopped_by = "rule", NOWHERE, verdict.met[-1]
            return True
        self._tell_translation(before, verdict)
        return False

    def _tell_translation(self, before: Packet, verdict: Judgement) -> None:
        after = verdict.packet
        if (before.target, before.port) != (after.target, after.port):
            guard: tuple[Wanted, ...] = ()
            way = self.terrain.way(HOST, after.target)
            if is_loopback(before.source or "::") and way is not None:
                guard = (Sysctl(path=f"net/ipv4/conf/{way.device}/route_localnet", value="1"),)
            self.note("dnat", f"{at(before)} becomes {at(after)}", *guard)
        if before.source != after.source:
            self.note("snat", f"leaves as {after.source} instead of {before.source}")


def _same_way(way: Way, road: Road) -> bool:
    """Whether the kernel does what our objects say. Of routes that are not ours we know no gateway."""
    return road.device == way.device and (not way.objects or road.gateway == way.gateway)


def at(packet: Packet) -> str:
    return f"{packet.target} port {packet.port} {packet.protocol}" if packet.port else f"{packet.target} (ping)"


def _element(met: Met) -> str:
    if met.element is None:
        return ""
    element = met.element
    return f"   {{ {element.item}{' : ' + element.value if element.value else ''} }}"


def _objects(met: Met) -> tuple[Wanted, ...]:
    return (met.element,) if met.element is not None else ()
