"""Writes docs/gossip-curves.md and its pictures from ``bench/results/gossip.json``.

python -m bench.gossip.page
"""

import json
import math
from pathlib import Path
from typing import Any

from bench.gossip.curves import Curve, draw

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "gossip.json"
PAGE = ROOT / "docs" / "gossip-curves.md"
PICTURES = ROOT / "docs" / "pictures"
SHOWN = (25, 100, 1000, 10_000)


def main() -> None:
    found = json.loads(RESULTS.read_text())
    PICTURES.mkdir(exist_ok=True)
    sizes = {int(count): row for count, row in sorted(found["size"].items(), key=lambda item: int(item[0]))}
    pictures(sizes, {float(loss): row for loss, row in found["loss"].items()})
    PAGE.write_text(page(found, sizes))


def pictures(sizes: dict[int, dict[str, Any]], losses: dict[float, dict[str, Any]]) -> None:
    """Four of them."""
    draw(
        PICTURES / "gossip-news.svg",
        "One piece of news: share of the cluster that knows",
        ("seconds", "share"),
        [
            Curve(f"{n:,} nodes", [(when, known / max(1, n - 1)) for when, known in row["course"]])
            for n, row in sizes.items()
            if n in SHOWN and row.get("course")
        ],
    )
    draw(
        PICTURES / "gossip-size.svg",
        "Seconds until everybody knows",
        ("nodes (log 10)", "seconds"),
        [Curve(what, [(math.log10(n), row[what]) for n, row in sizes.items()]) for what in ("news", "failure")],
    )
    draw(
        PICTURES / "gossip-bytes.svg",
        "Bytes a second that a node sends in a quiet cluster",
        ("nodes (log 10)", "bytes/s"),
        [Curve("datagrams", [(math.log10(n), row["bytes"]) for n, row in sizes.items()])],
    )
    draw(
        PICTURES / "gossip-loss.svg",
        "Suspicions of nodes that live, 100 nodes; all refuted",
        ("share of packets lost", "per node and hour"),
        [Curve("refuted suspicions", [(loss, row["hourly"]) for loss, row in sorted(losses.items())])],
    )


def page(found: dict[str, Any], sizes: dict[int, dict[str, Any]]) -> str:
    """The page: goals, then curves."""
    goals, hour = found["goals"]["25"], found["hour"]["0.05"]
    met = [(what, goal, value, "met" if holds else "**missed**") for what, goal, value, holds in reached(found, sizes)]
    seconds = "{:,} | {:.2f} s | {:.2f} s | {:.1f} s | {:.0f} | {:.0f}"
    grown = [
        seconds.format(n, r["news90"], r["news"], r["failure"], r["bytes"], r["largest"]) for n, r in sizes.items()
    ]
    lost = sorted((float(loss), row) for loss, row in found["loss"].items())
    losses = [f"{100 * loss:.0f} % | {row['hourly']:.1f} | {row['dead']}" for loss, row in lost]
    return TEXT.format(
        goals="\n".join(f"| {' | '.join(row)} |" for row in met),
        seeds=goals["seeds"],
        changes=goals["changes"],
        refuted=hour["refuted"],
        sizes="\n".join(f"| {row} |" for row in grown),
        losses="\n".join(f"| {row} |" for row in losses),
    )


def reached(found: dict[str, Any], sizes: dict[int, dict[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """(what, goal, measured, whether that meets it)."""
    goals, dead = found["goals"]["25"], found["hour"]["0.05"]["dead"]
    least, most = min(sizes), max(sizes)
    growth = sizes[most]["bytes"] / sizes[least]["bytes"]
    timed = [
        ("news is known to all of 25 nodes", "quiet", 1),
        ("a failure is known to all of 25 nodes", "failure", 8),
        ("with churn and 2 % loss, 90 % of changes are known", "churn90", 3),
        ("... and every change", "churn", 30),
    ]
    return [
        *((what, f"{limit} s", f"{goals[key]:.2f} s", goals[key] < limit) for what, key, limit in timed),
        ("nodes that live and are taken for dead: 100 nodes, 5 % loss, an hour", "0", str(dead), not dead),
        (f"bytes a second and node, {most:,} nodes against {least}", "the same", f"{growth:.2f} times", growth < 1.1),
    ]


TEXT = """# Gossip in numbers

Written by `python -m bench.gossip.page` from runs of `python -m bench.gossip.simulate`: the real machines, every packet
encoded and read, on a network and a clock that are simulated. Do not edit.

| goal | to reach | measured | |
|---|---|---|---|
{goals}

With 25 nodes, rows and coordinates are in use, and the worst of {seeds} clusters counts; there were {changes} changes
under churn. In the hour with loss {refuted} suspicions came up, and were refuted.

## As a cluster grows

| nodes | news known to 90 % | to all | failure known to all | bytes a second and node, quiet | largest packet |
|---|---|---|---|---|---|
{sizes}

Membership alone. In a larger cluster a suspicion lasts longer (by the logarithm), so a failure is known later.

![How news spreads](pictures/gossip-news.svg)
![Until everybody knows](pictures/gossip-size.svg)
![Bytes](pictures/gossip-bytes.svg)

## As packets get lost

| lost | suspicions of nodes that live, per node and hour | nodes taken for dead |
|---|---|---|
{losses}

100 nodes, five minutes each. A suspected node hears of it, and objects.

![Loss](pictures/gossip-loss.svg)
"""


if __name__ == "__main__":
    main()
