"""Real servers on pretend machines. The tests themselves run on the machine ``client``, in its network."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from fairlead.host.netns import inside
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.store.base import Store
from lane.store_servers import HOSTS, MEMBERS, Cluster, Server, until_it_answers
from lane.store_writer import connect

pytest.register_assert_rewrite("lane.store_promises", "lane.ledger_promises")

fresh = itertools.count()


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World(one_cable("client", "engine", "late", "etcd", "consul", "zookeeper", *MEMBERS, *HOSTS)) as world:
        with inside(f"/proc/{world['client'].pid}/ns/net"):
            yield world


@pytest.fixture(scope="session")
def servers(world: World) -> dict[str, Server]:
    """One server of each kind."""
    started = [Server(world, kind, kind).start() for kind in ("etcd", "consul", "zookeeper")]
    return {server.kind: server.wait() for server in started}


@pytest.fixture(scope="session")
def cluster(world: World) -> Cluster:
    """Three etcd members; they end with their machines."""
    cluster = Cluster(world, MEMBERS)
    cluster.start()
    return cluster


Connect = Callable[[], Store]


@pytest.fixture(params=["etcd", "consul", "zookeeper"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


@pytest.fixture
def prefix() -> str:
    return f"tests/{next(fresh)}"


@pytest.fixture
async def connecting(server: Server, prefix: str) -> AsyncIterator[Connect]:
    """Makes clients of one store, all with the same fresh prefix."""
    made: list[Store] = []

    def make() -> Store:
        made.append(connect(server.kind, [server.place], prefix))
        return made[-1]

    await until_it_answers(lambda store=make(): store.get("any"))
    yield make
    for store in made:
        await store.close()


@pytest.fixture
def store(connecting: Connect) -> Store:
    return connecting()


@pytest.fixture
def other(connecting: Connect) -> Store:
    return connecting()
