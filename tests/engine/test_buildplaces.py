"""Where the steps of a build run: with a container's parts, and gone when the build is."""

from pathlib import Path

import pytest
from paper import Paper

from fairlead.core.container import Container
from fairlead.core.imagespec import BuildRequest
from fairlead.core.model import Sandbox
from fairlead.engine.buildplaces import BuildPlaces
from fairlead.errors import NotFound

BUILD = "c" * 64


class PaperCreation:
    """What a place asks of creation."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper

    def mode(self, mode: str) -> str:
        return mode or "RED"

    async def sandbox(self, container: Container) -> Sandbox:
        return self.paper.attachments.sandbox(self.paper.catalog.get(container.host.network_mode.partition(":")[2]))


@pytest.fixture
async def places(paper: Paper) -> BuildPlaces:
    await paper.network("RED")
    forgotten: list[str] = []
    places = BuildPlaces(
        PaperCreation(paper),  # type: ignore[arg-type]
        paper.attachments,
        paper.files,
        lambda container: forgotten.append(container.id),
        lambda: BUILD,
    )
    places.forgotten = forgotten  # type: ignore[attr-defined]
    return places


async def test_a_build_is_on_its_network_while_it_lasts(paper: Paper, places: BuildPlaces) -> None:
    request = BuildRequest(extra_hosts=("x:10.9.8.7",))
    async with places.open(request) as place:
        (endpoint,) = paper.attachments.endpoints(BUILD)
        assert place.namespace == paper.host.namespace_path(BUILD[:12])
        hosts = Path(place.folder, "hosts").read_text()
        assert "10.9.8.7\tx" in hosts and endpoint.address4 in hosts
        assert Path(place.folder, "resolv.conf").exists()
        assert places.busy(BUILD)
    assert not paper.attachments.endpoints(BUILD) and not list(paper.endpoints.everything())
    assert not [owner for owner in paper.kernel.wanted() if BUILD in str(owner)]
    assert places.forgotten == [BUILD] and not places.busy(BUILD)  # type: ignore[attr-defined]


async def test_a_build_that_fails_leaves_its_network(paper: Paper, places: BuildPlaces) -> None:
    with pytest.raises(ZeroDivisionError):
        async with places.open(BuildRequest()):
            raise ZeroDivisionError
    assert not list(paper.endpoints.everything()) and not places.busy(BUILD)


async def test_a_build_in_the_stack_of_a_container(paper: Paper, places: BuildPlaces) -> None:
    web = await paper.container("web", "RED")
    await paper.open(web)
    async with places.open(BuildRequest(network="container:web")) as place:
        assert place.namespace == paper.attachments.sandbox(web).path
        assert place.folder == str(paper.files.paths(web.id)["hosts"].parent)
    assert paper.attachments.stack(web) is not None


async def test_a_network_that_is_not_there(places: BuildPlaces) -> None:
    with pytest.raises(NotFound, match="network nosuch not found"):
        async with places.open(BuildRequest(network="nosuch")):
            pass
    assert not places.busy(BUILD)
