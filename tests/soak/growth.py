"""Does anything grow? Samples taken where equal things live (nothing does), a straight line through them, a bound.

    Sample   one look: memory and descriptors of the daemon, the resolver and the relay, the daemon's processor time
    line     least squares: how much more per thousand moves
    judge    what of it is too much

The daemon gives back what lies free some seconds after it has worked (``host.arenas``): a look waits for that.
A process that was started anew begins a new line. Of every line the first half is warm-up and does not count: caches
with a bound fill (texts of addresses and elements), code is imported at its first use, the allocator finds its size.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.host import arenas

ENOUGH = 12
"""samples without which a line says nothing"""
MEMORY = 400
"""KiB per thousand moves that are no leak: one object of 400 bytes forgotten with every move is one"""
DESCRIPTORS = 1.0
"""descriptors per thousand moves"""
SLOWER = 1.6
"""how much more processor time a move may cost the daemon at the end than at the beginning"""
REST = 1.2 * arenas.EVERY
"""seconds"""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Part:
    """One process: KiB in memory, open descriptors, threads, seconds of processor time it had."""

    pid: int
    memory: int
    descriptors: int
    threads: int
    processor: float


@dataclass
class Sample:
    """After ``moves`` moves and ``elapsed`` seconds."""

    moves: int
    elapsed: float
    parts: dict[str, Part] = field(default_factory=dict)
    conntrack: int = 0


def rest(pid: int) -> None:
    """Returns when this process has kept its memory for a while: nothing is under way, what is free was given back."""
    still, since = _resident(pid), time.monotonic()
    begun = since
    while time.monotonic() - since < REST and time.monotonic() - begun < 4 * REST:
        time.sleep(0.5)
        if (now := _resident(pid)) != still:
            still, since = now, time.monotonic()


def _resident(pid: int) -> int:
    """Pages."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def part(pid: int) -> Part:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Part(
        pid,
        int(status["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status["Threads"]),
        (int(times[11]) + int(times[12])) / TICK,
    )


def lives(samples: Sequence[Sample], name: str) -> list[list[tuple[int, Part]]]:
    """(moves, part) of each process that was called so, in turn, warm-up taken off."""
    found: list[list[tuple[int, Part]]] = []
    for sample in samples:
        now = sample.parts.get(name)
        if now is None:
            continue
        if not found or found[-1][-1][1].pid != now.pid:
            found.append([])
        found[-1].append((sample.moves, now))
    return [life[len(life) // 2 :] for life in found]


def line(points: Iterable[tuple[float, float]]) -> float:
    """Slope, per thousand."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope * 1000


def judge(samples: Sequence[Sample]) -> list[str]:
    """What grows, one sentence each."""
    wrong = []
    for name in ("daemon", "resolver", "relay"):
        for life in lives(samples, name):
            if len(life) < ENOUGH:
                continue
            memory = line((moves, now.memory) for moves, now in life)
            descriptors = line((moves, now.descriptors) for moves, now in life)
            if memory > MEMORY:
                wrong.append(f"the {name}'s memory grows by {memory:.0f} KiB per 1000 moves")
            if descriptors > DESCRIPTORS:
                wrong.append(f"the {name}'s descriptors grow by {descriptors:.1f} per 1000 moves")
    for life in lives(samples, "daemon"):
        ratio = slower(life)
        if len(life) >= ENOUGH and ratio > SLOWER:
            wrong.append(f"a move costs the daemon {ratio:.1f} times the processor time it did")
    return wrong


def slower(life: Sequence[tuple[int, Part]]) -> float:
    """Processor time per move in the last third against that in the first."""
    third = len(life) // 3
    if third < 2:
        return 1.0
    costs = []
    for (from_moves, before), (to_moves, after) in ((life[0], life[third]), (life[-1 - third], life[-1])):
        costs.append((after.processor - before.processor) / max(1, to_moves - from_moves))
    return costs[1] / costs[0] if costs[0] else 1.0
