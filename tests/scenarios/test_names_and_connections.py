"""Connect, disconnect and names on one network (S072 to S083)."""

import re

import pytest

from lane.machine import eventually
from scenarios.lab import Lab
from scenarios.rows import rows


@pytest.fixture
def trio(lab: Lab) -> Lab:
    """CustomNetwork, and one, two, three, all still on the default bridge."""
    lab.docker("network create CustomNetwork")
    for name in ("one", "two", "three"):
        lab.run(f"--rm -itd --name {name} net-test sh")
    return lab


def connect(lab: Lab, *names: str) -> None:
    for name in names:
        assert lab.docker(f"network connect CustomNetwork {name}").everything == ""


def last_number(lab: Lab, name: str) -> str:
    return lab.members("CustomNetwork")[name].rsplit(".", 1)[1]


@rows("S072")
def test_the_newest_is_listed_first(trio: Lab) -> None:
    assert trio.docker(["ps", "--format", "{{.Names}}"]).lines == ["three", "two", "one"]


@rows("S073", "S074")
def test_connect_adds_a_device(trio: Lab) -> None:
    connect(trio, "one")
    (entry,) = trio.network("CustomNetwork")["Containers"].values()
    assert entry["Name"] == "one" and entry["IPv4Address"].endswith(".0.2/16")
    shown = trio.docker("exec one ip -4 -o addr show").out
    assert re.findall(r"\d: (\w+) +inet ([\d.]+/\d+)", shown) == [
        ("lo", "127.0.0.1/8"),
        ("eth0", f"{trio.address('one')}/16"),
        ("eth1", entry["IPv4Address"]),
    ]


@rows("S075", "S076", "S077")
def test_two_talk_until_one_is_disconnected(trio: Lab) -> None:
    connect(trio, "one", "two")
    two = trio.address("two", "CustomNetwork")
    assert two.endswith(".0.3")
    assert ", 0% packet loss" in trio.inside("one", f"ping -c1 {two}")
    trio.docker(["exec", "-d", "two", "sh", "-c", "echo hello | nc -l -p 1089"])
    eventually(lambda: "hello" in trio.inside("one", f"nc -w 1 {two} 1089"), "the listener")
    assert "two.CustomNetwork" in trio.docker(f"exec one nslookup {two}")
    trio.docker("network disconnect CustomNetwork two")
    assert set(trio.members("CustomNetwork")) == {"one"}
    assert not trio.pings("one", two)
    assert not trio.resolves("one", "two")


@rows("S078", "S081")
def test_freed_addresses_are_used_again(trio: Lab) -> None:
    connect(trio, "one", "two")
    trio.docker("network disconnect CustomNetwork two")
    connect(trio, "three", "two")
    assert {name: last_number(trio, name) for name in ("one", "two", "three")} == {"one": "2", "three": "3", "two": "4"}
    for name in ("one", "three"):
        trio.docker(f"network disconnect CustomNetwork {name}")
    connect(trio, "three", "one")
    members = trio.members("CustomNetwork")
    assert {name: last_number(trio, name) for name in ("one", "three")} == {"three": "2", "one": "3"}
    for name in ("one", "three"):  # names follow at once
        assert f"PING {name} ({members[name]})" in trio.docker(f"exec two ping -c1 -W1 {name}")


@rows("S079", "S080", "S082")
def test_names_are_answered_inside(trio: Lab) -> None:
    connect(trio, "one", "two", "three")
    assert trio.pings("two", "one") and trio.pings("two", "three")
    assert "nameserver 127.0.0.11" in trio.docker("exec two cat /etc/resolv.conf")
    looked_up = trio.docker("exec two nslookup three").out
    assert "127.0.0.11" in looked_up and trio.members("CustomNetwork")["three"] in looked_up
    trio.docker(["exec", "-d", "three", "sh", "-c", "echo hi | nc -l -p 2000"])
    eventually(lambda: "hi" in trio.inside("two", "nc -w 1 three 2000"), "the listener")
    assert "three.CustomNetwork" in trio.docker(f"exec two nslookup {trio.members('CustomNetwork')['three']}")
    trio.docker("network disconnect CustomNetwork three")
    assert not trio.resolves("two", "three")


@rows("S083")
def test_generated_names_and_short_ids_resolve(trio: Lab) -> None:
    connect(trio, "one")
    nameless = trio.run("--rm -itd net-test sh")
    generated = trio.docker.field(nameless, ".Name").lstrip("/")
    assert re.match(r"^[a-z]+_[a-z]+\d*$", generated)
    connect(trio, generated)
    assert trio.pings("one", generated)
    assert trio.pings("one", nameless[:12])
