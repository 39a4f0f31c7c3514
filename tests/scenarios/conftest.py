"""One engine for the whole run, cleaned after every scenario; the collecting of what works.

``--engine real`` (or ENGINE=real) types everything at a real dockerd: that is how the lane itself is proved.
"""

import os
from collections.abc import Iterator

import pytest

from lane.engines import ENGINES, Engine, clean
from lane.images import import_images
from lane.machine import Lan
from scenarios.lab import Lab
from scenarios.rows import LATER, NOTES, PAGE, all_rows, page, written_status

passed: dict[str, bool] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default=os.environ.get("ENGINE", "fairlead"), choices=sorted(ENGINES))
    parser.addoption("--write-scenarios", action="store_true", help="rewrite docs/scenarios.md from this run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rows(*ids): the rows of docs/scenarios.md that this test proves")


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
    expected = {row.id for row in all_rows()} - set(LATER)
    if config.getoption("--engine", default="") != "fairlead" or set(passed) != expected:
        return
    now = {}
    for row in all_rows():
        note = f" ({NOTES[row.id]})" if row.id in NOTES else ""
        now[row.id] = LATER.get(row.id) or (f"works{note}" if passed[row.id] else "not yet: fails in the lane")
    if config.getoption("--write-scenarios", default=False):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(now))
    elif now != written_status():
        print("\ndocs/scenarios.md is not what this run saw: pytest tests/scenarios --write-scenarios")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def lan() -> Iterator[Lan]:
    lan = Lan()
    yield lan
    lan.close()


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> type[Engine]:
    """The kind of engine under test; call it to get another one."""
    return ENGINES[request.config.getoption("--engine")]


@pytest.fixture(scope="session")
def engine(lan: Lan, kind: type[Engine]) -> Iterator[Engine]:
    engine = kind(lan, 11)
    try:
        engine.start()
        import_images(engine.docker, engine.base)
        yield engine
        engine.stop()
    finally:
        engine.close()


@pytest.fixture
def lab(lan: Lan, engine: Engine) -> Iterator[Lab]:
    yield Lab(lan, engine)
    clean(engine)


@pytest.fixture
def another(lan: Lan, kind: type[Engine]) -> Iterator["Starter"]:
    """Start further engines for one test: ``another(12, "--bip=10.9.0.1/24")`` gives a Lab."""
    starter = Starter(lan, kind)
    yield starter
    starter.close()


class Starter:
    def __init__(self, lan: Lan, kind: type[Engine]) -> None:
        self.lan, self.kind, self.engines = lan, kind, []

    def machine(self, last: int, *options: str) -> Lab:
        """The machine, its engine not yet started: time to make a bridge by hand."""
        engine = self.kind(self.lan, last, options)
        self.engines.append(engine)
        return Lab(self.lan, engine)

    def __call__(self, last: int, *options: str, images: tuple[str, ...] = ("busybox",)) -> Lab:
        lab = self.machine(last, *options)
        lab.engine.start()
        import_images(lab.docker, lab.engine.base, images)
        return lab

    def close(self) -> None:
        for engine in reversed(self.engines):
            engine.close()
