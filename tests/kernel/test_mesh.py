"""The routing mesh's data path on real kernels: one, two and three are nodes; tasks are on two and three.

outside --- one (leg 10.8.0.2)   two (leg .3; task 10.8.0.12)   three (leg .4; task 10.8.0.13)     ingress: 10.8.0.0/24
"""

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.core import mesh, rules
from fairlead.core.mesh import Published
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, Remote, ServicePart, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.serving import Backend
from fairlead.core.wanted import Address, Link, MeshPort, Namespace, Plan, Route, Sysctl
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.lab.machine import Machine
from fairlead.lab.topology import Node, Topology, Wire
from fairlead.lab.world import World
from lane.machine import Place

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]

INGRESS = Network(
    id="i" * 25,
    name="ingress",
    created="",
    driver="overlay",
    scope="swarm",
    ingress=True,
    ipv6=True,
    ipam=Ipam(config=(Subnet(subnet="10.8.0.0/24", gateway="10.8.0.1"), Subnet(subnet="fd08::/64", gateway="fd08::1"))),
    options={VNI: "4096"},
)
PORTS = ("8080:80/tcp", "5300:53/udp")
HOSTS = ("one", "two", "three")
LEGS = {"one": 2, "two": 3, "three": 4}
TASKS = {"two": 12, "three": 13}
MAKE = """
import sys
from fairlead.core.wanted import *
from fairlead.host.linux import LinuxHost
plan = eval(sys.stdin.read())
host = LinuxHost("/run/fl")
host.make(plan)
make, surplus = difference(plan, host.look(plan))
assert not make and not (sys.argv[1:] and surplus), (make, surplus)
if sys.argv[1:] == ["remove"]:
    host.remove(plan)
    host.settle()
    left = [item for item in host.look(plan) if type(item).__name__ not in ("Skeleton", "Sysctl")]
    assert not left, left
"""
SERVE = """
import socket, threading
def tcp():
    with socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=500) as sock:
        while True:
            call, peer = sock.accept()
            call.sendall(peer[0].removeprefix("::ffff:").encode() + b" " + NAME)
            call.close()
def udp(family):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", 53))
        while True:
            _, peer = sock.recvfrom(99)
            sock.sendto(peer[0].encode() + b" " + NAME, peer)
threading.Thread(target=tcp).start()
threading.Thread(target=udp, args=(socket.AF_INET,)).start()
udp(socket.AF_INET6)
"""
"""Knows nothing of all this: it listens on every address, and the kernel chooses where from it answers."""
CALL = """
import socket, sys
kind, source, times, *targets = eval(sys.stdin.read())
def call(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(3)
        if source:
            sock.bind(("", source))
        try:
            sock.connect((address, port))
            if kind == "udp":
                sock.send(b"who am i?")
            return sock.recv(99).decode()
        except OSError as error:
            return type(error).__name__
for _ in range(times):
    for address, port in targets:
        print(call(address, port))
"""


def endpoint(number: int, *, leg: bool = False) -> Endpoint:
    part = ServicePart(service="s", name="web", task=f"t{number}", serving=True, ports=PORTS)
    return Endpoint(
        id=f"{number:064x}",
        network=INGRESS.id,
        container=mesh.STAND_IN if leg else f"c{number}" * 6,
        sandbox="" if leg else f"c{number}" * 6,
        name=mesh.NAME if leg else f"c{number}",
        interface=mesh.LEG if leg else "eth0",
        device=f"veth{number}",
        ipv4=f"10.8.0.{number}/24",
        ipv6=f"fd08::{number}/64",
        gateway4="10.8.0.1",
        gateway6="fd08::1",
        mac=f"02:42:0a:08:00:{number:02x}",
        settings=EndpointSettings(part=None if leg else part),
    )


def remote(number: int, vtep: str) -> Remote:
    there = endpoint(number)
    return Remote(
        id=there.id, network=INGRESS.id, node="n", host="h", vtep=vtep, name=there.name, mac=there.mac,
        ipv4=there.ipv4, ipv6=there.ipv6,
    )  # fmt: skip


def backend(number: int, serving: bool = True) -> Backend:
    part = ServicePart(service="s", name="web", task=f"t{number}", serving=serving, ports=PORTS)
    return Backend(part, f"10.8.0.{number}", f"fd08::{number}")


