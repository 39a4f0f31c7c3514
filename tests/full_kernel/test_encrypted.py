"""An encrypted overlay between real engines: by name, under load while keys change, after losses of every kind.

web (node-1) ==== RED, encrypted ==== db (node-2)         node-3: what is on the wire, and nobody's friend
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.town import Host
from fairlead.errors import Unavailable
from fairlead.lab import image as busybox
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from lane.machine import eventually
from lane.sealed import Wiretap

SPEAK = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
number = 0
while True:
    try:
        open("/tmp/enough").close()
        break
    except OSError:
        sock.sendto(b"%d" % number, (sys.argv[1], 7000))
        number += 1
        time.sleep(0.01)
for _ in range(5):
    sock.sendto(b"end %d" % number, (sys.argv[1], 7000))
print("said", number)
"""
LISTEN = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sock.bind(("0.0.0.0", 7000))
print("ready", flush=True)
heard = set()
while True:
    text = sock.recv(100)
    if text.startswith(b"end"):
        missing = sorted(set(range(int(text[4:]))) - heard)
        print("missing", len(missing), missing[:20], "of", text[4:].decode())
        break
    heard.add(int(text))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two engines, one after the other: three at once are too much for an emulated machine. The third host watches."""
    folder = tmp_path_factory.mktemp("lab")
    image = folder / "busybox.tar"
    busybox.make(image)
    with World(one_cable("node-1", "node-2", "node-3", store="etcd"), str(folder)) as world:
        world.start_store()
        for host in hosts(world):
            started(world, host)
            with image.open("rb") as tar:
                command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
        yield world


def hosts(world: World) -> tuple[Host, Host]:
    one, two = (Host(machine, world.folder) for machine in world.hosts[:2])
    return one, two


@pytest.fixture(scope="module")
def tap(world: World) -> Wiretap:
    """Of all that node-1 says and hears, from before the first packet."""
    return Wiretap(world.hosts[0])


@pytest.fixture
def pair(world: World, tap: Wiretap) -> Iterator[tuple[Host, Host]]:
    one, two = hosts(world)
    one("network create -d overlay --opt encrypted RED")
    eventually(lambda: "RED" in two("network ls --format {{.Name}}").split(), "RED known")
    one("run -d --name web --net RED --restart always busybox sleep 10000")
    two("run -d --name db --net RED --restart always busybox sleep 10000")
    eventually(lambda: well(one, two), "they hear each other", 20)
    yield one, two
    lines = tap.lines(world.hosts[2])
    assert lines and not [line for line in lines if ": ESP(" not in line]
    one("rm -f web")
    two("rm -f db")
    eventually(lambda: not one.docker.attempt("network rm RED").code, "RED removed")
    for host in (one, two):
        eventually(lambda host=host: not keys(host) and "4790" not in policies(host), "everything is gone")


def well(one: Host, two: Host) -> bool:
    return bool(one.pings("web", "db") and two.pings("db", "web"))


def keys(host: Host) -> set[str]:
    return set(re.findall(r"aead \S+ 0x([0-9a-f]{40}) ", host.machine.run("ip", "xfrm", "state").stdout))


def policies(host: Host) -> str:
    return host.machine.run("ip", "xfrm", "policy").stdout


def inside(host: Host, container: str, script: str, *words: str, log: str) -> object:
    pid = host(f"inspect -f {{{{.State.Pid}}}} {container}").strip()
    return host.machine.start("nsenter", "--net", f"--target={pid}", sys.executable, "-c", script, *words, log=log)


def started(world: World, host: Host, *options: str) -> None:
    try:
        world.start_engines([host.machine.name], *options)
    except Unavailable:  # an emulated machine takes its time
        eventually(lambda: host.machine.answers, "the engine answers", 30)


def restarted(world: World, host: Host, *options: str) -> None:
    host.machine.stop_daemon(signal.SIGKILL)
    started(world, host, *options)


def numbers(tap: Wiretap, world: World, host: Host) -> set[str]:
    """Of the associations by which a host was seen to send."""
    sent = [line for line in tap.lines(world.hosts[2]) if f" {host.machine.address4} > " in line]
    return {match[1] for line in sent if (match := re.search(r"ESP\(spi=(0x[0-9a-f]+)", line))}


def test_keys_change_under_load_and_engines_die_without_losing_a_packet(
    world: World, tap: Wiretap, pair: tuple[Host, Host]
) -> None:
    one, two = pair
    inside(two, "db", LISTEN, log="heard")
    eventually(lambda: "ready" in two.machine.log("heard"), "the listener")
    inside(one, "web", SPEAK, two.members("RED")["db"], log="said")
    seen = len(numbers(tap, world, one))
    for host in pair:
        restarted(world, host, "--overlay-key-lifetime=15")
    eventually(lambda: len(numbers(tap, world, one)) >= seen + 3, "keys change, by restart and by time", 120)
    one.machine.run("touch", "/tmp/enough")
    said = eventually(lambda: re.search(r"said (\d+)", one.machine.log("said")), "the last word")
    heard = eventually(lambda: re.search(r"missing .*", two.machine.log("heard")), "the last word arrives")
    assert int(said[1]) > 500 and heard[0].startswith("missing 0 "), heard[0]
    for host in pair:
        restarted(world, host)


def test_what_is_lost_comes_back_under_new_keys_and_nothing_is_said_in_clear(
    world: World, pair: tuple[Host, Host]
) -> None:
    one, two = pair
    old = keys(one)
    assert len(old) >= 2
    for command in ("ip xfrm state flush", "ip xfrm policy flush", "nft flush ruleset"):
        one.machine.run(*command.split())
        eventually(lambda: well(one, two) and not one.differs() and not two.differs(), command, 20)
        if "state" in command:
            eventually(lambda: keys(one) == keys(two) and not keys(one) & old, "every key is new", 30)
    old = keys(one)
    world.reboot(two.machine.name)
    started(world, two)
    two.follow()
    eventually(lambda: well(one, two), "after a power cut", 60)
    eventually(lambda: keys(one) == keys(two) and not keys(one) & old, "every key is new", 60)


def test_a_key_is_in_no_log_no_file_and_no_command_line(world: World, pair: tuple[Host, Host]) -> None:
    one, two = pair
    found = keys(one) | keys(two)
    assert found
    for host in pair:
        said = host.machine.log() + host.differs() + host("network inspect RED") + host("info")
        said += host.machine.run("sh", "-c", "cat /proc/[0-9]*/cmdline", check=False).stdout
        folder = host.machine.folder / "data"
        said += "".join(path.read_bytes().hex() for path in folder.glob("state.db*"))
        for key in found:
            assert key not in said and key.encode().hex() not in said
