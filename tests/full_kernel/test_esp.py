"""ESP between hosts, by the plans alone: what is on the wire, what an enemy on it achieves, and that a change of keys
is silent.

one (10.9.0.2) ==== two (10.9.0.3)         three: on the same wire, not on the network
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core.wanted import Association, Plan, Policy, replace
from fairlead.engine.drivers.overlay import SEALED_PORT
from fairlead.lab.machine import Machine
from fairlead.lab.world import World
from lane import sealed
from lane.sealed import UNDERLAY_MTU, Wiretap, address, between, frame, heard, inside, make, pings, plan, send, wire

KEYS = {number: os.urandom(20) for number in (0x2001, 0x2002, 0x2003)}
TO_TWO, TO_ONE, FROM_THREE = KEYS

REMOVE = """
import sys
from fairlead.core.wanted import *
from fairlead.host.linux import LinuxHost
LinuxHost("/run/fl").remove(eval(sys.stdin.read()))
"""
REPLAY = """
import socket, subprocess, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.bind(("eth0", 0))
wire.settimeout(20)
print("ready", flush=True)
while True:
    packet, where = wire.recvfrom(65536)
    protocol = packet[23] if packet[12:14] == b"\\x08\\x00" else packet[20]
    if where[2] == socket.PACKET_OUTGOING and protocol == 50:
        for _ in range(3):
            wire.send(packet)
        print("replayed", flush=True)
        break
