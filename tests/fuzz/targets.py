"""What is tried, by name. A target registers itself when its module is imported."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from fuzz.mutate import Dice

BOUND = 5.0
"""seconds that any one input may take, on a machine that others use too"""


class Target(NamedTuple):
    """``weight``: its share; ``make(dice)``: an input; ``attempt(input)`` raises when something is not as it must."""

    name: str
    weight: float
    make: Callable[[Dice], Any]
    attempt: Callable[[Any], None]


class Hang(Exception):
    """An input took longer than ``BOUND``."""


TARGETS: dict[str, Target] = {}


def target(
    name: str, weight: float, make: Callable[[Dice], Any]
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def enter(attempt: Callable[[Any], None]) -> Callable[[Any], None]:
        TARGETS[name] = Target(name, weight, make, attempt)
        return attempt

    return enter


def made(name: str, seed: int, number: int) -> Any:
    """Input ``number`` of a target."""
    return TARGETS[name].make(Dice(f"{seed} {name} {number}"))


def attempt(name: str, given: Any) -> None:
    """Try one input, within its time."""
    signal.setitimer(signal.ITIMER_REAL, BOUND)
    try:
        TARGETS[name].attempt(given)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def watch_the_clock() -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"an input took more than {BOUND} s")

    signal.signal(signal.SIGALRM, ring)
