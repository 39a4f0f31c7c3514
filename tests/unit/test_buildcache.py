"""What a prune of the build cache takes."""

import pytest

from fairlead.core.buildcache import CacheRecord, Pruning, Spare

OLD = CacheRecord("a1", 10, {"base": 100})
STEP = CacheRecord("b2", 20, {"base": 100, "step": 30})
EMPTY = CacheRecord("c3", 20, {"base": 100})
LAST = CacheRecord("d4", 30, {"base": 100, "last": 50})
RECORDS = (LAST, EMPTY, STEP, OLD)


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        (Pruning(), "a1 b2 c3 d4"),
        (Pruning(until=20), "a1 b2 c3"),
        (Pruning(until=9), ""),
        (Pruning(named=lambda id: id.startswith("c")), "c3"),
        (Pruning(until=10, named=lambda id: id.startswith("c")), ""),
        (Pruning(impossible=True), ""),
    ],
)
def test_filters(asked: Pruning, goes: str) -> None:
    assert asked.chosen(RECORDS, 0) == goes.split()


@pytest.mark.parametrize(
    ("spare", "free", "goes"),
    [
        (Spare(reserved=180), 0, ""),
        (Spare(reserved=179), 0, "a1 b2"),  # what lies on the same layers frees nothing
        (Spare(reserved=149), 0, "a1 b2 c3 d4"),
        (Spare(most=150), 0, "a1 b2"),
        (Spare(most=150, reserved=180), 0, ""),
        (Spare(free=500), 500, ""),
        (Spare(free=500), 480, "a1 b2"),
        (Spare(free=500, most=170), 500, "a1 b2"),
    ],
)
def test_what_was_used_last_stays_within_bounds(spare: Spare, free: int, goes: str) -> None:
    assert Pruning(spare=spare).chosen(RECORDS, free) == goes.split()


def test_what_a_filter_leaves_counts_for_the_bounds() -> None:
    assert Pruning(until=10, spare=Spare(reserved=1)).chosen(RECORDS, 0) == ["a1"]
