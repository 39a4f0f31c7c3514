"""The mesh on this node: its leg in ingress, every published port of the swarm, and the ways back in its own tasks.

    a manager: this node's address on ingress  --enter-->  leg: guard, device, a row that others read
    rows of ingress: tasks  --heard-->  port -> tasks                 one wish a port; the relay holds it meanwhile
    rows of ingress: legs   --heard-->  a way back in each own task   one wish a task and leg
    an own task's way out   --heard-->  ports lead to it there        the ports of that task

    owner "mesh"                      the leg
    owner "mesh tcp 8080"             a published port
    owner "<sandbox> <leg>"           how a task here answers what came in by that node

Rules
    1. A change costs what it is about: one port of one service, one leg; never all there are.
    2. A port on which any task wants PROXY's header is carried by the relay, for all its tasks; else by the kernel.
       From one to the other no connection is lost.
    3. A port that something else on this node has is not published here, and that is told; it is tried again with the
       next change of who serves it. Who comes second is refused: there is no list but what the publisher reserves.
    4. Connections of a task that is gone are forgotten, so that their clients are told; those of one that merely serves
       no more go on.
    5. What the kernel refuses is noted all the same: ``healing`` tries again.
    6. After a restart everything stands as the last rows said, before any manager is found.

What it does not do: say who serves (``swarm.shared``), choose addresses (the leader's desk), balance (``host.mesh``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.core import mesh, serving
from fairlead.core.mesh import NOWHERE, Near, Published
from fairlead.core.model import Endpoint, Network, ServicePart
from fairlead.core.serving import Backend
from fairlead.core.wanted import Plan
from fairlead.engine.controller import Controller
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.kernel import Kernel
from fairlead.engine.leads import Lead, Leads
from fairlead.engine.machine import Machine
from fairlead.engine.overlays import Overlays
from fairlead.engine.publisher import EVERY, Publisher
from fairlead.errors import Conflict, FairleadError
from fairlead.host.base import Host

log = logging.getLogger(__name__)

OWNER = "mesh"


class Mesh:
    """``load`` before anything is restored, ``adopt`` before the kernel is repaired; ``enter`` with an address."""

    def __init__(
        self,
        host: Host,
        kernel: Kernel,
        machine: Machine,
        controller: Controller,
        endpoints: Endpoints,
        overlays: Overlays,
        driver: Driver,
        publisher: Publisher,
        facts: Facts,
    ) -> None:
        self._host, self._kernel, self._machine = host, kernel, machine
        self._controller, self._endpoints = controller, endpoints
        self._overlays, self._driver, self._publisher, self._facts = overlays, driver, publisher, facts
        self.leg: Endpoint | None = None
        self._tasks: dict[str, tuple[str, Backend]] = {}
        """endpoint -> its network, the task it is"""
        self._legs: dict[str, tuple[str, str, str]] = {}
        """endpoint -> its network, a node's addresses on ingress"""
        self._behind: dict[Published, dict[str, int]] = defaultdict(dict)
        """published port -> endpoint -> the task's own port"""
        self._reserved: dict[Published, tuple[str, ...]] = {}
        """what this node answers on -> at which addresses of its own; "": at all"""
        self._carried: dict[Published, Leads] = {}
        """where the relay leads those that it carries, or did"""
        self._leading = asyncio.Lock()
        """whoever leads a port: what the relay is told last is what was so last"""
        self._refused: set[Published] = set()
        self._sandboxes: dict[str, str] = {}
        """endpoint of an own task -> its sandbox"""
        self._near: dict[str, Near] = {}
        """endpoint of an own task -> where this node reaches it, without ingress between"""
        self._bridge = ""
        """by which device"""
        self._going: Endpoint | None = None
        """the leg that is being taken away"""
        overlays.services.listeners.append(self)

    @property
    def network(self) -> Network | None:
        """Ingress, as long as this node is on it."""
        return self._controller.network(self.leg.network) if self.leg else None

    def ports(self) -> set[Published]:
        """What this node answers on."""
        return set(self._reserved)

    def relayed(self) -> dict[Published, tuple[tuple[str, ...], Leads]]:
        """What the relay carries: at which addresses of this node ("": at all), and to whom."""
        return {port: (self._reserved[port], leads) for port, leads in self._carried.items() if port in self._reserved}

    def reached(self, address: str) -> Backend | None:
        """The own task that this node reaches there."""
        ids = (id for id, near in self._near.items() if address in near and id in self._tasks)
        return next((self._tasks[id][1] for id in ids), None)

    # -- this node --------------------------------------------------------------------------------

    async def enter(self, network: Network, addresses: Iterable[str]) -> None:
        """This node has these addresses (with prefix length) on ingress. Entering again is harmless."""
        leg = _leg(network, addresses)
        if leg == self.leg:
            return
        await self.leave()
        self._machine.ready(network.ipv6)
        self._going = leg  # if we are interrupted
        await self._overlays.hold(mesh.STAND_IN, [network])
        self.leg, self._going = leg, None
        self._want(OWNER, self._leg_plan(network, leg), "this node's way into ingress")
        self._meet(network)
        self._renew()
        await self._endpoints.stand(leg)
        for endpoint in self._own(network.id):
            self._answer_task(endpoint.id, network.id)
        for port in list(self._behind):
            await self._lead(port)

    async def leave(self) -> None:
        """Nothing of the mesh is left on this node. Who is cancelled here leaves the rest to the next who comes."""
        self._going, self.leg = self.leg or self._going, None
        leg = self._going
        if leg is None:
            return
        for port in list(self._reserved):
            await self._close(port)
        self._kernel.drop(OWNER)
        await self._endpoints.unstand(leg)
        await self._overlays.hold(mesh.STAND_IN, ())
        self._legs = {id: known for id, known in self._legs.items() if known[0] != leg.network}  # nobody tells us now
        self._near, self._going = {}, None

    def _leg_plan(self, network: Network, leg: Endpoint) -> Plan:
        guard = mesh.leg_plan(network, self._facts.has_ipv6)
        return (*guard, *self._driver.endpoint(network, leg, self._facts))

    # -- after a restart --------------------------------------------------------------------------

    def load(self) -> set[str]:
        """Endpoints (ids) that no container has, and which stay."""
        self.leg = next((one for one in self._endpoints.everything() if one.container == mesh.STAND_IN), None)
        return {self.leg.id} if self.leg else set()

    def adopt(self) -> None:
        """Note what should stand; ``Kernel.repair`` makes what is missing."""
        network = self.network
        if network is None or self.leg is None:
            return
        self._overlays.adopt(mesh.STAND_IN, [network])
        self._meet(network)
        self._renew()
        self._kernel.adopt(OWNER, self._leg_plan(network, self.leg), "this node's way into ingress")
        for endpoint in self._own(network.id):
            self._sandboxes[endpoint.id] = endpoint.sandbox
            for leg in self._legs:
                self._kernel.adopt(*self._way_back(endpoint, leg))
        for port in self._behind:
            self._reserved[port] = self._addresses(port)
            if self._is_proxied(port, network):
                self._carried[port] = self._leads(port, network)
            else:
                self._kernel.adopt(*self._wish(port, network))
            carried = self._carried.get(port)
            self._publisher.adopt_reserved(port.protocol, port.port, _held(self._reserved[port]), carried)

    def _meet(self, network: Network) -> None:
        """The legs that are known by now."""
        for row in self._overlays.others(network.id):
            if row.part is None:
                self._note(network.id, row.id, None, row.ipv4.partition("/")[0], row.ipv6.partition("/")[0])
        if self.leg:
            self._note(network.id, self.leg.id, None, self.leg.address4, self.leg.address6)

    # -- others, and tasks ------------------------------------------------------------------------

    def note(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None:
        """As ``heard``, while nobody is told yet."""
        self._note(network_id, endpoint, part, ipv4, ipv6)

    async def heard(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None:
        """An endpoint of some network, here or elsewhere, is so now; without addresses it is gone.

        On ingress who is no task is a leg.
        """
        before = self._tasks.get(endpoint, ("", None))[1]
        knew = self._legs.get(endpoint)
        ports = self._note(network_id, endpoint, part, ipv4, ipv6)
        if knew != self._legs.get(endpoint):
            self._answer_leg(endpoint, network_id)
        if endpoint in self._tasks or before:
            self._answer_task(endpoint, network_id)
        left = _answers(before, (before.ipv4, before.ipv6)) if before and endpoint not in self._tasks else []
        if endpoint in self._sandboxes or endpoint in self._near or self._is_local(network_id):
            for id, was in self._renew().items():
                task = self._tasks[id][1] if id in self._tasks else before
                if task:
                    ports |= mesh.ports(task.part.ports).keys()
                    left += _answers(task, was)
        for port in ports:
            await self._lead(port)
        if left:
            await asyncio.to_thread(self._forget, left)  # what a node with many connections has to look through

    def _forget(self, answers: list[tuple[str, str, int]]) -> None:
        try:
            self._host.forget_answers(answers)
        except FairleadError as problem:
            log.warning("connections to a task that is gone: %s", problem.message)

    def _note(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> set[Published]:
        """Which ports it is a change for."""
        _, before = self._tasks.pop(endpoint, ("", None))
        self._legs.pop(endpoint, None)
        now = Backend(part, ipv4, ipv6) if part and part.ports and (ipv4 or ipv6) else None
        if now:
            self._tasks[endpoint] = network_id, now
        elif ipv4 and not part and not before and self._is_ingress(network_id):
            self._legs[endpoint] = network_id, ipv4, ipv6
        was, is_ = (mesh.ports(one.part.ports) if one else {} for one in (before, now))
        for port in was:
            self._behind[port].pop(endpoint, None)
        for port, own in is_.items():
            self._behind[port][endpoint] = own
        return {*was, *is_} if before != now else set()

    def _is_ingress(self, network_id: str) -> bool:
        network = self._exactly(network_id)
        return network is not None and network.ingress

    def _is_local(self, network_id: str) -> bool:
        network = self._exactly(network_id)
        return network is not None and not network.shared

    def _exactly(self, network_id: str) -> Network | None:
        """The network of that id: another host says it, so neither a name nor the start of an id will do."""
        try:
            network = self._controller.network(network_id)
        except FairleadError:
            return None
        return network if network.id == network_id else None

    # -- the short way to own tasks -----------------------------------------------------------------

    def _renew(self) -> dict[str, Near]:
        """Own tasks that are reached otherwise now -> how they were."""
        was, self._near, self._bridge = self._near, {}, ""
        for endpoint in self._own(self.leg.network) if self.leg else ():
            out = next((one for one in self._endpoints.of_sandbox(endpoint.sandbox) if one.way_out), None)
            self._near[endpoint.id] = (out.address4, out.address6) if out else NOWHERE
            network = self._exactly(out.network) if out else None
            self._bridge = self._controller.device(network) if network else self._bridge
        either = {*was, *self._near}
        return {id: was.get(id, NOWHERE) for id in either if was.get(id) != self._near.get(id)}

    # -- ways back --------------------------------------------------------------------------------

    def _own(self, network_id: str) -> list[Endpoint]:
        """Of tasks of this node."""
        return [endpoint for endpoint in self._endpoints.of_network(network_id) if endpoint.sandbox]

    def _answer_leg(self, leg: str, network_id: str) -> None:
        """A leg came, went, or has other addresses: all own tasks answer it so."""
        for endpoint in self._own(network_id):
            if leg in self._legs:
                self._want(*self._way_back(endpoint, leg))
            else:
                self._kernel.drop(f"{endpoint.sandbox} {leg}")

    def _answer_task(self, id: str, network_id: str) -> None:
        """An own task came or went: it answers all legs, or none."""
        endpoint = next((one for one in self._own(network_id) if one.id == id), None)
        sandbox = endpoint.sandbox if endpoint else self._sandboxes.get(id, "")
        if not sandbox:
            return
        for leg in self._legs:
            if endpoint:
                self._want(*self._way_back(endpoint, leg))
            else:
                self._kernel.drop(f"{sandbox} {leg}")
        if endpoint:
            self._sandboxes[id] = sandbox
        else:
            self._sandboxes.pop(id, None)

    def _way_back(self, endpoint: Endpoint, leg: str) -> tuple[str, Plan, str]:
        network_id, leg4, leg6 = self._legs[leg]
        plan = mesh.way_back(endpoint, self._controller.network(network_id), leg4, leg6)
        return f"{endpoint.sandbox} {leg}", plan, f"{endpoint.name} on ingress"

    # -- ports ------------------------------------------------------------------------------------

    async def _lead(self, port: Published) -> None:
        """The port leads to those who serve it now; nowhere, when nobody is behind it any more."""
        async with self._leading:
            await self._lead_now(port)

    async def _lead_now(self, port: Published) -> None:
        network = self.network
        if port not in self._behind:
            return
        if not self._behind[port]:
            del self._behind[port]
            await self._close(port)
            return
        if network is None:
            return
        asked = self._is_proxied(port, network)
        if asked and port in self._reserved and port not in self._carried:
            await self._let_go(port)  # the relay listens where it held; meanwhile the kernel goes on
        if not await self._reserve(port, self._leads(port, network) if asked or port in self._carried else None):
            return
        if port in self._carried and self._is_proxied(port, network):
            self._kernel.drop(_owner(port))
        elif not self._is_proxied(port, network):  # else it began meanwhile, and has its turn next
            self._want(*self._wish(port, network))

    async def _reserve(self, port: Published, carried: Leads | None) -> bool:
        """It is ours, and the relay knows whether it carries it. Once it listens it goes on: who waits there to be
        accepted would be cut off, and where the kernel carries a port nobody new comes to it."""
        if port in self._reserved and carried is None:
            return True
        addresses = self._reserved.get(port) or self._addresses(port)
        try:
            await self._publisher.reserve(port.protocol, port.port, _held(addresses), carried)
        except Conflict as problem:
            self._kernel.drop(_owner(port))
            if port not in self._refused:
                log.error("port %s/%s of the swarm is not published here: %s", port.port, port.protocol, problem)
            self._refused.add(port)
            return False
        self._refused.discard(port)
        self._reserved[port] = addresses
        if carried is not None:
            self._carried[port] = carried
        self._host.forget_flows([(port.protocol, "", port.port)] if port.protocol == "udp" else [])
        return True

    async def _close(self, port: Published) -> None:
        self._refused.discard(port)
        if port in self._reserved:
            self._kernel.drop(_owner(port))
            await self._let_go(port)
            self._host.forget_flows([(port.protocol, "", port.port)])

    async def _let_go(self, port: Published) -> None:
        addresses, carried = self._reserved.pop(port), self._carried.pop(port, None)
        await self._publisher.unreserve(port.protocol, port.port, _held(addresses), carried)

    def _addresses(self, port: Published) -> tuple[str, ...]:
        """Of this node, as it is now. (A device that gets another address later is not followed.)"""
        if not port.at:
            return ("",)
        here = [(device, text.partition("/")[0]) for device, text in self._host.addresses()]
        return tuple(address for device, address in here if port.at in (device, address))

    def _wish(self, port: Published, network: Network) -> tuple[str, Plan, str]:
        behind, own = self._tasks_behind(port, network)
        title = f"port {port.port}/{port.protocol} of the swarm"
        return _owner(port), mesh.published(port, network, behind, own, self._reserved[port], self._bridge), title

    def _is_proxied(self, port: Published, network: Network) -> bool:
        behind, _ = self._tasks_behind(port, network)
        return any(port in mesh.proxied(task.part.ports) for task in behind)

    def _leads(self, port: Published, network: Network) -> Leads:
        behind, own = self._tasks_behind(port, network)
        return Leads((Lead(*lead) for lead in mesh.carried(port, network, behind, own)), serving.policy(behind))

    def _tasks_behind(self, port: Published, network: Network) -> tuple[dict[Backend, int], dict[Backend, Near]]:
        """All, with their own port; those on this node, with where it reaches them."""
        here = {endpoint.id for endpoint in self._own(network.id)}
        behind = {self._tasks[id][1]: own for id, own in self._behind[port].items() if self._tasks[id][0] == network.id}
        return behind, {self._tasks[id][1]: self._near.get(id, NOWHERE) for id in self._behind[port] if id in here}

    def _want(self, owner: str, plan: Plan, title: str) -> None:
        try:
            self._kernel.want(owner, plan, title)
        except FairleadError as problem:
            log.warning("%s: %s; it will be tried again", title, problem.message)
            self._kernel.adopt(owner, plan, title)


def _owner(port: Published) -> str:
    return " ".join(filter(None, (OWNER, port.protocol, str(port.port), port.at)))


def _answers(task: Backend, addresses: Near) -> list[tuple[str, str, int]]:
    """What a task answers from, called by its published ports: protocol, address, port."""
    found = mesh.ports(task.part.ports).items()
    return [(port.protocol, address, own) for port, own in found for address in addresses if address]


def _held(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return EVERY if addresses == ("",) else addresses


def _leg(network: Network, addresses: Iterable[str]) -> Endpoint:
    """The host's own endpoint: of no container, and in no sandbox."""
    held = tuple(addresses)
    four = next(address for address in held if ":" not in address)
    empty = Endpoint(
        id=hashlib.sha256(f"{network.id} {four}".encode()).hexdigest(),
        network=network.id,
        container=mesh.STAND_IN,
        sandbox="",
        name=mesh.NAME,
        interface=mesh.LEG,
        device=mesh.LEG,
        mac=mesh.mac(four),
    )
    return replace(empty, ipv4=four, ipv6=next((address for address in held if ":" in address), ""))