def task(number: int) -> Plan:
    """A sandbox on ingress, whose way to the world is another interface, of IPv4 only."""
    own = endpoint(number)
    ns = own.namespace
    return (
        Namespace(name=ns),
        Link(name="gw0", kind="bridge"),
        Address(link="gw0", address="172.18.0.1/16"),
        Sysctl(path="net/ipv4/conf/gw0/route_localnet", value="1"),
        *rules.network_elements(rules.NetworkRules(device="gw0", subnets=("172.18.0.0/16",), icc=False)),
        Link(name=f"gw{number}", kind="veth", master="gw0", peer="eth1", peer_ns=ns),
        Address(ns=ns, link="eth1", address=f"172.18.0.{number}/16"),
        Route(ns=ns, destination="0.0.0.0/0", gateway="172.18.0.1", link="eth1"),
        *Overlay().endpoint(INGRESS, own, Facts()),
        *mesh.inlet(INGRESS, own, (f"172.18.0.{number}", "")),
        *(item for leg in LEGS.values() for item in mesh.way_back(own, INGRESS, f"10.8.0.{leg}", f"fd08::{leg}")),
    )


def node(world: World, name: str, serving: tuple[int, ...] = (12, 13)) -> Plan:
    """Everything a node has of the mesh: its leg, its task, what it knows of the others."""
    driver, machine = Overlay(), world[name]
    facts = Facts(vtep=machine.address4, underlay_mtu=1400)
    plan = [*rules.machine_plan(ipv6=True), *mesh.leg_plan(INGRESS), *driver.path(INGRESS, facts)]
    plan += driver.endpoint(INGRESS, endpoint(LEGS[name], leg=True), facts)
    for other in HOSTS:
        if other != name:
            vtep = world[other].address4
            plan += driver.vtep(INGRESS, vtep, facts)
            for number in filter(None, (LEGS[other], TASKS.get(other))):
                plan += driver.remote(INGRESS, remote(number, vtep), facts)
    if name in TASKS:
        plan += task(TASKS[name])
    return (*plan, *port_plan(name, serving))


def port_plan(name: str, serving: tuple[int, ...]) -> Plan:
    known = {number: backend(number, number in serving) for number in TASKS.values()}
    here = {known[TASKS[name]]: (f"172.18.0.{TASKS[name]}", "")} if name in TASKS else {}
    of = [(Published("tcp", 8080), 80), (Published("udp", 5300), 53)]
    found = (mesh.published(port, INGRESS, dict.fromkeys(known.values(), target), here) for port, target in of)
    return tuple(item for items in found for item in items)


def make(machine: Machine, plan: Plan, *words: str) -> None:
    machine.run(sys.executable, "-c", MAKE, *words, input=repr(plan))


def calls(machine: Machine, kind: str, *targets: tuple[str, int], source: int = 0, times: int = 1) -> list[str]:
    """What each call is answered: the caller's address as the task saw it, and which task; or the error."""
    asked = repr((kind, source, times, *targets))
    return machine.run(sys.executable, "-c", CALL, input=asked, timeout=120).stdout.splitlines()


def serve(machine: Machine, ns: str, name: str, tcp: int = 80, udp: int = 53) -> None:
    """Start that program, on the machine or in a namespace of it, and wait until it listens."""
    words = ("nsenter", f"--net=/run/fl/netns/{ns}") if ns else ()
    program = SERVE.replace("NAME", name).replace("80)", f"{tcp})").replace("53)", f"{udp})")
    machine.start(*words, sys.executable, "-c", program, log="serve")
    count = f"ss -lnHtu '( sport = :{tcp} or sport = :{udp} )' | wc -l"
    machine.run(*words, "sh", "-c", f"for i in $(seq 100); do [ $({count}) = 3 ] && exit; sleep 0.05; done; exit 1")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    wire = Wire(subnet="192.168.77.0/24", subnet6="fd77:77::/64", mtu=1400)
    with World(Topology({name: Node() for name in HOSTS}, {"lan": wire}), str(tmp_path)) as world:
        for name in HOSTS:
            make(world[name], node(world, name), "all")
        for name, number in TASKS.items():
            serve(world[name], endpoint(number).namespace, repr(name.encode()))
        yield world


def test_every_node_answers_and_the_task_sees_who_calls(world: World) -> None:
    client = world["outside"]
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        for name in HOSTS:
            machine = world[name]
            for own, target in ((client.address4, machine.address4), (client.address6, machine.address6)):
                (answer,) = calls(client, kind, (target, port))
                who, _, task = answer.partition(" ")
                assert who == own, (kind, name, answer)
                assert name == "one" or task == name, "a node's own tasks come first"


def test_a_node_calls_itself(world: World) -> None:
    one = world["one"]
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        local, four, six = calls(one, kind, ("127.0.0.1", port), (one.address4, port), (one.address6, port))
        assert local.split()[0] == "10.8.0.2", "what is behind a loopback address is nobody's business: its leg's"
        assert (four.split()[0], six.split()[0]) == (one.address4, one.address6)


def test_a_node_calls_its_own_task(world: World) -> None:
    two = world["two"]
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        local, four, six = calls(two, kind, ("127.0.0.1", port), (two.address4, port), (two.address6, port))
        assert (local, four, six) == ("172.18.0.1 two", f"{two.address4} two", f"{two.address6} two")


