"""The rows of what has gone wrong elsewhere, which test proves that it does not here, and the page that tells.

    tests/data/security.tsv        the rows: id, what goes wrong
    @proves("CVE-…", guard=…)      on a test, in whichever lane: it fails when the guard is taken away
    LATER                          rows of parts that are not there yet

docs/security.md is written from the marks alone (``GOLDEN=write``), without running anything. That each guard really
holds its test up is seen by ``scripts/test guards`` (``security.guards``): it takes the guard out of a copy of the
source, and the test must fail.
"""

import ast
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src" / "fairlead"
TABLE = TESTS / "data" / "security.tsv"
PAGE = TESTS.parent / "docs" / "security.md"

PLUGINS = "with plugins"
LATER = dict.fromkeys(("CVE-2026-33997", "CVE-2024-41110"), PLUGINS)


class Row(NamedTuple):
    id: str
    what: str


class Guard(NamedTuple):
    """What holds the test up: a piece of a source file, and what is there instead when it is taken away."""

    file: str
    text: str
    instead: str


class Proof(NamedTuple):
    """One marked test. ``node`` is what pytest calls it."""

    rows: tuple[str, ...]
    guard: Guard
    node: str


def all_rows() -> list[Row]:
    with TABLE.open(newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        return [Row(*line) for line in lines]


def proofs() -> Iterator[Proof]:
    """Every mark in every test file, in the order of files."""
    for path in sorted(TESTS.glob("*/test_*.py")):
        text = path.read_text()
        if "proves(" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _marked(function, f"{path.relative_to(TESTS.parent)}::{function.name}")


def _marked(function: ast.FunctionDef | ast.AsyncFunctionDef, node: str) -> Iterator[Proof]:
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
            rows = tuple(ast.literal_eval(argument) for argument in mark.args)
            (guard,) = (ast.literal_eval(word.value) for word in mark.keywords if word.arg == "guard")
            yield Proof(rows, Guard(*guard), node)


def page() -> str:
    """docs/security.md."""
    proved: dict[str, list[Proof]] = {}
    for proof in proofs():
        for row in proof.rows:
            proved.setdefault(row, []).append(proof)
    here = [row for row in all_rows() if row.id not in LATER]
    lines = [
        "# What does not get in",
        "",
        "What has gone wrong in container networking elsewhere, and the test that shows that it does not here. Each",
        "test was seen to fail without its guard: `sudo scripts/test guards` takes the guards out of a copy of the",
        "source, one after the other, and runs the tests. Written from the tests' marks (`GOLDEN=write`). Do not edit.",
        "",
        f"{len(here)} rows concern what is there; {len(LATER)} wait for parts that are not.",
        "",
        "| row | what goes wrong elsewhere | test | guard, and what was put in its place |",
        "|---|---|---|---|",
    ]
    for row in all_rows():
        if row.id in LATER:
            lines.append(_line(row.id, row.what, LATER[row.id], ""))
        for proof in proved.get(row.id, []):
            file, name = proof.node.split("::")
            test = f"[{name}](../{file})"
            taken, instead = (f"`{side}`" if side else "nothing" for side in _differing(proof.guard))
            lines.append(_line(row.id, row.what, test, f"{proof.guard.file}: {taken} → {instead}"))
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |"


def _differing(guard: Guard) -> tuple[str, str]:
    """The first line of each side that is not on the other, on one line of a table."""
    sides = [text.splitlines() for text in (guard.text, guard.instead)]
    firsts = [
        next((line.strip() for line in one if line.strip() and line not in other), "")
        for one, other in (sides, reversed(sides))
    ]
    return tuple(text if len(text) <= 100 else text[:97] + "…" for text in firsts)
