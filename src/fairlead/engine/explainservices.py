"""What this node knows of services, for ``engine.explain``: who is meant, where its tasks are, why one is not.

    rows of the networks that are here   names, addresses, who serves         every node
    the swarm's own records              tasks that wait, and for what        managers

Rules
    1. Rows come first: they are what the data path follows. What a manager knows beyond them says why.
    2. A worker says what it does not know, and who does.

What it does not do: walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fairlead.core import mesh, serving, webmesh
from fairlead.core.cluster import Service, State, Task
from fairlead.core.mesh import Published
from fairlead.core.service import replicas
from fairlead.core.serving import ROUTE, Backend
from fairlead.core.steps import Hop
from fairlead.core.terrain import Carried
from fairlead.engine.controller import Controller
from fairlead.engine.mesh import Mesh
from fairlead.engine.overlays import Overlays
from fairlead.engine.resolverclient import EndpointNames
from fairlead.engine.swarm import Control
from fairlead.errors import Unavailable

SILENT = "it is not healthy yet, or about to stop"


class Spot(NamedTuple):
    """A task on a network. ``host`` "": this one; ``away``: its host is not heard of."""

    network: str
    name: str
    host: str
    backend: Backend
    away: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} on {self.host or 'this host'}"


class Known(NamedTuple):
    """A service. ``record``: of the swarm, where it is known."""

    id: str
    name: str
    spots: tuple[Spot, ...]
    record: Service | None = None

    def on(self, network: str) -> list[Spot]:
        return [spot for spot in self.spots if spot.network == network]


class Route(NamedTuple):
    """A place of the HTTP mesh: ``red.example.com/``, whose tasks listen at ``port``."""

    place: str
    port: int
    service: Known


class Directory:
    """``control()``: the swarm's records; ``Unavailable`` where this node is no manager."""

    def __init__(
        self,
        controller: Controller,
        overlays: Overlays,
        control: Callable[[], Control],
        mesh: Callable[[], Mesh | None] = lambda: None,
    ) -> None:
        self._controller, self._overlays, self._managers, self._mesh = controller, overlays, control, mesh

    def _control(self) -> Control | None:
        try:
            return self._managers()
        except Unavailable:
            return None

    def names(self) -> list[EndpointNames]:
        """Of services' own addresses, as the resolver serves them."""
        return self._overlays.services.told()

    def relayed(self) -> Iterator[Carried]:
        """Published ports that the relay carries, not the kernel."""
        node = self._mesh()
        for port, (addresses, leads) in node.relayed().items() if node else ():
            tasks = tuple((lead.address, lead.port, lead.weight) for lead in leads.all)
            for address in addresses if addresses != ("",) else ("0.0.0.0", "::"):
                yield Carried(port.protocol, address, port.port, swarm=True, tasks=tasks, policy=leads.policy)

    # -- who is meant -------------------------------------------------------------------------------------------

    def spots(self) -> list[Spot]:
        """Every task that some row tells of."""
        own = {end.id: end.name for net in self._controller.networks() for end in self._controller.endpoints(net.id)}
        found = []
        for network, endpoint, backend in self._overlays.services.known():
            row = self._overlays.find(endpoint)
            name = row.name if row else own.get(endpoint, backend.part.name)
            short = name.removesuffix(f".{backend.part.task}")
            found.append(Spot(network, short, row.host if row else "", backend, bool(row and row.away)))
        return sorted(found, key=lambda spot: spot.name)

    def find(self, text: str) -> Known | None:
        """By name, alias, ``tasks.``name, id, or an address of its own."""
        bare, control = text.removeprefix("tasks."), self._control()
        spots = self.spots()
        ids = [spot.backend.part.service for spot in spots if _means(spot, text, bare)]
        for record in control.services() if control else ():
            virtual = [address.partition("/")[0] for held in record.addresses for address in held.addresses]
            if bare in (record.spec.name, record.id) or text in virtual:
                ids.append(record.id)
        return self.by_id(ids[0]) if ids else None

    def by_id(self, id: str) -> Known:
        control = self._control()
        record = next((one for one in control.services() if one.id == id), None) if control else None
        spots = tuple(spot for spot in self.spots() if spot.backend.part.service == id)
        return Known(id, record.spec.name if record else spots[0].backend.part.name, spots, record)

    def task(self, address: str) -> str:
        """Who has an address: ``web.1 on worker2``; "" when it is no task's."""
        node = self._mesh()
        own = node.reached(address) if node else None
        spots = (
            spot for spot in self.spots() if address in (spot.backend.ipv4, spot.backend.ipv6) or spot.backend == own
        )
        return next((spot.title for spot in spots), "")

    def networks(self, service: Known) -> dict[str, str]:
        """Those on which it may be called: id -> name."""
        ids = [held.network for held in service.record.addresses] if service.record else []
        names = {network.id: network.name for network in self._controller.networks() if not network.ingress}
        control = self._control()
        if control:
            names |= {one.id: one.spec.name for one in control.networks() if not one.spec.ingress}
            targets = [one.target for one in service.record.spec.attachments] if service.record else []
            ids += [id for id, name in names.items() if id in targets or name in targets]
        return {id: names[id] for id in dict.fromkeys([*ids, *(spot.network for spot in service.spots)]) if id in names}

    def takes_containers(self, network: str) -> bool:
        """Whether others than tasks may be on a network of the swarm, as far as is known."""
        control = self._control()
        known = [one.spec for one in control.networks()] if control else self._controller.networks()
        return all(one.attachable for one in known if one.id == network)

    @property
    def is_worker(self) -> bool:
        """It is in a swarm, and knows no more than rows tell."""
        return self._control() is None and any(network.scope == "swarm" for network in self._controller.networks())

    def published(self, service: Known) -> dict[Published, int]:
        """Its ports on every node -> its tasks' own."""
        found: dict[Published, int] = {}
        for spot in service.spots:
            found |= mesh.ports(spot.backend.part.ports)
        for port in service.record.ports if service.record else ():
            if port.publish_mode == "ingress":
                found.setdefault(Published(port.protocol, port.published_port), port.target_port)
        return found

    def publisher(self, protocol: str, port: int) -> tuple[Known | None, str]:
        """Whose port of every node that is, and which there are."""
        services = [
            self.by_id(id) for id in dict.fromkeys([*(s.backend.part.service for s in self.spots()), *self._all()])
        ]
        held = {(p.protocol, p.port): service for service in services for p in self.published(service)}
        there = [f"{service.name} is at {at}" for (_, at), service in sorted(held.items(), key=lambda item: item[0][1])]
        return held.get((protocol, port)), ", ".join(there) if port else ""

    def _all(self) -> list[str]:
        """Ids of services that have records."""
        control = self._control()
        return [record.id for record in control.services()] if control else []

    def route(self, host: str, path: str) -> Route | None:
        """Who answers it by the HTTP mesh: the longest place that fits has it."""
        found: dict[str, tuple[int, str]] = {}
        for spot in sorted(self.spots(), key=lambda spot: spot.backend.part.service):
            for match in filter(None, map(ROUTE.fullmatch, spot.backend.part.routes)):
                if int(match["port"]):  # else it sends people elsewhere
                    place = match["place"].rpartition("://")[2]
                    found.setdefault(place, (int(match["port"]), spot.backend.part.service))
        asked = host.lower() + (path or "/")
        fits = max((place for place in found if asked.startswith(place)), key=len, default="")
        return Route(fits, found[fits][0], self.by_id(found[fits][1])) if fits else None

    def web_ports(self) -> list[int]:
        """Of every node, on which the HTTP mesh answers."""
        known = self.find(webmesh.NAME)
        return [port.port for port in self.published(known)] if known else []

    # -- what it is like -------------------------------------------------------------------------------------------

    def told(self, service: Known, network: str, name: str) -> Hop:
        """Which names are what, on one network, and why."""
        spots = service.on(network)
        aliases = dict.fromkeys(alias for spot in spots for alias in spot.backend.part.names)
        names, serve = " and ".join([service.name, *aliases]), sum(spot.backend.part.serving for spot in spots)
        are = "are" if aliases else "is"
        many = (
            "1 task that serves"
            if serve == 1
            else f"{serve} tasks that serve"
            if serve
            else "nobody, as no task serves"
        )
        held = service.record.addresses if service.record else ()
        known = [address.partition("/")[0] for one in held if one.network == network for address in one.addresses]
        virtual = dict.fromkeys([*known, *(a for spot in spots for a in serving.virtual(spot.backend.part))])
        if virtual:
            leads = f"{names} {are} its own address {' and '.join(virtual)}, tasks.{service.name} is {many}"
        else:
            leads = f"it has no address of its own (dnsrr), so {names} {are} {many}"
        return Hop("service", f"service {service.name} on {name}: {leads}")

    def idle(self, service: Known) -> Iterator[str]:
        """What is the matter with each task that should serve and does not."""
        heard = {spot.backend.part.task: spot for spot in service.spots}
        control = self._control()
        if control is None or service.record is None:
            yield from (_silent(spot) for spot in heard.values() if not spot.backend.part.serving)
            return
        hosts = {node.id: node for node in control.nodes()}
        mine = sorted((t for t in control.tasks() if t.service == service.id), key=lambda task: task.created)
        wanted = [task for task in mine if task.wanted]
        for task in wanted:
            node, spot = hosts.get(task.node), heard.get(task.id)
            where = f" on {node.description.hostname}" if node else ""
            title = f"{service.name}.{task.slot or (node.description.hostname if node else task.node)}"
            if node is not None and node.state == "down":
                yield f"{title} was{where}, which is down: {node.message or 'not heard of'}"
            elif not task.running:
                yield f"{title} is {task.status.state.text}{where}: {_why(task, mine)}"
            elif spot is None:
                yield f"{title} runs{where}, and nothing of it was heard here yet"
            elif not spot.backend.part.serving:
                yield _silent(spot)
        if not wanted:
            yield _none(service.record, mine)


def _means(spot: Spot, text: str, bare: str) -> bool:
    part = spot.backend.part
    return bare in (part.name, part.service, *part.names) or text in serving.virtual(part)


def _silent(spot: Spot) -> str:
    if spot.away:
        return f"{spot.title} takes no requests: its host is not heard of"
    return f"{spot.title} takes no requests: {SILENT}"


def _why(task: Task, mine: list[Task]) -> str:
    """In the words of whoever could not go on; else what happened to the one before it in its slot."""
    if task.status.error:
        return task.status.error
    before = [one for one in mine if one.place == task.place and one.created < task.created and one.status.error]
    return f"the one before it ended: {before[-1].status.error}" if before else task.status.message


def _none(record: Service, mine: list[Task]) -> str:
    if record.mode.is_job:
        return f"{record.spec.name} is a job, and none of its tasks runs now"
    if not record.mode.is_global and not replicas(record.spec):
        return f"{record.spec.name} is scaled to 0"
    ended = [task for task in mine if task.status.state in (State.FAILED, State.REJECTED)]
    return f"{record.spec.name} has no task" + (f"; the last one: {ended[-1].status.error}" if ended else "")
