"""docs/scenarios.md tells about every row, and says "works" only of rows that a test claims (no engine needed)."""

import ast
from pathlib import Path

from scenarios.rows import ELSEWHERE, LATER, NOTES, PAGE, README, all_rows, in_readme, page, written_status

HERE = Path(__file__).parent


def claimed(*lanes: str) -> set[str]:
    """Every row named in a ``@rows(...)`` of these lanes."""
    found = set()
    for path in (path for lane in lanes or ("scenarios",) for path in (HERE.parent / lane).glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "rows":
                found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def test_there_are_149_rows() -> None:
    assert [row.id for row in all_rows()] == [f"S{n:03}" for n in range(1, 150)]


def test_each_row_has_a_test_or_a_reason() -> None:
    everything = {row.id for row in all_rows()}
    assert claimed("cluster", "fleet", "full_kernel") - claimed() == set(ELSEWHERE)
    assert claimed() | set(ELSEWHERE) | set(LATER) == everything
    assert len(claimed()) + len(ELSEWHERE) + len(LATER) == len(everything)
    assert set(NOTES) <= claimed()


def test_the_page_is_what_the_tests_wrote() -> None:
    status = written_status()
    assert PAGE.read_text() == page(status)
    assert README.read_text() == in_readme(status)
    assert {row for row, text in status.items() if text.startswith("works")} <= claimed() | set(ELSEWHERE)
    others = {**LATER, **ELSEWHERE}
    assert {row: text for row, text in status.items() if row in others} == others
