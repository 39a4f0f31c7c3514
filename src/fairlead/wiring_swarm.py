"""Wiring of swarm mode: this machine's node, made when it is in a swarm or is to be in one.

What swarms need is imported in here, not at the start: most engines are in none.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead import wiring_cluster
from fairlead.core.protocol import Protocol
from fairlead.engine.swarm import LateSwarm
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.core.cluster import Description
    from fairlead.core.model import Network
    from fairlead.core.session import Command
    from fairlead.engine.catalog import Catalog
    from fairlead.engine.clusterstore import ClusterStore
    from fairlead.engine.containers import Containers
    from fairlead.engine.controller import Controller
    from fairlead.engine.drivers.base import Facts
    from fairlead.engine.drivers.overlay import Overlay
    from fairlead.engine.endpoints import Endpoints
    from fairlead.engine.engine import Engine
    from fairlead.engine.events import Events
    from fairlead.engine.kernel import Kernel
    from fairlead.engine.machine import Machine
    from fairlead.engine.mesh import Mesh
    from fairlead.engine.overlays import Overlays
    from fairlead.engine.publisher import Publisher
    from fairlead.engine.sandboxes import Sandboxes
    from fairlead.engine.sharing import Sharing
    from fairlead.host.linux import LinuxHost
    from fairlead.settings import Settings
    from fairlead.store.base import Store
    from fairlead.swarm.agent import Agent
    from fairlead.swarm.manager import Tools
    from fairlead.swarm.members import Place
    from fairlead.swarm.membership import Membership
    from fairlead.swarm.node import SwarmNode
    from fairlead.swarm.shared import Shared
    from fairlead.swarm.worker import Worker


class Clock(Protocol):
    def nanoseconds(self) -> int: ...

    def text(self) -> str: ...


class Build(Protocol):
    """What of ``wiring.Build`` a node needs."""

    data: Path
    exec: Path
    clock: Clock
    host: LinuxHost
    controller: Controller
    engine: Engine
    store: Store
    settings: Settings
    kernel: Kernel
    events: Events
    facts: Facts
    catalog: Catalog
    containers: Containers
    endpoints: Endpoints
    sandboxes: Sandboxes
    overlays: Overlays
    overlay: Overlay
    machine: Machine
    publisher: Publisher
    sharing: Sharing
    ground: Shared | None
    cluster: ClusterStore | None
    mesh: Mesh | None


def swarm(build: Build) -> LateSwarm:
    return LateSwarm(lambda: _node(build), (build.data / "swarm" / "node.json").exists, store=build.cluster is not None)


def knows(swarm: LateSwarm, ref: str) -> bool:
    """Whether the swarm that this node manages has a network of that name or id."""
    return swarm.local().control and any(ref in (one.id, one.spec.name) for one in swarm.control().networks())


def _node(build: Build) -> SwarmNode:
    from fairlead.swarm.node import SwarmNode

    return SwarmNode(
        build.data / "swarm",
        build.exec / "swarm",
        _tools(build),
        build.host.addresses,
        lambda member: _agent(build, member),
        build.clock.text,
    )


def _tools(build: Build) -> Tools:
    from fairlead.host import connections, moved
    from fairlead.host.child import Child
    from fairlead.store.etcd import EtcdStore
    from fairlead.store.http import Servers
    from fairlead.swarm.manager import Tools

    def etcd(argv: Callable[[], Sequence[str]], place: Place) -> Child:
        run = str(place.run)

        def command() -> list[str]:
            return [*moved.command("", run, "hosts,nsswitch.conf"), "env", "-C", run, *argv()]

        return Child("etcd", command, build.exec / "swarm", outlives=True)

    def opened(socket: Path) -> tuple[Servers, EtcdStore]:
        servers = Servers(["etcd"], socket=socket)
        return servers, EtcdStore(servers)

    def local(ref: str) -> bool:
        return any(ref in (network.id, network.name) for network in build.controller.networks())

    return Tools(
        etcd=etcd,
        open=opened,
        clock=build.clock.nanoseconds,
        now=lambda: datetime.datetime.now(datetime.UTC),
        draw=secrets.randbelow,
        local=local,
        tell=lambda told: build.events.publish(*told, scope="swarm"),
        lifetime=build.settings.overlay_key_lifetime * 1_000_000_000,
        cut=connections.cut,
    )


def _agent(build: Build, member: Membership) -> Life:
    from fairlead.core import webmesh
    from fairlead.host.taskfiles import TaskFiles
    from fairlead.swarm.agent import Agent
    from fairlead.swarm.servicelogs import VERB
    from fairlead.swarm.worker import Worker

    files = TaskFiles(build.exec / "swarm" / "files")

    def describe() -> Description:
        return _describe(build)

    shared = ground(build)
    worker = Worker(member.node, build.engine, shared, files, build.store, describe, build.clock.nanoseconds)
    agent = Agent(Listening(member, shared, worker), worker, describe, lambda: secrets.randbelow(1 << 20) / (1 << 20))
    agent.verbs[VERB] = worker.logs
    worker.makes[webmesh.IMAGE] = lambda: _make_proxy(build)
    return Life(member, agent, shared)


def ground(build: Build) -> Shared:
    """This node's part in its swarm's networks, one for the engine's life; where there are notes of it, made before
    anything is restored."""
    from fairlead.core import proxyconfig
    from fairlead.core.keying import Peer
    from fairlead.engine.mesh import Mesh
    from fairlead.engine.webmesh import WebMesh
    from fairlead.swarm.shared import Ground, Shared

    if build.ground is None:
        build.mesh = Mesh(
            build.host, build.kernel, build.machine, build.controller, build.endpoints, build.overlays, build.overlay,
            build.publisher, build.facts,
        )  # fmt: skip
        web = WebMesh(build.catalog, build.endpoints, lambda pid: f"/proc/{pid}/root{proxyconfig.SOCKET}")
        build.overlays.services.listeners.append(web)
        parts = Ground(
            build.controller,
            build.endpoints,
            build.sandboxes,
            build.overlays,
            build.sharing,
            build.facts,
            build.events,
            lambda address: wiring_cluster.mtu(build.host, address),
            lambda store, node, address: wiring_cluster.encrypting(
                build.settings, store, Peer(node, address), build.store, build.kernel, build.host
            ),
            lambda network: _detach(build, network),
            socket.gethostname(),
            build.mesh,
            web,
        )
        build.ground = Shared(parts, build.data / "swarm")
    return build.ground


def was_shared(build: Build) -> bool:
    """Whether a swarm's networks were here when the engine ended."""
    return (build.data / "swarm" / "network.json").exists()


