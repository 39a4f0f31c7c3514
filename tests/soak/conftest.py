"""An engine like the one that the robustness tests hurt."""

from collections.abc import Iterator

import pytest

from lane.engines import Engine
from lane.machine import Lan
from robustness.conftest import brought_up


@pytest.fixture(scope="session")
def mortal(lan: Lan, kind: type[Engine]) -> Iterator[Engine]:
    yield from brought_up(lan, kind, 33)