def test_its_own_task_is_reached_without_ingress_between(world: World) -> None:
    client, two = world["outside"], world["two"]
    two.run("ip", "link", "set", mesh.LEG, "down")
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        assert calls(client, kind, (two.address4, port)) == [f"{client.address4} two"]


def test_one_client_calls_by_two_nodes_from_one_port(world: World) -> None:
    """The task has two connections from the same address; neither is taken for the other, whichever came first."""
    for name in HOSTS:
        make(world[name], port_plan(name, (12,)))
    client, one, two, three = (world[name] for name in ("outside", *HOSTS))
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        for mine, *nodes in (
            (client.address4, one.address4, two.address4, three.address4),
            (client.address6, one.address6, two.address6, three.address6),
        ):
            targets = [(node, port) for node in nodes]
            assert calls(client, kind, *targets, source=4444) == [f"{mine} two"] * 3
            assert calls(client, kind, *targets[::-1], source=4445) == [f"{mine} two"] * 3


def test_a_tcp_connection_knows_its_way_back_by_itself(world: World) -> None:
    """Its socket has the mark of the call: nothing has to send its answers to look for their way, one by one."""
    for name, number in TASKS.items():
        space = ("nsenter", f"--net=/run/fl/netns/{endpoint(number).namespace}")
        world[name].run(*space, "nft", "flush", "chain", "inet", "fairlead-ingress", "back")
    client, one = world["outside"], world["one"]
    answers = calls(client, "tcp", (one.address4, 8080), (one.address6, 8080), times=4)
    assert [answer.split()[0] for answer in answers] == [client.address4, client.address6] * 4
    assert calls(client, "udp", (one.address4, 5300)) == ["TimeoutError"], "what has no connection was led by that"


def test_ten_thousand_calls_are_spread_evenly(world: World) -> None:
    answers = Counter(calls(world["outside"], "tcp", (world["one"].address4, 8080), times=10_000))
    own = world["outside"].address4
    assert set(answers) == {f"{own} two", f"{own} three"}
    chi_square = sum((count - 5000) ** 2 / 5000 for count in answers.values())
    assert chi_square < 10.83, "an even choice is further off once in a thousand times"


def test_a_connection_may_be_silent_for_as_long_as_any_other(world: World) -> None:
    """In the host that it comes in by, and in its task's sandbox: five days, as the kernel has it, and no rule says
    less."""
    assert calls(world["outside"], "tcp", (world["one"].address4, 8080))
    for name in HOSTS:
        spaces: list[tuple[str, ...]] = [()]
        if name in TASKS:
            spaces.append(("nsenter", f"--net=/run/fl/netns/{endpoint(TASKS[name]).namespace}"))
        for space in spaces:
            told = world[name].run(*space, "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_established")
            assert int(told.stdout) == 5 * 24 * 3600
            assert "ct timeout" not in world[name].run(*space, "nft", "list", "ruleset").stdout


def test_nobody_serves_is_said_at_once_and_who_is_under_way_goes_on(world: World) -> None:
    one, client = world["one"], world["outside"]
    (before,) = calls(client, "udp", (one.address4, 5300), source=7777)
    other = next(number for name, number in TASKS.items() if name != before.split()[1])
    make(one, port_plan("one", (other,)))
    assert calls(client, "udp", (one.address4, 5300), source=7777) == [before], "the flow stays where it is"
    (anew,) = calls(client, "udp", (one.address4, 5300), source=7778)
    assert anew != before
    make(one, port_plan("one", ()))
    for kind, port in (("tcp", 8080), ("udp", 5300)):
        refused = calls(client, kind, (one.address4, port), (one.address6, port))
        assert refused == ["ConnectionRefusedError"] * 2
        assert calls(one, kind, ("127.0.0.1", port)) == ["ConnectionRefusedError"]


def test_a_connection_from_before_the_port_stays_where_it_is(world: World) -> None:
    """The relay's, when the kernel takes a port back from it: it goes on, and so does its listener."""
    one, outside = world["one"], world["outside"]
    places = [(one.address4, "10.8.0.12"), (one.address6, "fd08::12")]
    with Place(one.pid, "").within(
        lambda: socket.create_server(("::", 9090), family=socket.AF_INET6, dualstack_ipv6=True)
    ) as relay:
        clients = [Place(outside.pid, "").connect(here, 9090) for here, _ in places]
        servers = [relay.accept()[0] for _ in places]
        for port in (MeshPort(protocol="tcp", port=9090, targets=((task, 80, 1),)) for _, task in places):
            for leads in (port, replace(port, targets=())):
                make(one, (leads,))
                for sender, receiver in (*zip(clients, servers, strict=True), *zip(servers, clients, strict=True)):
                    receiver.settimeout(3)
                    sender.sendall(b"still here")
                    assert receiver.recv(99) == b"still here"
        assert calls(outside, "tcp", *((here, 9090) for here, _ in places)) == ["ConnectionRefusedError"] * 2
        for sock in (*clients, *servers):
            sock.close()


