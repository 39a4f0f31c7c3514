"""Samples, their medians, and the page of ratios.

A ratio is ours to theirs for what should be small (milliseconds, MiB) and so is it for what should be large (per
second): the column says which side is better.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping

GOALS = {
    "network create": "<= 0.15",
    "network rm": "<= 0.10",
    "container create + start": "<= 0.40",
    "connect": "<= 0.40",
    "disconnect": "<= 0.15",
    "daemon back after SIGKILL (5 networks, 5 containers)": "<= 0.10",
    "DNS rate": ">= 1.30",
    "memory, all processes of the engine": "<= 0.50",
}
"""Row -> the ratio to dockerd that we want to reach."""


class Table:
    def __init__(self, engines: list[str]) -> None:
        self.engines = engines
        self.rows: dict[tuple[str, str, bool], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, row: str, engine: str, value: float, unit: str = "ms", more_is_better: bool = False) -> None:
        self.rows[row, unit, more_is_better][engine].append(value)

    def middle(self, row: tuple[str, str, bool], engine: str) -> float | None:
        values = self.rows[row].get(engine)
        return statistics.median(values) if values else None

    def page(self, facts: Mapping[str, str]) -> str:
        ours, *others = self.engines
        lines = [
            "# Performance: side by side",
            "",
            "Written by `bench/run --write`. All engines run on one machine in one run, samples taken in turns.",
            "Medians; the ratio is ours to theirs. Read ratios: absolute numbers are those of a small virtual machine.",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
        ]
        header = ["what", "n", "unit", "better", *self.engines, *(f"ratio to {other}" for other in others), "goal"]
        lines += [cells(header), cells(["---"] * len(header))]
        for row in self.rows:
            title, unit, more = row
            middles = {engine: self.middle(row, engine) for engine in self.engines}
            count = min((len(values) for values in self.rows[row].values()), default=0)
            ratios = [ratio(middles[ours], middles[other]) for other in others]
            numbers = [number(middles[engine]) for engine in self.engines]
            goal = GOALS.get(title.split(" (")[0], GOALS.get(title, ""))
            lines.append(cells([title, str(count), unit, "more" if more else "less", *numbers, *ratios, goal]))
        return "\n".join(lines) + "\n"


def cells(words: list[str]) -> str:
    return "| " + " | ".join(words) + " |"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
