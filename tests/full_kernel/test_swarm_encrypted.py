"""An encrypted network of a swarm: a service with a task on each of two hosts, and only ESP between them.

web.1 (node-1) ==== net, encrypted ==== web.2 (node-2)         node-3: reads what was on the wire
"""

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from cluster.town import Host
from fairlead.errors import Unavailable
from fairlead.lab import image as busybox
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from full_kernel.test_encrypted import LISTEN, SPEAK, inside
from lane.machine import eventually
from lane.sealed import Wiretap
from scenarios.rows import rows

SERVE = "hostname >/tmp/index.html; exec httpd -f -h /tmp"
LONG = 90.0
"""Seconds for what an emulated machine takes its time with: it is even six times as patient (``lane.machine``)."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two engines in a swarm, a service on an encrypted network; what the engines said stands beside a failure."""
    folder = tmp_path_factory.mktemp("lab")
    image = folder / "busybox.tar"
    busybox.make(image)
    with World(one_cable("node-1", "node-2", "node-3"), str(folder)) as world:
        try:
            one, two = hosts(world)
            for host in (one, two):
                started(world, host)
                with image.open("rb") as tar:
                    command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                    subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
            one(
                "swarm init --dispatcher-heartbeat 60s"
            )  # an engine that comes back takes its time: tasks stay meanwhile
            token = one("swarm join-token -q worker")
            two.docker.attempt(f"swarm join --token {token} {one.machine.address4}:2377")
            eventually(lambda: two("info --format {{.Swarm.LocalNodeState}}") == "active", "it has joined", LONG)
            yield world
        finally:
            for host in hosts(world):
                print(f"-- {host.machine.name}", host.machine.log(), sep="\n")


@pytest.fixture(scope="module")
def tap(world: World) -> Wiretap:
    """Of all that node-1 says and hears, from before the network is made."""
    return Wiretap(world.hosts[0])


@pytest.fixture(scope="module")
def tasks(world: World, tap: Wiretap) -> tuple[str, str]:
    """The service's container on either host."""
    one, two = hosts(world)
    one("network create -d overlay --opt encrypted=true net")
    one.docker(
        ["service", "create", "-dq", "--name=web", "--network=net", "--replicas=2", "busybox", "sh", "-c", SERVE]
    )
    return eventually(lambda: task(one), "a task", LONG), eventually(lambda: task(two), "a task", LONG)


def hosts(world: World) -> tuple[Host, Host]:
    one, two = (Host(machine, world.folder) for machine in world.hosts[:2])
    return one, two


def started(world: World, host: Host, *options: str) -> None:
    try:
        world.start_engines([host.machine.name], *options)
    except Unavailable:  # an emulated machine takes its time
        eventually(lambda: host.machine.answers, "the engine answers", LONG)


def task(host: Host) -> str:
    return next((name for name in host("ps --format {{.Names}}").split() if name.startswith("web.")), "")


def answers(host: Host, container: str) -> set[str]:
    """Which tasks answer for the service, in a few tries."""
    ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w9 web 80"
    return set(
        re.findall("^[0-9a-f]{12}$", host.inside(container, f"for one in 1 2 3 4 5 6 7 8; do {ask}; done").out, re.M)
    )


def sealed(world: World, tap: Wiretap) -> list[str]:
    """What was on the wire, all of it in ESP but for what ingress says, which nobody asked to be encrypted."""
    (one, _), identifier = hosts(world), "com.docker.network.driver.overlay.vxlanid_list"
    ingress = one(f"network inspect -f '{{{{index .Options \"{identifier}\"}}}}' ingress").strip()
    assert ingress.isdigit()
    lines = [line for line in tap.lines(world.hosts[2]) if not line.endswith(f" vni {ingress}")]
    assert lines and not [line for line in lines if ": ESP(" not in line]
    return lines


def ring(host: Host) -> list[str]:
    """The gossip's keys, the one in use first."""
    (notes,) = (host.machine.folder / "data").rglob("gossip.json")
    return json.loads(notes.read_text())["ring"]


@rows("S131")
def test_traffic_between_nodes_is_in_esp(world: World, tap: Wiretap, tasks: tuple[str, str]) -> None:
    (one, two), (here, there) = hosts(world), tasks
    address = two(f"inspect -f {{{{.NetworkSettings.Networks.net.IPAddress}}}} {there}").strip()
    eventually(lambda: one.pings(here, address), "they hear each other", LONG)
    assert ", 0% packet loss" in one.inside(here, f"ping -c5 -W9 {address}")
    names = {host.inside(task, "hostname").out for host, task in ((one, here), (two, there))}
    eventually(lambda: answers(one, here) == names, "either task by the service's name", LONG)
    eventually(lambda: answers(two, there) == names, "from the worker, too", LONG)
    sealed(world, tap)


def test_keys_change_while_engines_come_and_go(world: World, tap: Wiretap, tasks: tuple[str, str]) -> None:
    """Those of the data by pairs of hosts, that of the gossip by the leader."""
    (one, two), (here, there) = hosts(world), tasks
    address = two(f"inspect -f {{{{.NetworkSettings.Networks.net.IPAddress}}}} {there}").strip()
    inside(two, there, LISTEN, log="heard")
    eventually(lambda: "ready" in two.machine.log("heard"), "the listener")
    inside(one, here, SPEAK, address, log="said")
    old, gossip = numbers(sealed(world, tap), one), ring(one)
    assert old and ring(two) == gossip
    for count, host in enumerate((one, two), 1):  # one after the other: who comes back has to hear from the other
        host.machine.stop_daemon(signal.SIGKILL)
        started(world, host, "--overlay-key-lifetime=30")
        eventually(lambda count=count: len(numbers(sealed(world, tap), one) - old) >= 2 * count, "data's keys", LONG)
    eventually(lambda: not set(ring(one)) & set(gossip) and ring(one) == ring(two), "the key of the gossip", LONG)
    one.machine.run("touch", "/tmp/enough")
    said = eventually(lambda: re.search(r"said (\d+)", one.machine.log("said")), "the last word")
    heard = eventually(lambda: re.search(r"missing .*", two.machine.log("heard")), "the last word arrives")
    assert int(said[1]) > 500 and heard[0].startswith("missing 0 "), heard[0]
    assert {here, there} == {task(one), task(two)}
    eventually(lambda: answers(one, here), "the service answers", LONG)
    sealed(world, tap)


def numbers(lines: list[str], host: Host) -> set[str]:
    """Of the associations by which a host was seen to send."""
    sent = [line for line in lines if f" {host.machine.address4} > " in line]
    return {match[1] for line in sent if (match := re.search(r"ESP\(spi=(0x[0-9a-f]+)", line))}
