"""The rules go away, or the engine does: nothing that was closed is open while it lasts, or stays open after."""

import os
import signal
import socket
import threading
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
    guard=("engine/healing.py", "            self._woken.set()", "            pass"),
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


@pytest.mark.proves(
    "CVE-2023-27595",
    guard=(
        "wiring.py",
        "        self.machine.declare()\n        self.machine.ready()\n",
        '        __import__("subprocess").run(["nft", "delete", "table", "inet", "fairlead"])\n'
        "        self.machine.declare()\n        self.machine.ready()\n",
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
