"""Endpoints told by gossip: engines on paper whose ``Cluster`` works on gossip as on a store, unchanged."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from engine.paper import Paper, engine
from fairlead.core.effects import Address, Effects
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, NetworkRequest, Remote, ServicePart, Subnet
from fairlead.core.tables import Tables, TablesConfig
from fairlead.errors import Forbidden, Invalid
from fairlead.store.memory import MemoryStore
from fairlead.swarm.gossip import GossipNode, open_gossip
from fairlead.swarm.nodekeys import NodeKeys, new_private
from fairlead.swarm.rows import GossipRows
from gossip.stock import free_port

QUICK = SwimConfig(probe_interval=0.2, probe_timeout=0.1, gossip_interval=0.02, push_pull=1.0, knock=0.1, suspicion=2.0)
OFTEN = TablesConfig(gossip_interval=0.02, exchange=0.3)
RED = NetworkRequest("RED", "overlay", ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"),)))


class Host:
    """One engine on paper, its gossip on loopback, and its ``Cluster`` between them."""

    def __init__(self, name: str, number: int, store: MemoryStore, folder: Path, keys: dict[str, NodeKeys]) -> None:
        self.name, self.node = name, f"n{number}"
        self.address = Address("127.0.0.1", free_port())
        self.machine = Gossip(Me(self.node, self.address), QUICK, random.Random(), tables=OFTEN, keys=keys[self.node])
        self.gossip: GossipNode | None = None
        self.rows = GossipRows(store, self.node, settle=1.0)
        self.paper = engine(folder, self.rows, self.node, name, f"192.168.77.{number}")
        self._open = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    def _do(self, step: Callable[[Tables, float], Effects]) -> None:
        assert self.gossip
        self.gossip.do(lambda now: self.machine.with_tables(lambda tables: step(tables, now), now))

    async def start(self, others: list[Address]) -> None:
        self.gossip = await self._open.enter_async_context(open_gossip(self.machine, self.address, self.rows.hear))
        self.rows.attach(self.machine.tables, self._do)
        self.gossip.join(others)
        assert self.paper.cluster
        self._task = asyncio.ensure_future(self.paper.cluster.run(self.paper.controller))

    async def end(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._open.aclose()
        self._open = AsyncExitStack()

    def hears(self, network: str) -> dict[str, str]:
        return {row.name: row.ipv4 for row in self.paper.controller.elsewhere(network)}


class Town:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        keys = self.keys = {f"n{number}": NodeKeys(f"n{number}", new_private()) for number in (11, 12, 13)}
        for mine in keys.values():
            for name, theirs in keys.items():
                mine.know(name, theirs.public)
        self.hosts = [
            Host(name, number, self.store, folder / name, keys)
            for number, name in ((11, "one"), (12, "two"), (13, "three"))
        ]
        self.one, self.two, self.three = self.hosts

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not look():
                await asyncio.sleep(0.02)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    for host in made.hosts:
        await host.start([made.one.address])
    await made.until(lambda: all(len(host.machine.swim.members.table) == 3 for host in made.hosts))
    yield made
    for host in made.hosts:
        await host.end()


async def run(paper: Paper, name: str) -> str:
    container = await paper.container(name, "RED")
    await paper.open(container)
    return name


def endpoint(host: Host, network: str) -> Endpoint:
    (found,) = host.paper.controller.endpoints(network)
    return found


async def test_endpoints_are_told_to_the_hosts_that_have_the_network(town: Town) -> None:
    red = (await town.one.paper.controller.create(RED)).id
    await town.until(lambda: all(host.paper.controller.networks() for host in town.hosts))
    await run(town.one.paper, "web")
    await run(town.two.paper, "db")
    await town.until(lambda: town.one.hears(red) == {"db": "10.9.0.3/24"})
    await town.until(lambda: town.two.hears(red) == {"web": "10.9.0.2/24"})
    assert town.three.hears(red) == {} and not await town.store.list("endpoints/")
    (web,) = town.two.paper.controller.elsewhere(red)
    mine = endpoint(town.one, red)
    assert (web.id, web.node, web.host, web.vtep, web.mac, web.names) == (
        mine.id, "n11", "one", "192.168.77.11", mine.mac, mine.names,
    )  # fmt: skip
    await run(town.three.paper, "late")  # has the network from now on: all of its rows come at once
    await town.until(lambda: town.three.hears(red) == {"web": "10.9.0.2/24", "db": "10.9.0.3/24"})


async def test_what_goes_is_heard_and_the_network_is_had_no_longer(town: Town) -> None:
    red = (await town.one.paper.controller.create(RED)).id
    await town.until(lambda: all(host.paper.controller.networks() for host in town.hosts))
    await run(town.one.paper, "web")
    await run(town.two.paper, "db")
    await town.until(lambda: town.one.hears(red) and town.two.hears(red))
    stack = town.one.paper.attachments.stack(town.one.paper.catalog.get("web"))
    assert stack is not None
    await town.one.paper.attachments.close(stack)
    await town.until(lambda: town.two.hears(red) == {})
    await town.until(lambda: town.one.hears(red) == {})
    assert town.one.machine.tables.networks == frozenset()


async def test_endpoints_of_a_host_that_fails_are_away_and_no_more_when_it_returns(town: Town) -> None:
    """Its containers may go on without an engine: who can reach them, does."""
    red = (await town.one.paper.controller.create(RED)).id
    await town.until(lambda: all(host.paper.controller.networks() for host in town.hosts))
    await run(town.one.paper, "web")
    await run(town.two.paper, "db")
    await town.until(lambda: town.two.hears(red))
    known = town.two.paper.overlays.others
    await town.one.end()
    await town.until(lambda: [one.away for one in known(red)] == [True])
    assert town.two.hears(red) == {"web": "10.9.0.2/24"}
    await town.one.start([town.two.address])
    await town.until(lambda: [one.away for one in known(red)] == [False])


async def test_what_nobody_tells_of_after_a_restart_is_gone(town: Town) -> None:
    """The engine remembers rows on disk: they stand until gossip had its time."""
    red = (await town.one.paper.controller.create(RED)).id
    await town.until(lambda: knows(town.two))
    await town.two.paper.overlays.learn(old(red))
    await town.two.end()
    await town.two.start([town.one.address])
    assert town.two.hears(red) == {"old": "10.9.0.9/24"}
    await town.until(lambda: town.two.hears(red) == {})


async def test_a_host_that_failed_is_known_to_one_that_was_started_anew(town: Town) -> None:
    """Its row is remembered, and told by others as that of one who is away: it is not forgotten after a while."""
    one, two, three = town.hosts
    red = (await one.paper.controller.create(RED)).id
    await town.until(lambda: all(map(knows, town.hosts)))
    for host, name in ((one, "web"), (two, "db"), (three, "shop")):
        await run(host.paper, name)
    await town.until(lambda: all(len(host.hears(red)) == 2 for host in town.hosts))
    await one.end()
    await two.end()
    await town.until(lambda: [row.away for row in three.paper.overlays.others(red)] == [True, True])
    await two.paper.overlays.learn(old(red))
    await two.start([three.address])
    await town.until(lambda: "old" not in two.hears(red))
    assert set(two.hears(red)) == {"web", "shop"}


def old(network: str) -> Remote:
    """An endpoint that nobody has."""
    return Remote(
        id="d" * 64, network=network, node="n13", host="three", vtep="192.168.77.13", name="old",
        mac="02:42:0a:09:00:09", ipv4="10.9.0.9/24",
    )  # fmt: skip


def knows(host: Host) -> bool:
    return bool(host.paper.controller.networks())


async def test_a_row_is_for_its_owner_to_write_and_names_that_do_not_fit_are_left_out(town: Town) -> None:
    rows = town.one.rows
    with pytest.raises(Forbidden, match="not this host's"):
        await rows.put_if("endpoints/n12/" + "a" * 64, b"{}")
    with pytest.raises(Forbidden, match="not this host's"):
        await rows.delete_if("endpoints/n12/" + "a" * 64)
    names = tuple(f"a-rather-long-alias-number-{number}" for number in range(60))
    big = Remote(
        id="a" * 64, network="b" * 64, node="n11", host="one", vtep="192.168.77.11", name="web",
        mac="02:42:0a:09:00:02", ipv4="10.9.0.2/24", names=names,
    )  # fmt: skip
    await rows.put_if(f"endpoints/n11/{big.id}", msgspec.json.encode(big))
    entry = await rows.get(f"endpoints/n11/{big.id}")
    assert entry is not None
    told = msgspec.json.decode(entry.value, type=Remote)
    assert 5 < len(told.names) < 60 and told.names == names[: len(told.names)]
    assert msgspec.structs.replace(told, names=names) == big
    with pytest.raises(Invalid, match="more than a row"):
        await rows.put_if(f"endpoints/n11/{big.id}", msgspec.json.encode(msgspec.structs.replace(big, name="x" * 1200)))


async def test_a_service_keeps_its_name_while_its_tasks_hosts_are_away(town: Town) -> None:
    red = (await town.one.paper.controller.create(RED)).id
    await town.until(lambda: all(host.paper.controller.networks() for host in town.hosts))
    await run(town.one.paper, "client")
    part = ServicePart(service="s1", name="web", task="t1", vip="10.9.0.99", serving=True)
    task = EndpointSettings(ipv4="10.9.0.9", part=part)
    await town.two.paper.open(await town.two.paper.container("web.1", settings={"RED": task}))
    sent = town.one.paper.overlays.services

    def serving() -> list[bool]:
        return [backend.part.serving for backend in sent.tasks(red, "10.9.0.99")]

    await town.until(lambda: serving() == [True])
    await town.two.end()
    await town.until(lambda: serving() == [False])
    assert sent.named == 1
    town.two.machine = Gossip(
        Me(town.two.node, town.two.address), QUICK, random.Random(), tables=OFTEN, keys=town.keys[town.two.node]
    )
    await town.two.start([town.one.address])
    await town.until(lambda: serving() == [True])
