"""Hosts of a swarm to be: engines of the kind under test, and who types on them."""

from collections.abc import Iterator

import pytest

from fleet.hosts import IMAGES, Fleet, fleet
from lane.client import path_of
from lane.engines import Dockerd, Engine
from lane.machine import Lan


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "fleet" in item.path.parts:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="module", params=["docker", "fairlead"])
def client(request: pytest.FixtureRequest) -> str:
    """Path of what is typed: every lab once with each."""
    return path_of(request.param)


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, lan: Lan, kind: type[Engine], client: str) -> Iterator[Fleet]:
    """The hosts that a module names in ``HOSTS``, without a swarm; with the images in ``IMAGES``, if it names some.

    ``MORE``: lines that each image has besides.
    """
    module = request.module
    images, more = getattr(module, "IMAGES", IMAGES), getattr(module, "MORE", ())
    with fleet(kind, lan, client, *module.HOSTS, images=images, more=more) as found:
        yield found


@pytest.fixture(scope="session")
def balances_or_not(kind: type[Engine]) -> bool:
    """Whether virtual addresses and the mesh answer: dockerd's need IPVS, which few pretend machines have."""
    return not issubclass(kind, Dockerd)


@pytest.fixture
def balances(balances_or_not: bool) -> None:
    """The test needs virtual addresses or the mesh."""
    if not balances_or_not:
        pytest.skip("dockerd needs IPVS for this")
