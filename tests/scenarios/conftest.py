"""One engine for the whole run, cleaned after every scenario; the collecting of what works."""

from collections.abc import Iterator

import pytest

from lane.engines import Engine, clean
from lane.machine import Lan
from scenarios.lab import Lab
from scenarios.rows import ELSEWHERE, LATER, NOTES, PAGE, README, all_rows, in_readme, page, written_status

passed: dict[str, bool] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "scenarios" in item.path.parts and item.path.name != "test_report.py":
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    for marker in item.iter_markers("rows"):
        for row in marker.args:
            if report.failed or report.skipped:
                passed[row] = False
            elif report.when == "call":
                passed[row] = passed.get(row, True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After a run of all scenarios against ours: write the page, or see that it tells the truth."""
    config = session.config
    expected = {row.id for row in all_rows()} - set(LATER) - set(ELSEWHERE)
    if config.getoption("--engine", default="") != "fairlead" or set(passed) != expected:
        return
    now = {}
    for row in all_rows():
        note = f" ({NOTES[row.id]})" if row.id in NOTES else ""
        now[row.id] = (
            LATER.get(row.id)
            or ELSEWHERE.get(row.id)
            or (f"works{note}" if passed[row.id] else "not yet: fails in the lane")
        )
    if config.getoption("--write-scenarios", default=False):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(now))
        README.write_text(in_readme(now))
    elif now != written_status():
        print("\ndocs/scenarios.md is not what this run saw: pytest tests/scenarios --write-scenarios")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def lab(lan: Lan, engine: Engine) -> Iterator[Lab]:
    yield Lab(lan, engine)
    clean(engine)
