"""One engine for the whole lane, cleaned after every test; attackers sit on its LAN and in its containers."""

from collections.abc import Iterator

import pytest

from lane.engines import Engine, Fairlead, clean
from lane.machine import Lan
from scenarios.lab import Lab


@pytest.fixture
def lab(lan: Lan, engine: Engine) -> Iterator[Lab]:
    if not isinstance(engine, Fairlead):
        pytest.skip("the guards of ours")
    yield Lab(lan, engine)
    if not engine.answers():
        engine.start()
    clean(engine)
