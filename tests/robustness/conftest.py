"""One engine that the tests of this folder may kill as they like. Only ours promises to survive it."""

from collections.abc import Iterator

import pytest

from lane.engines import Engine, clean
from lane.fixtures import Starter
from lane.machine import Lan


@pytest.fixture(scope="session")
def mortal(lan: Lan, kind: type[Engine]) -> Iterator[Engine]:
    yield from brought_up(lan, kind, 31)


def brought_up(lan: Lan, kind: type[Engine], number: int) -> Iterator[Engine]:
    """An engine on the machine of this number, until the iterator is closed."""
    if kind.kind != "fairlead":
        pytest.skip("published ports and names go down with other engines")
    starter = Starter(lan, kind)
    try:
        engine = starter(number, images=("busybox", "nginx"))
        warm_up(engine)
        yield engine
    finally:
        starter.close()


def warm_up(engine: Engine) -> None:
    """What an engine starts once, at its first use, and keeps: not a leak."""
    engine.docker("network create warm")
    engine.docker("run -d --net warm -p 8080:80 nginx")
    clean(engine)
