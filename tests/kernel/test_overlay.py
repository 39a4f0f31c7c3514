"""The overlay's data path on real kernels: what its plans carry between hosts, and what they keep out.

one (a, 10.9.0.2) ---- two (b, 10.9.0.3)         three: on the same wire, not on the network
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core import rules
from fairlead.core.model import Endpoint, Ipam, Network, Remote, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.wanted import Namespace, Wanted
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay, namespace
from fairlead.errors import Internal
from fairlead.lab.machine import Machine
from fairlead.lab.topology import Node, Topology, Wire, one_cable
from fairlead.lab.world import World

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]

RED = Network(
    id="ed" * 32,
    name="RED",
    created="",
    driver="overlay",
    scope="global",
    ipv6=True,
    ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"), Subnet(subnet="fd09::/64"))),
    options={VNI: "4097"},
)
SCRIPT = """
import sys
from fairlead.core.wanted import *
from fairlead.host.linux import LinuxHost
plan = eval(sys.stdin.read())
host = LinuxHost("/run/fl")
host.make(plan)
make, surplus = difference(plan, host.look(plan))
assert not make and not surplus, (make, surplus)
if sys.argv[1:] == ["remove"]:
    host.remove(plan)
    host.settle()
    left = [item for item in host.look(plan) if type(item).__name__ not in ("Skeleton", "Sysctl")]
    assert not left, left
"""
"""Makes a plan on a machine, and sees that it stands; a plan is its own text."""


def joined(number: int) -> Endpoint:
    return Endpoint(
        id=f"{number:064x}",
        network=RED.id,
        container=f"c{number}" * 6,
        sandbox=f"c{number}" * 6,
        name=f"c{number}",
        interface="eth0",
        device=f"veth{number}",
        ipv4=f"10.9.0.{number}/24",
        ipv6=f"fd09::{number}/64",
        mac=f"02:42:0a:09:00:0{number}",
    )


def plan(facts: Facts, number: int, others: dict[int, str]) -> tuple[Wanted, ...]:
    """One container on RED on this machine, and what it knows of the others (number -> VTEP)."""
    driver, own = Overlay(), joined(number)
    plan = [*rules.machine_plan(), *driver.path(RED, facts), Namespace(name=own.namespace)]
    plan += driver.endpoint(RED, own, facts)
    for vtep in sorted(set(others.values())):
        plan += driver.vtep(RED, vtep, facts)
    for each, vtep in others.items():
        there = joined(each)
        known = Remote(
            id=there.id, network=RED.id, node="n2", host="two", vtep=vtep, name=there.name, mac=there.mac,
            ipv4=there.ipv4, ipv6=there.ipv6,
        )  # fmt: skip
        plan += driver.remote(RED, known, facts)
    return tuple(plan)


def make(machine: Machine, facts: Facts, number: int, others: dict[int, str], *words: str) -> None:
    machine.run(sys.executable, "-c", SCRIPT, *words, input=repr(plan(facts, number, others)))


def inside(machine: Machine, number: int, *words: str) -> str:
    ns = f"/run/fl/netns/{joined(number).namespace}"
    return machine.run("nsenter", f"--net={ns}", *words, check=False).stdout


def pings(machine: Machine, number: int, target: str) -> bool:
    return " 0% packet loss" in inside(machine, number, "ping", "-c1", "-W1", target)


def echos(machine: Machine, number: int) -> tuple[int, int]:
    """How many pings have reached a container, whether or not its answers found their way."""
    four = [
        line.split() for line in inside(machine, number, "cat", "/proc/net/snmp").splitlines() if line[:5] == "Icmp:"
    ]
    six = [line.split() for line in inside(machine, number, "cat", "/proc/net/snmp6").splitlines()]
    return int(dict(zip(*four, strict=True))["InEchos"]), int(dict(map(tuple, six))["Icmp6InEchos"])


@pytest.fixture(params=["four", "six"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Three hosts on an underlay of either family, with an MTU of its own."""
    hosts = ("one", "two", "three")
    six = Topology({name: Node() for name in hosts}, {"lan": Wire(subnet6="fd77:77::/64", mtu=1400)})
    with World(six if request.param == "six" else one_cable(*hosts, mtu=1400), str(tmp_path)) as world:
        yield world


