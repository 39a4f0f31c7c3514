"""How gossip behaves as a cluster grows: convergence, failures, false alarms, bytes. All times are virtual.

    python -m bench.gossip.simulate                     up to 1,000 nodes, a few minutes
    python -m bench.gossip.simulate --most 10000        half an hour at most
    python -m bench.gossip.simulate --only loss         one part: goals, size, loss, hour
    python -m bench.gossip.page                         docs/gossip-curves.md and its pictures, from what was measured

Adds what it measures to ``bench/results/gossip.json``.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from bench.gossip.crowd import crowd, false_suspicions, think  # noqa: E402
from fairlead.core.swimwire import State  # noqa: E402
from lane import gossiping  # noqa: E402
from lane.virtual import World  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "gossip.json"
SIZES = (10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10_000)
LOSSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
SEEDS = 8


def reach(world: World, count: Callable[[], int], most: int, limit: float, step: float) -> list[tuple[float, int]]:
    """How many, over time, until it is ``most``, or until ``limit`` seconds are over."""
    began, course = world.now, [(0.0, 0)]
    while course[-1][1] < most and world.now - began < limit:
        world.run(world.now + step)
        course.append((world.now - began, count()))
    return course


def share(course: list[tuple[float, int]], part: float) -> float:
    """When that part of the cluster knew."""
    most = course[-1][1]
    return next((when for when, number in course if number >= part * most), math.inf)


def of_size(count: int, quiet: float = 5.0) -> dict[str, Any]:
    """One cluster: how fast one piece of news and one failure are known, and what a quiet second costs."""
    began = time.time()
    world = crowd(count, seed=count)
    world.run(1)
    before = sum(node.bytes_out for node in world.nodes.values())
    world.run(1 + quiet)
    bytes_quiet = (sum(node.bytes_out for node in world.nodes.values()) - before) / quiet / count
    told = f"n{count // 2}"
    world._do(told, world.nodes[told].swim.change_me(b"changed", world.now))
    news = reach(world, lambda: _with_meta(world, told), count - 1, 30, 0.05)
    victim = f"n{count // 3}"
    world.crash(victim)
    failure = reach(world, lambda: think(world, victim, State.DEAD), count - 1, 60, 0.1)
    return {
        "bytes": bytes_quiet,
        "news": share(news, 1.0),
        "news90": share(news, 0.9),
        "failure": share(failure, 1.0),
        "missed": count - 1 - failure[-1][1],
        "largest": max(node.largest for node in world.nodes.values()),
        "real": time.time() - began,
        "course": news,
    }


def _with_meta(world: World, whom: str) -> int:
    return sum(
        1
        for name, node in world.nodes.items()
        if name != whom and node.running and node.swim.members.table[whom].meta == b"changed"
    )


def keep(part: str, name: str, value: Any) -> None:
    """Remember one measurement."""
    RESULTS.parent.mkdir(exist_ok=True)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found.setdefault(part, {})[name] = value
    RESULTS.write_text(json.dumps(found))


def sizes(most: int) -> None:
    """Clusters from ten nodes on; each knows itself already."""
    print("nodes   news 90 %   news all   failure known   bytes/s/node   largest packet   took")
    for count in [size for size in SIZES if size <= most]:
        row = of_size(count)
        keep("size", str(count), row)
        print(
            f"{count:6} {row['news90']:9.2f} s {row['news']:8.2f} s {row['failure']:12.2f} s {row['bytes']:12.0f}"
            f" {row['largest']:14.0f} B {row['real']:8.0f} s",
            flush=True,
        )
        if row["missed"]:
            print(f"       {row['missed']} had not heard of the failure by then: push-pull tells them")


def losses(count: int = 100, minutes: float = 5.0) -> None:
    """False suspicions, by how much is lost."""
    print(f"\n{count} nodes, {minutes:.0f} minutes: loss   refutations   false deaths (opinions)")
    for loss in LOSSES:
        world = crowd(count, seed=7, loss=loss)
        world.run(minutes * 60)
        refuted, dead = false_suspicions(world)
        keep("loss", str(loss), {"refuted": refuted, "hourly": refuted / count / minutes * 60, "dead": dead})
        print(f"{loss:34.2f} {refuted:13} {dead:14}", flush=True)


def hour() -> None:
    """The promise: no false failure in one hour at 100 nodes with 5 % loss."""
    world = crowd(100, seed=random.Random(5).randrange(1000), loss=0.05)
    deaths = 0
    for minute in range(60):
        world.run((minute + 1) * 60)
        deaths += false_suspicions(world)[1]
    refuted = false_suspicions(world)[0]
    keep("hour", "0.05", {"refuted": refuted, "dead": deaths})
    print(f"\n100 nodes, 5 % loss, one hour: {refuted} suspicions refuted, {deaths} false failures")


def promises() -> None:
    """The goals at 25 nodes, with rows and coordinates."""
    found = gossiping.measured(SEEDS)
    keep("goals", "25", found)
    told = "25 nodes, the worst of {seeds}: news {quiet:.2f} s, failure {failure:.2f} s, churn 90 % {churn90:.2f} s"
    print(told.format(**found) + f", all {found['churn']:.2f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--most", type=int, default=1000)
    options.add_argument("--only", choices=("goals", "size", "loss", "hour"))
    wanted = options.parse_args()
    parts: dict[str, Callable[[], object]] = {
        "goals": promises,
        "size": lambda: sizes(wanted.most),
        "loss": losses,
        "hour": hour,
    }
    for title, part in parts.items():
        if wanted.only in (None, title):
            part()


if __name__ == "__main__":
    main()
