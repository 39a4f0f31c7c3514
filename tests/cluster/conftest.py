"""Several hosts of one cluster: engines on pretend machines, a real key-value store, and who types on them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster.town import Town
from fairlead.lab import demo
from fairlead.lab.topology import Topology, one_cable
from fairlead.lab.world import World
from lane.client import default, path_of

STORES = ("etcd", "consul", "zookeeper")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    demo.busybox_image(path)
    return path


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> str:
    """Which store; a module that wants all of them says so with ``parametrize`` (indirect)."""
    return getattr(request, "param", "etcd")


def topology(store: str) -> Topology:
    """Three hosts; the first two share 172.17.0.0/16, half each, as people do who route between them (S100)."""
    plan = one_cable("node-1", "node-2", "node-3", store=store)
    halves = {
        "node-1": ("--bip=172.17.0.1/17", "--fixed-cidr=172.17.0.0/17"),
        "node-2": ("--bip=172.17.128.1/17", "--fixed-cidr=172.17.128.0/17"),
    }
    hosts = {name: replace(host, options=halves.get(name, ())) for name, host in plan.hosts.items()}
    return replace(plan, hosts=hosts)


@pytest.fixture(scope="module")
def standing(store: str, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("lab")
    with World(topology(store), str(folder)) as world:
        world.start_store()
        world.start_engines(world.topology.hosts)
        town = Town(world, folder)
        for host in town.hosts:
            with image.open("rb") as tar:
                command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
        yield town


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """Path of what is typed: the lane's client, unless a module says by ``parametrize`` (indirect) which."""
    wanted = getattr(request, "param", "")
    return path_of(wanted) if wanted else default()


@pytest.fixture
def town(standing: Town, client: str) -> Iterator[Town]:
    """Three hosts without containers or networks of their own."""
    for host in standing.hosts:
        host.docker.binary = client
    yield standing
    standing.clean()
