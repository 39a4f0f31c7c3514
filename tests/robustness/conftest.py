"""One engine that the tests of this folder may kill as they like. Only ours promises to survive it."""

from collections.abc import Iterator

import pytest

from lane.engines import Engine
from lane.fixtures import Starter
from lane.machine import Lan


@pytest.fixture(scope="session")
def mortal(lan: Lan, kind: type[Engine]) -> Iterator[Engine]:
    if kind.kind != "fairlead":
        pytest.skip("published ports and names go down with other engines")
    starter = Starter(lan, kind)
    yield starter(31, images=("busybox", "nginx"))
    starter.close()
