"""Choosing: what a packet meets on its way to a service: its address, its published port, its task's way in.

    sandbox --10.0.1.2--> Vip ------ one of its tasks        the caller's own sandbox decides
    host -----:8080-----> MeshPort - one of its tasks        the host that was called decides
    ingress ------------> Inlet ---- its port, or nothing    the task's sandbox; its answers go back by that host

Chance decides in the kernel; here the caller says which lot is drawn (``Choosing.lot``), and ``Walked.lots`` tells
between whom it was.

What it does not do: find out why somebody does not serve (``engine.explainservices``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fairlead.core import mesh
from fairlead.core.ruleset import Packet, within
from fairlead.core.steps import Lot, Steps, at
from fairlead.core.terrain import Carried, Socket, Way
from fairlead.core.wanted import HOST, MeshPort, Vip, Wanted

DSTNAT = -100
"""priority of the chains that lead to tasks"""


class Choosing(Steps):
    """One packet under way."""

    lot = 0
    """which of the lots is drawn"""
    called: Packet | None = None
    """as it came to its task, before the task's sandbox led it on"""
    turned = ""
    """the address of a service that answers seem to come from"""

    def led(self, ns: str, way: Way) -> Way | None:
        """Out of a sandbox: where what is for a service's address goes instead. None: it ended here."""
        vip, title = self.terrain.vips.get((ns, self.packet.target)), self.terrain.title(ns)
        if vip is not None:
            if not vip.targets:
                says = f"{vip.address} is a service's own address, and no task of it serves: refused in {title} itself"
                self.stop("vip", "vip", says, vip)
                return None
            self.turned = vip.address
            lots = [Lot(address, self.packet.port, weight) for address, weight in vip.targets]
            self._draw(f"in {title} itself {vip.address} leads to", "vip", lots, vip.policy, vip)
            if self.terrain.holds(ns, self.packet.target):
                self.arrive(ns, f"{title} got itself, on its loopback at {at(self.packet)}")
                return None
            onward = self._way(ns)
            if onward is None:
                return None
            self.packet, way = replace(self.packet, leaves=onward.device), onward
        inlet = self.terrain.inlets.get(ns)
        if inlet is not None and way.device == inlet.link:
            says = f"{way.device} of {title} is for calls of published ports, and for answers: the rest is refused"
            self.stop("inlet", "inlet", says, inlet)
            return None
        return way

    def _judged_by_ours(self, hook: str, priority: int) -> bool:
        if priority == DSTNAT and hook in ("prerouting", "output") and self._by_port():
            return False  # it is translated, and once is enough
        return super()._judged_by_ours(hook, priority)

    def _by_port(self) -> bool:
        """On the host: a published port of the swarm leads to a task. True: this one does."""
        port = self.port()
        targets = () if port is None else port.targets
        if port is not None and port.around and self.packet.arrives == port.bridge:
            targets = port.around
        lots = [Lot(*target) for target in targets if (":" in target[0]) == (self.packet.family == 6)]
        if port is not None and lots:
            self._draw(f"port {port.port} {port.protocol} is {port.why}:", "mesh", lots, port.policy, port)
        return bool(lots)

    def port(self) -> MeshPort | None:
        """The swarm's port that the packet is for, here on the host."""
        packet = self.packet
        if packet.translated or packet.target == "::1" or not self.terrain.is_hosts(packet.target):
            return None
        found = (self.terrain.ports.get((packet.protocol, at, packet.port)) for at in (packet.target, ""))
        return next(filter(None, found), None)

    def refused(self) -> bool:
        """It is for a port that the swarm publishes, and nobody serves. True: it ended here."""
        port = self.port()
        if port is not None:
            self.stop(
                "vip", "mesh", f"port {port.port} {port.protocol} is the swarm's, and no task serves it: refused", port
            )
        return port is not None

    def guarded(self) -> bool:
        """It came in by the host's own leg in ingress. True: it ended here."""
        leg = self.terrain.legs.get(self.packet.arrives)
        if leg is not None:
            self.stop("inlet", "leg", f"by {leg.link} the host takes answers, and nothing else", leg)
        return leg is not None

    def by_relay(self, carried: Carried) -> Lot | None:
        """Whom the relay calls. None: nobody, it ended here."""
        if not carried.swarm:
            return Lot(carried.target, carried.target_port, 1)
        lots = [Lot(*task) for task in carried.tasks]
        what = f"port {carried.port} {carried.protocol} is the swarm's, told of its clients by PROXY's header:"
        if not lots:
            self.stop("vip", "mesh", f"{what} no task serves it")
            return None
        return self._lot(what, "mesh", lots, carried.policy)

    def _lot(self, what: str, station: str, lots: Sequence[Lot], policy: str, *objects: Wanted) -> Lot:
        self.walked.lots = tuple(lots)
        how = {"source": "by the caller's address", "round-robin": "in turn"}.get(policy, "by chance")
        tasks = f"one of {len(lots)} tasks that serve, {how}" if len(lots) > 1 else "the one task that serves"
        self.note(station, f"{what} {tasks}", *objects)
        return lots[self.lot % len(lots)]

    def _draw(self, what: str, station: str, lots: Sequence[Lot], policy: str, by: Vip | MeshPort) -> None:
        drawn, before = self._lot(what, station, lots, policy, by), self.packet
        short = isinstance(by, Vip) and before.protocol == "tcp" and self.terrain.connects(by.ns, by.address)
        self.packet = replace(before, target=drawn.address, port=drawn.port, translated=not short)
        became = f"{at(before)} becomes {at(self.packet)}"
        self.note(*("connect", f"{became} where the process connects") if short else ("dnat", became))

    # -- at its task ------------------------------------------------------------------------------------------

    def let_in(self, there: Socket) -> bool:
        """By ingress a task's sandbox takes its published ports. False: it ended here."""
        inlet, packet = self.terrain.inlets.get(there.ns), self.packet
        if inlet is None or inlet.link != there.device:
            return True
        title = self.terrain.title(there.ns)
        if f"{packet.protocol} . {packet.port}" not in inlet.ports:
            says = f"by {there.device} {title} takes {', '.join(inlet.ports) or 'nothing'}, not {at(packet)}"
            self.stop("inlet", "inlet", says, inlet)
            return False
        self.called = packet
        self.note("inlet", f"{title} remembers by which node it came in, and answers there", inlet)
        stays = packet.protocol == "tcp" or any(within(packet.source, own) for own in inlet.own)
        for answer in inlet.answers if not stays else ():
            if (":" in answer) == (packet.family == 6):
                self.packet = replace(packet, target=answer)
        return True

    def answer_by_node(self, place: str) -> bool:
        """The answer to what came in by ingress goes back to the node that let it in. True: this is such a one."""
        if self.called is None:
            return False
        title, family = self.terrain.title(place), self.packet.family
        leg4 = next((a for link in self.terrain.legs for a in self.terrain.addresses(HOST, 4, link)), "")
        found = self.terrain.marked(place, family, mesh.mark(leg4)) if leg4 else None
        if found is None:
            self.stop("answer", "answer", f"{title} knows no way back to this node's address on ingress, {leg4}")
        else:
            says = f"{title} answers by {found[1].gateway}, this node on ingress, whoever the caller is"
            self.note("answer", says, *found)
        return True

    def answer_turned(self) -> None:
        """What the caller sees of who answered."""
        if self.turned and self.packet.source != self.packet.target:
            self.note("answer", f"{self.packet.target} answers {self.packet.source}, which sees {self.turned} again")
