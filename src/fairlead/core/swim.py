"""SWIM: who is in the cluster and who still lives, as one pure machine.

    receive(datagram)  asked(stream) -> its answer  answered(ticket, answer)       what comes in
    join(seeds)  leave()  spread(key, data)  change_me(meta)  wake(now)            what we want
                        |
                     Effects      datagrams and calls to make, facts to tell, when to wake us

    core.members    what we think of everybody, and why         core.broadcasts  what rides along
    core.probing    asking one member after another             core.envelope    bytes on the wire

Facts told: ``Changed``, ``NameTaken`` (core.members), ``Acked`` (core.probing), ``Heard``,
``Merged``, ``Departed`` (below).

Rules
    1. No clock, no dice, no socket of its own: two machines with the same dice and the same input
       do the same.
    2. No input raises. What cannot be read is counted and dropped.
    3. No packet is larger than ``swimwire.PACKET``, whatever rides along.
    4. Gossip sleeps while there is nothing to tell, and wakes at the first news; then it goes on in
       its interval. Quiet clusters cost a ping per node and second.
    5. Nothing is remembered over a restart: the others say what they think of us, and we answer
       with a higher incarnation.
    6. Whoever lost everybody goes on knocking at the doors of its seeds (``core.seeds``) and its
       dead; a partition heals by itself however long it took.

Sources: Das, Gupta, Motivala, "SWIM" (DSN 2002); Lifeguard (see ``core.suspicion``); for what is on
the wire, HashiCorp memberlist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fairlead.core import swimwire
from fairlead.core.alarms import Alarms
from fairlead.core.broadcasts import Broadcasts, times
from fairlead.core.effects import Address, Call, Datagram, Dice, Effects
from fairlead.core.envelope import Envelope
from fairlead.core.members import HERE, Member, Members, SwimConfig
from fairlead.core.packing import Malformed
from fairlead.core.probing import Probing, may_knock, reply_to
from fairlead.core.seeds import AT_ONCE, Seeds
from fairlead.core.swimwire import (
    SPEAKS_CRC,
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
)

MOST_TICKETS = 64
MOST_BROADCASTS = 4096


class Heard(NamedTuple):
    """Somebody's user message. ``by_stream``: it came over a stream of its own."""

    data: bytes
    sender: Address
    by_stream: bool = False


class Merged(NamedTuple):
    """The user state of a push-pull."""

    user_state: bytes
    join: bool


class Departed(NamedTuple):
    """We have left, and those who could hear it have heard it."""


class Statistics(NamedTuple):
    """Counts since the start."""

    members: int
    here: int
    health: int
    waiting: int
    packets_in: int
    packets_out: int
    bytes_out: int
    refused: int
    refutations: int


