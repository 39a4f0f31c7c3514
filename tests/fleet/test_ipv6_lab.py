"""A swarm over IPv6 alone: nobody says where to listen, and a router leads between the hosts.

m1 ---- one ---- r1 ---- two ---- m2         no host has an IPv4 address
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.lab import image
from fairlead.lab.machine import Machine
from fairlead.lab.topology import Node, Topology, Wire
from fairlead.lab.world import World
from lane.machine import eventually

ROADS = Topology(
    {"m1": Node(("one",)), "m2": Node(("two",))},
    {"one": Wire(subnet6="fd01::/64"), "two": Wire(subnet6="fd02::/64")},
    {"r1": Node(("one", "two"))},
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(ROADS) as made:
        made.start_engines(made.topology.hosts)
        image.give(made.hosts, Path(tmp_path_factory.mktemp("image")))
        yield made


def typed(machine: Machine, command: str) -> str:
    return machine.run(sys.executable, "-m", "fairlead", *command.split()).stdout


def test_a_swarm_stands_and_serves(world: World) -> None:
    m1, m2 = world.hosts
    typed(m1, f"swarm init --advertise-addr {m1.address6}")
    token = typed(m1, "swarm join-token -q manager").strip()
    typed(m2, f"swarm join --token {token} [{m1.address6}]:2377")
    assert typed(m2, "info --format {{.Swarm.NodeAddr}}").strip() == m2.address6

    def managers() -> list[str]:
        return sorted(typed(m2, "node ls --format {{.Hostname}}={{.ManagerStatus}}").split())

    eventually(lambda: managers() == ["m1=Leader", "m2=Reachable"], "each reaches the other")
    typed(m2, "network create -d overlay --attachable red")
    typed(m2, "service create -q --name web --replicas 2 --network red -p 8080:80 busybox httpd -f -h /www")
    for machine in world.hosts:
        there = f"http://[{machine.address6}]:8080/"
        eventually(
            lambda at=there: world.outside.run("busybox", "wget", "-qO-", at, check=False).stdout == image.PAGE, there
        )
        assert typed(machine, "run --rm --network red busybox wget -qO- http://web/") == image.PAGE
