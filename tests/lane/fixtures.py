"""Fixtures: one LAN and one engine for the whole run, and further engines for single tests."""

from collections.abc import Iterator

import pytest

from lane.engines import ENGINES, Engine
from lane.images import import_images
from lane.machine import Lan


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
    """The engine that most tests share; whoever uses it cleans up (``lane.engines.clean``)."""
    engine = kind(lan, 11)
    try:
        engine.start()
        import_images(engine.docker, engine.base)
        yield engine
        engine.stop()
    finally:
        engine.close()


class Starter:
    """Further engines for one test: ``another(12, "--bip=10.9.0.1/24")`` runs at 12 on the LAN, with images."""

    def __init__(self, lan: Lan, kind: type[Engine]) -> None:
        self.lan, self.kind, self.engines = lan, kind, []

    def machine(self, last: int, *options: str) -> Engine:
        """The machine, its engine not yet started: time to make a bridge by hand."""
        self.engines.append(self.kind(self.lan, last, options))
        return self.engines[-1]

    def __call__(self, last: int, *options: str, images: tuple[str, ...] = ("busybox",)) -> Engine:
        engine = self.machine(last, *options)
        engine.start()
        import_images(engine.docker, engine.base, images)
        return engine

    def close(self) -> None:
        for engine in reversed(self.engines):
            engine.close()


@pytest.fixture
def another(lan: Lan, kind: type[Engine]) -> Iterator[Starter]:
    starter = Starter(lan, kind)
    yield starter
    starter.close()
