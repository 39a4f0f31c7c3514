"""One test for each rule of SWIM (DSN 2002) and Lifeguard (arXiv 1707.00788), on one machine and made-up others."""

import math
import random
from itertools import pairwise

import pytest

from fairlead.core.broadcasts import Broadcasts, times
from fairlead.core.effects import Address, Call, Datagram, Effects
from fairlead.core.envelope import Envelope
from fairlead.core.members import Changed, Member, NameTaken, SwimConfig
from fairlead.core.probing import Acked
from fairlead.core.suspicion import LocalHealth, Suspicion
from fairlead.core.swim import Swim
from fairlead.core.swimwire import (
    PACKET,
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Known,
    Message,
    Nack,
    Ping,
    PushPull,
    State,
    Suspect,
    User,
    compound,
    encode,
)

CONFIG = SwimConfig()


def at(name: str) -> Address:
    return Address(f"10.0.0.{int(name[1:])}", 7946)


def alive(name: str, incarnation: int = 1, meta: bytes = b"") -> Alive:
    return Alive(incarnation, name, at(name), meta)


class Table:
    """We, n0, in a cluster of ``others``; what we send and tell is kept."""

    def __init__(self, others: int = 10, config: SwimConfig = CONFIG, seed: int = 1) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, Address, Message]] = []
        self.calls: list[Call] = []
        self.facts: list[object] = []
        self.sizes: list[int] = []
        self.wake_at = 0.0
        self.swim = Swim(Member("n0", at("n0"), incarnation=1), config, random.Random(seed))
        self.do(self.swim.start(0.0))
        self.hear(*(alive(f"n{n}") for n in range(1, others + 1)))

    def do(self, effects: Effects) -> None:
        self.wake_at = effects.wake_at
        self.facts += effects.tell
        for item in effects.send:
            if isinstance(item, Datagram):
                self.sizes.append(len(item.data))
                self.sent += [(self.now, item.to, message) for message in Envelope().open_packet(item.data)]
            else:
                self.calls.append(item)

    def hear(self, *messages: Message, sender: str = "n1") -> None:
        for message in messages:
            self.do(self.swim.receive(encode(message), at(sender), self.now))

    def run(self, until: float, answer: bool = True, deaf: tuple[str, ...] = ()) -> None:
        """Let time pass; everybody but the ``deaf`` answers pings at once."""
        done = len(self.sent)
        while self.wake_at <= until:
            self.now = max(self.now, self.wake_at)
            self.do(self.swim.wake(self.now))
            for _, to, message in self.sent[done:]:
                if isinstance(message, Ping) and answer and to not in [at(name) for name in deaf]:
                    self.do(self.swim.receive(encode(Ack(message.sequence)), to, self.now))
            done = len(self.sent)
        self.now = until

    def of(self, kind: type) -> list[tuple[float, Address, Message]]:
        return [entry for entry in self.sent if isinstance(entry[2], kind)]

    def state(self, name: str) -> State:
        return self.swim.members.table[name].state

    def said(self, message: Message, times: int = 1) -> bool:
        """Whether we told it on."""
        return sum(entry[2] == message for entry in self.sent) >= times


# -- SWIM 3.1: failure detector ------------------------------------------------------------------------------------


def test_each_period_one_member_is_pinged() -> None:
    table = Table(10)
    table.run(20)
    pings = [when for when, _, _ in table.of(Ping)]
    assert len(pings) in (39, 40, 41)
    assert all(abs(b - a - CONFIG.probe_interval) < 1e-6 for a, b in pairwise(pings))


def test_an_ack_in_time_is_all() -> None:
    table = Table(10)
    table.run(20)
    assert not table.of(IndirectPing) and not table.of(Suspect) and not table.calls[1:]


def test_without_an_ack_k_members_are_asked_to_ping() -> None:
    table = Table(10)
    table.run(1.0, answer=False)
    asked = [message for _, _, message in table.of(IndirectPing)]
    assert isinstance(asked[0], IndirectPing)
    first = [entry for entry in table.of(IndirectPing) if entry[2].sequence == asked[0].sequence]
    assert len(first) == CONFIG.helpers
    assert at(asked[0].node) not in [to for _, to, _ in first]


