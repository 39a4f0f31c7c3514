"""Gossip: one node of a cluster, all its machines together.

    bytes <-> Swim   who is here           -- Heard, Merged --> Serf     stock agents' own words
                                           -- Acked ----------> Coordinates
                                           -- Heard, Changed -> Tables   who has which row
    The whole is a machine like its parts: the same inputs, one ``Effects`` for each.

Facts told: ``Changed``, ``NameTaken``, ``Departed`` of swim, ``RowChanged`` of the tables, and
``Heard`` for user messages that none of us understands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from fairlead.core import coordinates, serf
from fairlead.core.coordinates import Coordinates
from fairlead.core.effects import Address, Dice, Effects
from fairlead.core.envelope import Envelope
from fairlead.core.members import HERE, Changed, Member, SwimConfig
from fairlead.core.packing import Malformed
from fairlead.core.probing import Acked
from fairlead.core.serf import Serf
from fairlead.core.swim import Heard, Merged, Swim
from fairlead.core.swimwire import Message, State


class Me(NamedTuple):
    """Who a node is, to others."""

    name: str
    address: Address
    tags: dict[str, str] = {}


class Gossip:
    """Swim and those who ride on it."""

    def __init__(self, me: Me, config: SwimConfig, dice: Dice, envelope: Envelope | None = None) -> None:
        meta = serf.encode_tags(me.tags)
        self.swim = Swim(Member(me.name, me.address, meta, incarnation=1), config, dice, envelope)
        self.coordinates = Coordinates(dice)
        self._now = 0.0
        self._more: list[Effects] = []
        self._serf = Serf(me.name, self._spread, self.swim.members.table.keys())
        self.swim.user_state = lambda join: self._serf.user_state(self._left())
        self.swim.ack_payload = coordinates.encode(self.coordinates.mine)

    # -- inputs ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Effects:
        """Begin. Nothing but ``wake`` is needed from now on."""
        return self._run(now, lambda: self.swim.start(now))

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
        meta = serf.encode_tags(tags)
        return self._run(now, lambda: self.swim.change_me(meta, now))

    def wake(self, now: float) -> Effects:
        """Do what is due."""
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

    def nearest(self, names: Iterable[str]) -> list[str]:
        """Names, near ones first, those of unknown distance last."""
        return sorted(names, key=lambda name: (self.coordinates.distance(name), name))

    # -- the inside -----------------------------------------------------------------------------------------------

    def _run(self, now: float, step: Callable[[], Effects]) -> Effects:
        """One input through swim, and its facts through the others, until nothing follows any more."""
        self._now = now
        effects, told = step(), []
        send = list(effects.send)
        waiting = list(effects.tell)
        while waiting or self._more:
            for fact in waiting:
                told += self._consider(fact)
            waiting = [fact for more in self._more for fact in more.tell]
            send += [item for more in self._more for item in more.send]
            effects = self._more[-1] if self._more else effects
            self._more.clear()
        return Effects(tuple(send), tuple(told), effects.wake_at)

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
                self._serf.heard(data)
                return []
            case Changed(member, _) if member.state not in HERE:
                self.coordinates.forget(member.name)
        return [fact]

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
