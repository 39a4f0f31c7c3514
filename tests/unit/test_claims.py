"""Claims, answered by hand: what a host does when others are faster, when answers are lost, when all is taken."""

from collections.abc import Generator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import claims
from fairlead.core.claims import BEATEN, DONE, LOST, Delete, Get, List, Pause, Put, Wish, take_one, take_some
from fairlead.errors import Forbidden, Internal, Unavailable

Claim = Generator[Wish, Any, Any]


class Paper:
    """A store on paper that can lose the answer to a write, carried out or not."""

    def __init__(self, **entries: str) -> None:
        self.entries = {key: (value.encode(), 1) for key, value in entries.items()}
        self.clock = 1
        self.losing: list[str] = []
        """what becomes of the next writes: "done" or "not", and nobody hears of it"""

    def answer(self, wish: Wish) -> Any:
        match wish:
            case Get(key):
                return self.entries.get(key, (None, 0))
            case List(prefix):
                return {key: value for key, (value, _) in self.entries.items() if key.startswith(prefix)}
            case Put(key, _, version) | Delete(key, version):
                fate = self.losing.pop(0) if self.losing else ""
                if fate != "not":
                    outcome = self._write(wish, key, version)
                return LOST if fate else outcome
        return None

    def _write(self, wish: Wish, key: str, version: int) -> str:
        if self.entries.get(key, (None, 0))[1] != version:
            return BEATEN
        self.clock += 1
        if isinstance(wish, Put):
            self.entries[key] = (wish.value, self.clock)
        else:
            del self.entries[key]
        return DONE

    def run(self, claim: Claim) -> Any:
        answer = None
        while True:
            try:
                answer = self.answer(claim.send(answer))
            except StopIteration as end:
                return end.value


def lowest(_: int) -> int:
    return 0


def highest(bound: int) -> int:
    return bound - 1


def test_the_lowest_free_one() -> None:
    store = Paper(**{"p/1": "x", "p/2": "y"})
    assert store.run(take_one("p", "12345", "me", lowest)) == "3"
    assert store.entries["p/3"][0] == b"me"


def test_who_asks_again_gets_the_same() -> None:
    store = Paper()
    assert [store.run(take_one("p", "123", "me", lowest)) for _ in range(2)] == ["1", "1"]
    assert list(store.entries) == ["p/1"]


def test_the_one_that_was_wanted_or_none() -> None:
    store = Paper(**{"p/2": "other"})
    assert store.run(take_one("p", "123", "me", lowest, wanted="3")) == "3"
    with pytest.raises(Forbidden, match="Address already in use"):
        store.run(take_one("p", "123", "you", lowest, wanted="2"))


def test_all_taken() -> None:
    with pytest.raises(Forbidden, match="all are taken"):
        Paper(**{"p/1": "x"}).run(take_one("p", "1", "me", lowest))


def test_the_window_doubles_with_every_loss() -> None:
    """After each loss the choice is made among twice as many, so that those who start together part."""
    claim = take_one("p", map(str, range(100)), "me", highest)
    assert claim.send(None) == List("p/")
    tried = []
    answer: Any = {}
    for _ in range(4):
        put = claim.send(answer)
        assert isinstance(put, Put)
        tried.append(int(put.key[2:]))
        assert isinstance(claim.send(BEATEN), Get)
        answer = (b"other", 5)
    assert tried[0] == 0 and tried == sorted(tried)


@pytest.mark.parametrize("fate", ["done", "not"])
def test_a_lost_answer_claims_one_only(fate: str) -> None:
    store = Paper()
    store.losing = [fate]
    assert store.run(take_one("p", "123", "me", lowest)) == "1"
    assert list(store.entries) == ["p/1"]


def test_it_ends() -> None:
    store = Paper()
    store.losing = ["not"] * claims.TRIES
    with pytest.raises(Unavailable):
        store.run(take_one("p", "123", "me", lowest))


def table(store: Paper) -> Mapping[str, str]:
    found: Mapping[str, str] = msgspec.json.decode(store.entries[claims.SUBNETS][0])
    return found


def test_subnets_are_chosen_among_what_others_left() -> None:
    store = Paper()
    for owner in ("one", "two", "one"):
        store.run(take_some(claims.SUBNETS, owner, lambda taken: [f"10.0.{len(taken)}.0/24"], lowest))
    assert table(store) == {"10.0.0.0/24": "one", "10.0.1.0/24": "two"}
    store.run(claims.give_back(claims.SUBNETS, "one", lowest))
    assert table(store) == {"10.0.1.0/24": "two"}


def test_a_damaged_table_is_not_overwritten() -> None:
    store = Paper(**{claims.SUBNETS: "{"})
    with pytest.raises(Internal, match="claims/subnets"):
        store.run(take_some(claims.SUBNETS, "me", lambda taken: ["10.0.0.0/24"], lowest))
    assert store.entries[claims.SUBNETS][0] == b"{"


def test_only_ones_own_is_given_back() -> None:
    store = Paper(**{"p/1": "me", "p/2": "other"})
    for key in ("p/1", "p/2", "p/3"):
        store.run(claims.give_back(key, "me", lowest))
    assert list(store.entries) == ["p/2"]


@given(st.data())
def test_however_they_interleave_nobody_has_what_another_has(data: st.DataObject) -> None:
    """Four owners, three things, any order of steps, any answer lost: each thing has one owner and each owner one."""
    store = Paper()
    running = {name: take_one("p", "123", name, lambda bound: data.draw(st.integers(0, bound - 1))) for name in "abcd"}
    answers: dict[str, Any] = dict.fromkeys(running)
    claimed: dict[str, str] = {}
    while running:
        name = data.draw(st.sampled_from(sorted(running)))
        if data.draw(st.integers(0, 9)) == 0:
            store.losing = [data.draw(st.sampled_from(["done", "not"]))]
        try:
            answers[name] = store.answer(running[name].send(answers[name]))
        except StopIteration as end:
            claimed[name] = end.value
            del running[name]
        except (Forbidden, Unavailable):
            del running[name]
        store.losing = []
    assert len(set(claimed.values())) == len(claimed)
    assert all(store.entries[f"p/{thing}"][0] == name.encode() for name, thing in claimed.items())


def test_pauses_are_short_and_grow() -> None:
    claim = take_some("t", "me", lambda _: ["x"], highest)
    pauses = []
    answer: Any = None
    with pytest.raises(Unavailable):
        while True:
            wish = claim.send(answer)
            answer = (None, 0) if isinstance(wish, Get) else BEATEN
            if isinstance(wish, Pause):
                pauses.append(wish.seconds)
    assert pauses == sorted(pauses) and pauses[-1] < 1
