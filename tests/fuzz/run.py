"""The lane: so many inputs, spread over the targets by weight; the first of each kind of fault is told.

scripts/test fuzz --inputs 1000000 --seed 1
scripts/test fuzz --only "dns message" --number 4711        one input again, with its traceback
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuzz import dns, documents, requests, swarms, tars, wires, words  # noqa: F401  (they register their targets)
from fuzz.targets import TARGETS, attempt, made, watch_the_clock

GROWTH = 40 * 1024
"""KiB that a target's last three quarters may add to our memory: allocators breathe, leaks do not stop"""


def shares(inputs: int, only: str = "") -> dict[str, int]:
    chosen = {name: one for name, one in TARGETS.items() if only in ("", name)}
    whole = sum(one.weight for one in chosen.values())
    return {name: max(1, round(inputs * one.weight / whole)) for name, one in chosen.items()}


def resident() -> int:
    """KiB of memory that this process has."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def faults(name: str, seed: int, numbers: Sequence[int]) -> Iterator[tuple[int, BaseException]]:
    """Those inputs that something is wrong with."""
    early = 0
    for count, number in enumerate(numbers):
        if count == len(numbers) // 4:
            early = resident()
        given = made(name, seed, number)
        try:
            attempt(name, given)
        except Exception as fault:
            yield number, fault
    if early and resident() - early > GROWTH:
        yield -1, AssertionError(f"memory grew from {early} to {resident()} KiB")


def place(fault: BaseException) -> str:
    """Where and what, to tell one fault from another."""
    frames = traceback.extract_tb(fault.__traceback__)
    inner = next(
        (frame for frame in reversed(frames) if "/fairlead/" in frame.filename), frames[-1] if frames else None
    )
    return f"{type(fault).__name__} at {inner.filename}:{inner.lineno}" if inner else repr(fault)


def play(inputs: int, seed: int, only: str = "", say: Callable[[str], None] = print) -> int:
    """Number of kinds of faults."""
    watch_the_clock()
    total, kinds = 0, 0
    for name, count in shares(inputs, only).items():
        begun, seen = time.monotonic(), dict[str, int]()
        for number, fault in faults(name, seed, range(count)):
            where = place(fault)
            seen[where] = seen.get(where, 0) + 1
            if seen[where] == 1:
                story = "".join(traceback.format_exception(fault, limit=-6))[-2500:]
                given = repr(made(name, seed, number))[:1500] if number >= 0 else ""
                say(f"-- {name} {number} (seed {seed}): {where}\n{given}\n{story}")
        seconds = time.monotonic() - begun
        total, kinds = total + count, kinds + len(seen)
        pace = f"{seconds:>7.1f} s  {count / max(seconds, 0.001):>8.0f}/s  {resident() >> 10} MiB"
        told = f"  {sum(seen.values())} FAULTS of {len(seen)} kinds" if seen else ""
        say(f"{name:<18} {count:>8} inputs {pace}{told}")
    say(f"{total} inputs, {kinds} kinds of faults")
    return kinds


def main() -> int:
    """1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", choices=["", *TARGETS])
    parser.add_argument("--number", type=int)
    asked = parser.parse_args()
    if asked.number is None:
        return bool(play(asked.inputs, asked.seed, asked.only, lambda text: print(text, flush=True)))
    watch_the_clock()
    given = made(asked.only, asked.seed, asked.number)
    print(repr(given))
    attempt(asked.only, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
