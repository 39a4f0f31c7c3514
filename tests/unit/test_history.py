"""The check of histories finds what it is there for."""

from lane.history import LOST, OK, READ, REFUSED, WRITE, Hold, Operation, held_twice, linearizable


def write(start: float, end: float, value: str | None, old: str | None, outcome: str = OK) -> Operation:
    return Operation("h", WRITE, "k", start, end, value, old, outcome)


def read(start: float, end: float, value: str | None) -> Operation:
    return Operation("h", READ, "k", start, end, value)


def test_one_after_the_other() -> None:
    assert linearizable([read(0, 1, None), write(2, 3, "a", None), read(4, 5, "a"), write(6, 7, None, "a")])


def test_at_once_in_some_order() -> None:
    assert linearizable([write(0, 9, "a", None), read(1, 2, None), read(3, 4, "a"), write(2, 8, "b", "a")])


def test_an_acknowledged_write_that_is_lost() -> None:
    assert not linearizable([write(0, 1, "a", None), read(2, 3, None)])


def test_a_read_of_the_past() -> None:
    history = [write(0, 1, "a", None), write(2, 3, "b", "a")]
    assert linearizable([*history, read(2, 5, "a")])
    assert not linearizable([*history, read(4, 5, "a")])


def test_two_winners() -> None:
    assert not linearizable([write(0, 9, "a", None), write(0, 9, "b", None)])


def test_a_refusal_without_reason() -> None:
    assert not linearizable([write(0, 1, "a", None, REFUSED)])
    assert linearizable([write(0, 1, "b", None), write(2, 3, "a", None, REFUSED)])


def test_a_lost_answer_may_mean_both() -> None:
    lost = write(0, 1, "a", None, LOST)
    assert linearizable([lost, read(2, 3, None)])
    assert linearizable([lost, read(2, 3, None), read(4, 5, "a")])
    assert not linearizable([lost, read(2, 3, "a"), read(4, 5, None)])


def test_held_twice() -> None:
    one, two = Hold("one", "10.0.0.2", 0, 5), Hold("two", "10.0.0.2", 4, 6)
    assert held_twice([one, two]) == [(one, two)]
    assert not held_twice([one, Hold("two", "10.0.0.2", 5, 6), Hold("two", "10.0.0.3", 1, 2)])
