"""Gossip: one node of a cluster, all its machines together.

    bytes <-> Swim   who is here           -- Heard, Merged --> Serf     stock agents' own words
                                           -- Acked ----------> Coordinates
                                           -- Heard, Changed -> Tables   who has which row
    The whole is a machine like its parts: the same inputs, one ``Effects`` for each.

Facts told: ``Changed``, ``NameTaken``, ``Departed`` of swim, ``RowChanged`` of the tables, ``KeyAnswered``
and ``RingChanged`` of serf's keys, and ``Heard`` for user messages that none of us understands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fairlead.core import coordinates, serf, serfkeys
from fairlead.core.coordinates import Coordinates
from fairlead.core.effects import Address, Dice, Effects, packed
from fairlead.core.envelope import Envelope
from fairlead.core.members import HERE, Changed, Member, SwimConfig
from fairlead.core.packing import Malformed
from fairlead.core.probing import Acked
from fairlead.core.rows import MARK
from fairlead.core.serf import Serf
from fairlead.core.serfkeys import KeyAnswered, Query, RingChanged
from fairlead.core.swim import Heard, Merged, Swim
from fairlead.core.swimwire import Message, State
from fairlead.core.tables import Keys, NoKeys, Tables, TablesConfig

OURS = "fairlead"
"""The tag of those who understand our tables."""
_OURS = OURS.encode()


class Me(NamedTuple):
    """Who a node is, to others."""

    name: str
    address: Address
    tags: dict[str, str] = {}


class Gossip:
    """Swim and those who ride on it."""

    def __init__(
        self,
        me: Me,
        config: SwimConfig,
        dice: Dice,
        envelope: Envelope | None = None,
        tables: TablesConfig | None = None,
        keys: Keys | None = None,
        obeys: bool = True,
    ) -> None:
        """``obeys``: anybody may change the keys of gossip by asking, as serf has it."""
        meta = serf.encode_tags({**me.tags, OURS: "1"})
        self.swim = Swim(Member(me.name, me.address, meta, incarnation=1), config, dice, envelope)
        self.coordinates = Coordinates(dice)
        self.tables = Tables(
            me.name,
            self.swim.members.table,
            tables or TablesConfig(),
            dice,
            keys or NoKeys(),
            speaks=lambda member: _OURS in member.meta,
            distance=self.coordinates.distance,
        )
        self._obeys = obeys
        self._now = 0.0
        self._tables_wake = math.inf
        self._more: list[Effects] = []
        self._told_by_tables: list[object] = []
        self._questions: list[int] = []
        """Queries of ours; answers to others are not believed."""
        self._serf = Serf(me.name, self._spread, self.swim.members.table.keys())
        self.swim.user_state = lambda join: self._serf.user_state(self._left())
        self.swim.ack_payload = coordinates.encode(self.coordinates.mine)

    # -- inputs ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Effects:
        """Begin. Nothing but ``wake`` is needed from now on."""
        self._through_tables(self.tables.start(now), now)
        return self._run(now, lambda: self.swim.start(now))

    def with_tables(self, step: Callable[[Tables], Effects], now: float) -> Effects:
        """A wish for the tables: ``step`` makes it."""
        self._through_tables(step(self.tables), now)
        return self._run(now, lambda: self.swim.wake(now))

    def join(self, seeds: Iterable[Address], now: float) -> Effects:
        """Find the cluster through these; they are kept, and tried again whenever nobody lives there."""
        self._now = now
        self._serf.join()
        return self._run(now, lambda: self.swim.join(seeds, now))

    def leave(self, now: float) -> Effects:
        """Go of our own will. ``Departed`` is told when everybody can know."""
        self._now = now
        self._serf.leave()
        return self._run(now, lambda: self.swim.leave(now))

    def change_tags(self, tags: dict[str, str], now: float) -> Effects:
        """Tell everybody our new tags."""
        meta = serf.encode_tags({**tags, OURS: "1"})
        return self._run(now, lambda: self.swim.change_me(meta, now))

    def ask_keys(self, id: int, deed: str, key: bytes, now: float) -> Effects:
        """Ask everybody to do a deed of ``core.serfkeys`` with a key, we too; ``KeyAnswered`` tells of each answer."""
        self._now = now
        me, address = self.swim.members.me, self.swim.address
        self._questions = [*self._questions[-7:], id]
        self._serf.ask(lambda time: serfkeys.query(time, id, address, me, deed, key, packed(address.ip)))
        effects = self._run(now, lambda: self.swim.wake(now))
        return effects._replace(tell=(*effects.tell, *self._obey(id, deed, key)))

    def say(self, name: str, data: bytes, now: float) -> Effects:
        """A word for one member, as ``Heard`` there; lost, perhaps. Nobody of that name: nothing."""
        member = self.swim.members.table.get(name)
        return self._run(now, lambda: self.swim.send(member.address, data, now) if member else self.swim.wake(now))

    def wake(self, now: float) -> Effects:
        """Do what is due."""
        if now >= self._tables_wake:
            self._through_tables(self.tables.wake(now), now)
        return self._run(now, lambda: self.swim.wake(now))

    def receive(self, datagram: bytes, sender: Address, now: float) -> Effects:
        """A datagram."""
        return self._run(now, lambda: self.swim.receive(datagram, sender, now))

    def asked(self, message: Message, sender: Address, now: float) -> tuple[bytes, Effects]:
        """The message of a stream, and what to answer on it."""
        self._now = now
        answer, effects = self.swim.asked(message, sender, now)
        return answer, self._run(now, lambda: effects)

    def answered(self, ticket: int, message: Message | None, now: float) -> Effects:
        """The answer to a ``Call``, None for none."""
        return self._run(now, lambda: self.swim.answered(ticket, message, now))

    def refused(self, now: float) -> Effects:
        """A stream made no sense."""
        return self._run(now, lambda: self.swim.refused(now))

    # -- what is known --------------------------------------------------------------------------------------------

    def members(self) -> list[tuple[Member, dict[str, str]]]:
        """Everybody we know, with their tags; we too."""
        return [(member, serf.decode_tags(member.meta)) for member in self.swim.members.table.values()]

    # -- the inside -----------------------------------------------------------------------------------------------

    def _run(self, now: float, step: Callable[[], Effects]) -> Effects:
        """One input through swim, and its facts through the others, until nothing follows any more."""
        self._now = now
        effects = step()
        told: list[object] = []
        send = list(effects.send)
        facts = list(effects.tell)
        while facts or self._more:
            for fact in facts:
                told += self._consider(fact)
            more, self._more = self._more, []
            facts = [fact for one in more for fact in one.tell]
            send += [item for one in more for item in one.send]
            effects = more[-1] if more else effects
        told += self._told_by_tables
        self._told_by_tables.clear()
        return Effects(tuple(send), tuple(told), min(effects.wake_at, self._tables_wake))

    def _through_tables(self, effects: Effects, now: float) -> None:
        """What the tables send goes out as user messages."""
        self._tables_wake = effects.wake_at
        self._told_by_tables += effects.tell
        for item in effects.send:
            self._more.append(self.swim.send(item.to, item.data, now))

    def _consider(self, fact: object) -> list[object]:
        """Hand a fact to whom it concerns; what is left for those outside."""
        match fact:
            case Acked(name, rtt, payload):
                self._measure(name, rtt, payload)
                return []
            case Merged(user_state, _):
                self._serf.merge(user_state)
                return []
            case Heard(data, _, _) if data and data[0] <= serf.QUERY:
                query = self._serf.heard(data)
                return self._asked(query) if query else []
            case Heard(data, _, _) if data and data[0] == serf.RESPONSE:
                return self._response(data)
            case Heard(data, sender, _) if data[:1] == bytes((MARK,)):
                self._through_tables(self.tables.heard(data, sender, self._now), self._now)
                return []
            case Changed(member, _):
                if member.state not in HERE:
                    self.coordinates.forget(member.name)
                self._through_tables(self.tables.changed(fact, self._now), self._now)
        return [fact]

    def _asked(self, query: Query) -> list[object]:
        """Answer a query, if it is about keys and its asker a member."""
        members, me = self.swim.members.table.values(), self.swim.members.me
        if not self._obeys or not any(member.address == query.asker and member.state in HERE for member in members):
            return []
        try:
            deed, key = serfkeys.wish(query)
        except Malformed:
            return []
        facts: list[object] = []
        if query.ack:
            self._more.append(self.swim.send(query.asker, serfkeys.response(query, me, b"", ack=True), self._now))
        if deed:
            answered, *facts = self._obey(query.id, deed, key)
            payload = serfkeys.answer(answered.answer)
            self._more.append(self.swim.send(query.asker, serfkeys.response(query, me, payload), self._now))
        return facts

    def _obey(self, id: int, deed: str, key: bytes) -> tuple[KeyAnswered, *tuple[RingChanged, ...]]:
        """Our own answer, and what has changed."""
        ring = self.swim.envelope.ring
        before = ring.keys if ring else ()
        answered = KeyAnswered(id, self.swim.members.me, serfkeys.obey(ring, deed, key))
        return (answered, RingChanged(deed, key)) if ring and ring.keys != before else (answered,)

    def _response(self, data: bytes) -> list[object]:
        try:
            answered = serfkeys.read_response(data)
        except Malformed:
            return []
        return [answered] if answered and answered.id in self._questions else []

    def _measure(self, name: str, rtt: float, payload: bytes) -> None:
        try:
            other = coordinates.decode(payload)
        except Malformed:
            return
        self.coordinates.observe(name, other, rtt)
        self.swim.ack_payload = coordinates.encode(self.coordinates.mine)

    def _spread(self, key: str, data: bytes) -> None:
        self._more.append(self.swim.spread(key, data, self._now))

    def _left(self) -> list[str]:
        return [member.name for member in self.swim.members.table.values() if member.state == State.LEFT]
