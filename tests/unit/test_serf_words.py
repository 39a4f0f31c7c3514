"""Words of serf: tags, joins and leaves in Lamport order, events passed on once; nothing grows, nothing crashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.packing import pack
from fairlead.core.serf import EVENT, JOIN, LEAVE, MOST_SEEN, PUSH_PULL, Serf, decode_tags, encode_tags
from fairlead.errors import Invalid


class Bench:
    """One node, me, among a and b; what it spreads is kept."""

    def __init__(self) -> None:
        self.members = {"me": 1, "a": 1, "b": 1}
        self.spread: list[tuple[str, bytes]] = []
        self.serf = Serf("me", lambda key, data: self.spread.append((key, data)), self.members.keys())

    def say(self, kind: int, time: int, node: str) -> None:
        self.serf.heard(bytes((kind,)) + pack({"LTime": time, "Node": node}))


def test_tags_there_and_back() -> None:
    assert decode_tags(encode_tags({"role": "web", "ü": "x" * 200})) == {"role": "web", "ü": "x" * 200}
    assert decode_tags(b"") == decode_tags(b"role") == decode_tags(b"\xff\xc1") == decode_tags(b"\xff\x01") == {}
    with pytest.raises(Invalid, match="at most 512"):
        encode_tags({"role": "x" * 600})


def test_only_a_later_word_counts_and_is_told_on() -> None:
    bench = Bench()
    for kind, time in ((JOIN, 5), (LEAVE, 4), (LEAVE, 5), (LEAVE, 6), (JOIN, 6)):
        bench.say(kind, time, "a")
    assert [data[0] for _, data in bench.spread] == [JOIN, LEAVE]


def test_said_to_have_left_we_say_that_we_are_here_later() -> None:
    bench = Bench()
    bench.say(LEAVE, 50, "me")
    bench.serf.merge(bytes((PUSH_PULL,)) + pack({"LTime": 9, "StatusLTimes": {"me": 70}, "LeftMembers": ["me"]}))
    assert [key for key, _ in bench.spread] == ["intent me", "intent me"]
    assert all(data[0] == JOIN for _, data in bench.spread)


def test_having_left_we_do_not() -> None:
    bench = Bench()
    bench.serf.leave()
    bench.spread.clear()
    bench.say(LEAVE, 50, "me")
    assert bench.spread == []


def test_the_clock_cannot_be_used_up() -> None:
    bench = Bench()
    bench.say(JOIN, (1 << 64) - 1, "a")
    bench.serf.join()
    assert bench.spread and all(len(data) < 40 for _, data in bench.spread)
    assert b"\xcf" not in bench.spread[-1][1]  # our own time is still small


def test_an_event_is_passed_on_once() -> None:
    bench = Bench()
    event = bytes((EVENT,)) + pack({"LTime": 3, "Name": "deploy", "Payload": b"", "CC": False})
    for _ in range(3):
        bench.serf.heard(event)
    assert [data for _, data in bench.spread] == [event]


def test_what_is_remembered_is_bounded() -> None:
    bench = Bench()
    for number in range(3 * MOST_SEEN):
        bench.serf.heard(bytes((EVENT,)) + pack({"LTime": 3, "Name": str(number)}))
        bench.say(JOIN, number + 2, f"stranger{number}")
    assert len(bench.serf._seen) <= MOST_SEEN and len(bench.serf._said) <= 3


@given(st.binary(max_size=100))
def test_anything_at_all(data: bytes) -> None:
    bench = Bench()
    for kind in range(11):
        bench.serf.heard(bytes((kind,)) + data)
    bench.serf.heard(data)
    bench.serf.merge(data)
    bench.serf.merge(bytes((PUSH_PULL,)) + data)
    decode_tags(b"\xff" + data)
