"""The rules go away, or the engine does: nothing that was closed is open while it lasts, or stays open after."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from lane.machine import Place, eventually
from scenarios.lab import Lab
from security.attack import Seat, heard, listen, say

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"


@contextmanager
def routed(lab: Lab, address: str) -> Iterator[None]:
    """The attacker on the LAN sends what is for the container straight to the host."""
    lab.outside.must(f"ip route replace {address}/32 via {lab.host.address}")
    try:
        yield
    finally:
        lab.outside.must(f"ip route del {address}/32")


def forbidden(lab: Lab) -> list[tuple[Place, str]]:
    """Who must not reach the container web: the LAN, and a container of another network."""
    lab.docker("network create RED")
    lab.docker("network create BLUE")
    lab.run(f"-d --name web --net RED -p 127.0.0.1:8080:53/udp {NAP}")
    lab.run(f"-d --name api --net BLUE {NAP}")
    address = lab.address("web", "RED")
    return [(lab.outside, address), (Seat(lab.engine, "api"), address)]


@contextmanager
def held_still(lab: Lab) -> Iterator[None]:
    """The daemon does nothing for the length of the block (nor does the nsenter above it, which stops with it)."""
    assert lab.engine.daemon is not None
    pids = (lab.engine.daemon_pid, lab.engine.daemon.pid)
    os.kill(pids[0], signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.proves(
    "CVE-2025-54388",
    "CVE-2025-54410",
    guard=("host/monitor.py", 'yield "firewall"', "pass"),
)
def test_what_came_in_while_the_rules_were_gone_is_cut(lab: Lab) -> None:
    """The daemon is held still, so that the attacker has all the time in the world."""
    ways = forbidden(lab)
    (_, address), *_ = ways
    seat = Seat(lab.engine, "web")
    with routed(lab, address), listen(seat, 53) as web, listen(seat, 80, kind=socket.SOCK_STREAM) as pages:
        with held_still(lab):
            lab.host.must("nft flush ruleset")
            stale = [place.connect(address, 80) for place, _ in ways]
        eventually(lambda: "chain entering" in lab.host("nft list table inet fairlead"), "the rules are back", 2)
        for sock in stale:
            peer, _ = pages.accept()
            sock.sendall(b"still there?")
            peer.settimeout(0.4)
            with pytest.raises(TimeoutError):
                peer.recv(100)
            peer.close()
            sock.close()
        for place, _ in ways:
            say(place, address, 53, b"new")
        assert not heard(web)[0]
        say(lab.host, "127.0.0.1", 8080, b"wanted")
        assert heard(web)[0] == b"wanted"


@pytest.mark.proves("CVE-2025-54410", guard=("engine/healing.py", "            self._guard()", "            pass"))
def test_a_flush_lets_in_what_comes_in_a_moment(lab: Lab) -> None:
    """Not for the length of a breath. Of seven flushes the one in the middle, for the machine may be busy."""
    ways = forbidden(lab)
    (_, address), *_ = ways
    seat, let_in = Seat(lab.engine, "web"), []
    with routed(lab, address), listen(seat, 53) as web, probing([_sayer(place, address) for place, _ in ways]) as said:
        web.setblocking(False)
        begun = time.monotonic()
        for _ in range(7):
            lab.host.must("nft flush ruleset")
            eventually(lambda: "goto entering" in lab.host("nft list table inet fairlead"), "the rules are back", 2)
            let_in.append(_count(web))
        rate = said() / (time.monotonic() - begun)
    assert sorted(let_in)[3] / rate < 0.05, (let_in, rate)


@pytest.mark.proves(
    "CVE-2025-54410",
    guard=("engine/drivers/bridge.py", "        if network.internal and not foreign:", "        if False:"),
)
def test_what_is_internal_stays_so_without_any_rule(lab: Lab) -> None:
    """The kernel itself forwards nothing from there, whatever the container does to its routes."""
    lab.docker("network create --internal DEEP")
    lab.docker("network create FLAT")
    for name, network in (("deep", "DEEP"), ("flat", "FLAT")):
        lab.run(f"-d --name {name} --net {network} {NAP}")
    gateway = lab.docker.field("DEEP", "range .IPAM.Config}}{{.Gateway}}{{end", "network")
    deep, flat = Seat(lab.engine, "deep"), Seat(lab.engine, "flat")
    deep.must(f"ip route add default via {gateway}")
    with listen(lab.outside, 9000) as service, held_still(lab):
        lab.host.must("nft flush ruleset")
        say(flat, lab.outside.address, 9000, b"no rules")
        assert heard(service)[0] == b"no rules"
        say(deep, lab.outside.address, 9000, b"out of the deep")
        assert not heard(service)[0]


@pytest.mark.proves(
    "CVE-2023-27595",
    guard=(
        "wiring.py",
        "        self.machine.declare()\n        self.machine.resume()\n",
        '        __import__("subprocess").run(["nft", "delete", "table", "inet", "fairlead"])\n'
        "        self.machine.declare()\n        self.machine.resume()\n",
    ),
)
def test_rules_stand_while_the_engine_is_away(lab: Lab) -> None:
    ways = forbidden(lab)
    (_, address), *_ = ways
    seat = Seat(lab.engine, "web")
    with routed(lab, address), listen(seat, 53) as web:
        with probing([_sayer(place, address) for place, _ in ways]) as said:
            for _ in range(3):
                lab.engine.kill()
                lab.engine.start()
        assert said() > 200
        assert not heard(web, 0.1)[0]
        say(lab.host, "127.0.0.1", 8080, b"wanted")
        assert heard(web)[0] == b"wanted"


def _sayer(place: Place, address: str) -> Callable[[], None]:
    sock = place.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.connect((address, 53))

    def send() -> None:
        with suppress(OSError):  # an earlier one was refused: as well
            sock.send(b"forbidden")

    return send


def _count(sock: socket.socket) -> int:
    """How many datagrams have come in."""
    count = 0
    with suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count


@contextmanager
def probing(deeds: list[Callable[[], None]]) -> Iterator[Callable[[], int]]:
    """Do these again and again, as fast as is decent, for the length of the block; yields how often."""
    over, count = threading.Event(), [0]

    def probe() -> None:
        while not over.wait(0.001):
            for deed in deeds:
                deed()
                count[0] += 1

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield lambda: count[0]
    finally:
        over.set()
        thread.join()
