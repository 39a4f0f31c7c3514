"""Real servers on pretend machines. The tests themselves run on the machine ``client``, in its network."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from fairlead.host.netns import inside
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.store.base import Store
from fairlead.store.consul import ConsulStore
from fairlead.store.etcd import EtcdStore
from fairlead.store.http import Servers
from fairlead.store.zookeeper import Access, ZookeeperStore
from lane.store_servers import Server

pytest.register_assert_rewrite("lane.store_promises")

MEMBERS = ("one", "two", "three")
fresh = itertools.count()


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World(one_cable("client", "etcd", "consul", "zookeeper", *MEMBERS)) as world:
        with inside(f"/proc/{world['client'].pid}/ns/net"):
            yield world


@pytest.fixture(scope="session")
def servers(world: World) -> dict[str, Server]:
    """One server of each kind."""
    started = [Server(world, kind, kind).start() for kind in ("etcd", "consul", "zookeeper")]
    return {server.kind: server.wait() for server in started}


Connect = Callable[[], Store]


def connect(kind: str, place: str, prefix: str) -> Store:
    if kind == "etcd":
        return EtcdStore(Servers([place]), f"{prefix}/")
    if kind == "consul":
        return ConsulStore(Servers([place]), f"{prefix}/")
    return ZookeeperStore(Access([place]), f"/{prefix}")


@pytest.fixture(params=["etcd", "consul", "zookeeper"])
async def connecting(request: pytest.FixtureRequest, servers: dict[str, Server]) -> AsyncIterator[Connect]:
    """Makes clients of one store, all with the same fresh prefix."""
    kind, prefix = request.param, f"tests/{next(fresh)}"
    made: list[Store] = []

    def make() -> Store:
        made.append(connect(kind, servers[kind].place, prefix))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def store(connecting: Connect) -> Store:
    return connecting()


@pytest.fixture
def other(connecting: Connect) -> Store:
    return connecting()
