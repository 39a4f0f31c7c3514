"""One short round of the soak; the two hours are ``scripts/test soak``."""

import pytest

from lane.engines import Engine
from lane.fixtures import Starter
from soak.growth import Part, Sample, judge
from soak.run import Soak


@pytest.mark.lab
@pytest.mark.slow
def test_one_round(another: Starter, kind: type[Engine]) -> None:
    if kind.kind != "fairlead":
        pytest.skip("other engines promise less")
    engine = another(32)
    soak = Soak(engine, seed=1, moves=150)
    soak.prepare()
    soak.round()
    assert not soak.verdict()


def samples(memory: int, descriptors: int, cost: float) -> list[Sample]:
    """Forty looks, a hundred moves apart, at a daemon that grows by so much each time; it slows down late."""
    processor, found = 0.0, []
    for number in range(40):
        processor += 1.0 + cost * max(0, number - 25)
        part = Part(7, 70_000 + memory * number, 28 + descriptors * number, 4, processor)
        found.append(Sample(number * 100, number * 30.0, {"daemon": part}))
    return found


def test_what_stays_is_not_told() -> None:
    assert judge(samples(0, 0, 0)) == []


@pytest.mark.parametrize(
    ("memory", "descriptors", "cost", "told"),
    [(100, 0, 0, "memory grows by 1000 KiB"), (0, 1, 0, "descriptors grow by 10.0"), (0, 0, 0.1, "processor time")],
)
def test_what_grows_is_told(memory: int, descriptors: int, cost: float, told: str) -> None:
    assert [told in line for line in judge(samples(memory, descriptors, cost))] == [True]