def test_a_helper_pings_and_passes_the_ack_on() -> None:
    table = Table(10)
    table.hear(IndirectPing(99, at("n5"), "n5", True), sender="n3")
    _, to, ping = table.of(Ping)[-1]
    assert to == at("n5") and isinstance(ping, Ping) and ping.sequence != 99
    table.hear(Ack(ping.sequence), sender="n5")
    assert (table.now, at("n3"), Ack(99)) in table.sent


def test_an_ack_by_way_of_a_helper_clears_the_member() -> None:
    table = Table(10)
    while not table.of(IndirectPing):
        table.run(table.now + 0.01, answer=False)
    asked = table.of(IndirectPing)[-1][2]
    assert isinstance(asked, IndirectPing)
    table.hear(Ack(asked.sequence), sender="n2")
    table.run(table.now + CONFIG.probe_timeout, answer=True)
    assert table.state(asked.node) == State.ALIVE


def test_no_answer_at_all_makes_a_suspect() -> None:
    table = Table(10)
    table.run(8, deaf=("n4",))
    assert table.state("n4") == State.SUSPECT
    assert any(isinstance(message, Suspect) and message.node == "n4" for _, _, message in table.sent)


def test_a_stream_is_tried_when_datagrams_fail() -> None:
    """memberlist's addition: whoever answers a stream lives, only its datagrams are lost."""
    table = Table(10)
    while not table.calls:
        table.run(table.now + 0.01, answer=False)
    ping = Envelope().reader(asking=False).feed(table.calls[0].data)
    assert isinstance(ping, Ping) and table.calls[0].to == at(ping.node)
    table.do(table.swim.answered(table.calls[0].ticket, Ack(ping.sequence), table.now))
    table.run(table.now + 0.3)
    assert table.state(ping.node) == State.ALIVE


def test_a_ping_is_answered_to_the_asker() -> None:
    table = Table(3)
    table.hear(Ping(5, "n0", Address("10.0.0.2", 1234)), sender="n2")
    assert (0.0, Address("10.0.0.2", 1234), Ack(5)) in table.sent


def test_a_ping_for_somebody_else_is_not_answered() -> None:
    """Somebody who had our address before may still be looked for here."""
    table = Table(3)
    table.hear(Ping(5, "n9"), sender="n2")
    assert not table.of(Ack)


# -- SWIM 4.1: dissemination ---------------------------------------------------------------------------------------


def test_news_rides_on_pings() -> None:
    table = Table(10)
    table.run(3)
    table.hear(alive("n11", 7))
    table.sent.clear()
    table.run(table.now + 1)
    for when, to, message in table.of(Ping)[:1]:
        assert (when, to, alive("n11", 7)) in table.sent, message


@pytest.mark.parametrize("nodes, most", [(1, 8), (9, 8), (10, 12), (99, 12), (100, 16), (10_000, 24)])
def test_news_is_told_lambda_log_n_times(nodes: int, most: int) -> None:
    assert times(4, nodes) == most
    queue = Broadcasts(10)
    queue.add("x", b"news")
    assert sum(len(queue.take(100, 2, most)) for _ in range(100)) == most


def test_what_was_told_least_goes_first() -> None:
    queue = Broadcasts(10)
    queue.add("old", b"old")
    queue.take(10, 2, 9)
    queue.add("new", b"new")
    assert queue.take(5, 2, 9) == [b"new"]
    queue.add("newest", b"nst")
    assert queue.take(100, 2, 9) == [b"nst", b"new", b"old"]


def test_newer_news_of_a_node_replaces_older() -> None:
    queue = Broadcasts(10)
    queue.add("n1", b"alive 1")
    queue.add("n1", b"alive 2")
    assert queue.take(100, 2, 9) == [b"alive 2"]


def test_the_queue_is_bounded() -> None:
    queue = Broadcasts(10)
    for number in range(1000):
        queue.add(str(number), b"x")
    assert len(queue) == 10 and "999" in queue


def test_no_packet_is_larger_than_it_may_be() -> None:
    table = Table(0)
    for number in range(1, 120):
        table.hear(Alive(1, f"n{number}", at(f"n{number % 250}"), b"m" * 500))
    table.run(5)
    assert max(table.sizes) <= PACKET and max(table.sizes) > PACKET / 2