def address(machine: Machine) -> str:
    return machine.address4 or machine.address6


def facts(machine: Machine) -> Facts:
    return Facts(vtep=address(machine), underlay_mtu=1400)


def test_two_hosts_are_one_network(world: World) -> None:
    one, two, three = world.hosts
    make(one, facts(one), 2, {3: address(two)})
    make(two, facts(two), 3, {2: address(one)})
    assert pings(one, 2, "10.9.0.3") and pings(two, 3, "fd09::2")
    assert echos(two, 3)[0] == 1 and echos(one, 2)[1] == 1
    room = 1400 - (50 if one.address4 else 70)
    assert f"mtu {room}" in inside(one, 2, "ip", "link", "show", "eth0")
    assert " 0% packet loss" in inside(one, 2, "ping", "-c1", "-W1", "-Mdo", f"-s{room - 28}", "10.9.0.3")
    learnt = one.run("nsenter", f"--net=/run/fl/netns/{namespace(RED)}", "bridge", "fdb", "show", "dev", "vxlan0")
    assert "extern_learn" not in learnt.stdout and address(three) not in learnt.stdout


def test_no_firewall_rule_and_no_memory_for_what_is_within(world: World) -> None:
    """Frames pass the overlay's bridge without asking the firewall, and the host tracks none of their flows."""
    one, two, _ = world.hosts
    make(one, facts(one), 2, {3: address(two)})
    make(two, facts(two), 3, {2: address(one)})
    assert pings(one, 2, "10.9.0.3")
    for machine in (one, two):
        assert "dport=4789" not in machine.run("cat", "/proc/net/nf_conntrack").stdout
        within = [f"--net=/run/fl/netns/{namespace(RED)}", "sh", "-c", "cat /proc/sys/net/bridge/bridge-nf-call-*"]
        assert not set(machine.run("nsenter", *within).stdout.split()) - {"0"}


@pytest.mark.proves(
    "GHSA-vwm3-crmr-xfxw",
    guard=(
        "core/rules.py",
        'counter drop comment "VXLAN for a network of ours from a host',
        'counter accept comment "VXLAN for a network of ours from a host',
    ),
)
def test_who_is_not_on_the_network_sends_into_it_in_vain(world: World) -> None:
    """Three knows everything (identifier, addresses, MACs) and one's cluster has never told of it."""
    one, two, three = world.hosts
    make(one, facts(one), 2, {3: address(two)})
    make(three, facts(three), 4, {2: address(one)})
    assert not pings(three, 4, "10.9.0.2") and not pings(three, 4, "fd09::2")
    assert echos(one, 2) == (0, 0)
    drops = one.run("nft", "list", "chain", "inet", "fairlead", "overlay").stdout
    assert "packets 0" not in drops.rpartition("notrack accept")[2]


def test_somebody_elses_tunnel_with_that_identifier_is_named(world: World) -> None:
    one = world.hosts[0]
    like = "" if one.address4 else "udp6zerocsumtx udp6zerocsumrx"
    theirs = f"ip link add theirs type vxlan id {RED.options[VNI]} dstport 4789 local {address(one)} {like}"
    one.run(*theirs.split())
    with pytest.raises(Internal, match=r"on UDP port 4789 is another VXLAN device's .*ip -d link show type vxlan"):
        make(one, facts(one), 2, {})


def test_it_goes_without_a_trace(world: World) -> None:
    (one, two, _) = world.hosts
    make(one, facts(one), 2, {3: address(two)}, "remove")
