"""How two hosts come to keys: agreed, renewed without a gap, never made twice, whatever is lost on the way."""

import hashlib
import hmac
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core import keying
from fairlead.core.keying import GRACE, Keying, Offer, Peer, Row, derive, read_row
from fairlead.core.wanted import Association, Policy, Secret
from fairlead.errors import Invalid
from fairlead.host.halves import X25519
from lane.golden import as_text

LIFETIME = 1000.0


class Host:
    """One side: its kernel (associations with their keys, the number that packets leave with), what it remembers."""

    def __init__(self, number: int, seen: set[tuple[str, bytes]]) -> None:
        self.me = Peer(f"n{number}", f"10.0.0.{number}")
        self.seen = seen
        """every key that was ever made, by the host that made it"""
        self.kernel: dict[tuple[str, int], bytes] = {}
        self.leaves: int | None = None
        self.heard: Row | None = None
        self.told = Row(*self.me)
        self.begin()

    def begin(self) -> None:
        self.keys = Keying(self.me, 4790, X25519, random.Random(len(self.seen)).randrange, LIFETIME)

    def step(self, other: "Host", now: float) -> None:
        """Ask, offer, and have it in the kernel; then tell."""
        wanted = {}
        self.leaves = None
        for item in self.keys.step(other.me, self.heard, now):
            if isinstance(item, Association):
                wanted[item.target, item.spi] = item
            elif item.way == "out":
                self.leaves = int(item.need)
        for place, item in wanted.items():
            if place not in self.kernel:
                key = item.secret.take()
                assert len(key) == 20, "a key that was spent"
                assert (self.me.node, key) not in self.seen, "one key for two associations"
                self.seen.add((self.me.node, key))
                self.kernel[place] = key
        self.kernel = {place: key for place, key in self.kernel.items() if place in wanted}
        self.told = self.keys.row

    def lose(self, *places: tuple[str, int]) -> None:
        """The kernel does not have these any more, and that was noticed."""
        for target, spi in places:
            self.kernel.pop((target, spi), None)
            self.keys.lose(Association(source="10.0.0.1", target=target, spi=spi, port=4790))
            self.keys.lose(Association(source="10.0.0.2", target=target, spi=spi, port=4790))

    def restart(self, other: "Host") -> None:
        """The engine; or the whole machine, when the kernel was emptied before."""
        self.begin()
        self.keys.load(self.told, {other.me: self.heard} if self.heard else {})
        for item in self.keys.plan(other.me):
            if isinstance(item, Association) and (item.target, item.spi) not in self.kernel:
                self.keys.lose(item)

    def reaches(self, other: "Host") -> bool:
        place = (other.me.vtep, self.leaves or 0)
        return place in self.kernel and self.kernel[place] == other.kernel.get(place)


class Pair:
    def __init__(self) -> None:
        seen: set[tuple[str, bytes]] = set()
        self.one, self.two = self.hosts = Host(1, seen), Host(2, seen)
        self.now = 0.0

    def step(self, host: Host) -> None:
        host.step(self.two if host is self.one else self.one, self.now)

    def deliver(self, host: Host) -> None:
        host.heard = read_row(f"keys/{self.other(host).me.node}", _encoded(self.other(host).told))

    def other(self, host: Host) -> Host:
        return self.two if host is self.one else self.one

    def settle(self) -> int:
        """Until nobody has anything new to say; returns how often they spoke."""
        for turn in range(20):
            before = [host.told for host in self.hosts]
            for host in self.hosts:
                self.deliver(host)
                self.step(host)
            if before == [host.told for host in self.hosts]:
                return turn
        raise AssertionError("they never agree")

    @property
    def well(self) -> bool:
        return self.one.reaches(self.two) and self.two.reaches(self.one)


def _encoded(row: Row) -> bytes:
    return msgspec.json.encode(row)


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.settle()
    return pair


def test_both_directions_have_keys_of_their_own(pair: Pair) -> None:
    assert pair.well
    assert len(pair.one.kernel) == 2 and len(set(pair.one.kernel.values())) == 2
    assert pair.one.kernel == pair.two.kernel


def test_new_keys_come_without_a_gap(pair: Pair) -> None:
    old = set(pair.one.kernel)
    pair.now += LIFETIME
    assert pair.one.keys.due() == LIFETIME
    for _ in range(6):
        for host in pair.hosts:
            pair.deliver(host)
            pair.step(host)
            assert pair.well
    assert old < set(pair.one.kernel) and pair.one.leaves not in {spi for _, spi in old}
    pair.now += GRACE
    pair.settle()
    assert pair.well and not old & set(pair.one.kernel) and len(pair.one.kernel) == 2


def test_while_the_other_is_silent_the_old_key_stays(pair: Pair) -> None:
    for _ in range(5):
        pair.now += LIFETIME
        pair.step(pair.one)
        assert pair.one.reaches(pair.two)
    assert len(pair.one.told.asks[str(pair.two.me)]) == 2, "it does not ask again and again"


def test_after_a_restart_what_the_kernel_has_is_kept_and_renewed(pair: Pair) -> None:
    old = dict(pair.one.kernel)
    pair.one.restart(pair.two)
    pair.step(pair.one)
    assert pair.well and pair.one.kernel.items() >= old.items()
    pair.settle()
    pair.now += GRACE
    pair.settle()
    outgoing = {place for place in old if place[0] == pair.two.me.vtep}
    assert pair.well and not outgoing & set(pair.one.kernel)


