"""The monitor rings for other hands, and keeps quiet about our own."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core import keying
from fairlead.core.wanted import Address, Element, Link, Namespace, Plan, Route, Skeleton, Sysctl
from fairlead.errors import Unsupported
from fairlead.host.linux import LinuxHost
from fairlead.host.monitor import EVERYTHING, MOUNT, SANDBOX, Monitor
from lane.pretend import PretendHost, eventually, own_mounts

pytestmark = pytest.mark.kernel

PLAN: Plan = (
    Namespace(name="s1"),
    Link(name="br0", kind="bridge"),
    Address(link="br0", address="10.0.0.1/24"),
    Link(name="veth1", kind="veth", master="br0", peer="eth0", peer_ns="s1"),
    Route(destination="10.9.0.0/24", gateway="10.0.0.2", link="br0"),
    Skeleton(text="set near { type ipv4_addr; }"),
    Element(map="near", item="192.0.2.1"),
    Skeleton(ns="s1", text="set near { type ipv4_addr; }"),
    *keying.guard("10.0.0.1", 4790),
)


@pytest.fixture(autouse=True)
def outside() -> Iterator[str]:
    """Nobody on this machine mounts anything that we hear of. Where they do."""
    with own_mounts() as where:
        yield where


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    made = pretend_host.open()
    made.make(PLAN)
    return made


def heard(monitor: Monitor) -> set[str]:
    """What rang until it was quiet for a moment."""
    found: set[str] = set()
    while select.select([monitor], [], [], 0.2)[0]:
        found |= monitor.heard()
    return found


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        (("ip", "link", "delete", "veth1"), "link"),
        (("ip", "link", "set", "br0", "down"), "link"),
        (("ip", "address", "delete", "10.0.0.1/24", "dev", "br0"), "address"),
        (("ip", "route", "delete", "10.9.0.0/24"), "route"),
        (("ip", "route", "delete", "10.0.0.0/24"), "route"),
        (("ip", "rule", "add", "priority", "5", "table", "7"), "rule"),
        (("ip", "xfrm", "policy", "flush"), "encryption"),
        (("nft", "flush", "ruleset"), "firewall"),
        (("nft", "delete", "element", "inet", "fairlead", "near", "{", "192.0.2.1", "}"), "firewall"),
    ],
)
def test_it_rings_for_others(pretend_host: PretendHost, host: LinuxHost, deed: tuple[str, ...], kind: str) -> None:
    monitor = host.monitor()
    heard(monitor)
    pretend_host.run(*deed)
    found: set[str] = set()
    eventually(lambda: found.update(monitor.heard()) or kind in found)
    monitor.close()
    if kind == "rule":
        pretend_host.run("ip", "rule", "delete", "priority", "5")
    host.remove(PLAN)


def test_until_it_is_listened_to_it_rings_for_the_firewall_alone(pretend_host: PretendHost, host: LinuxHost) -> None:
    monitor = host.monitor()
    heard(monitor)
    pretend_host.run("ip", "link", "set", "br0", "down")
    eventually(lambda: select.select([monitor], [], [], 0)[0])
    assert monitor.urgent() == set() and not select.select([monitor], [], [], 0)[0]
    pretend_host.run("nft", "flush", "ruleset")
    eventually(lambda: select.select([monitor], [], [], 0)[0])
    assert monitor.urgent() == {"firewall"} and not select.select([monitor], [], [], 0)[0]
    assert "link" in monitor.heard()
    pretend_host.run("ip", "link", "set", "br0", "up")
    eventually(lambda: select.select([monitor], [], [], 0)[0])
    monitor.close()
    host.remove(PLAN)


def test_it_rings_for_a_setting_that_somebody_wrote_to(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make([Sysctl(path="net/ipv4/conf/br0/route_localnet", value="1")])
    monitor = host.monitor()
    heard(monitor)
    pretend_host.run("sysctl", "-qw", "net.ipv4.conf.br0.route_localnet=0")
    assert heard(monitor) == {"setting"}
    monitor.close()
    host.remove(PLAN)


def test_it_rings_for_the_table_of_a_sandbox(pretend_host: PretendHost, host: LinuxHost) -> None:
    monitor = host.monitor()
    pretend_host.run("nft", "flush", "ruleset", ns="s1")
    found: set[str] = set()
    eventually(lambda: found.update(monitor.heard()) or "firewall" in found)
    monitor.close()
    host.remove(PLAN)


def test_it_is_quiet_about_addresses_routes_and_firewall_of_our_own(host: LinuxHost) -> None:
    ours = [
        Address(link="br0", address="10.0.3.1/24"),
        Route(destination="10.10.0.0/24", gateway="10.0.0.2", link="br0"),
        Element(map="near", item="192.0.2.2"),
    ]
    monitor = host.monitor()
    host.make(ours)
    host.remove(ours)
    assert heard(monitor) - {"link"} == set()  # late news of a carrier may come whenever it likes
    monitor.close()
    host.remove(PLAN)


def test_it_is_quiet_about_devices_of_our_own_and_their_carriers(pretend_host: PretendHost, host: LinuxHost) -> None:
    monitor = host.monitor()
    more = (Namespace(name="s2"), Link(name="veth2", kind="veth", master="br0", peer="eth0", peer_ns="s2"))
    for _ in range(3):
        host.make(more)
        assert "link" not in heard(monitor)
        pretend_host.run("ip", "link", "set", "eth0", "down", ns="s2")
        pretend_host.run("ip", "link", "set", "eth0", "up", ns="s2")
        assert "link" not in heard(monitor), "only its carrier"
        pretend_host.run("ip", "link", "set", "veth2", "nomaster")
        assert "link" in heard(monitor)
        host.make(more)
        heard(monitor)
        host.remove(more)
        host.settle()
        assert "link" not in heard(monitor)
    host.make(more)
    heard(monitor)
    pretend_host.run("ip", "link", "delete", "veth2")
    assert "link" in heard(monitor)
    pretend_host.run("ip", "link", "set", "veth1", "down")
    assert "link" in heard(monitor), "what was there from the beginning"
    monitor.close()
    host.remove([*PLAN, *more])


def test_other_peoples_devices_are_nothing_to_us(pretend_host: PretendHost) -> None:
    monitor = pretend_host.open().monitor()
    pretend_host.run("ip", "link", "add", "theirs", "type", "bridge")
    pretend_host.run("ip", "link", "delete", "theirs")
    assert "link" not in heard(monitor)
    monitor.close()


def test_a_mount_is_heard_and_not_those_of_others(pretend_host: PretendHost, outside: str, tmp_path: Path) -> None:
    monitor = pretend_host.open().monitor()
    there = ["nsenter", f"--mount={outside}"]
    subprocess.run([*there, "mount", "-t", "tmpfs", "others", str(tmp_path)], check=True)
    subprocess.run([*there, "umount", str(tmp_path)], check=True)
    assert heard(monitor) == set()
    pretend_host.run("mount", "-t", "tmpfs", "ours", str(tmp_path))
    assert heard(monitor) == {MOUNT}
    pretend_host.run("umount", str(tmp_path))
    monitor.close()


def test_when_too_much_was_said_everything_may_have_changed(pretend_host: PretendHost, host: LinuxHost) -> None:
    monitor = host.monitor()
    for _, sock in monitor._sockets.values():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(40):
        pretend_host.run("ip", "address", "add", f"10.7.{number}.1/24", "dev", "br0")
    assert EVERYTHING in heard(monitor)
    monitor.close()
    host.remove(PLAN)


def test_it_knows_itself_in_a_pid_namespace() -> None:
    """There the kernel writes another number than getpid says; taken for a stranger, we would heal on and on."""
    program = "import os; from fairlead.host.monitor import myself; print(os.getpid(), myself())"
    argv = ["unshare", "--net", "--pid", "--fork", sys.executable, "-c", program]
    inside, outside = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert inside == "1"
    assert int(outside) > 1


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_a_device_on_a_card_has_nobody_else_to_tell(pretend_host: PretendHost, kind: str) -> None:
    """It has no end on the host, in the sandbox only; its loss is heard all the same."""
    pretend_host.run("ip", "link", "add", "card", "type", "veth", "peer", "name", "plug")
    host = pretend_host.open()
    plan = (Namespace(name="s1"), Link(name="eth0", kind=kind, ns="s1", parent="card"))
    try:
        host.make(plan)
    except Unsupported as error:
        pretend_host.run("ip", "link", "delete", "card")
        pytest.skip(error.message)
    monitor = host.monitor()
    pretend_host.run("ip", "link", "add", "own0", "type", "bridge", ns="s1")
    pretend_host.run("ip", "link", "delete", "own0", ns="s1")
    assert heard(monitor) == set()
    pretend_host.run("ip", "link", "delete", "eth0", ns="s1")
    assert heard(monitor) == {SANDBOX}
    host.make(plan)
    heard(monitor)
    host.remove(plan[1:])
    host.settle()
    assert heard(monitor) == set(), "what we do ourselves"
    host.make(plan)
    heard(monitor)
    host.remove(plan)
    host.settle()
    assert SANDBOX not in heard(monitor)
    pretend_host.run("ip", "link", "delete", "card")