"""


@pytest.fixture(params=["four", "six"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with wire(request.param, tmp_path) as world:
        yield world


def statistics(machine: Machine, name: str) -> int:
    return int(dict(line.split() for line in machine.run("cat", "/proc/net/xfrm_stat").stdout.splitlines())[name])


def joined(world: World) -> tuple[Machine, Machine, Machine]:
    one, two, three = world.hosts
    make(one, plan(one, 2, two, 3) + between(one, two, TO_TWO, TO_ONE), KEYS)
    make(two, plan(two, 3, one, 2) + between(two, one, TO_ONE, TO_TWO), KEYS)
    return one, two, three


def test_all_that_is_on_the_wire_is_esp(world: World) -> None:
    one, two, three = joined(world)
    tap = Wiretap(two)
    assert pings(one, 2, "10.9.0.3") and pings(two, 3, "10.9.0.2")
    room = 1316 if ":" not in address(one) else 1296
    assert f"mtu {room} " in inside(one, 2, "ip", "link", "show", "eth0")
    assert pings(one, 2, "10.9.0.3", "-Mdo", f"-s{room - 28}")
    lines = tap.lines(three)
    assert lines and all(": ESP(" in line for line in lines), lines
    largest = max(int(line.rpartition("length ")[2]) for line in lines)
    assert largest + (40 if ":" in address(one) else 20) <= UNDERLAY_MTU and "frag" not in "".join(lines)


def test_an_enemy_on_the_wire_achieves_nothing(world: World) -> None:
    one, two, three = joined(world)
    assert pings(two, 3, "10.9.0.2")
    before = heard(one, 2)
    send(three, address(two), address(one), frame(2))
    send(three, address(three), address(one), frame(2))
    send(two, address(two), address(one), frame(2))  # by a program on two: it leaves in ESP, as all on that port does
    assert heard(one, 2) == before + 3, "from a program of two's root, which could as well be in the container"

    # A key that is not ours, under a number that is.
    wrong = {TO_ONE: os.urandom(20), TO_TWO: os.urandom(20)}
    as_two = [replace(item, **_swapped(item, three, two)) for item in between(three, one, TO_ONE, TO_TWO)]
    failed = statistics(one, "XfrmInStateProtoError")
    make(three, tuple(as_two), wrong)
    for _ in range(4):  # the first of them have numbers that two has used already
        send(three, address(two), address(one), frame(2))
    assert statistics(one, "XfrmInStateProtoError") > failed and heard(one, 2) == before + 3

    # What was said once, said again.
    old = statistics(one, "XfrmInStateSeqError")
    parrot = two.start(sys.executable, "-c", REPLAY, log="parrot")
    sealed.eventually(lambda: "ready" in two.log("parrot"), "the parrot listens")
    assert pings(two, 3, "10.9.0.2")
    assert parrot.wait(30) == 0 and "replayed" in two.log("parrot")
    assert statistics(one, "XfrmInStateSeqError") == old + 3 and heard(one, 2) == before + 4


def test_a_change_of_keys_is_silent(world: World) -> None:
    """In the order of ``core.keying``: accepted there, used here, the old one gone."""
    one, two, _ = joined(world)
    pinging = one.start(
        *("nsenter", f"--net=/run/fl/netns/{sealed.joined(2).namespace}"),
        *("ping", "-q", "-i", "0.02", "-w", "30", "10.9.0.3"),
        log="pinging",
    )
    new = {0x3001: os.urandom(20), 0x3002: os.urandom(20)}
    make(two, between(two, one, 0x3002, 0x3001)[:1], new)
    make(one, between(one, two, 0x3001, 0x3002), new)
    make(two, between(two, one, 0x3002, 0x3001), new)
    for host, other, numbers in ((one, two, (TO_TWO, TO_ONE)), (two, one, (TO_ONE, TO_TWO))):
        host.run(sys.executable, "-c", REMOVE, input=repr(between(host, other, *numbers)[:2]))
        assert set(re.findall(r"spi (0x\w+)", host.run("ip", "xfrm", "state").stdout)) == {"0x00003001", "0x00003002"}
    assert pinging.wait(300) == 0
    said = one.log("pinging")
    assert " 0% packet loss" in said and int(said.partition(" packets transmitted")[0].split()[-1]) > 100, said


def _swapped(item: Association | Policy, three: Machine, two: Machine) -> dict[str, str]:
    return {name: getattr(item, name).replace(address(three), address(two)) for name in ("source", "target")}


@pytest.mark.parametrize("trusting", [False, True])
def test_a_host_with_keys_of_its_own_cannot_speak_for_another(world: World, trusting: bool) -> None:
    """Three has an association with one, and says that it is two. ``trusting``: what would come of it."""
    one, two, three = world.hosts
    us, them = address(one), address(two if trusting else three)
    known = Association(source=them, target=us, spi=FROM_THREE, port=SEALED_PORT)
    make(one, (*plan(one, 2, two, 3), known, *between(one, two, TO_TWO, TO_ONE)), KEYS)
    as_two = [replace(item, **_swapped(item, three, two)) for item in between(three, one, FROM_THREE, TO_TWO)]
    make(three, tuple(as_two), KEYS)
    send(three, address(two), us, frame(2))
    assert heard(one, 2) == (3 if trusting else 0)


def test_it_goes_without_a_trace(world: World) -> None:
    one, two, _ = world.hosts
    make(one, plan(one, 2, two, 3) + between(one, two, TO_TWO, TO_ONE), KEYS, "remove")
    assert not one.run("ip", "xfrm", "state").stdout and "4790" not in one.run("ip", "xfrm", "policy").stdout


def test_a_key_is_handed_over_once_and_a_refused_plan_leaves_nothing(world: World) -> None:
    one, two, _ = world.hosts
    make(one, between(one, two, TO_TWO, TO_ONE), KEYS)
    make(one, between(one, two, TO_TWO, TO_ONE))  # all there: nothing to be made, no key needed
    kept = one.run("ip", "-s", "xfrm", "state").stdout
    assert kept.count("aead rfc4106(gcm(aes))") == kept.count("flag esn") == kept.count("replay_window 1024") == 2, kept
    one.run("ip", "xfrm", "state", "flush")
    with pytest.raises(Exception, match="its key was spent"):
        make(one, between(one, two, TO_TWO, TO_ONE))
    other: Plan = between(one, two, 0x3001, 0x3002)
    with pytest.raises(Exception, match=r"cannot make|key was spent"):
        make(one, (other[0], other[1]), {0x3002: os.urandom(20), 0x3001: b"short"})
    assert not one.run("ip", "xfrm", "state").stdout
