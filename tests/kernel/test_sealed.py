"""Encrypted networks on a kernel that may have no ESP: nothing clear comes or goes, and it says what is missing."""

import os
import sys
from pathlib import Path

import pytest

from fairlead.lab.machine import Machine
from lane.sealed import Wiretap, address, frame, heard, make, plan, send, wire
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


@pytest.mark.parametrize("family", ["four", "six"])
@pytest.mark.parametrize("guards", ["rules policies", "rules", "policies", "none"])
def test_either_guard_alone_stops_what_is_clear(tmp_path: Path, family: str, guards: str) -> None:
    """A frame with the right number, for a container that is there, from the address of a host on the network."""
    with wire(family, tmp_path) as world:
        one, two, three = world.hosts
        make(one, plan(one, 2, two, 3, guards.split()))
        tap = Wiretap(two)
        send(three, address(two), address(one), frame(2))
        ping(one, 2, "10.9.0.3")
        clear = [line for line in tap.lines(three) if ".4790:" in line]
        if guards == "none":
            assert heard(one, 2) == 3 and clear
        else:
            assert heard(one, 2) == 0 and not clear


def test_a_kernel_without_esp_is_told_apart(tmp_path: Path) -> None:
    """And asking leaves nothing."""
    with wire("four", tmp_path) as world:
        one = world.hosts[0]
        said = one.run(sys.executable, "-c", ASK, address(one)).stdout.strip()
        assert not said or "encrypted overlay networks need" in said
        assert "association" not in said and not one.run("ip", "xfrm", "state").stdout