@pytest.mark.parametrize("flood", ["messages", "members"])
def test_membership_and_messages_do_not_starve_each_other(flood: str) -> None:
    """A flood of either leaves the other room in every second packet."""
    table = Table(20)
    table.run(2)
    for number in range(300):
        if flood == "messages":
            table.do(table.swim.spread(f"event{number}", b"x" * 200, table.now))
        else:
            table.hear(Alive(1, f"n{number + 30}", at(f"n{number % 200}"), b"m" * 400))
    table.sent.clear()
    table.hear(alive("n21", meta=b"m" * 500))
    table.do(table.swim.spread("note", b"y" * 700, table.now))
    table.run(table.now + 0.5)
    assert table.of(Alive) and table.of(User)


# -- SWIM 4.2: suspicion and incarnations --------------------------------------------------------------------------


def test_suspected_ourselves_we_refute_with_a_higher_incarnation() -> None:
    table = Table(5)
    table.hear(Suspect(4, "n0", "n1"))
    assert table.swim.me.incarnation == 5
    table.run(1)
    assert table.said(Alive(5, "n0", at("n0")))


def test_declared_dead_we_refute_too() -> None:
    table = Table(5)
    table.hear(Dead(1, "n0", "n1"))
    assert table.state("n0") == State.ALIVE and table.swim.me.incarnation == 2


@pytest.mark.parametrize(
    "before, said, after",
    [
        ([], alive("n1", 1), State.ALIVE),
        ([], Suspect(1, "n1", "n2"), State.SUSPECT),
        ([], Suspect(0, "n1", "n2"), State.ALIVE),
        ([], Suspect(9, "n1", "n2"), State.SUSPECT),
        ([Suspect(1, "n1", "n2")], alive("n1", 1), State.SUSPECT),
        ([Suspect(1, "n1", "n2")], alive("n1", 2), State.ALIVE),
        ([Suspect(1, "n1", "n2")], Suspect(5, "n1", "n3"), State.SUSPECT),
        ([], Dead(1, "n1", "n2"), State.DEAD),
        ([], Dead(0, "n1", "n2"), State.ALIVE),
        ([Suspect(1, "n1", "n2")], Dead(1, "n1", "n2"), State.DEAD),
        ([Dead(1, "n1", "n2")], alive("n1", 1), State.DEAD),
        ([Dead(1, "n1", "n2")], alive("n1", 2), State.ALIVE),
        ([Dead(1, "n1", "n2")], Suspect(5, "n1", "n2"), State.DEAD),
        ([Dead(1, "n1", "n1")], alive("n1", 1), State.LEFT),
        ([Dead(1, "n1", "n1")], Dead(5, "n1", "n2"), State.LEFT),
        ([Dead(1, "n1", "n1")], alive("n1", 2), State.ALIVE),
    ],
)
def test_which_word_overrides_which(before: list[Message], said: Message, after: State) -> None:
    table = Table(5)
    table.hear(*before, said)
    assert table.state("n1") == after


def test_who_missed_our_answer_hears_it_again() -> None:
    """Else a node that lost one packet suspects us until its time is up."""
    table = Table(5)
    table.hear(Suspect(1, "n0", "n1"))
    table.run(5)
    table.sent.clear()
    suspicious_ping = compound([encode(Ping(7, "n0")), encode(Suspect(1, "n0", "n4"))])
    table.do(table.swim.receive(suspicious_ping, at("n4"), table.now))
    table.run(table.now + 1)
    assert table.said(Alive(2, "n0", at("n0"))) and table.swim.me.incarnation == 2


def test_suspicion_ends_in_death() -> None:
    table = Table(3)
    table.hear(Suspect(1, "n1", "n2"), Suspect(1, "n1", "n3"))
    table.run(60, deaf=("n1",))
    assert table.state("n1") == State.DEAD
    assert Changed(table.swim.members.table["n1"], State.SUSPECT) in table.facts


def test_who_refutes_in_time_lives() -> None:
    table = Table(3)
    table.hear(Suspect(1, "n1", "n2"), Suspect(1, "n1", "n3"))
    table.run(1, deaf=("n1",))
    table.hear(alive("n1", 2))
    table.run(30)
    assert table.state("n1") == State.ALIVE