async def _detach(build: Build, network: Network) -> None:
    """Containers are on it no more, whether they run or not."""
    for container in list(build.catalog):
        if network.name in container.networks or network.id in container.networks:
            with suppress(FairleadError):
                await build.containers.disconnect(network.id, container.id)


async def _make_proxy(build: Build) -> None:
    """The HTTP mesh's image, of this machine's own haproxy as it is now."""
    from fairlead.core import proxyconfig, webmesh
    from fairlead.host import proxyimage

    tar = await proxyimage.root(proxyconfig.files())
    made = f"haproxy of this machine, {hashlib.sha256(tar).hexdigest()[:16]}"
    found = build.engine.images.find(webmesh.IMAGE)
    if found is not None and found.comment == made:
        return

    async def stream() -> AsyncIterator[bytes]:
        yield tar

    name, _, tag = webmesh.IMAGE.partition(":")
    async for _ in build.engine.transfers.import_(stream(), name, tag, message=made):
        pass


class Listening:
    """``agent.Link``: the membership, and this node's networks, which want to know what managers say of it."""

    def __init__(self, member: Membership, shared: Shared, worker: Worker) -> None:
        self._member, self._shared, self._worker = member, shared, worker
        self.connect = member.connect

    @property
    def address(self) -> str:
        return self._member.address

    def commanded(self, command: Command) -> None:
        self._shared.attached(command.node)
        self._worker.heed(command.node)
        self._member.commanded(command)


class Life:
    """What a node runs: its session with a manager, and its part in the swarm's networks. ``membership.Agent``."""

    def __init__(self, member: Membership, agent: Agent, shared: Shared) -> None:
        self._member, self._agent, self._shared = member, agent, shared
        self.renewed, self.connected = agent.renewed, agent.connected

    async def run(self) -> None:
        member = self._member
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._agent.run())
            part = self._shared.run(
                self._agent, member.node, self._data_path, lambda: member.manages, self._agent.hurry
            )
            tasks.create_task(part)

    @property
    def trouble(self) -> str:
        return self._agent.trouble

    def _data_path(self) -> str:
        """Where frames arrive: at the address that was given for them, else where others reach this node."""
        notes = self._member.credentials.notes
        return notes.data_path or self._member.address.rpartition(":")[0].strip("[]")

    async def leave(self) -> None:
        try:
            await self._agent.leave()
        finally:  # whether there was time for goodbyes or not
            await self._shared.end()


def _describe(build: Build) -> Description:
    """What this node says of itself."""
    from fairlead.core.cluster import Description, Plugin
    from fairlead.core.service import Platform, Resources

    info = build.engine.system.info()
    plugins = [
        *(Plugin("Log", name) for name in info.logs),
        *(Plugin("Network", name) for name in info.networks),
        Plugin("Volume", "local"),
    ]
    return Description(
        hostname=info.name,
        platform=Platform(info.machine, "linux"),
        resources=Resources(info.cpus * 1_000_000_000, info.memory, generic_resources=info.generics or None),
        engine_version=info.docker,
        engine_labels=dict(label.partition("=")[::2] for label in info.labels),
        plugins=tuple(sorted(plugins)),
    )
