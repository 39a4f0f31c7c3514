"""An engine on paper: real controller, endpoints, sandboxes, ports and drivers over a host made of dictionaries."""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.addresses import PoolPlan
from fairlead.core.container import Config, Container, Health, HostConfig, Mount, State
from fairlead.core.keying import Keying, Peer
from fairlead.core.model import EndpointSettings, NetworkRequest, Sandbox
from fairlead.core.wanted import File, Wanted
from fairlead.engine.attachments import Attachments
from fairlead.engine.catalog import Catalog
from fairlead.engine.cluster import Cluster
from fairlead.engine.controller import Controller
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.host import Host as HostDriver
from fairlead.engine.drivers.none import Null
from fairlead.engine.drivers.overlay import SEALED_PORT, Overlay
from fairlead.engine.encryption import Encryption
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.events import Events
from fairlead.engine.hostfiles import HostFiles, NameSettings
from fairlead.engine.kernel import Kernel
from fairlead.engine.links import Links
from fairlead.engine.machine import Machine, Wishes
from fairlead.engine.overlays import Overlays
from fairlead.engine.publisher import Publisher
from fairlead.engine.relayclient import RelayPort
from fairlead.engine.resolverclient import EndpointNames
from fairlead.engine.sandboxes import Sandboxes, Stack
from fairlead.engine.sharing import Sharing
from fairlead.errors import Conflict, FairleadError
from fairlead.host.fake import FakeHost
from fairlead.host.halves import X25519
from fairlead.store.base import Store
from fairlead.store.memory import MemoryStore


class PaperHost(FakeHost):
    """A machine on paper whose small files are on disk: they are read back by path."""

    def make(self, objects: Sequence[Wanted]) -> None:
        super().make(objects)
        for item in objects:
            if isinstance(item, File):
                Path(item.path).parent.mkdir(parents=True, exist_ok=True)
                Path(item.path).write_text(item.content)


@dataclass
class PaperDisk:
    """File system, volumes, creation and health in one: what was prepared and not yet given back."""

    paper: "Paper"
    prepared: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)

    async def prepare(self, container: Container, rootfs: str = "") -> Any:
        self.prepared.add(container.id)
        return "/" if not rootfs else tuple[Mount, ...]()

    async def release(self, container: Container) -> None:
        self.prepared.discard(container.id)

    async def remove(self, container: Container) -> None:
        self.removed.append(container.name)

    async def forget(self, container: Container, volumes: bool = False) -> None: ...

    async def sandbox(self, container: Container) -> Sandbox:
        return self.paper.attachments.sandbox(container)

    def linked(self, container: Container) -> list[str]:
        return []

    def joined(self, container: Container) -> dict[str, int]:
        return {}

    def begin(self, container: Container) -> Health | None:
        return None

    def end(self, id: str) -> None: ...


class PaperNames:
    """The resolver, remembering what it was told."""

    def __init__(self) -> None:
        self.served: dict[str, dict[str, tuple[str, ...]]] = {}

    async def serve(self, stack: Stack, meanwhile: Callable[[], None] | None = None) -> None:
        self.served[stack.sandbox.id] = {network.name: endpoint.names for network, endpoint in stack.attached}
        if meanwhile is not None:
            meanwhile()

    async def forget(self, stack: Stack) -> None:
        self.served.pop(stack.sandbox.id, None)

    def adopt(self, stack: Stack) -> None: ...

    async def resume(self) -> None: ...


class PaperResolver:
    """What is told of other hosts' endpoints: (network, endpoint) -> names."""

    def __init__(self) -> None:
        self.others: dict[tuple[str, str], tuple[str, ...]] = {}

    async def set_names(self, *names: EndpointNames) -> None:
        self.adopt((), names)

    async def unname(self, network: str, endpoint: str) -> None:
        del self.others[network, endpoint]

    def adopt(self, sandboxes: Iterable[object], names: Iterable[EndpointNames]) -> None:
        self.others.update(((name.network, name.endpoint), name.names) for name in names)


class PaperRelay:
    """The relay: ports by id. ``busy``: ports that some program has."""

    def __init__(self) -> None:
        self.ports: dict[str, RelayPort] = {}
        self.busy: set[int] = set()

    async def open(self, *rows: RelayPort, meanwhile: Callable[[], object] = lambda: None) -> dict[str, int]:
        meanwhile()
        ports = [port for row in rows for port in row.each()]
        for port in ports:
            if port.port in self.busy:
                raise Conflict(f"failed to bind host port for {port}: address already in use")
        self.ports.update((port.id, port) for port in ports)
        return {port.id: port.port for port in ports}

    async def close(self, *ids: str) -> None:
        for id in ids:
            self.ports.pop(id, None)

    def adopt(self, ports: list[RelayPort]) -> None:
        self.ports.update((port.id, port) for row in ports for port in row.each())

    async def connect(self) -> None: ...


