"""How gossip behaves as a cluster grows: convergence, failures, false alarms, bytes. All times are virtual.

    python -m bench.gossip.simulate                     up to 1,000 nodes, a few minutes
    python -m bench.gossip.simulate --most 10000        a quarter of an hour on an idle core
    python -m bench.gossip.simulate --only loss         one part: size, loss, hour

Writes ``bench/results/gossip.txt`` (numbers) and ``gossip-*.svg`` (curves).
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from bench.gossip.crowd import crowd, false_suspicions, think  # noqa: E402
from bench.gossip.curves import Curve, draw  # noqa: E402
from fairlead.core.swimwire import State  # noqa: E402
from lane.virtual import World  # noqa: E402

RESULTS = ROOT / "bench" / "results"
SIZES = (10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10_000)
LOSSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)


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


def of_size(count: int, quiet: float = 5.0) -> dict[str, float | list[tuple[float, int]]]:
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


def sizes(most: int, say: Callable[[str], None]) -> None:
    say("nodes   news 90 %   news all   failure known   bytes/s/node   largest packet   took")
    found = {}
    for count in [size for size in SIZES if size <= most]:
        row = found[count] = of_size(count)
        say(
            f"{count:6} {row['news90']:9.2f} s {row['news']:8.2f} s {row['failure']:12.2f} s {row['bytes']:12.0f}"
            f" {row['largest']:14.0f} B {row['real']:8.0f} s"
        )
        if row["missed"]:
            say(f"       {row['missed']} had not heard of the failure by then: push-pull tells them")
        picture(found)


def picture(found: dict[int, dict[str, float | list[tuple[float, int]]]]) -> None:
    """The curves over sizes, as far as they go."""
    courses = {n: row["course"] for n, row in found.items() if n in (25, 100, 1000, 10_000)}
    draw(
        RESULTS / "gossip-news.svg",
        "One piece of news: share of the cluster that knows",
        ("seconds", "share"),
        [Curve(f"{n} nodes", [(when, number / max(1, n - 1)) for when, number in c]) for n, c in courses.items()],  # type: ignore[union-attr]
    )
    draw(
        RESULTS / "gossip-size.svg",
        "Seconds until everybody knows",
        ("nodes (log 10)", "seconds"),
        [Curve(what, [(math.log10(n), float(row[what])) for n, row in found.items()]) for what in ("news", "failure")],  # type: ignore[arg-type]
    )
    draw(
        RESULTS / "gossip-bytes.svg",
        "Bytes a second that a node sends in a quiet cluster",
        ("nodes (log 10)", "bytes/s"),
        [Curve("datagrams", [(math.log10(n), float(row["bytes"])) for n, row in found.items()])],  # type: ignore[arg-type]
    )


def losses(say: Callable[[str], None], count: int = 100, minutes: float = 5.0) -> None:
    say(f"\n{count} nodes, {minutes:.0f} minutes: loss   refutations   false deaths (opinions)")
    points = []
    for loss in LOSSES:
        world = crowd(count, seed=7, loss=loss)
        world.run(minutes * 60)
        refuted, dead = false_suspicions(world)
        points.append((loss, refuted / count / minutes * 60))
        say(f"{loss:34.2f} {refuted:13} {dead:14}")
    draw(
        RESULTS / "gossip-loss.svg",
        f"False suspicions per node and hour, {count} nodes; all refuted",
        ("share of packets lost", "per node and hour"),
        [Curve("refuted suspicions", points)],
    )


def hour(say: Callable[[str], None]) -> bool:
    """The promise: no false failure in one hour at 100 nodes with 5 % loss."""
    world = crowd(100, seed=random.Random(5).randrange(1000), loss=0.05)
    deaths = 0
    for minute in range(60):
        world.run((minute + 1) * 60)
        deaths += false_suspicions(world)[1]
    say(f"\n100 nodes, 5 % loss, one hour: {false_suspicions(world)[0]} suspicions refuted, {deaths} false failures")
    return deaths == 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--most", type=int, default=1000)
    options.add_argument("--only", choices=("size", "loss", "hour"))
    wanted = options.parse_args()
    RESULTS.mkdir(exist_ok=True)
    lines: list[str] = []
    name = f"gossip-{wanted.only}.txt" if wanted.only else "gossip.txt"

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        (RESULTS / name).write_text("\n".join(lines) + "\n")

    parts: dict[str, Callable[[], object]] = {
        "size": lambda: sizes(wanted.most, say),
        "loss": lambda: losses(say),
        "hour": lambda: hour(say),
    }
    for title, part in parts.items():
        if wanted.only in (None, title):
            part()


if __name__ == "__main__":
    main()
