"""A rehearsal makes nothing, and says what the real thing then makes."""

import pytest
from paper import Paper

from fairlead.core.container import Config, Container, HostConfig
from fairlead.core.model import EndpointSettings, Network, NetworkRequest, PortRequest
from fairlead.core.wanted import Address, Element, File, Link, Plan
from fairlead.engine.rehearsal import Rehearsal
from fairlead.errors import Conflict, Forbidden
from lane.golden import as_text


class PaperCreation:
    """Drafts what a test says."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        self.ports: tuple[PortRequest, ...] = ()
        self.mode = "RED"
        self.wishes = {"RED": EndpointSettings()}

    def draft(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings]
    ) -> tuple[Container, None, list[str]]:
        made = Container(
            id="e" * 64, name=name, created="", config=Config(hostname=name), host=HostConfig(network_mode=self.mode),
            networks=self.wishes, ports=self.ports,
        )  # fmt: skip
        return made, None, ["mind"]


@pytest.fixture
async def stage(paper: Paper) -> tuple[Paper, PaperCreation, Rehearsal]:
    await paper.network("RED")
    creation = PaperCreation(paper)
    return paper, creation, Rehearsal(paper.controller, creation, paper.attachments, paper.sandboxes, paper.files)  # type: ignore[arg-type]


def everything(paper: Paper) -> object:
    """All there is: wishes, objects, records, promises, ports."""
    return (
        paper.kernel.wanted(),
        dict(paper.host.things),
        paper.controller.networks(),
        list(paper.endpoints.everything()),
        {name: dict(held) for name, held in paper.endpoints._promised.items() if held},
        dict(paper.relay.ports),
        dict(paper.names.served),
        list(paper.store._entries) if hasattr(paper.store, "_entries") else None,
    )


def of(plan: Plan, kind: type) -> list[str]:
    return [str(item) for item in plan if isinstance(item, kind)]


async def test_a_network_is_planned_and_not_made(stage: tuple[Paper, PaperCreation, Rehearsal]) -> None:
    paper, _, rehearsal = stage
    before = everything(paper)
    plan = rehearsal.network(NetworkRequest("BLUE", internal=True))
    assert everything(paper) == before
    assert all(item.owner == "network BLUE" for item in plan)
    made: Network = await paper.controller.create(NetworkRequest("BLUE", internal=True))
    real = as_text(paper.kernel.wanted(made.id))
    planned = next(i for i in plan if isinstance(i, Link))
    assert as_text(plan).replace(planned.name, f"br-{made.short}").replace(planned.mac, "") == real.replace(
        next(i for i in paper.kernel.wanted(made.id) if isinstance(i, Link)).mac, ""
    )


async def test_what_is_refused_is_refused_here(stage: tuple[Paper, PaperCreation, Rehearsal]) -> None:
    paper, creation, rehearsal = stage
    with pytest.raises(Conflict):
        rehearsal.network(NetworkRequest("RED"))
    with pytest.raises(Forbidden):
        rehearsal.network(NetworkRequest("X", driver="host"))
    creation.ports = (PortRequest(80, "tcp", "", 8080, 8080),)
    taken = await paper.container("web", "RED", ports=creation.ports)
    await paper.open(taken)
    with pytest.raises(Conflict, match="port is already allocated"):
        await rehearsal.container("new", Config(), HostConfig(), {})


async def test_a_container_is_planned_and_not_made(stage: tuple[Paper, PaperCreation, Rehearsal]) -> None:
    paper, creation, rehearsal = stage
    creation.ports = (PortRequest(80, "tcp", "", 8080, 8080),)
    before = everything(paper)
    plan, warnings = await rehearsal.container("new", Config(), HostConfig(), {})
    assert everything(paper) == before and warnings == ["mind"]
    assert not paper.files.paths("e" * 64)["hosts"].exists()
    assert all(item.owner == "container new" for item in plan)
    assert of(plan, Address) == ["address link=eth0 address=172.17.0.2/16 ns=eeeeeeeeeeee"]
    assert of(plan, Element) == ["element map=published4 item=tcp . 8080 value=172.17.0.2 . 80"]
    assert len(of(plan, File)) == 3
    real = await paper.container("new", "RED", ports=creation.ports)
    await paper.open(real)
    assert paper.addresses(real) == {"RED": "172.17.0.2"}


async def test_a_shared_stack_has_nothing_of_its_own(stage: tuple[Paper, PaperCreation, Rehearsal]) -> None:
    _, creation, rehearsal = stage
    creation.mode, creation.wishes = "host", {}
    plan, _ = await rehearsal.container("new", Config(), HostConfig(), {})
    assert of(plan, Link) == [] and len(of(plan, File)) == 3
