"""The environment of a linking container, as the labs print it."""

import pytest

from fairlead.core.links import environment, parse
from fairlead.errors import Invalid


def test_what_a_linking_container_finds() -> None:
    lines = list(
        environment("web", "db", "172.17.0.2", ["33060/tcp", "3306/tcp"], ["MYSQL_ROOT_PASSWORD=root", "PATH=/bin"])
    )
    assert lines == [
        "DB_PORT=tcp://172.17.0.2:3306",
        "DB_PORT_3306_TCP=tcp://172.17.0.2:3306",
        "DB_PORT_3306_TCP_ADDR=172.17.0.2",
        "DB_PORT_3306_TCP_PORT=3306",
        "DB_PORT_3306_TCP_PROTO=tcp",
        "DB_PORT_33060_TCP=tcp://172.17.0.2:33060",
        "DB_PORT_33060_TCP_ADDR=172.17.0.2",
        "DB_PORT_33060_TCP_PORT=33060",
        "DB_PORT_33060_TCP_PROTO=tcp",
        "DB_NAME=/web/db",
        "DB_ENV_MYSQL_ROOT_PASSWORD=root",
    ]


def test_tcp_comes_before_udp_and_dashes_become_underscores() -> None:
    lines = list(environment("web", "my-db", "10.0.0.2", ["53/udp", "80/tcp"], []))
    assert lines[0] == "MY_DB_PORT=tcp://10.0.0.2:80"


def test_no_port_no_port_lines() -> None:
    assert list(environment("web", "db", "10.0.0.2", [], [])) == ["DB_NAME=/web/db"]


def test_parse() -> None:
    assert parse("database:db") == ("database", "db")
    assert parse("database") == ("database", "database")
    assert parse("/database:/web/db") == ("database", "db")
    for bad in ("", ":db", "a:", "a:b:c"):
        with pytest.raises(Invalid):
            parse(bad)
