"""A few seconds of the fuzz lane, every target; the million is ``scripts/test fuzz``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz import run
from fuzz.mutate import Dice
from fuzz.targets import TARGETS, Target, made, watch_the_clock

FEW = {"api request": 150, "api bytes": 40, "dns socket": 15}


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[None]:
    watch_the_clock()
    yield


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    for number, fault in run.faults(name, 1, range(FEW.get(name, 300))):
        raise AssertionError(f"--only {name!r} --seed 1 --number {number}") from fault


def test_an_input_can_be_made_again() -> None:
    for name in TARGETS:
        assert repr(made(name, 5, 7)) == repr(made(name, 5, 7)), name


def test_the_engine_on_paper_ends_with_the_run() -> None:
    words = [sys.executable, "-X", "dev", "-m", "fuzz.run", "--inputs", "1", "--only", "api bytes"]
    done = subprocess.run(words, cwd=Path(run.__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_faults_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(given: int) -> None:
        if given > 7:
            raise ValueError("too much")

    def slow(given: int) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz.targets.BOUND", 0.05)
    told: list[str] = []
    for attempt in (fragile, slow):
        monkeypatch.setitem(TARGETS, "weak", Target("weak", 1, lambda dice: dice.randrange(10), attempt))
        assert run.play(2 if attempt is slow else 50, 1, "weak", told.append) == 1
    assert sum("ValueError" in line for line in told) == 1 and sum("Hang" in line for line in told) == 1


def test_spoiling_is_not_idle() -> None:
    dice = Dice("x")
    assert len({dice.mangled(b"abcdefgh" * 4) for _ in range(200)}) > 150
    assert len({dice.scribbled("abcdefgh") for _ in range(200)}) > 120
