"""Samples that are kept, so that a part can be measured again without the others.

    bench/run --write --only connect,ports      results/samples.jsonl: the rows of those two replaced, the others stay
                                                docs/performance.md:   all of them, each part with its day and commit

Within a part all is of one run, and so is every ratio: no goal holds a row of one part against a row of another.
"""

from pathlib import Path

import msgspec

from bench.table import Row, Table, cells

FILE = Path(__file__).parent / "results" / "samples.jsonl"


class Measured(msgspec.Struct, frozen=True):
    """One row, and the run of its part: when, of what, for how many seconds."""

    part: str
    date: str
    commit: str
    versions: str
    seconds: int
    title: str
    row: Row


def merge(table: Table, new: list[Measured], order: list[str]) -> list[Measured]:
    """What was measured now, and of the other parts what was kept; the table then has it all."""
    lines = FILE.read_bytes().splitlines() if FILE.exists() else []
    parts, titles = {one.part for one in new}, {one.title for one in new}  # a row may have moved to another part
    read = (msgspec.json.decode(line, type=Measured) for line in lines)
    old = [one for one in read if one.part not in parts and one.title not in titles]
    rows = sorted([*new, *old], key=lambda one: order.index(one.part))
    table.rows = {one.title: one.row for one in rows}
    table.engines = list(dict.fromkeys([*table.engines, *(each for one in rows for each in one.row.samples)]))
    return rows


def keep(rows: list[Measured]) -> None:
    FILE.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in rows))


def told(rows: list[Measured]) -> list[str]:
    """When each part was measured, as lines of a table."""
    parts = dict.fromkeys((one.part, one.date, one.commit, f"{one.seconds} s") for one in rows)
    return [cells(["part", "measured", "commit", "took"]), cells(["---"] * 4), *(cells(list(part)) for part in parts)]
