"""What the page of benchmarks says of a goal: met, not met, or that nobody can tell."""

import random
import statistics
from pathlib import Path

import pytest
from bench import kept
from bench.table import CLOSE, OURS, Goal, Ratio, Table, places, quotient


@pytest.mark.parametrize(("count", "outer"), [(4, None), (5, 0), (10, 1), (16, 4), (20, 5), (100, 41)])
def test_the_places_are_those_of_the_table_of_binomials(count: int, outer: int | None) -> None:
    assert places(count) == outer


def test_the_interval_holds_the_true_median_nine_times_of_ten() -> None:
    """Of samples that are far from a bell: most near 1, some far above."""
    dice, held, runs = random.Random(7), 0, 2000
    for _ in range(runs):
        ours = [1 + dice.expovariate(1) for _ in range(16)]
        ratio = quotient(ours, [1.0] * 16)
        assert ratio is not None and ratio.low is not None and ratio.high is not None
        assert ratio.low <= ratio.value == statistics.median(ours) <= ratio.high
        held += ratio.low <= 1 + 0.6931 <= ratio.high
    assert 0.90 <= held / runs < 0.97


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(1.02, 1.00, 1.04), "met"),
        (Ratio(1.04, 1.02, 1.06), CLOSE),
        (Ratio(1.06, 1.04, 1.08), CLOSE),
        (Ratio(1.08, 1.06, 1.10), "**not met**"),
        (Ratio(1.04), "met"),
        (Ratio(1.06), "**not met**"),
        (None, "not measured"),
    ],
)
def test_a_bound_within_the_interval_is_neither_met_nor_missed(ratio: Ratio | None, verdict: str) -> None:
    assert Goal("row", "<=", 1.05, "dockerd").verdict(ratio) == verdict


def test_the_page_shows_it() -> None:
    table = Table([OURS, "dockerd"], [Goal("start", "<=", 1.0, "dockerd")])
    for number in range(10):
        table.add("start", OURS, 9 + number * 0.25)
        table.add("start", "dockerd", 10)
    assert f"| start | dockerd | <= 1.00 | 1.01 (0.93 to 1.10) | {CLOSE} |" in table.page({}, {}, [])


def test_a_part_measured_again_replaces_its_own_rows_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept, "FILE", tmp_path / "samples.jsonl")

    def measured(part: str, commit: str, *titles: str) -> tuple[Table, list[kept.Measured]]:
        table = Table([OURS], [])
        for title in titles:
            table.add(title, OURS, len(commit))
        return table, [kept.Measured(part, "today", commit, "", 1, title, row) for title, row in table.rows.items()]

    order = ["first", "second"]
    for part, commit, *titles in (("second", "a", "c", "d"), ("first", "aa", "b"), ("second", "aaa", "c")):
        table, new = measured(part, commit, *titles)
        kept.keep(kept.merge(table, new, order))
    assert {title: row.samples for title, row in table.rows.items()} == {"b": {OURS: [2.0]}, "c": {OURS: [3.0]}}
    assert kept.told(kept.merge(Table([], []), [], order))[2:] == [
        "| first | today | aa | 1 s |",
        "| second | today | aaa | 1 s |",
    ]