def test_nobody_dies_of_what_is_said_of_strangers() -> None:
    table = Table(3)
    table.hear(Suspect(1, "n77", "n2"), Dead(1, "n78", "n2"))
    assert set(table.swim.members.table) == {"n0", "n1", "n2", "n3"}


# -- SWIM 4.3: round robin -----------------------------------------------------------------------------------------


def test_everybody_has_a_turn_in_each_round() -> None:
    table = Table(10)
    table.run(40)
    targets = [to for _, to, _ in table.of(Ping)]
    first = next(i for i in range(len(targets)) if len(set(targets[i : i + 10])) == 10)
    for start in range(first, len(targets) - 10, 10):
        assert len(set(targets[start : start + 10])) == 10


def test_the_order_changes_from_round_to_round_and_from_node_to_node() -> None:
    orders = []
    for seed in (1, 2):
        table = Table(10, seed=seed)
        table.run(20)
        targets = [to for _, to, _ in table.of(Ping)]
        orders += [tuple(targets[10:20]), tuple(targets[20:30])]
    assert len(set(orders)) == 4


def test_a_newcomer_comes_up_within_two_rounds() -> None:
    table = Table(10)
    table.run(2.2)
    table.hear(alive("n11"))
    table.run(2.2 + 2 * 11 * CONFIG.probe_interval)
    assert at("n11") in [to for _, to, _ in table.of(Ping)]


# -- push-pull -----------------------------------------------------------------------------------------------------


def test_everything_is_exchanged_with_a_seed() -> None:
    table = Table(2)
    table.do(table.swim.join([at("n9")], 0.0))
    ours = Envelope().reader(asking=False).feed(table.calls[-1].data)
    assert isinstance(ours, PushPull) and ours.join
    assert {known.alive.node for known in ours.nodes} == {"n0", "n1", "n2"}
    theirs = PushPull(False, (Known(alive("n8"), State.ALIVE), Known(alive("n9"), State.ALIVE)))
    table.do(table.swim.answered(table.calls[-1].ticket, theirs, 0.0))
    assert table.state("n8") == table.state("n9") == State.ALIVE


def test_dead_in_a_push_pull_is_only_suspect() -> None:
    """It may be somebody else's mistake: the node gets its chance to object."""
    table = Table(3)
    table.swim.asked(PushPull(False, (Known(alive("n1"), State.DEAD),)), at("n2"), 0.0)
    assert table.state("n1") == State.SUSPECT


def test_left_in_a_push_pull_is_left() -> None:
    table = Table(3)
    table.swim.asked(PushPull(False, (Known(alive("n1"), State.LEFT),)), at("n2"), 0.0)
    assert table.state("n1") == State.LEFT


def test_the_dead_are_asked_whether_they_are_back() -> None:
    """And when one answers, everything is exchanged with it: so partitions heal."""
    table = Table(1)
    table.hear(Dead(1, "n1", "n0"))
    calls = len(table.calls)
    table.run(10)
    assert any(to == at("n1") for _, to, _ in table.of(Ping))
    assert [call.to for call in table.calls[calls:]][:1] == [at("n1")]


def test_alone_seeds_are_tried_again_and_again_ever_later_but_never_too_late() -> None:
    """And not at the same moments by everybody: each pause is by chance between half and all of it."""
    tried = {}
    for seed in (1, 2):
        table = Table(0, seed=seed)
        table.do(table.swim.join([at("n9")], 0.0))
        tried[seed] = _tries(table, 60)
        pauses = [after - before for before, after in zip(tried[seed], tried[seed][1:], strict=False)]
        assert pauses[0] <= CONFIG.rejoin < pauses[3]
        assert max(pauses) <= CONFIG.rejoin_longest + 0.06
    assert tried[1] != tried[2]


def test_new_seeds_are_tried_at_once_and_a_few_at_a_time() -> None:
    table = Table(0)
    table.do(table.swim.join([at("n9")], 0.0))
    _tries(table, 60)
    table.calls.clear()
    table.do(table.swim.join([at(f"n{number}") for number in range(9, 30)], table.now))
    assert len(table.calls) == 4
    assert len(_tries(table, table.now + 2)) >= 2  # the pauses begin anew


