"""Topology is data: names tell addresses, routes follow from who is on which wire, the cables are text."""

from pathlib import Path

import pytest

from fairlead.errors import Invalid
from fairlead.lab import fleet, topology
from fairlead.lab.topology import one_cable

ROUTED = """
[wires.lan]
subnet = "192.168.77.0/24"
[wires.mid]
subnet = "10.8.0.0/24"
[wires.far]
subnet = "10.9.0.0/24"
subnet6 = "fd99::/64"
[hosts.one]
[hosts.two]
wires = ["far"]
options = ["--mtu=1400"]
[routers.r1]
wires = ["lan", "mid"]
[routers.r2]
wires = ["mid", "far"]
"""


def test_names_tell_addresses() -> None:
    plan = one_cable("one", "two", store="etcd")
    assert plan.nodes == ("outside", "store", "one", "two")
    assert [plan.address(node, "lan", 4) for node in plan.nodes] == [
        "192.168.77.1", "192.168.77.10", "192.168.77.11", "192.168.77.12"
    ]  # fmt: skip
    assert [plan.address(node, "lan", 6) for node in plan.nodes[2:]] == ["fd77:77::b", "fd77:77::c"]


def test_the_cables_are_text() -> None:
    plan = one_cable("one")
    assert plan.switches() == [
        "link set lo up",
        "link add lan mtu 1500 type bridge forward_delay 0 mcast_snooping 0",
        "link set lan up",
    ]
    assert plan.cables("one", 8) == [
        "link add p0-1 mtu 1500 type veth peer name eth0 address 02:fa:1e:ad:00:0b mtu 1500 netns 8",
        "link set p0-1 master lan up",
    ]
    assert plan.stack("one")[-2:] == ["route add 0.0.0.0/0 via 192.168.77.1", "route add ::/0 via fd77:77::1"]
    assert not [line for line in plan.stack("outside") if line.startswith("route")]


def routes(plan: topology.Topology, node: str) -> list[str]:
    return [line.removeprefix("route add ") for line in plan.stack(node) if line.startswith("route")]


def test_routes_lead_over_routers(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(ROUTED)
    plan = topology.read(file)
    assert plan.hosts["two"].options == ("--mtu=1400",)
    assert routes(plan, "one") == [
        "10.8.0.0/24 via 192.168.77.2",
        "10.9.0.0/24 via 192.168.77.2",
        "0.0.0.0/0 via 192.168.77.1",
    ]
    assert routes(plan, "two") == [
        "192.168.77.0/24 via 10.9.0.3",
        "10.8.0.0/24 via 10.9.0.3",
        "0.0.0.0/0 via 10.9.0.3",
    ]
    assert routes(plan, "r1") == ["10.9.0.0/24 via 10.8.0.3", "0.0.0.0/0 via 192.168.77.1"]
    assert routes(plan, "outside") == ["10.8.0.0/24 via 192.168.77.2", "10.9.0.0/24 via 192.168.77.2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[hosts.outside]", "'outside' cannot be a name"),
        ("[hosts.One]", "'One' cannot be a name"),
        ("[wires.a]\nsubnet='10.0.0.0/24'\n[hosts.a]", "a name of its own"),
        ("[hosts.a]\nwires=['x']", "a is on the wire 'x', which is not described"),
        ("[hosts.a]\nspeed=1", "unknown field `speed`"),
        ("[hosts.a", "Expected ']'"),
        ("[wires.w]\nsubnet='fd00::/64'\n[hosts.a]", "not an IPv4 subnet"),
        ("[wires.w]\nsubnet='10.0.0.1/24'\n[hosts.a]", "host bits set"),
        ("[wires.w]\nsubnet='10.0.0.0/28'\n[hosts.a]", "too small"),
        ("[wires.w]\n[hosts.a]", "needs a subnet"),
        ("[wires.w]\nsubnet='10.0.0.0/24'\nmtu=9\n[hosts.a]", "mtu 9"),
        ("[wires.w]\nsubnet='10.0.0.0/24'\n[hosts]", "one host are the least"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(Invalid, match=words):
        topology.read(tmp_path / "t.toml")


def test_names_must_differ() -> None:
    with pytest.raises(Invalid, match="name of its own: a, a"):
        one_cable("a", "a")


def test_a_swarm_in_short() -> None:
    assert list(fleet.read("3m2w").hosts) == ["manager1", "manager2", "manager3", "worker1", "worker2"]
    assert list(fleet.read("1m").hosts) == ["manager1"]
    for text in ("", "3", "0m", "3w", "3m3", "m3w3", "3m 3w"):
        with pytest.raises(Invalid, match="3m3w are three managers and three workers"):
            fleet.read(text)
