"""Shared: a node's part in the networks of its swarm, from the first word of a manager to the last goodbye.

    Assign --networks--> controller                                       which networks there are
    session --SharedStore--> places, gossip keys, halves of keys          who the other nodes are
    gossip --GossipRows--> engine.cluster --> engine.overlays             who has which endpoint, and serves
    enlist, withdraw --> endpoints --> rows --> others                    when tasks are sent requests
    Command --this node's address on ingress--> engine.mesh               what the world sends to published ports

Rules
    1. Networks go on without a manager, and after a restart before one is found: what is here is on disk.
    2. A network goes when it is not assigned any more and nobody here is on it.
    3. Frames arrive at the data path's address, wherever this machine moves: then all is told anew.
    4. Nothing of the swarm's networks is left behind by ``end``.
    5. Of a network whose driver is of one node (macvlan) each node makes its own, when a task needs it; one that people
       may attach containers to, as soon as the configuration network that it names is there.

What it does not do: give addresses (``loans``, the leader), run tasks (``tasks``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from fairlead.core import serving
from fairlead.core.cluster import Attachment, Node
from fairlead.core.effects import Address
from fairlead.core.model import Endpoint, Network, Remote, ServicePart
from fairlead.core.session import Assign
from fairlead.core.sharednetworks import OF_NODES
from fairlead.engine import wayout
from fairlead.engine.cluster import Cluster
from fairlead.engine.controller import Controller
from fairlead.engine.drivers.base import Facts
from fairlead.engine.encryption import Encryption
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.events import Events
from fairlead.engine.mesh import Mesh
from fairlead.engine.overlays import Overlays
from fairlead.engine.sandboxes import Sandboxes
from fairlead.engine.sharing import Sharing
from fairlead.engine.webmesh import WebMesh
from fairlead.errors import FairleadError, Unavailable
from fairlead.store.base import Store
from fairlead.swarm.farewells import Farewells
from fairlead.swarm.loans import Borrowed
from fairlead.swarm.peers import Peers
from fairlead.swarm.rows import GossipRows
from fairlead.swarm.sharedstore import Asking, SharedStore

log = logging.getLogger(__name__)

SCOPE = "swarm"
GOSSIP_PORT = 7946
LOOK, SOON = 2.0, 0.1
"""seconds between looks at our address, and at networks that may go; at one that may, but is not empty yet"""


class Ground(NamedTuple):
    """The engine's parts that networks stand on. ``mtu(address)``: of the way to others from there.

    ``encryption(store, node, address)``: what encrypts. ``detach(network)``: whoever is on it is so no longer.
    """

    controller: Controller
    endpoints: Endpoints
    sandboxes: Sandboxes
    overlays: Overlays
    sharing: Sharing
    facts: Facts
    events: Events
    mtu: Callable[[str], int]
    encryption: Callable[[Store, str, str], Encryption]
    detach: Callable[[Network], Awaitable[None]]
    hostname: str
    mesh: Mesh
    web: WebMesh


class Notes(msgspec.Struct):
    """What a restart begins with."""

    node: str
    address: str
    data_port: int = 4789


class Parts(NamedTuple):
    """Of one node at one address."""

    cluster: Cluster
    rows: GossipRows
    borrowed: Borrowed


class Shared:
    """``folder``: where notes are kept."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self._ground, self._folder = ground, folder
        self._session: Asking | None = None
        self._returned: Callable[[], None] = lambda: None
        self._peers: Peers | None = None
        self._wanted: set[str] = set()
        """networks that are assigned"""
        self._of_nodes: dict[str, Network] = {}
        """those of which each node makes its own"""
        self._ending, self._ended = asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()
        """what tasks are seen as: read and written by one at a time"""
        self._attachments: tuple[Attachment, ...] = ()
        """this node's own"""
        self._news = asyncio.Event()
        """about those, or about networks"""
        self._told = asyncio.Event()
        """somebody said which those are"""
        self._assigned = asyncio.Event()
        """and they are others now"""
        self._notes = self._read()
        self._parts: Parts | None = None
        if self._notes:
            self._parts = self._stand(self._notes)
            ground.overlays.encryption = self._encryption(self._notes)
        self._farewells = Farewells(self._say, self._having, self._notes.node if self._notes else "")
        self._thanks: asyncio.Queue[Remote] = asyncio.Queue()
        """rows that HAProxy has to follow first"""

    # -- this machine in the swarm ----------------------------------------------------------------------------

    def _stand(self, notes: Notes) -> Parts:
        """The engine has networks of many hosts from now on. Asks nobody."""
        ground = self._ground
        ground.facts.vtep, ground.facts.overlay_port = notes.address, notes.data_port
        ground.facts.underlay_mtu = ground.mtu(notes.address)
        store = SharedStore(self)
        rows, borrowed = GossipRows(store, notes.node), Borrowed(self)
        cluster = Cluster(
            rows, ground.overlays, notes.node, ground.hostname, notes.address,
            addresses=borrowed, scope=SCOPE, learnt=self._learnt,
        )  # fmt: skip
        ground.sharing.cluster = cluster
        return Parts(cluster, rows, borrowed)

    async def run(
        self,
        session: Asking,
        node: str,
        address: Callable[[], str],
        manages: Callable[[], bool],
        returned: Callable[[], None] = lambda: None,
    ) -> None:
        """Until cancelled. ``address``: of the data path, as it is now. ``returned``: told when a node that gossip had
        lost is heard again."""
        self._returned = returned
        self._session, self._farewells = session, Farewells(self._say, self._having, node)
        self._ending.clear()
        self._ended.clear()
        while True:
            here = address()
            if not here:
                await asyncio.sleep(LOOK)
                continue
            if self._notes is None or (self._notes.node, self._notes.address) != (node, here):
                await self._begin(node, here)
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._take_part(tasks, manages)
                    tasks.create_task(self._watch_address(here, address))
                    tasks.create_task(self._watch_end())
            except* _Moved:
                log.info("the swarm's networks are at %s from now on", address())
            except* _Over:
                self._ended.set()
            if self._ended.is_set():
                return

    async def _begin(self, node: str, address: str) -> None:
        port = self._notes.data_port if self._notes else self._ground.facts.overlay_port
        self._notes = Notes(node, address, port)
        self._write()
        self._parts = self._stand(self._notes)
        await self._ground.overlays.move(self._encryption(self._notes))
        try:
            await wayout.bridge(self._ground.controller)  # the first task would make it: people look for it earlier
        except FairleadError as problem:
            log.warning("%s", problem.message)

    def _encryption(self, notes: Notes) -> Encryption:
        return self._ground.encryption(SharedStore(self), notes.node, notes.address)

    def _take_part(self, tasks: asyncio.TaskGroup, manages: Callable[[], bool]) -> None:
        assert self._parts and self._notes
        notes, parts = self._notes, self._parts
        self._peers = Peers(
            SharedStore(self),
            self._ground.events,
            notes.node,
            self._ground.hostname,
            Address(notes.address, GOSSIP_PORT),
            self._folder,
            rows=parts.rows,
            makes=manages,
            heard=self._farewells.thanked,
            returned=self._returned,
        )
        tasks.create_task(parts.cluster.run(self._ground.controller))
        tasks.create_task(parts.borrowed.run())
        tasks.create_task(self._peers.run())
        tasks.create_task(self._dismiss())
        tasks.create_task(self._stay_on_ingress())
        tasks.create_task(self._ground.web.run())
        tasks.create_task(self._thank())

    async def _watch_address(self, here: str, address: Callable[[], str]) -> None:
        before = here
        while True:
            await asyncio.sleep(LOOK)
            now = address()
            if now and now != here and now == before:  # twice: while it is changed there may be another for a moment
                raise _Moved
            before = now

    async def _watch_end(self) -> None:
        await self._ending.wait()
        raise _Over

    async def end(self) -> None:
        """This machine is in no swarm any more; nothing of it is to be found here. ``run`` returns."""
        ground = self._ground
        if self._peers:
            await self._peers.leave()
            self._ending.set()
            await self._ended.wait()
        await ground.mesh.leave()
        self._attachments = ()
        for network in self._networks():
            try:
                await ground.detach(network)
            except FairleadError as problem:
                log.warning("network %s: %s", network.name, problem.message)
        ground.sharing.cluster = self._parts = self._peers = self._notes = None
        await ground.overlays.forget()
        await ground.overlays.move(None)
        for network in self._networks():
            await ground.controller.dismiss(network.id)
        ground.facts.vtep = ""
        self._wanted.clear()
        for name in ("network.json", "gossip.json"):
            (self._folder / name).unlink(missing_ok=True)

    # -- Asking: the session as it is now, for those who outlive it ---------------------------------------------

    async def ask(self, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]:
        async for reply in self._asked().ask(verb, body):
            yield reply

    async def one(self, verb: str, body: Any = None) -> msgspec.Raw:
        return await self._asked().one(verb, body)

    async def connected(self) -> None:
        await self._asked().connected()

    def _asked(self) -> Asking:
        if self._session is None:
            raise Unavailable("this node has no session with a manager of its swarm yet")
        return self._session

    # -- what a worker is told, and says (``worker.Terrain``) -----------------------------------------------------

    async def assign(self, assign: Assign) -> None:
        """Networks that this node is to have."""
        if assign.data_port and self._notes and assign.data_port != self._notes.data_port:
            self._notes.data_port = self._ground.facts.overlay_port = assign.data_port
            self._write()
        if assign.whole:
            self._wanted.clear()
        self._wanted |= {network.id for network in assign.networks}
        self._wanted -= {id for kind, id in assign.drop if kind == "networks"}
        for network in (shared.spec for shared in assign.networks):
            if network.shared:
                await self._ground.controller.accept(network)
            elif network.driver in OF_NODES:
                self._of_nodes[network.id] = network
        self._ground.web.assigned(assign)
        self._told.set()
        self._assigned.set()
        self._news.set()

    def attached(self, node: Node) -> None:
        """This node's own addresses, as a manager has them."""
        if node.attachments != self._attachments:
            self._attachments = node.attachments
            self._news.set()

    async def _stay_on_ingress(self) -> None:
        """Until cancelled: this node has the leg that the managers say it has."""
        mesh = self._ground.mesh
        if mesh.network:
            self.keep(mesh.network.id)
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            if mesh.network and mesh.network.id not in self._wanted and self._told.is_set():
                await mesh.leave()
            for network in self._networks():
                addresses = next((one.addresses for one in self._attachments if one.network == network.id), ())
                if network.ingress and addresses:
                    self.keep(network.id)
                    await mesh.enter(network, addresses)

    async def ready(self, networks: Iterable[str]) -> None:
        """These (ids) can have containers of this node. Raises ``Unavailable`` when not yet, and why one of which each
        node makes its own cannot be made here."""
        networks = tuple(networks)
        for network in filter(None, map(self._of_nodes.get, networks)):
            await self._ground.controller.bring(network)
        known = {network.id for network in self._ground.controller.networks()}
        if missing := [id for id in networks if id not in known]:
            raise Unavailable(f"network {missing[0]} is not known here yet")
        if self._parts is None:
            raise Unavailable("this node does not know its own address yet")

    async def serve(self, container: str) -> None:
        """Requests may be sent to it from now on; returns when all others know, or should."""
        await self._ground.web.ready(container)
        await self._turn(container, on=True)

    async def withdraw(self, container: str) -> None:
        """They may not any more; returns when all others know, or should."""
        await self._turn(container, on=False)
        self._ground.web.leaves(container)

    async def label(self, container: str, parts: Mapping[str, ServicePart]) -> None:
        """A task is to be seen so, by network; whether it serves stays as it is."""
        async with self._writing:
            changed = [(endpoint, _labelled(endpoint, parts)) for endpoint in self._tasks(container)]
            if (stack := self._ground.sandboxes.get(container)) is not None:
                await self._ground.endpoints.change(stack, [after for before, after in changed if after != before])

    async def _turn(self, container: str, *, on: bool) -> None:
        async with self._writing:
            stack = self._ground.sandboxes.get(container)
            if stack is None:
                return
            changed = [endpoint for endpoint in self._tasks(container) if _serves(endpoint) != on]
            told = {endpoint.id: endpoint.network for endpoint in changed}
            self._farewells.begin(told, on)
            await self._ground.endpoints.change(stack, [_turned(endpoint, on) for endpoint in changed])
        await asyncio.gather(self._farewells.over(told, on), *map(self._ground.web.told, told))

    def _tasks(self, container: str) -> list[Endpoint]:
        stack = self._ground.sandboxes.get(container)
        return [endpoint for endpoint in stack.endpoints if endpoint.settings.part] if stack else []

    # -- networks, others -------------------------------------------------------------------------------------------

    def keep(self, network: str) -> None:
        """Know who is on a network though no container of this node is (the ingress mesh)."""
        if self._parts:
            self._parts.rows.keep(network)

    def _networks(self) -> list[Network]:
        return [network for network in self._ground.controller.networks() if network.scope == SCOPE]

    async def _dismiss(self) -> None:
        """Until cancelled: networks that are not wanted and have nobody go; those that people may use come."""
        await self._told.wait()
        while True:
            self._assigned.clear()
            pause = LOOK
            for network in [network for network in self._networks() if network.id not in self._wanted]:
                if self._ground.controller.endpoints(network.id):
                    pause = SOON  # a task on its way out: who removes what it was on should not be refused for it
                else:
                    await self._ground.controller.dismiss(network.id)
            self._of_nodes = {id: network for id, network in self._of_nodes.items() if id in self._wanted}
            for network in [network for network in self._of_nodes.values() if network.attachable]:
                try:
                    await self.ready([network.id])
                except FairleadError as problem:
                    log.debug("network %s: %s", network.name, problem.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._assigned.wait()

    def _having(self, network: str) -> Iterable[str]:
        return self._parts.rows.nodes(network) if self._parts else ()

    def _say(self, node: str, words: bytes) -> None:
        if self._peers:
            self._peers.say(node, words)

    def _learnt(self, row: Remote) -> None:
        """All here follows a row, but for HAProxy, which is told besides."""
        if row.part is not None and row.part.routes and self._ground.web.minds(row.id):
            self._thanks.put_nowait(row)
        elif row.part is not None:
            self._farewells.thank(row.node, row.id, row.part.serving)

    async def _thank(self) -> None:
        """Until cancelled: for rows that HAProxy has to follow before we can say that we do."""

        async def thank(row: Remote, serving: bool) -> None:
            await self._ground.web.told(row.id)
            self._farewells.thank(row.node, row.id, serving)

        async with asyncio.TaskGroup() as each:
            while True:
                row = await self._thanks.get()
                each.create_task(thank(row, row.part is not None and row.part.serving))

    # -- the disk ------------------------------------------------------------------------------------------------------

    def _read(self) -> Notes | None:
        try:
            return msgspec.json.decode((self._folder / "network.json").read_bytes(), type=Notes)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as problem:
            log.warning("where this node's networks were cannot be read: %s", problem)
            return None

    def _write(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._folder / "network.new"
        fresh.write_bytes(msgspec.json.encode(self._notes))
        fresh.replace(self._folder / "network.json")


class _Moved(Exception):
    """This machine has another address."""


class _Over(Exception):
    """It is in no swarm any more."""


def _serves(endpoint: Endpoint) -> bool:
    return endpoint.settings.part is not None and endpoint.settings.part.serving


def _labelled(endpoint: Endpoint, parts: Mapping[str, ServicePart]) -> Endpoint:
    settings = endpoint.settings
    part = parts.get(endpoint.network)
    if settings.part is None or part is None:
        return endpoint
    return replace(endpoint, settings=replace(settings, part=serving.relabelled(settings.part, part)))


def _turned(endpoint: Endpoint, on: bool) -> Endpoint:
    settings = endpoint.settings
    assert settings.part is not None
    return replace(endpoint, settings=replace(settings, part=replace(settings.part, serving=on)))