def test_with_others_a_seed_at_which_nobody_lives_is_still_tried_now_and_then() -> None:
    """So two halves that know nothing of each other meet; those who are known to live are left in peace."""
    table = Table(3)
    table.do(table.swim.join([at("n1"), at("n9")], 0.0))
    table.calls.clear()
    table.run(200)
    assert at("n9") in {call.to for call in table.calls if call.ticket}
    knocks = [call for call in table.calls if call.to == at("n9")]
    assert len(knocks) < 200 / CONFIG.rejoin_longest


def _tries(table: Table, until: float) -> list[float]:
    """When somebody was called, none of them answering."""
    tries = []
    while table.now < until:
        for call in table.calls:
            tries.append(table.now)
            table.do(table.swim.answered(call.ticket, None, table.now))
        table.calls.clear()
        table.run(table.now + 0.05, answer=False)
    return tries


# -- Lifeguard -----------------------------------------------------------------------------------------------------


def test_health_gets_worse_with_failed_probes_and_refutations_and_better_with_answers() -> None:
    table = Table(10)
    table.hear(Suspect(1, "n0", "n1"))
    assert table.swim.members.health.score == 1
    table.run(3)
    assert table.swim.members.health.score == 0
    table.run(10, answer=False)
    assert table.swim.members.health.score == CONFIG.worst_health


def test_a_sick_node_probes_more_slowly_and_waits_longer() -> None:
    table = Table(10)
    table.swim.members.health.worse(3)
    table.run(20, answer=False)
    pings = [when for when, _, _ in table.of(Ping)]
    assert pings[-1] - pings[-2] >= 4 * CONFIG.probe_interval
    health = LocalHealth(8)
    health.worse(100)
    assert health.stretched(0.5) == 4.5


def test_a_helper_sends_a_nack_in_time() -> None:
    table = Table(10)
    table.run(2)
    table.hear(IndirectPing(99, at("n5"), "n5", True), sender="n3")
    began = table.now
    table.run(table.now + 1, deaf=("n5",))
    assert [(round(when - began, 6), to) for when, to, _ in table.of(Nack)] == [(0.8 * CONFIG.probe_timeout, at("n3"))]


def test_no_nack_for_who_does_not_know_them() -> None:
    table = Table(10)
    table.hear(IndirectPing(99, at("n5"), "n5", False), sender="n3")
    table.run(table.now + 1, deaf=("n5",))
    assert not table.of(Nack)


@pytest.mark.parametrize("nacks, worse", [(3, 0), (2, 1), (0, 3)])
def test_nacks_that_stay_out_speak_against_ourselves(nacks: int, worse: int) -> None:
    table = Table(10)
    while not table.of(IndirectPing):
        table.run(table.now + 0.01, answer=False)
    asked = table.of(IndirectPing)
    for _, to, message in asked[:nacks]:
        assert isinstance(message, IndirectPing)
        table.do(table.swim.receive(encode(Nack(message.sequence)), to, table.now))
    pinged = len(table.of(Ping))
    while len(table.of(Ping)) == pinged:  # until the next probe begins and this one has failed
        table.run(table.now + 0.01, answer=False)
    assert table.swim.members.health.score == worse


def test_a_suspicion_lasts_as_the_formula_says() -> None:
    suspicion = Suspicion(100.0, "a", shortest=2.0, longest=12.0, wanted=2)
    assert suspicion.ends() == 112.0
    assert suspicion.confirm("b") and suspicion.ends() == pytest.approx(100 + 12 - 10 * math.log(2) / math.log(3))
    assert suspicion.confirm("c") and suspicion.ends() == 102.0


def test_the_same_accuser_counts_once_and_more_than_wanted_is_no_news() -> None:
    suspicion = Suspicion(0.0, "a", 2.0, 12.0, wanted=2)
    assert not suspicion.confirm("a")
    assert suspicion.confirm("b") and suspicion.confirm("c") and not suspicion.confirm("d")


def test_in_a_cluster_too_small_for_others_the_shortest_counts() -> None:
    assert Suspicion(0.0, "a", 2.0, 12.0, wanted=0).ends() == 2.0
    table = Table(2)
    table.hear(Suspect(1, "n1", "n2"))
    table.run(CONFIG.suspicion * CONFIG.probe_interval + 0.1, deaf=("n1",))
    assert table.state("n1") == State.DEAD


