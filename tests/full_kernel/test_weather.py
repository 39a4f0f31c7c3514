"""A lab's delay: packets to a machine wait, after a reboot too, until it heals. (Not every kernel has netem.)"""

import re
from pathlib import Path

import pytest

from fairlead.lab import command
from fairlead.lab.world import World

SLOW = 1500
"""milliseconds"""


def trip(world: World) -> float:
    """Milliseconds of a round trip, of the quickest of three."""
    said = world["one"].run("ping", "-c3", "-i0.2", "-W20", world.outside.address4).stdout
    return min(float(each) for each in re.findall(r"time=([0-9.]+)", said))


def test_a_delay_outlives_a_reboot_and_no_heal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LABS", tmp_path / "labs")

    def lab(line: str) -> World:
        assert command.main(line.split()) == 0, line
        return World.found(tmp_path / "labs/lab")

    try:
        assert trip(lab("up --hosts 1 --no-engines")) < SLOW
        assert trip(lab(f"delay outside {SLOW}")) >= SLOW
        assert trip(lab("reboot outside")) >= SLOW
        assert trip(lab("heal")) < SLOW
    finally:
        command.main(["down"])