def test_after_a_reboot_every_key_is_a_new_one(pair: Pair) -> None:
    old = set(pair.two.kernel.values())
    pair.one.kernel.clear()
    pair.one.restart(pair.two)
    pair.settle()
    pair.now += GRACE
    pair.settle()
    assert pair.well and not old & set(pair.one.kernel.values())


def test_who_leaves_and_comes_back_gets_new_keys(pair: Pair) -> None:
    old = set(pair.one.kernel.values())
    pair.one.keys.forget(pair.two.me)
    pair.one.kernel.clear()
    pair.one.told = pair.one.keys.row
    assert not pair.one.told.asks and not pair.one.told.offers
    pair.settle()
    assert pair.well and not old & set(pair.one.kernel.values())


EVENTS = st.lists(
    st.tuples(st.sampled_from(["deliver", "step", "time", "lose", "restart", "reboot", "forget"]), st.booleans()),
    max_size=40,
)


@settings(max_examples=150)
@given(EVENTS)
def test_whatever_happens_no_key_is_made_twice_and_in_the_end_they_agree(events: list[tuple[str, bool]]) -> None:
    pair = Pair()
    for event, first in events:
        host = pair.one if first else pair.two
        if event == "deliver":
            pair.deliver(host)
        elif event == "step":
            pair.step(host)
        elif event == "time":
            pair.now += LIFETIME / 3 if first else GRACE
        elif event == "lose":
            host.lose(*list(host.kernel)[:1])
        elif event == "forget":
            host.keys.forget(pair.other(host).me)
            host.kernel.clear()
        else:
            if event == "reboot":
                host.kernel.clear()
            host.restart(pair.other(host))
    pair.settle()
    pair.now += LIFETIME + GRACE
    pair.settle()
    pair.now += GRACE
    pair.settle()
    assert pair.well and len(pair.one.kernel) == len(pair.two.kernel) == 2


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["deliver", "step", "time", "restart"]), st.booleans()), max_size=60))
def test_when_nothing_is_lost_no_packet_is(events: list[tuple[str, bool]]) -> None:
    """Rows late, in any order; engines restarted; keys renewed: what leaves is always accepted."""
    pair = Pair()
    pair.settle()
    for event, first in events:
        host = pair.one if first else pair.two
        if event == "deliver":
            pair.deliver(host)
        elif event == "step":
            pair.step(host)
        elif event == "time":
            pair.now += LIFETIME if first else GRACE
        else:
            host.restart(pair.other(host))
            pair.step(host)
        assert pair.well


def test_a_hostile_row_is_refused_or_harmless(pair: Pair) -> None:
    row, one = pair.two.told, str(pair.one.me)
    bad = [
        Row(row.node, "10.0.0.2.", row.begun),
        Row(row.node, row.vtep, asks={one: ("zz" * 32,)}),
        Row(row.node, row.vtep, asks={one: ("ab" * 32,) * 100}),
        Row(row.node, row.vtep, offers={one: (Offer("ab" * 32, "ab" * 32, 7),)}),
        Row("../x", row.vtep),
    ]
    for each in bad:
        with pytest.raises(Invalid, match="makes no sense"):
            read_row(f"keys/{row.node}", _encoded(each))
    with pytest.raises(Invalid):
        read_row(f"keys/{row.node}", b'{"node": 7}')
    zero = "00" * 32  # everybody comes to the same secret with it
    pair.one.heard = Row(row.node, row.vtep, asks={one: (zero,)}, offers={one: (Offer(zero, zero, 0x2000),)})
    pair.step(pair.one)
    assert not pair.one.kernel and pair.one.leaves is None


def test_a_key_depends_on_everything() -> None:
    """RFC 5869 by hand, once; then each word changes it."""
    one, two, offer = Peer("n1", "10.0.0.1"), Peer("n2", "10.0.0.2"), Offer("aa" * 32, "bb" * 32, 4096)
    key = derive(b"m" * 32, one, two, offer).take()
    info = b"\n".join([b"fairlead overlay 1", b"n1 10.0.0.1", b"n2 10.0.0.2", b"aa" * 32, b"bb" * 32, b"4096", b""])
    extracted = hmac.new(b"\0" * 32, b"m" * 32, hashlib.sha256).digest()
    assert key == hmac.new(extracted, info[:-1] + b"\x01", hashlib.sha256).digest()[:20]
    others = [
        derive(b"n" * 32, one, two, offer),
        derive(b"m" * 32, two, one, offer),
        derive(b"m" * 32, one, Peer("n2", "10.0.0.3"), offer),
        derive(b"m" * 32, one, two, Offer("aa" * 32, "cc" * 32, 4096)),
        derive(b"m" * 32, one, two, Offer("cc" * 32, "bb" * 32, 4096)),
        derive(b"m" * 32, one, two, Offer("aa" * 32, "bb" * 32, 4097)),
    ]
    assert len({key, *(secret.take() for secret in others)}) == 7


def test_a_key_is_never_shown() -> None:
    secret = Secret(b"0123456789abcdef0123")
    item = Association(source="10.0.0.1", target="10.0.0.2", spi=4096, port=4790, secret=secret)
    shown = f"{item} {item!r} {as_text([item])} {secret} {secret!r} {vars(type(item))}"
    assert "0123456789" not in shown and b"0123456789".hex() not in shown
    assert secret.take() and not secret.take()


def test_the_guard_stops_both_ways() -> None:
    assert keying.guard("fd00::1", 4790) == tuple(
        Policy(way=way, source="::/0", target="::/0", port=4790, need="nothing") for way in ("in", "out")
    )
