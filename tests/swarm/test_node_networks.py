"""Swarm networks on paper engines: they come by assignment, and are there again after a restart."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from engine.paper import Paper, engine
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, Remote, Sandbox, ServicePart, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.session import Assign
from fairlead.core.swarmspec import SharedNetwork
from fairlead.core.wanted import Link
from fairlead.engine.sandboxes import Resolving
from fairlead.errors import NotFound
from fairlead.store.memory import MemoryStore
from fairlead.swarm import shared as module
from fairlead.swarm.ca import Identity
from fairlead.swarm.farewells import Farewells
from fairlead.swarm.loans import Loans
from fairlead.swarm.shared import Ground, Shared
from fairlead.swarm.sharedstore import SharedVerbs
from fairlead.swarm.state import State
from gossip.stock import free_port
from swarm.test_shared import Session

RED = SharedNetwork(
    "r" * 25,
    Network(
        "r" * 25, "red", "", "overlay", "swarm", options={VNI: "4097"},
        ipam=Ipam(config=(Subnet(subnet="10.0.1.0/24", gateway="10.0.1.1", chosen=True),)),
    ),
)  # fmt: skip


class Mesh(SimpleNamespace):
    """Ingress and the HTTP mesh, which these nodes have not."""

    network = None

    async def leave(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ready(self, container: str) -> None: ...

    async def told(self, endpoint: str) -> None: ...

    def minds(self, endpoint: str) -> bool:
        return False

    def leaves(self, container: str) -> None: ...

    def assigned(self, assign: Assign) -> None: ...


class Node:
    def __init__(self, number: int, ledger: MemoryStore, folder: Path) -> None:
        self.id, self.address = str(number) * 25, f"127.0.0.{number}"
        folder.mkdir()
        self.paper: Paper = engine(folder / "engine", node=self.id, vtep="")
        self.folder = folder / "swarm"
        loans = Loans(State(ledger), lambda ear: lambda: None).served
        self.session = Session(Identity(self.id, "manager", "c"), SharedVerbs(ledger).served, loans)
        self.shared = self.made()

    def made(self) -> Shared:
        paper = self.paper
        return Shared(
            Ground(
                paper.controller, paper.endpoints, paper.sandboxes, paper.overlays, paper.sharing, paper.facts,
                paper.events, lambda address: 1500, lambda store, node, address: None, self._detach,
                f"host{self.id[0]}", Mesh(), Mesh(),
            ),  # type: ignore[arg-type]
            self.folder,
        )  # fmt: skip

    async def _detach(self, network: Network) -> None: ...

    def begin(self) -> None:
        self.life = asyncio.ensure_future(
            self.shared.run(self.session, self.id, lambda: self.address, lambda: self.session.who.role == "manager")
        )


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Node]]:
    monkeypatch.setattr(module, "GOSSIP_PORT", free_port())
    monkeypatch.setattr(module, "LOOK", 0.05)
    ledger = MemoryStore()
    made = [Node(number, ledger, tmp_path / str(number)) for number in (2, 3)]
    for node in made:
        node.paper.facts.vtep = ""
        node.begin()
    await until(lambda: all(node.shared._parts for node in made))
    yield made
    for node in made:
        node.life.cancel()
    await asyncio.gather(*(node.life for node in made), return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


class Slow(Mesh):
    """A HAProxy that takes its time."""

    def __init__(self) -> None:
        super().__init__(follows=asyncio.Event())

    def minds(self, endpoint: str) -> bool:
        return True

    async def told(self, endpoint: str) -> None:
        await self.follows.wait()


async def test_nobody_is_thanked_before_haproxy_follows(tmp_path: Path) -> None:
    node = Node(4, MemoryStore(), tmp_path / "4")
    web, said = Slow(), list[bytes]()
    node.shared._ground = node.shared._ground._replace(web=web)  # type: ignore[arg-type]
    node.shared._farewells = Farewells(lambda node, words: said.append(words), lambda network: (), node.id)
    plain = Remote(
        "e" * 64, RED.id, "w1", "w1", "127.0.0.9", "web", "02:42:0a:00:01:05", part=ServicePart("s", "web", "t")
    )
    led = replace(plain, id="f" * 64, part=replace(plain.part, serving=True, routes=("80=a.b/",)))
    async with asyncio.TaskGroup() as tasks:
        thanking = tasks.create_task(node.shared._thank())
        node.shared._learnt(plain)
        node.shared._learnt(led)
        await asyncio.sleep(0.01)
        assert said == [b"\xfb-" + b"e" * 64]
        web.follows.set()
        await until(lambda: said[1:] == [b"\xfb+" + b"f" * 64])
        thanking.cancel()


async def test_labels_change_what_a_task_is_seen_as_and_not_whether_it_serves(tmp_path: Path) -> None:
    node = Node(4, MemoryStore(), tmp_path / "4")
    await node.paper.controller.accept(RED.spec)
    id, part = "c" * 64, ServicePart("s", "web", "t", vip="10.0.1.9")
    stack = await node.paper.sandboxes.open(Sandbox(id, id, "own", id[:12], ""), "container", Resolving())
    endpoint = Endpoint(
        "e" * 64, RED.id, id, id, "web", "eth0", "veth1", ipv4="10.0.1.7/24", settings=EndpointSettings(part=part)
    )
    await node.paper.sandboxes.join(stack, RED.spec, endpoint)
    serves = asyncio.create_task(node.shared.serve(id))
    await node.shared.label(id, {RED.id: replace(part, weight=3), "another": part})
    await serves
    (there,) = stack.endpoints
    assert there.settings.part == replace(part, weight=3, serving=True)


async def test_after_a_restart_it_is_there_before_anybody_is_asked(nodes: list[Node]) -> None:
    one, _ = nodes
    await one.shared.assign(Assign(whole=True, networks=(RED,), data_port=5789))
    one.paper.facts.vtep, one.paper.facts.overlay_port, one.paper.sharing.cluster = "", 4789, None
    again = one.made()
    assert (one.paper.facts.vtep, one.paper.facts.overlay_port) == ("127.0.0.2", 5789)
    assert one.paper.sharing.cluster is not None and one.paper.sharing.scope() == "swarm"
    await again.ready([RED.id])


LAN = SharedNetwork("l" * 25, Network("l" * 25, "lan", "", "bridge", "swarm", config_from="here", ipam=Ipam(driver="")))


async def test_a_network_that_is_each_nodes_own_is_made_by_what_the_node_says(nodes: list[Node]) -> None:
    """Addresses are the node's to give, nobody else hears of them, and it goes as it came."""
    one, _ = nodes
    paper = one.paper
    before = devices(paper)
    await one.shared.assign(Assign(whole=True, networks=(LAN,)))
    with pytest.raises(NotFound, match='configuration network "here" does not exist'):
        await one.shared.ready([LAN.id])
    pool = Subnet(subnet="192.168.50.0/24", ip_range="192.168.50.128/25", gateway="192.168.50.1")
    await paper.network("here", config_only=True, ipam=Ipam(config=(pool,)))
    await asyncio.gather(*(one.shared.ready([LAN.id]) for _ in range(3)))
    made = paper.controller.network("lan")
    assert (made.id, made.scope, made.ipam.config[0].subnet) == (LAN.id, "swarm", "192.168.50.0/24")
    task = ServicePart("s", "web", "t")
    container = await paper.container("web", settings={"lan": EndpointSettings(part=task)})
    stack = await paper.open(container)
    assert paper.addresses(container) == {"lan": "192.168.50.128"}
    await one.shared.assign(Assign(drop=(("networks", LAN.id),)))
    await asyncio.sleep(4 * module.LOOK)
    assert one.shared._parts and not await one.shared._parts.rows.list("endpoints/")
    assert LAN.id in {network.id for network in paper.controller.networks()}, "somebody is on it"
    await paper.attachments.close(stack)
    await until(lambda: LAN.id not in {network.id for network in paper.controller.networks()})
    assert devices(paper) == before


def devices(paper: Paper) -> set[str]:
    return {item.name for item in paper.host.look() if isinstance(item, Link)}


async def test_one_that_people_may_use_comes_without_a_task(nodes: list[Node]) -> None:
    one, _ = nodes
    open_to_all = replace(LAN, spec=replace(LAN.spec, attachable=True))
    await one.shared.assign(Assign(whole=True, networks=(LAN, open_to_all)))
    await one.paper.network("here", config_only=True)
    await until(lambda: LAN.id in {network.id for network in one.paper.controller.networks()})