class Swim:
    """One node of a cluster."""

    def __init__(self, me: Member, config: SwimConfig, dice: Dice, envelope: Envelope | None = None) -> None:
        self.config = config
        self.envelope = envelope or Envelope()
        self.members = Members(me, config, dice, self._say, self._tell)
        self.ack_payload = b""
        """Rides in every ack of ours."""
        self.user_state: Callable[[bool], bytes] = lambda join: b""
        """Asked for at every push-pull."""
        self._dice = dice
        self._probing = Probing(self.members, dice, self, lambda: self.address, self._tell)
        self._broadcasts = Broadcasts(MOST_BROADCASTS)
        self._notes = Broadcasts(MOST_BROADCASTS)
        self._notes_first = False
        self._departed = False
        self._alarms: Alarms[str] = Alarms()
        self._last_gossip = -math.inf
        self._seeds = Seeds(dice, config.rejoin, config.rejoin_longest)
        self._tickets: dict[int, int] = {}
        self._send: list[Datagram | Call] = []
        self._facts: list[object] = []
        self._now = 0.0
        self._counts = [0, 0, 0, 0]

    @property
    def me(self) -> Member:
        return self.members.table[self.members.me]

    @property
    def address(self) -> Address:
        return self.me.address

    def statistics(self) -> Statistics:
        """What has happened so far."""
        members = self.members
        waiting = len(self._broadcasts) + len(self._notes)
        got, sent, size, refused = self._counts
        known, health = len(members.table), members.health.score
        return Statistics(known, members.here, health, waiting, got, sent, size, refused, members.refutations)

    # -- what we want ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> Effects:
        """Begin: probe, exchange, knock, each from a moment of its own."""
        self._now = now
        self._probing.start(now)
        self._alarms.set("exchange", now + self._dice.random() * self.config.push_pull)
        self._alarms.set("knock", now + self._dice.random() * self.config.knock)
        self._say(self.me.name, self.me.as_alive())
        return self._effects()

    def join(self, seeds: Iterable[Address], now: float) -> Effects:
        """Find the cluster through these: a few of them now, others whenever we know them not as alive."""
        self._now = now
        self._seeds.become(seed for seed in seeds if seed != self.address)
        self._seek(AT_ONCE)
        return self._effects()

    def leave(self, now: float) -> Effects:
        """Say goodbye. ``Departed`` is told once it has been spread."""
        self._now = now
        self.members.leave(now)
        return self._effects()

    def spread(self, key: str, data: bytes, now: float) -> Effects:
        """Tell everybody these bytes; they replace what was spread under the same key."""
        self._now = now
        self._note(key, data)
        return self._effects()

    def change_me(self, meta: bytes, now: float) -> Effects:
        """Let everybody know our new meta (at most 512 bytes)."""
        self._now = now
        self.members.change_me(meta)
        return self._effects()

    def wake(self, now: float) -> Effects:
        """Do what is due. Too early is fine."""
        self._now = now
        self._probing.wake(now)
        self.members.expire(now)
        for what in self._alarms.due(now):
            if what == "gossip":
                self._gossip()
            elif what == "exchange":
                self._exchange()
            elif what == "knock":
                self._knock()
            elif what == "rejoin":
                alone = self.members.here <= 1  # none at all: we are leaving, and were the last
                self._seek(AT_ONCE if alone else self._dice.random() < 1 / self.members.here)
        return self._effects()

    # -- what comes in --------------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, sender: Address, now: float) -> Effects:
        """A datagram."""
        self._now = now
        self._counts[0] += 1
        try:
            for message in self.envelope.open_packet(datagram):
                self._hear(message, sender)
        except Malformed:
            self._counts[3] += 1
        return self._effects()

    def asked(self, message: Message, sender: Address, now: float) -> tuple[bytes, Effects]:
        """The message of a stream that somebody opened, and what to answer before closing it (perhaps nothing)."""
        self._now = now
        answer = b""
        if isinstance(message, PushPull):
            answer = self.envelope.answer(swimwire.encode(self._state(join=False)))
            self._merge(message)
        elif isinstance(message, Ping):
            if message.node in ("", self.members.me):
                answer = self.envelope.answer(swimwire.encode(Ack(message.sequence)))
        elif isinstance(message, User):
            self._tell(Heard(message.data, sender, by_stream=True))
        return answer, self._effects()

    def answered(self, ticket: int, message: Message | None, now: float) -> Effects:
        """The answer to a call of ours, None when there was none."""
        self._now = now
        sequence = self._tickets.pop(ticket, None)
        if sequence == 0 and isinstance(message, PushPull):
            self._merge(message)
        elif sequence and isinstance(message, Ack) and message.sequence == sequence:
            self._probing.acked(message, now, by_stream=True)
        return self._effects()

    def refused(self, now: float) -> Effects:
        """Somebody sent a stream that makes no sense (the shell noticed while reading)."""
        self._now = now
        self._counts[3] += 1
        return self._effects()

    def _hear(self, message: Message, sender: Address) -> None:
        now = self._now
        match message:
            case Alive():
                self.members.alive(message, now)
            case Suspect():
                self.members.suspect(message, now)
            case Dead():
                self.members.dead(message, now)
            case User(data):
                self._tell(Heard(data, sender))
            case Ping(sequence, node, source, _):
                if node in ("", self.members.me):
                    self.post(reply_to(source, sender), Ack(sequence, self.ack_payload))
            case IndirectPing():
                self._probing.run_errand(message, sender, now)
            case Ack():
                if back := self.members.table.get(self._probing.acked(message, now)):
                    self._push_pull(back.address, join=False)
            case Nack():
                self._probing.nacked(message)

    def _merge(self, message: PushPull) -> None:
        self.members.merge(message.nodes, self._now)
        self._tell(Merged(message.user_state, message.join))

    # -- what goes out --------------------------------------------------------------------------------------------

    def post(self, to: Member | Address, *messages: Message) -> None:
        """Send messages as one packet, and with them what rides along."""
        self._post(to, [swimwire.encode(message) for message in messages])

    def send(self, to: Address, data: bytes, now: float) -> Effects:
        """A user message for one node, by datagram when it fits, else by stream."""
        self._now = now
        if len(data) < swimwire.PACKET - self.envelope.overhead:
            self._out(to, swimwire.encode(User(data)))
        else:
            stream = self.envelope.stream(swimwire.user_stream(data))
            self._send.append(Call(to, stream, 0, self.config.stream_timeout))
        return self._effects()

    def _post(self, to: Member | Address, parts: list[bytes]) -> None:
        each = swimwire.COMPOUND_EACH
        room = swimwire.PACKET - self.envelope.overhead - swimwire.COMPOUND_HEAD
        room -= sum(len(part) + each for part in parts)
        limit = times(self.config.retransmit, self.members.here)
        queues = [self._broadcasts, self._notes]
        if self._notes_first or self.members.leaving:  # in turn, so that neither starves; farewells before the end
            queues.reverse()
        self._notes_first = not self._notes_first
        for queue in queues:
            riding = queue.take(room, each, limit)
            room -= sum(len(part) + each for part in riding)
            parts += riding
        if parts:
            self._out(to, swimwire.compound(parts[:255]))

    def _out(self, to: Member | Address, payload: bytes) -> None:
        crc = isinstance(to, Member) and to.versions[1] >= SPEAKS_CRC
        data = self.envelope.packet(payload, crc)
        self._counts[1] += 1
        self._counts[2] += len(data)
        self._send.append(Datagram(to.address if isinstance(to, Member) else to, data))

    def call_ping(self, member: Member, sequence: int, timeout: float) -> None:
        """The last resort of a probe: the same question by stream."""
        if member.versions[1] >= 3:
            self._call(member.address, swimwire.encode(Ping(sequence, member.name)), sequence, timeout)

    def _call(self, to: Address, payload: bytes, sequence: int, timeout: float) -> None:
        if len(self._tickets) >= MOST_TICKETS:
            return
        ticket = self._dice.getrandbits(32) or 1
        self._tickets[ticket] = sequence
        self._send.append(Call(to, self.envelope.stream(payload), ticket, timeout))

    def _push_pull(self, to: Address, join: bool) -> None:
        self._call(to, swimwire.encode(self._state(join)), 0, self.config.stream_timeout)

    def _state(self, join: bool) -> PushPull:
        nodes = tuple(Known(member.as_alive(), member.state) for member in self.members.table.values())
        return PushPull(join, nodes, self.user_state(join))

    # -- gossip and its kin ---------------------------------------------------------------------------------------

    def _say(self, node: str, message: Message) -> None:
        self._broadcasts.add(node, swimwire.encode(message))
        self._soon()

    def _note(self, key: str, data: bytes) -> None:
        self._notes.add(key, swimwire.encode(User(data)))
        self._soon()

    def _soon(self) -> None:
        """There is news: gossip in a moment, but not more often than the interval allows."""
        if self._alarms.when("gossip") == math.inf:
            moment = self._dice.random() * self.config.gossip_interval / 8
            again = self._last_gossip + self.config.gossip_interval
            self._alarms.set("gossip", max(self._now + moment, again))

    def _gossip(self) -> None:
        now, patience = self._now, self.config.gossip_to_the_dead
        self._last_gossip = now
        others = self.members.some(
            self.config.gossip_nodes,
            lambda other: other.state in HERE or (other.state == State.DEAD and now - other.since < patience),
        )
        for other in others:
            self._post(other, [])
        if not others:  # nobody to tell: whoever comes gets all of it in a push-pull
            self._broadcasts, self._notes = Broadcasts(MOST_BROADCASTS), Broadcasts(MOST_BROADCASTS)
        if self._broadcasts or self._notes:
            self._alarms.set("gossip", now + self.config.gossip_interval)
        if self.members.leaving and not self._departed and self.me.name not in self._broadcasts:
            self._departed = True
            self._tell(Departed())

    def _exchange(self) -> None:
        """Push-pull with somebody; in large clusters less often, for each of them carries everybody."""
        self._alarms.set("exchange", self._now + self.between_exchanges())
        self.members.forget(self._now)
        for other in self.members.some(1, lambda other: other.state == State.ALIVE):
            self._push_pull(other.address, join=False)

    def between_exchanges(self) -> float:
        """Seconds from one push-pull to the next, by how many are here."""
        return self.config.push_pull * (1 + max(0, math.ceil(math.log2(self.members.here / 32))))

    def _knock(self) -> None:
        self._alarms.set("knock", self._now + self.config.knock)
        if gone := may_knock(self.members, self._dice):
            self._probing.knock(gone, self._now)

    def _seek(self, count: int) -> None:
        """Exchange everything with some seeds at which nobody lives that we know of."""
        if self.members.leaving:
            return
        if self._seeds:
            self._alarms.set("rejoin", self._now + self._seeds.pause(alone=self.members.here == 1))
        alive = {m.address for m in self.members.table.values() if m.state in HERE} if count else ()
        for seed in self._seeds.some(count, but=alive):
            self._push_pull(seed, join=True)

    # -- effects --------------------------------------------------------------------------------------------------

    def _tell(self, fact: object) -> None:
        self._facts.append(fact)

    def _effects(self) -> Effects:
        send, tell = tuple(self._send), tuple(self._facts)
        self._send, self._facts = [], []
        wake_at = min(self._alarms.next(), self._probing.alarms.next(), self.members.alarms.next())
        return Effects(send, tell, wake_at)