@dataclass
class Paper:
    """Everything a test may look at."""

    host: FakeHost
    kernel: Kernel
    events: Events
    controller: Controller
    endpoints: Endpoints
    sandboxes: Sandboxes
    attachments: Attachments
    catalog: Catalog
    names: PaperNames
    relay: PaperRelay
    store: MemoryStore
    publisher: Publisher
    files: HostFiles
    overlays: Overlays
    told: PaperResolver
    cluster: Cluster | None
    facts: Facts
    sharing: Sharing

    async def network(self, name: str, **fields: object) -> None:
        await self.controller.create(NetworkRequest(name, **fields))  # type: ignore[arg-type]

    async def container(self, name: str, *networks: str, **fields: object) -> Container:
        """A recorded container that runs as far as the catalog knows; its stack is not open yet."""
        wishes = {network: EndpointSettings() for network in networks}
        wishes.update(fields.pop("settings", {}))  # type: ignore[call-overload]
        container = Container(
            id=f"{name:0<64}",
            name=name,
            created="",
            config=Config(hostname=name),
            host=HostConfig(network_mode=next(iter(wishes), "none")),
            networks=wishes,
            state=State(status="running"),
            **fields,  # type: ignore[arg-type]
        )
        self.endpoints.promise(container)
        return await self.catalog.put(container)

    async def open(self, container: Container) -> Stack:
        """Its stack with its ports, as a start has it before the process runs; all of it or nothing."""
        stack = await self.attachments.open(container)
        try:
            await self.attachments.publish(container, stack)
        except FairleadError:
            await self.attachments.close(stack)
            raise
        return stack

    def addresses(self, container: Container) -> dict[str, str]:
        stack = self.attachments.stack(container)
        return {network.name: endpoint.address4 for network, endpoint in stack.attached} if stack else {}


@pytest.fixture
async def paper(tmp_path: Path) -> Paper:
    return engine(tmp_path)


def engine(
    tmp_path: Path,
    cluster: Store | None = None,
    node: str = "",
    name: str = "",
    vtep: str = "192.168.77.11",
    clock: Callable[[], float] = time.monotonic,
) -> Paper:
    """An engine whose files are below ``tmp_path``; with ``cluster``: one of several hosts."""
    tmp_path.mkdir(exist_ok=True)
    store, host = MemoryStore(), PaperHost()
    kernel, events = Kernel(host), Events(itertools.count(1).__next__)
    machine = Machine(kernel, host, tmp_path / "forwarding", "boot", Wishes())
    machine.ready()
    overlay = Overlay()
    drivers = {driver.name: driver for driver in (Bridge(), HostDriver(), Null(), overlay)}
    names, relay, facts, told = PaperNames(), PaperRelay(), Facts(vtep=vtep), PaperResolver()
    numbers = itertools.count(1)
    encryption = None
    if cluster:
        me = Peer(node, vtep)
        keys = Keying(me, SEALED_PORT, X25519, random.randrange, begun=5)
        encryption = Encryption(cluster, store, kernel, host, me, SEALED_PORT, keys, clock, lambda _: asyncio.sleep(0))
    overlays = Overlays(store, kernel, overlay, facts, told, encryption)
    sandboxes = Sandboxes(kernel, drivers, facts, names, overlays)
    shared = Cluster(cluster, overlays, node, name, vtep, pause=lambda seconds: asyncio.sleep(0)) if cluster else None

    def new_id() -> str:
        return hashlib.sha256(f"{node} {next(numbers)}".encode()).hexdigest() if node else f"{next(numbers):064x}"[::-1]

    sharing = Sharing(shared)
    endpoints = Endpoints(store, sandboxes, drivers, events, new_id, sharing=sharing, services=overlays.services)
    controller = Controller(
        store,
        host,
        kernel,
        machine,
        drivers,
        facts,
        endpoints,
        events,
        PoolPlan(),
        lambda: "",
        new_id,
        sharing=sharing,
    )
    catalog = Catalog(store)
    publisher = Publisher(host, controller, endpoints, sandboxes, relay, facts, lambda: None)
    links = Links(catalog, controller, endpoints)
    files = HostFiles(tmp_path, host, links, NameSettings(), tuple, tmp_path)
    attachments = Attachments(host, controller, endpoints, sandboxes, publisher, files)
    return Paper(
        host,
        kernel,
        events,
        controller,
        endpoints,
        sandboxes,
        attachments,
        catalog,
        names,
        relay,
        store,
        publisher,
        files,
        overlays,
        told,
        shared,
        facts,
        sharing,
    )
