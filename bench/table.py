"""Samples, their medians and spread, the goals, and the page.

Samples are taken in rounds, every engine once a round, so a ratio is the median of the rounds' own ratios: what slowed
a whole round down cancels out. (Where one engine has fewer samples, it is the ratio of the medians.) The spread is
half of the middle half of the samples, as a share of the median.

A ratio is a sample, too: another run gives another. So each comes with the interval that holds the true median of the
rounds' ratios in nine runs of ten (binomial: which places in their order it may lie between; nothing is assumed about
how they scatter). A bound within it is neither met nor missed, and that is what is said.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from operator import ge, gt, le, lt
from typing import NamedTuple

OURS = "fairlead"
CLOSE = "too close to tell"
_SIGNS = {"<=": le, ">=": ge, "<": lt, ">": gt}
_DOUBT = 0.1
"""how often the true ratio may be outside of what is said"""


class Ratio(NamedTuple):
    """``low`` and ``high``: where the true one is in nine runs of ten; None when there are too few rounds to say."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Goal:
    """The ratio of our ``row`` to what it is held ``against``: an engine, ``both`` (the better), or a row of ours."""

    row: str
    sign: str
    bound: float
    against: str

    def met(self, ratio: float) -> bool:
        return _SIGNS[self.sign](ratio, self.bound)

    def verdict(self, ratio: Ratio | None) -> str:
        if ratio is None:
            return "not measured"
        ends = (ratio.value,) if ratio.low is None or ratio.high is None else (ratio.low, ratio.high)
        met = set(map(self.met, ends))
        return CLOSE if len(met) > 1 else "met" if True in met else "**not met**"


@dataclass
class Row:
    unit: str = "ms"
    more: bool = False
    """more is better"""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, engine: str) -> float | None:
        values = self.samples.get(engine)
        return statistics.median(values) if values else None

    def spread(self, engine: str) -> float:
        values = self.samples.get(engine, [])
        middle = statistics.median(values) if values else 0
        if len(values) < 4 or not middle:
            return 0
        first, _, third = statistics.quantiles(values, n=4)
        return (third - first) / 2 / middle


class Table:
    def __init__(self, engines: list[str], goals: list[Goal]) -> None:
        self.engines, self.goals = engines, goals
        self.rows: dict[str, Row] = {}

    def add(self, title: str, engine: str, value: float, unit: str = "ms", more_is_better: bool = False) -> None:
        row = self.rows.setdefault(title, Row(unit, more_is_better))
        row.samples.setdefault(engine, []).append(float(f"{value:.5g}"))

    # -- ratios -----------------------------------------------------------------------------

    def ratio(self, title: str, engine: str) -> Ratio | None:
        row = self.rows.get(title)
        return quotient(row.samples.get(OURS), row.samples.get(engine)) if row else None

    def reached(self, goal: Goal) -> Ratio | None:
        """How the goal's row stands; None when this run did not measure it."""
        if goal.against in self.rows:
            ours, other = self.rows.get(goal.row), self.rows[goal.against]
            return quotient(ours.samples.get(OURS), other.samples.get(OURS)) if ours else None
        if goal.against != "both":
            return self.ratio(goal.row, goal.against)
        ratios = [r for engine in self.engines if engine != OURS and (r := self.ratio(goal.row, engine)) is not None]
        if not ratios:
            return None
        choose = min if self.rows[goal.row].more else max
        return choose(ratios, key=lambda ratio: ratio.value)

    # -- the page ---------------------------------------------------------------------------

    def page(self, facts: Mapping[str, str], pictures: Mapping[str, str], parts: Sequence[str]) -> str:
        """``parts``: lines that tell when each was measured."""
        lines = [
            "# Performance: side by side",
            "",
            "Written by `bench/run --write`. In each part all engines run on one machine at once, samples taken in",
            "turns, there and back (ABBA). Medians, and how far the middle half of the samples strays; a ratio is the",
            "median of the rounds' ratios, ours to theirs. Milliseconds are those of a small virtual machine.",
            f"In brackets is where the true ratio lies, nine times of ten; a goal whose bound is in there is {CLOSE}.",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
            *parts,
            "",
            "## Goals",
            "",
            *self._goal_lines(),
            "",
            *(f"![{title}]({path})" for path, title in pictures.items()),
            "",
            "## Everything measured",
            "",
            *self._row_lines(),
        ]
        return "\n".join(lines) + "\n"

    def _goal_lines(self) -> list[str]:
        lines = [cells(["what", "held against", "goal", "reached", ""]), cells(["---"] * 5)]
        for goal in self.goals:
            reached = self.reached(goal)
            against = {"both": "the better of " + " and ".join(e for e in self.engines if e != OURS)}.get(
                goal.against, goal.against
            )
            lines.append(
                cells([goal.row, against, f"{goal.sign} {goal.bound:.2f}", _said(reached), goal.verdict(reached)])
            )
        return lines

    def _row_lines(self) -> list[str]:
        others = [engine for engine in self.engines if engine != OURS]
        header = ["what", "n", "unit", "better", *self.engines, *(f"ratio to {other}" for other in others)]
        lines = [cells(header), cells(["---"] * len(header))]
        for title, row in self.rows.items():
            count = "/".join(dict.fromkeys(str(len(row.samples.get(e, ()))) for e in self.engines if e in row.samples))
            numbers = [number(row.median(engine), row.spread(engine)) for engine in self.engines]
            ratios = [shown(self.ratio(title, other)) for other in others]
            lines.append(cells([title, count, row.unit, "more" if row.more else "less", *numbers, *ratios]))
        return lines


def quotient(ours: list[float] | None, theirs: list[float] | None) -> Ratio | None:
    if not ours or not theirs:
        return None
    if len(ours) == len(theirs) and all(theirs):
        ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
        outer = places(len(ratios))
        within = (ratios[outer], ratios[-1 - outer]) if outer is not None else (None, None)
        return Ratio(statistics.median(ratios), *within)
    return Ratio(statistics.median(ours) / statistics.median(theirs)) if statistics.median(theirs) else None


def places(count: int) -> int | None:
    """How many of ``count`` samples in order may be left out at either end, and the median of what they are samples of
    is still between the rest, but for one time in ten; None: not even all of them say that."""
    tail, left_out = 0.0, None
    for place in range(count):
        tail += comb(count, place) / 2**count  # that so many are below it, and no more
        if 2 * tail > _DOUBT:
            break
        left_out = place
    return left_out


def cells(words: list[str]) -> str:
    return "| " + " | ".join(words) + " |"


def number(value: float | None, spread: float) -> str:
    if value is None:
        return "-"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} ±{spread:.0%}" if spread else text


def shown(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f}"


def _said(ratio: Ratio | None) -> str:
    return "-" if ratio is None else str(ratio)