def reaches(machine: Machine, ns: str, target: str, port: int) -> bool:
    words = ("nsenter", f"--net=/run/fl/netns/{ns}") if ns else ()
    host = f"[{target}]" if ":" in target else target
    done = machine.run(*words, "curl", "-s", "-m", "2", "--http0.9", f"http://{host}:{port}/", check=False)
    assert done.returncode in (0, 1, 7, 28, 52, 56), done.stderr  # 1: what came is no HTTP; 52, 56: it came to nothing
    return done.returncode not in (7, 28)


def test_only_answers_come_in_by_a_leg(world: World) -> None:
    """A task on three that has undone its own side's rules calls the node one at its leg, and the world through it."""
    one, three, inside = world["one"], world["three"], endpoint(13).namespace
    serve(one, "", "b'host'", tcp=9999, udp=9953)
    three.run("nsenter", f"--net=/run/fl/netns/{inside}", "nft", "flush", "ruleset")
    assert not reaches(three, inside, "10.8.0.2", 9999)
    assert not reaches(three, inside, "fd08::2", 9999)
    assert reaches(one, "", "127.0.0.1", 9999)
    three.run("nsenter", f"--net=/run/fl/netns/{inside}", "ip", "route", "replace", "default", "via", "10.8.0.2")
    assert not reaches(three, inside, world["outside"].address4, 22)


def test_only_what_is_published_is_reached(world: World) -> None:
    two = world["two"]
    serve(two, endpoint(12).namespace, "b'x'", tcp=9999, udp=9953)
    one, three = world["one"], world["three"]
    for target in ("10.8.0.12", "fd08::12"):
        assert not reaches(one, "", target, 9999), "not from a node"
        assert reaches(one, "", target, 80)
    three.run("nsenter", f"--net=/run/fl/netns/{endpoint(13).namespace}", "nft", "flush", "ruleset")
    assert not reaches(three, endpoint(13).namespace, "10.8.0.12", 9999), "nor from another task"
    world["outside"].run("ip", "route", "add", "10.8.0.0/24", "via", one.address4)
    assert not reaches(world["outside"], "", "10.8.0.12", 80), "nor from the world, but through a published port"


def test_a_task_calls_nobody_by_ingress(world: World) -> None:
    two, inside = world["two"], endpoint(12).namespace
    assert not reaches(two, inside, "10.8.0.13", 80)
    assert not reaches(two, inside, "fd08::13", 80)


def test_it_goes_without_a_trace(world: World) -> None:
    make(world["two"], node(world, "two"), "remove")
    assert "fairlead-mesh" not in world["two"].run("nft", "list", "tables").stdout


def test_a_port_may_be_published_at_some_addresses_alone(world: World) -> None:
    one, client = world["one"], world["outside"]
    targets = (("10.8.0.12", 80, 1), ("fd08::12", 80, 1))
    ports = [MeshPort(protocol="tcp", port=9090, address=at, targets=targets) for at in (one.address4, one.address6)]
    make(one, tuple(ports))
    assert calls(client, "tcp", (one.address4, 9090), (one.address6, 9090)) == [
        f"{client.address4} two",
        f"{client.address6} two",
    ]
    assert calls(one, "tcp", ("127.0.0.1", 9090), ("10.8.0.2", 9090)) == ["ConnectionRefusedError"] * 2
    make(one, (replace(ports[0], targets=()),))
    assert calls(client, "tcp", (one.address4, 9090)) == ["ConnectionRefusedError"]


def test_who_comes_by_one_device_may_be_led_elsewhere(world: World) -> None:
    """As who calls from docker_gwbridge, where the node's own tasks are: by ingress, in both families."""
    one, client = world["one"], world["outside"]
    near, around = ((("10.8.0.12", 80, 1), ("fd08::12", 80, 1)), (("10.8.0.13", 80, 1), ("fd08::13", 80, 1)))
    make(one, (MeshPort(protocol="tcp", port=9090, targets=near, bridge="eth0", around=around),))
    told = calls(client, "tcp", (one.address4, 9090), (one.address6, 9090))
    assert told == [f"{client.address4} three", f"{client.address6} three"]
    assert calls(one, "tcp", (one.address4, 9090))[0].endswith(" two"), "by no device"
    make(one, (MeshPort(protocol="tcp", port=9090, targets=near),))
    assert calls(client, "tcp", (one.address4, 9090)) == [f"{client.address4} two"]
    make(one, (MeshPort(protocol="tcp", port=9090),))
