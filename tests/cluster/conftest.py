"""Several hosts of one cluster: engines on pretend machines, a real key-value store, the stock docker client."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.town import Town
from fairlead.lab import demo
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World

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


@pytest.fixture(scope="module")
def standing(store: str, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("lab")
    with World(one_cable("node-1", "node-2", "node-3", store=store), str(folder)) as world:
        world.start_store()
        world.start_engines(world.topology.hosts)
        town = Town(world, folder)
        for host in town.hosts:
            with image.open("rb") as tar:
                command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
        yield town


@pytest.fixture
def town(standing: Town) -> Iterator[Town]:
    """Three hosts without containers or networks of their own."""
    yield standing
    standing.clean()
