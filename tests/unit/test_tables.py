"""Tables: who gets which row, who may write it, what becomes of it when its owner fails, and that nothing grows."""

import hashlib
import hmac
import random

import pytest

from fairlead.core import rows as wire
from fairlead.core import swimwire
from fairlead.core.effects import Address, Datagram, Effects
from fairlead.core.gossip import Gossip
from fairlead.core.members import Changed, Member
from fairlead.core.rows import LAST_PLACE, Range, Row
from fairlead.core.shelf import Shelf
from fairlead.core.swimwire import Alive, State, User
from fairlead.core.tables import EVERYWHERE, NETWORKS, NoKeys, RowChanged, Tables, TablesConfig
from fairlead.errors import Invalid, NotFound
from lane.virtual import World


class PretendKeys:
    """Signatures as a test needs them: each owner has a secret that only it knows."""

    def __init__(self, me: str) -> None:
        self._me = me

    def sign(self, data: bytes) -> bytes:
        return hmac.digest(self._me.encode(), data, hashlib.sha256)

    def verify(self, owner: str, data: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(signature, hmac.digest(owner.encode(), data, hashlib.sha256))


def at(name: str) -> Address:
    return Address(f"10.0.0.{int(name[1:])}", 7946)


class Bench:
    """One node's tables, n0, among members that we make up."""

    def __init__(self, others: int = 3, signed: bool = False, config: TablesConfig | None = None) -> None:
        self.now = 0.0
        self.members = {"n0": Member("n0", at("n0"))}
        keys = PretendKeys("n0") if signed else NoKeys()
        self.tables = Tables("n0", self.members, config or TablesConfig(), random.Random(1), keys)
        self.sent: list[Datagram] = []
        self.told: list[RowChanged] = []
        for number in range(1, others + 1):
            self.member(f"n{number}", State.ALIVE)
        self.do(self.tables.join_network("red", 0.0))

    def do(self, effects: Effects) -> None:
        self.sent += [item for item in effects.send if isinstance(item, Datagram)]
        self.told += [fact for fact in effects.tell if isinstance(fact, RowChanged)]

    def member(self, name: str, state: State) -> None:
        before = self.members.get(name)
        self.members[name] = Member(name, at(name), state=state)
        self.do(self.tables.changed(Changed(self.members[name], before.state if before else None), self.now))

    def has(self, name: str, network: str = "red", time: int = 1) -> None:
        self.say(name, Row(EVERYWHERE, NETWORKS, network, name, time, b""))

    def say(self, sender: str, *rows: Row, ranges: tuple[Range, ...] = (), left: float = 1800.0) -> None:
        """Somebody sends rows; they are signed by ``sender`` where they have no signature."""
        signed = [row if row.signature else Row(*_fields(row), PretendKeys(sender).sign(row.signed)) for row in rows]
        encoded = [wire.encode_row(row, left) for row in signed]
        for message in wire.messages(encoded, [wire.encode_range(r) for r in ranges]):
            self.do(self.tables.heard(message, at(sender), self.now))

    def standing(self, network: str = "red") -> dict[tuple[str, str], bytes | None]:
        return {(row.key, row.owner): row.value for row in self.tables.standing(network, "endpoints")}

    def run(self, until: float) -> None:
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            self.do(self.tables.wake(self.now))


def _fields(row: Row) -> tuple[str, str, str, str, int, bytes | None]:
    return row.network, row.table, row.key, row.owner, row.time, row.value


def row(key: str, owner: str, time: int = 1, value: bytes | None = b"v", network: str = "red") -> Row:
    return Row(network, "endpoints", key, owner, time, value)


# -- who writes ----------------------------------------------------------------------------------------------------


def test_the_later_version_wins_in_whatever_order_they_come() -> None:
    bench = Bench()
    bench.has("n1")
    for time in (3, 1, 5, 2, 4):
        bench.say("n1", row("e", "n1", time, b"%d" % time))
    assert bench.standing() == {("e", "n1"): b"5"}


def test_a_row_without_its_owners_signature_is_refused_whoever_brings_it() -> None:
    bench = Bench(signed=True)
    bench.has("n1")
    bench.say("n1", row("e", "n1"))
    bench.say("n2", row("e", "n1", 9, b"hijacked"), row("e", "n1", 10, None))
    assert bench.standing() == {("e", "n1"): b"v"}
    assert bench.tables.refused == 2


def test_a_signed_row_may_come_by_way_of_anybody_but_not_be_altered() -> None:
    bench = Bench(signed=True)
    bench.has("n1")
    true = Row(*_fields(row("e", "n1")), PretendKeys("n1").sign(row("e", "n1").signed))
    for change in ({"value": b"x"}, {"time": 2}, {"key": "f"}, {"table": "peers"}, {"owner": "n2"}):
        fields = dict(zip(("network", "table", "key", "owner", "time", "value"), _fields(true), strict=True))
        bench.say("n3", Row(**{**fields, **change}, signature=true.signature))
    assert bench.standing() == {}
    bench.say("n3", true)
    assert bench.standing() == {("e", "n1"): b"v"}


def test_the_same_key_of_two_owners_are_two_rows() -> None:
    bench = Bench()
    bench.has("n1")
    bench.has("n2")
    bench.say("n1", row("e", "n1", 1, b"one"))
    bench.say("n2", row("e", "n2", 9, b"two"))
    assert bench.standing() == {("e", "n1"): b"one", ("e", "n2"): b"two"}


def test_replayed_rows_change_nothing() -> None:
    bench = Bench()
    bench.has("n1")
    bench.say("n1", row("e", "n1", 1))
    bench.say("n1", row("e", "n1", 2, None))
    told = len(bench.told)
    bench.say("n1", row("e", "n1", 1))
    bench.has("n1")
    assert bench.standing() == {} and len(bench.told) == told


def test_others_words_about_our_rows_are_answered_with_the_truth() -> None:
    bench = Bench()
    bench.has("n1")
    bench.do(bench.tables.put("red", "endpoints", "mine", b"true", 0.0))
    bench.say("n1", row("mine", "n0", 50, b"false"), row("gone", "n0", 60, b"of an earlier life"))
    assert bench.standing() == {("mine", "n0"): b"true"}
    bench.run(1)
    told = {(r.key, r.value) for d in bench.sent for r, _ in wire.decode(d.data).rows if r.time > 50}
    assert told == {("mine", b"true"), ("gone", None)}


def test_time_cannot_be_used_up() -> None:
    bench = Bench()
    bench.has("n1")
    bench.say("n1", row("e", "n1", 1 << 61))
    bench.do(bench.tables.put("red", "endpoints", "mine", b"x", 0.0))
    assert bench.standing() == {("mine", "n0"): b"x"}
    assert all(r.time < 100 for r in bench.tables.standing("red", "endpoints"))


# -- who gets it ---------------------------------------------------------------------------------------------------


def test_rows_go_only_to_nodes_that_have_the_network() -> None:
    bench = Bench(others=20)
    for name in ("n1", "n2"):
        bench.has(name)
    bench.run(1)
    bench.sent.clear()
    bench.do(bench.tables.put("red", "endpoints", "e", b"x", bench.now))
    bench.run(2)
    told = {d.to for d in bench.sent for r, _ in wire.decode(d.data).rows if r.network == "red"}
    assert told == {at("n1"), at("n2")}


def test_who_does_not_have_the_network_gets_no_answer_either() -> None:
    bench = Bench()
    bench.has("n1")
    bench.do(bench.tables.put("red", "endpoints", "e", b"x", 0.0))
    bench.run(5)
    bench.sent.clear()
    ask = Range("red", 0, LAST_PLACE, 0, 0, False)
    bench.say("n2", ranges=(ask,))
    bench.say("n9", ranges=(ask,))
    assert bench.sent == []
    bench.say("n1", ranges=(ask,))
    assert [r.key for r, _ in wire.decode(bench.sent[0].data).rows] == ["e"]
    bench.sent.clear()
    bench.member("n1", State.DEAD)
    bench.say("n1", ranges=(ask,))
    assert bench.sent == []


def test_rows_of_networks_we_do_not_have_are_not_kept() -> None:
    bench = Bench()
    bench.has("n1", "blue")
    bench.say("n1", row("e", "n1", network="blue"))
    assert "blue" not in bench.tables.sizes()
    with pytest.raises(NotFound):
        bench.tables.put("blue", "endpoints", "e", b"x", 0.0)


def test_who_has_a_network_is_known_to_all() -> None:
    bench = Bench()
    bench.has("n1", "blue")
    assert bench.tables.nodes("blue") == {"n1"}
    bench.member("n1", State.DEAD)
    assert bench.tables.nodes("blue") == frozenset()


# -- what stands ---------------------------------------------------------------------------------------------------


def test_rows_of_a_failed_node_are_suspended_and_stand_again_at_its_return() -> None:
    bench = Bench()
    bench.has("n1")
    bench.say("n1", row("e", "n1"))
    for state, stands in ((State.SUSPECT, True), (State.DEAD, False), (State.ALIVE, True), (State.LEFT, False)):
        bench.member("n1", state)
        assert bool(bench.standing()) == stands
    assert [change.stands for change in bench.told if change.row.key == "e"] == [True, False, True, False]


def test_a_row_falls_with_its_owners_network() -> None:
    """The cause of a known divergence elsewhere: what a row depends on got lost, and the row was refused for ever."""
    bench = Bench()
    bench.say("n1", row("e", "n1"))
    assert bench.standing() == {}  # nobody has said yet that n1 has the network
    bench.has("n1")
    assert bench.standing() == {("e", "n1"): b"v"}
    bench.say("n1", Row(EVERYWHERE, NETWORKS, "red", "n1", 5, None))
    assert bench.standing() == {}
    bench.has("n1", time=6)
    assert bench.standing() == {("e", "n1"): b"v"}


def test_a_row_may_come_before_its_owner_is_known() -> None:
    bench = Bench(others=1)
    bench.has("n1")
    bench.say("n1", row("e", "n7"), Row(EVERYWHERE, NETWORKS, "red", "n7", 1, b""))
    assert bench.standing() == {}
    bench.member("n7", State.ALIVE)
    assert bench.standing() == {("e", "n7"): b"v"}


def test_rows_of_nobody_are_dropped_and_not_passed_on() -> None:
    bench = Bench(others=1)
    bench.has("n1")
    bench.run(1)
    bench.sent.clear()
    bench.say("n1", *(row("e", f"n{n}") for n in range(50, 60)))
    bench.run(70)
    assert bench.tables.sizes()["red"] == 0
    assert not [r for d in bench.sent for r, _ in wire.decode(d.data).rows if r.key == "e"]


# -- deleting ------------------------------------------------------------------------------------------------------


def test_a_deleted_row_is_remembered_then_forgotten() -> None:
    bench = Bench(config=TablesConfig(remember=100.0))
    bench.has("n1")
    bench.say("n1", row("e", "n1", 2, None), left=100.0)
    bench.say("n1", row("e", "n1", 1))
    assert bench.standing() == {}
    bench.run(95)
    assert bench.tables.sizes()["red"] == 1
    bench.run(101)
    assert bench.tables.sizes()["red"] == 0


def test_in_its_last_tenth_it_is_not_passed_on() -> None:
    """Else every node would learn it anew from the next, for ever."""
    bench = Bench(config=TablesConfig(remember=100.0))
    bench.has("n1")
    bench.do(bench.tables.put("red", "endpoints", "e", b"x", 0.0))
    bench.do(bench.tables.delete("red", "endpoints", "e", 0.0))
    ask = Range("red", 0, LAST_PLACE, 0, 0, False)
    for until, known in ((80, ["e"]), (95, [])):
        bench.run(until)
        bench.sent.clear()
        bench.say("n1", ranges=(ask,))
        assert [r.key for d in bench.sent for r, _ in wire.decode(d.data).rows] == known
    other = Bench(config=TablesConfig(remember=100.0))
    other.has("n1")
    other.say("n1", row("e", "n1", 2, None), left=9.0)
    assert other.tables.sizes()["red"] == 0


def test_leaving_a_network_deletes_our_rows_and_forgets_the_others() -> None:
    bench = Bench()
    bench.has("n1")
    bench.say("n1", row("theirs", "n1"))
    bench.do(bench.tables.put("red", "endpoints", "mine", b"x", 0.0))
    bench.sent.clear()
    bench.do(bench.tables.leave_network("red", 0.0))
    bench.run(1)
    said = {(r.key, r.value) for d in bench.sent for r, _ in wire.decode(d.data).rows}
    assert {("mine", None), ("red", None)} <= said
    assert bench.tables.sizes().keys() == {EVERYWHERE}
    ended = {change.row.key for change in bench.told if not change.stands}
    assert ended == {"mine", "theirs", "red"}


# -- bounds --------------------------------------------------------------------------------------------------------


def test_networks_and_owners_are_bounded() -> None:
    bench = Bench(config=TablesConfig(most_rows=100, most_of_owner=30))
    for name in ("n1", "n2", "n3"):
        bench.has(name)
        for number in range(200):
            bench.say(name, row(f"e{number}", name))
    assert bench.tables.sizes()["red"] == 90
    bench.say("n1", row("e0", "n1", 2, b"known ones may change"))
    assert bench.standing()[("e0", "n1")] == b"known ones may change"


def test_a_row_too_large_for_a_packet_is_refused_at_the_door() -> None:
    bench = Bench()
    with pytest.raises(Invalid, match="at most 1200"):
        bench.tables.put("red", "endpoints", "e", b"x" * 1200, 0.0)
    assert bench.standing() == {}


def test_one_message_never_brings_a_flood_back() -> None:
    bench = Bench()
    bench.has("n1")
    for number in range(3000):
        bench.do(bench.tables.put("red", "endpoints", f"e{number}", b"x" * 100, 0.0))
    bench.sent.clear()
    bench.say("n1", ranges=tuple(Range("red", 0, LAST_PLACE, n, 0, False) for n in range(30)))
    assert 1 < len(bench.sent) <= 16
    assert max(len(datagram.data) for datagram in bench.sent) <= wire.ROOM


def test_messages_that_make_no_sense_are_counted() -> None:
    bench = Bench()
    dice = random.Random(1)
    good = next(
        wire.messages([wire.encode_row(row("e", "n1"), 0)], [wire.encode_range(Range("red", 0, 9, 1, 1, False))])
    )
    for _ in range(3000):
        bad = bytearray(good)
        bad[dice.randrange(2, len(bad))] = dice.randrange(256)
        bench.do(bench.tables.heard(bytes(bad[: dice.randrange(len(bad) + 1)]), at("n1"), 0.0))
    assert bench.tables.refused > 1000
    assert sum(bench.tables.sizes().values()) < 3000


def test_a_row_in_another_rows_place_is_not_kept() -> None:
    """Places are hashes; who finds two names with one hash must not confuse the shelf."""
    shelf = Shelf("red")
    one, other = row("a", "n1"), row("b", "n1")
    other.__dict__["place"] = one.place
    assert shelf.keep(one) and not shelf.keep(other)
    shelf.drop(one)
    assert len(shelf) == 0 and shelf.everything().size == 0


# -- comparing -----------------------------------------------------------------------------------------------------


def agree(one: Shelf, other: Shelf) -> tuple[int, int]:
    """Compare until nobody has anything to say; how many rows and ranges were sent."""
    rows = ranges = 0
    asked, asker, answerer = [one.everything()], one, other
    while asked:
        ranges += len(asked)
        following = []
        for part in asked:
            answer = answerer.compare(part, set())
            rows += len(answer.rows)
            for found in answer.rows:
                kept = asker.get(found.name)
                if kept is None or kept.time < found.time:
                    asker.keep(found)
            following += answer.ranges
        asked, asker, answerer = following, answerer, asker
    return rows, ranges


@pytest.mark.parametrize(
    "common, mine, theirs", [(0, 0, 5), (0, 500, 0), (0, 3, 4), (5000, 1, 0), (5000, 0, 1), (5000, 7, 9)]
)
def test_two_shelves_come_to_agree_with_little_talk(common: int, mine: int, theirs: int) -> None:
    one, other = Shelf("red"), Shelf("red")
    for number in range(common):
        one.keep(row(f"c{number}", "n1"))
        other.keep(row(f"c{number}", "n1"))
    for number in range(mine):
        one.keep(row(f"m{number}", "n2"))
    for number in range(theirs):
        other.keep(row(f"t{number}", "n3"))
    for _ in range(3):
        rows, ranges = agree(one, other)
        if one.rows.keys() == other.rows.keys():
            break
    assert one.rows.keys() == other.rows.keys() and len(one) == common + mine + theirs
    assert ranges <= 60 * (mine + theirs)
    if common:
        assert rows <= 20 * (mine + theirs)


# -- in a cluster --------------------------------------------------------------------------------------------------


def cluster(count: int, network: int, loss: float = 0.0, seed: int = 1) -> World:
    """So many nodes, the first of them with the network red."""
    world = World(seed=seed, loss=loss)
    for name in world.names(count):
        world.add(name)
    world.join_all()
    for name in world.names(network):
        world.tables(name, Tables.join_network, "red")
    world.run(5)
    return world


def seen(world: World, name: str) -> dict[tuple[str, str], bytes | None]:
    machine = world.nodes[name].machine
    assert isinstance(machine, Gossip)
    return {(r.key, r.owner): r.value for r in machine.tables.standing("red", "endpoints")}


def everywhere(world: World, names: list[str], wanted: dict[tuple[str, str], bytes | None]) -> bool:
    return all(seen(world, name) == wanted for name in names)


def test_a_newcomer_has_a_thousand_rows_within_seconds_also_with_loss() -> None:
    world = cluster(6, 4, loss=0.05)
    wanted: dict[tuple[str, str], bytes | None] = {(f"e{n}", "n1"): b"v" * 40 for n in range(1000)}
    for key, _ in wanted:
        world.tables("n1", Tables.put, "red", "endpoints", key, b"v" * 40)
    world.run_until(lambda: everywhere(world, ["n0", "n2", "n3"], wanted), 30)
    world.tables("n5", Tables.join_network, "red")
    assert world.run_until(lambda: seen(world, "n5") == wanted, 30) < 10
    assert max(node.largest for node in world.nodes.values()) <= 1400


def test_what_changed_during_a_partition_is_known_right_after() -> None:
    world = cluster(10, 10)
    for name in world.names(10):
        world.tables(name, Tables.put, "red", "endpoints", "e", b"before")
    world.run(10)
    world.cut(world.names(5), [f"n{n}" for n in range(5, 10)])
    world.run(70)
    for name in world.names(10):
        world.tables(name, Tables.put, "red", "endpoints", "e", b"after")
    world.run(80)
    assert len(seen(world, "n0")) == 5
    world.heal()
    wanted: dict[tuple[str, str], bytes | None] = {("e", name): b"after" for name in world.names(10)}
    assert world.run_until(lambda: everywhere(world, world.names(10), wanted), 30) < 5


def test_a_node_that_forgot_its_rows_deletes_them() -> None:
    world = cluster(6, 6)
    world.tables("n2", Tables.put, "red", "endpoints", "old", b"x")
    world.run(10)
    world.crash("n2")
    world.run(11)
    world.add("n2")
    world.tables("n2", Tables.join_network, "red")
    world.tables("n2", Tables.put, "red", "endpoints", "new", b"y")
    world.join("n2", ["n0"])
    wanted: dict[tuple[str, str], bytes | None] = {("new", "n2"): b"y"}
    assert world.run_until(lambda: everywhere(world, world.names(6), wanted), 30) < 6


def test_stock_agents_are_not_bothered() -> None:
    """Our messages would be errors in their logs: only those with our tag get them."""
    world = cluster(3, 3)
    stock = Alive(1, "n9", Address("10.0.0.9", 7946), b"")
    got: list[bytes] = []
    world.watch = lambda sender, to, data: got.append(data) if to == stock.address else None
    world.inject("n0", swimwire.encode(stock), stock.address)
    world.tables("n0", Tables.put, "red", "endpoints", "e", b"x")
    world.run(30)
    assert got
    for data in got:
        for message in world.nodes["n0"].swim.envelope.open_packet(data):
            assert not isinstance(message, User) or message.data[0] != wire.MARK