def test_confirmations_are_told_on() -> None:
    table = Table(10)
    table.run(2)
    for accuser in ("n2", "n3", "n4", "n5"):
        table.hear(Suspect(1, "n1", accuser))
        table.run(table.now + 0.5, deaf=("n1",))
    told = {message.accuser for _, _, message in table.of(Suspect) if isinstance(message, Suspect)}
    assert {"n2", "n3", "n4"} <= told and "n5" not in told


def test_a_suspect_is_told_in_the_very_ping() -> None:
    """Buddy system: even when the gossip queue is empty or full of other things."""
    table = Table(2)
    table.hear(Suspect(1, "n1", "n2"))
    table.swim._broadcasts = Broadcasts(10)
    table.run(1.2, deaf=("n1",))
    pinged = next(when for when, to, _ in table.of(Ping) if to == at("n1"))
    assert (pinged, at("n1"), Suspect(1, "n1", "n0")) in table.sent


# -- leaving, names, guards ----------------------------------------------------------------------------------------


def test_leaving_is_said_and_not_refuted() -> None:
    table = Table(5)
    table.do(table.swim.leave(0.0))
    table.hear(Suspect(1, "n0", "n1"), Dead(1, "n0", "n0"))
    table.run(1)
    assert table.state("n0") == State.LEFT and table.said(Dead(1, "n0", "n0"), 3)
    assert [type(fact).__name__ for fact in table.facts].count("Departed") == 1


def test_a_name_belongs_to_its_address_while_the_node_lives() -> None:
    table = Table(3)
    thief = Alive(9, "n1", Address("10.6.6.6", 7946))
    table.hear(thief)
    assert table.swim.members.table["n1"].address == at("n1")
    assert NameTaken(table.swim.members.table["n1"], thief.address) in table.facts
    table.hear(Dead(1, "n1", "n2"), thief)
    assert table.swim.members.table["n1"].address == thief.address


def test_made_up_accusers_do_not_hurry_a_suspicion() -> None:
    table = Table(10)
    table.hear(Suspect(1, "n1", "n2"))
    ends = table.swim.members.alarms.when("n1")
    table.hear(*(Suspect(1, "n1", f"nobody{n}") for n in range(10)))
    assert table.swim.members.alarms.when("n1") == ends


def test_an_answer_to_no_question_changes_nothing() -> None:
    table = Table(10)
    while not table.of(IndirectPing):
        table.run(table.now + 0.01, answer=False)
    for guess in range(2000):
        table.hear(Ack(guess), sender="n1")
    assert not [fact for fact in table.facts if isinstance(fact, Acked)]


def test_no_stones_are_thrown_for_strangers() -> None:
    """An indirect ping goes to a member at its own address, an answer to the machine that asked."""
    table = Table(3)
    victim = Address("192.0.2.1", 80)
    table.hear(IndirectPing(1, victim, "n1", True), IndirectPing(1, victim, "who", True), Ping(1, "n0", victim))
    assert victim not in [to for _, to, _ in table.sent]


def test_errands_are_bounded() -> None:
    table = Table(3)
    for number in range(5000):
        table.hear(IndirectPing(number, at("n1"), "n1", True), sender="n2")
    assert len(table.swim._probing._errands) <= 256


def test_the_table_is_bounded() -> None:
    table = Table(0, config=CONFIG._replace(most_nodes=50))
    for number in range(500):
        table.hear(Alive(1, f"made-up-{number}", at("n1")))
    assert len(table.swim.members.table) == 50


def test_who_has_been_gone_for_long_is_forgotten() -> None:
    table = Table(2, config=CONFIG._replace(forget=100.0))
    table.hear(Dead(1, "n1", "n2"))
    table.run(300, deaf=("n1",))
    assert "n1" not in table.swim.members.table and "n2" in table.swim.members.table


def test_the_same_dice_and_input_do_the_same() -> None:
    one, other = Table(10, seed=3), Table(10, seed=3)
    one.run(20, deaf=("n3",))
    other.run(20, deaf=("n3",))
    assert one.sent == other.sent
