"""Encrypted networks on a kernel that may have no ESP: nothing clear comes or goes, and it says what is missing."""

import os
import sys
from pathlib import Path

import pytest

from fairlead.core import keying
from fairlead.errors import Internal
from fairlead.lab.machine import Machine
from lane.sealed import Wiretap, address, between, frame, heard, make, plan, send, wire
from lane.sealed import pings as ping

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]

ASK = """
import sys
from fairlead.errors import Unsupported
from fairlead.host.linux import LinuxHost
host = LinuxHost("/run/fl")
try:
    host.check_encryption(sys.argv[1])
except Unsupported as lack:
    print(lack)
print(*host.look())
"""


def has_esp(machine: Machine) -> bool:
    return not machine.run(sys.executable, "-c", ASK, address(machine)).stdout.strip()


def attempt(folder: Path, family: str, *guards: str) -> tuple[int, int]:
    """How many clear frames came in, and left, with these guards.

    They have the right number, the address of a host on the network, and a container that is there.
    """
    with wire(family, folder) as world:
        one, two, three = world.hosts
        make(one, plan(one, 2, two, 3, guards))
        tap = Wiretap(two)
        send(three, address(two), address(one), frame(2))
        ping(one, 2, "10.9.0.3")
        return heard(one, 2), len([line for line in tap.lines(three) if ".4790:" in line])


@pytest.mark.parametrize("family", ["four", "six"])
@pytest.mark.proves(
    "CVE-2023-28840",
    guard=("core/rules.py", "@sealed meta ipsec missing counter drop", "@sealed meta ipsec missing counter"),
)
def test_our_rules_alone_let_nothing_clear_in(tmp_path: Path, family: str) -> None:
    assert attempt(tmp_path, family, "rules")[0] == 0


@pytest.mark.parametrize("family", ["four", "six"])
@pytest.mark.proves(
    "CVE-2023-28841",
    guard=("core/rules.py", "@sealed rt ipsec missing counter drop", "@sealed rt ipsec missing counter"),
)
def test_our_rules_alone_let_nothing_clear_out(tmp_path: Path, family: str) -> None:
    assert attempt(tmp_path, family, "rules")[1] == 0


@pytest.mark.parametrize("family", ["four", "six"])
@pytest.mark.proves(
    "CVE-2023-28842",
    "CVE-2024-25630",
    guard=("core/keying.py", 'for way in ("in", "out")', "for way in ()"),
)
def test_the_policies_alone_stop_all_that_is_clear(tmp_path: Path, family: str) -> None:
    """Also where nobody else is on the network yet, and whatever our table has been done to."""
    assert attempt(tmp_path, family, "policies") == (0, 0)


def test_without_guards_it_would_be_so(tmp_path: Path) -> None:
    assert min(attempt(tmp_path, "four")) > 0


def test_what_is_refused_takes_everything_along(tmp_path: Path) -> None:
    with wire("four", tmp_path) as world:
        one, two, _ = world.hosts
        short = {number: b"too short" for number in (0x2001, 0x2002)}
        with pytest.raises(Internal, match=r"make association|AES-GCM for ESP"):
            make(one, (*keying.guard(address(one), 4790), *between(one, two, *short)), short)
        assert not one.run("ip", "xfrm", "policy").stdout and not one.run("ip", "xfrm", "state").stdout


def test_a_kernel_without_esp_is_told_apart(tmp_path: Path) -> None:
    """And asking leaves nothing."""
    with wire("four", tmp_path) as world:
        one = world.hosts[0]
        said = one.run(sys.executable, "-c", ASK, address(one)).stdout.strip()
        assert not said or "encrypted overlay networks need" in said
        assert "association" not in said and not one.run("ip", "xfrm", "state").stdout
