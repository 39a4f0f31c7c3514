"""docs/security.md tells about every row, and every guard that it names is there (no engine needed)."""

import os

from security.rows import LATER, PAGE, SOURCE, all_rows, page, proofs


def test_each_row_has_a_test_or_waits() -> None:
    claimed = {row for proof in proofs() for row in proof.rows}
    assert claimed | set(LATER) == {row.id for row in all_rows()}
    assert not claimed & set(LATER)


def test_each_guard_is_there_once() -> None:
    for proof in proofs():
        found = (SOURCE / proof.guard.file).read_text().count(proof.guard.text)
        assert found == 1, f"{proof.node}: its guard is {found} times in {proof.guard.file}"


def test_the_page_is_what_the_tests_say() -> None:
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
