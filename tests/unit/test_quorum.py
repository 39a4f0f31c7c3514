"""How many managers may go."""

import pytest

from fairlead.core.quorum import majority, may_fail, refusal


@pytest.mark.parametrize(
    ("members", "needed", "spare"), [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (7, 4, 3)]
)
def test_the_table(members: int, needed: int, spare: int) -> None:
    assert (majority(members), may_fail(members)) == (needed, spare)


@pytest.mark.parametrize(
    ("members", "reachable", "leaver_up", "may"),
    [
        (3, 3, True, True),
        (3, 2, True, False),
        (3, 2, False, True),
        (2, 2, True, True),
        (2, 1, True, False),
        (2, 1, False, True),
        (5, 3, True, False),
        (5, 4, True, True),
        (1, 1, True, True),
    ],
)
def test_who_may_go(members: int, reachable: int, leaver_up: bool, may: bool) -> None:
    assert (refusal(members, reachable, "node1", leaver_reachable=leaver_up) == "") is may


def test_the_arithmetic_is_said() -> None:
    assert refusal(3, 2, "node1", leaver_reachable=True) == (
        "node1 cannot go: of the 2 managers that would be left, 1 can be reached, and 2 are needed to decide anything; "
        "bring 1 more back first"
    )
