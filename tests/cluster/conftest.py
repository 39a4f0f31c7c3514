"""Several hosts of one cluster: engines on pretend machines, a real key-value store, and who types on them."""

from collections.abc import Iterator

import pytest

from cluster.town import Town, raised
from lane.client import default, path_of

STORES = ("etcd", "consul", "zookeeper")


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> str:
    """Which store; a module that wants all of them says so with ``parametrize`` (indirect)."""
    return getattr(request, "param", "etcd")


@pytest.fixture(scope="module")
def standing(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with raised(store, tmp_path_factory.mktemp("lab")) as town:
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
