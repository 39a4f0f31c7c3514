"""Legacy links: a line in the hosts file that follows its target, and variables that need it running."""

from pathlib import Path

import msgspec
import pytest
from paper import Paper

from fairlead.core.container import Container, State
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.engine.links import Links
from fairlead.errors import Conflict

BRIDGE = Network(
    id="b" * 64,
    name="bridge",
    created="",
    predefined=True,
    ipam=Ipam(config=(Subnet("172.17.0.0/16", gateway="172.17.0.1"),)),
)


async def linked(paper: Paper) -> tuple[Container, Container]:
    await paper.controller.ensure(BRIDGE)
    database = await paper.container("database", "bridge")
    web = await paper.container("web", "bridge")
    web = await paper.catalog.put(
        msgspec.structs.replace(web, host=msgspec.structs.replace(web.host, links=("database:db",)))
    )
    await paper.open(database)
    await paper.open(web)
    return database, web


async def test_the_line_follows_its_target(paper: Paper, tmp_path: Path) -> None:
    database, web = await linked(paper)
    hosts = tmp_path / web.id / "hosts"
    assert "172.17.0.2\tdb database\n" in hosts.read_text()
    hosts.write_text(hosts.read_text() + "10.1.1.1\tmine\n")
    stack = paper.attachments.stack(database)
    assert stack
    await paper.attachments.close(stack)
    await paper.open(await paper.container("squatter", "bridge"))
    await paper.open(database)
    paper.attachments.relink(database)
    text = hosts.read_text()
    assert "172.17.0.4\tdb database\n" in text
    assert "172.17.0.2\t" not in text
    assert "10.1.1.1\tmine\n" in text


async def test_a_start_needs_its_target_a_running_container_does_not(paper: Paper) -> None:
    database, web = await linked(paper)
    links = Links(paper.catalog, paper.controller, paper.endpoints)
    assert "DB_NAME=/web/db" in links.environment(web)
    await paper.catalog.put(msgspec.structs.replace(database, state=State(status="exited")))
    with pytest.raises(Conflict, match="cannot link to a non running container: /database AS /web/db"):
        links.environment(web)
    assert list(links.standing(web)) == []
