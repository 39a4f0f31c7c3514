"""Legacy links on the default bridge (S042 to S047)."""

import pytest

from scenarios.lab import Lab
from scenarios.rows import rows


@pytest.fixture
def three(lab: Lab) -> Lab:
    lab.run("-d --name database -e MYSQL_ROOT_PASSWORD=root mysql")
    lab.run("-d --link database:db --name web nginx")
    lab.run("-d --link web:application --name lb nginx")
    return lab


@rows("S042", "S046")
def test_three_linked_containers(three: Lab) -> None:
    assert three.docker(["ps", "--format", "{{.Names}}"]).lines == ["lb", "web", "database"]
    assert three.docker.field("web", ".HostConfig.Links") == "[/database:/web/db]"
    assert three.docker.field("lb", ".HostConfig.Links") == "[/web:/lb/application]"


@rows("S043", "S044")
def test_links_fill_the_environment(three: Lab) -> None:
    database, web = three.address("database"), three.address("web")
    environment = three.docker("exec web env").lines
    for line in (
        f"DB_PORT=tcp://{database}:3306",
        f"DB_PORT_3306_TCP=tcp://{database}:3306",
        f"DB_PORT_3306_TCP_ADDR={database}",
        "DB_PORT_3306_TCP_PORT=3306",
        "DB_PORT_3306_TCP_PROTO=tcp",
        "DB_NAME=/web/db",
        "DB_ENV_MYSQL_ROOT_PASSWORD=root",
    ):
        assert line in environment
    environment = three.docker("exec lb env").lines
    assert f"APPLICATION_PORT=tcp://{web}:80" in environment
    assert "APPLICATION_NAME=/lb/application" in environment


@rows("S045")
def test_links_fill_the_hosts_file(three: Lab) -> None:
    short = three.docker.field("database", ".Id")[:12]
    lines = [line.split() for line in three.docker("exec web cat /etc/hosts").lines]
    entry = [three.address("database"), "db", short, "database"]
    own = next(line for line in lines if line[0] == three.address("web"))
    assert lines.index(entry) < lines.index(own)


@rows("S047")
def test_names_reach_only_as_far_as_the_link(three: Lab) -> None:
    three.run("-d --name stranger ubuntu sleep 100")
    assert three.pings("web", "db") and three.pings("lb", "application")
    assert not three.resolves("stranger", "web")
