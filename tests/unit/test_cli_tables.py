"""Columns, words for times and sizes, and the PORTS column, as Docker prints them."""

from typing import Any

import pytest

from fairlead.cli import tables


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert tables.span(seconds) == words


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0B"), (999, "999B"), (1990000, "1.99MB"), (762000, "762kB"), (4.5e9, "4.5GB")]
)
def test_sizes(number: float, text: str) -> None:
    assert tables.bytes_of(number, 3) == text


def port(inside: int, outside: int = 0, address: str = "", kind: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": inside, "Type": kind, **({"PublicPort": outside, "IP": address} if outside else {})}


@pytest.mark.parametrize(
    ("published", "text"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(80), port(81), port(90)], "80-81/tcp, 90/tcp"),
        ([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(9001, 9001, "::"), port(9000, 9000, "::")], "[::]:9000-9001->9000-9001/tcp"),
        ([port(53, 53, "0.0.0.0", "udp"), port(53)], "53/tcp, 0.0.0.0:53->53/udp"),
        ([port(80, 8080, "0.0.0.0"), port(443)], "443/tcp, 0.0.0.0:8080->80/tcp"),
    ],
)
def test_ports(published: list[dict[str, Any]], text: str) -> None:
    assert tables.ports(published) == text


ROWS = [
    {"ID": "1", "Names": "a-long-container-name", "Label": lambda key: key},
    {"ID": "22", "Names": "b", "Label": str},
]


def test_forms() -> None:
    heads = {"ID": "CONTAINER ID"}
    assert tables.render(ROWS, "", ("ID", "Names"), heads) == (
        "CONTAINER ID   NAMES\n1              a-long-container-name\n22             b"
    )
    assert tables.render(ROWS, r"table {{.Names}}\t{{.ID}}", (), heads) == (
        "NAMES                   CONTAINER ID\na-long-container-name   1\nb                       22"
    )
    assert tables.render(ROWS, "{{.ID}}", (), heads) == "1\n22"
    assert tables.render(ROWS[1:], "json", (), heads) == '{"ID":"22","Names":"b"}'
    assert tables.render([], "table", ("ID",), heads) == "CONTAINER ID"


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        ("2026-01-02T03:04:05.000000006Z", "2026-01-02 03:04:05.000000006 +0000 UTC"),
        ("2026-01-02T03:04:05.120Z", "2026-01-02 03:04:05.12 +0000 UTC"),
        ("2026-01-02T03:04:05+01:00", "2026-01-02 03:04:05 +0100 +0100"),
    ],
)
def test_times_as_go_prints_them(stamp: str, text: str) -> None:
    assert tables.go_time(stamp) == text
