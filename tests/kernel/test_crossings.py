"""Frames of an overlay cross from port to port past its bridge; whoever is not known, or has no filter, goes by it.

one (c2, c4: 10.9.0.2, .4)  ----  two (c3: 10.9.0.3)        each ``join`` is a process of its own: an engine come back
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.core.wanted import Namespace
from fairlead.engine.drivers.overlay import Overlay, namespace
from fairlead.lab.machine import Machine
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from kernel.test_overlay import RED, address, facts, joined, pings, plan

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]

LACKING = """
from fairlead.errors import Unsupported
from fairlead.host import bpf
def load(*_):
    raise Unsupported("no BPF here")
bpf.load = load
"""
ENGINE = """
import sys
from fairlead.core.wanted import *
from fairlead.host.linux import LinuxHost
host = LinuxHost("/run/fl")
getattr(host, sys.argv[1])(eval(sys.stdin.read()))
host.settle()
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Machine]]:
    with World(one_cable("one", "two", mtu=1400), str(tmp_path)) as world:
        yield [*world.hosts]


def join(machine: Machine, number: int, others: dict[int, str], before: str = "") -> None:
    wishes = plan(facts(machine), number, others)
    machine.run(sys.executable, "-c", before + ENGINE, "make", input=repr(wishes))


def leave(machine: Machine, number: int) -> None:
    wishes = (Namespace(name=joined(number).namespace), *Overlay().endpoint(RED, joined(number), facts(machine)))
    machine.run(sys.executable, "-c", ENGINE, "remove", input=repr(wishes))


def within(machine: Machine, *words: str) -> str:
    """Typed in the overlay's namespace."""
    return machine.run("nsenter", f"--net=/run/fl/netns/{namespace(RED)}", *words).stdout


def watch(machine: Machine) -> Callable[[], int]:
    """How many pings the overlay's bridge has passed on, from now on; containers say other things, to many, on their
    own account."""
    pings = "ip protocol icmp counter; icmpv6 type { echo-request, echo-reply } counter;"
    within(
        machine, "nft", f"add table bridge seen {{ chain passed {{ type filter hook forward priority 0; {pings} }}; }}"
    )

    def passed() -> int:
        return sum(map(int, re.findall(r"packets (\d+)", within(machine, "nft", "list table bridge seen"))))

    return passed


def without(machine: Machine, *devices: str) -> None:
    for device in devices:
        within(machine, "tc", "qdisc", "del", "dev", device, "clsact")


def filters(machine: Machine, device: str) -> str:
    return within(machine, "tc", "filter", "show", "dev", device, "ingress")


@pytest.fixture
def pair(hosts: list[Machine]) -> tuple[Machine, Machine]:
    one, two = hosts
    join(one, 2, {3: address(two)})
    join(two, 3, {2: address(one)})
    assert pings(one, 2, "10.9.0.3"), "who asked for whom is known on both sides"
    return one, two


def test_between_hosts_no_bridge_is_asked(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    looks = [watch(one), watch(two)]
    assert pings(one, 2, "10.9.0.3") and pings(two, 3, "fd09::2")
    assert [look() for look in looks] == [0, 0]
    without(one, "vxlan0", "veth2")
    assert all(pings(one, 2, "10.9.0.3") for _ in range(5)), "by the bridge, as ever"
    assert (looks[0](), looks[1]()) == (10, 0)


def test_within_a_host_no_bridge_is_asked(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    join(one, 4, {3: address(two)})
    look = watch(one)
    assert all(pings(one, number, target) for number, target in ((2, "10.9.0.4"), (4, "10.9.0.2"), (4, "fd09::2")))
    assert look() == 0


def left_by(machine: Machine, device: str) -> int:
    """How many frames went out by it, those for many among them."""
    told = within(machine, "cat", "/proc/net/dev")
    return int(re.search(rf"^\s*{device}:(?:\s+\d+){{9}}\s+(\d+)", told, re.MULTILINE)[1])  # type: ignore[index]


def test_frames_come_in_by_the_peer_unless_a_rate_is_kept_at_the_port(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    join(one, 4, {3: address(two)})
    asked = [(two, 3, "10.9.0.2"), (one, 4, "10.9.0.2")] * 10
    before = left_by(one, "veth2")
    assert all(pings(*ask) for ask in asked)
    assert left_by(one, "veth2") - before < 10, "neither from the tunnel nor from a neighbour"
    within(one, "tc", "qdisc", "add", "dev", "veth2", "root", "tbf", "rate", "100mbit", "burst", "99k", "latency", "1s")
    join(one, 2, {3: address(two)})
    before = left_by(one, "veth2")
    assert all(pings(*ask) for ask in asked)
    assert left_by(one, "veth2") - before >= 20, "through the queue"


def test_who_left_is_not_looked_for_where_it_was(pair: tuple[Machine, Machine]) -> None:
    """Its MAC comes back by another port, which nobody has told of."""
    one, two = pair
    join(one, 4, {3: address(two)})
    assert pings(one, 2, "10.9.0.4")
    leave(one, 4)
    assert not pings(one, 2, "10.9.0.4")
    one.run("ip", "netns", "add", "guest")
    try:
        within(one, "ip", "link", "add", "port", "type", "veth", "peer", "eth0", "address", joined(4).mac)
        within(one, "ip", "link", "set", "port", "master", "br0", "up")
        pid = one.run("readlink", "-f", "/run/netns/guest").stdout.strip()
        within(one, "ip", "link", "set", "eth0", "netns", pid)
        for words in ("addr add 10.9.0.4/24 dev eth0", "link set eth0 mtu 1350 up"):
            one.run("ip", "-n", "guest", *words.split())
        assert any(pings(one, 2, "10.9.0.4") for _ in range(3))
    finally:
        one.run("ip", "netns", "del", "guest")


def test_a_tunnel_without_a_filter_means_to_begin_anew(pair: tuple[Machine, Machine]) -> None:
    """Two maps in one namespace would not both be told who left."""
    one, two = pair
    assert "fairlead" in filters(one, "veth2")
    without(one, "vxlan0")
    join(one, 4, {3: address(two)})
    assert "fairlead" in filters(one, "vxlan0") and "fairlead" in filters(one, "veth4") and not filters(one, "veth2")
    assert pings(one, 2, "10.9.0.4") and pings(one, 2, "10.9.0.3")


def test_a_kernel_that_has_none_of_it(hosts: list[Machine]) -> None:
    one, two = hosts
    join(one, 2, {3: address(two)}, LACKING)
    join(two, 3, {2: address(one)}, LACKING)
    assert not filters(one, "vxlan0") and pings(one, 2, "10.9.0.3")
    leave(one, 2)
