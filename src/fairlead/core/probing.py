"""Probing: does a member still answer? One at a time, each in its turn.

    ping ---------------------------> target            answered within probe_timeout: well
      | no ack in time
      +--> 3 helpers: ping it for me -> target          an ack by any of them: well
      +--> a stream to the target                       an answer: well (only its datagrams are lost)
      | none of it until the end of the interval
      +--> suspect

Helpers that got no ack themselves send a *nack*: we hear that they are there, so the fault is not
ours. Nacks that stay out speak against ourselves (Lifeguard, IV.A). All times are stretched by our
own health. A suspect is told so in the ping, so that it can object at once (buddy system, IV.C).

Sequence numbers are 32 bits of chance: who has not seen the ping cannot answer it.

    Probe    one of ours        Errand   a probe that we make for somebody else

It owns no member and no queue: ``ask`` sends, ``outcome`` takes what was found out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from fairlead.core.alarms import Alarms
from fairlead.core.effects import Address, Dice
from fairlead.core.members import Member, Members
from fairlead.core.swimwire import SPEAKS_NACK, Ack, IndirectPing, Message, Nack, Ping, State, Suspect

MOST_ERRANDS = 256
NACK_AFTER = 0.8
"""A helper gives up after this share of its own probe timeout."""


class Probe:
    """One question to one member."""

    def __init__(self, sequence: int, member: Member, sent: float) -> None:
        self.sequence = sequence
        self.member = member
        self.sent = sent
        self.helpers = 0
        self.nacks = 0
        """Nacks that are promised, less those that came."""
        self.nacks_promised = False


class Errand(NamedTuple):
    """A question asked for somebody else; ``sequence`` is theirs."""

    sequence: int
    asker: Address
    nack: bool


class Acked(NamedTuple):
    """A member answered our own ping, ``rtt`` seconds after it was sent."""

    name: str
    rtt: float
    payload: bytes


class Wires(Protocol):
    """What probing needs of the machine around it."""

    def post(self, to: Member | Address, *messages: Message) -> None: ...

    def call_ping(self, member: Member, sequence: int, timeout: float) -> None: ...


class Probing:
    """The probes and errands under way."""

    def __init__(
        self, members: Members, dice: Dice, wires: Wires, me: Callable[[], Address], tell: Callable[[object], None]
    ) -> None:
        self._members = members
        self._config = members.config
        self._dice = dice
        self._wires = wires
        self._me = me
        self._tell = tell
        self._probe: Probe | None = None
        self._errands: dict[int, Errand] = {}
        self._knocks: dict[int, str] = {}
        self.alarms: Alarms[tuple[str, int]] = Alarms()
        """``tick``; ``late`` for a probe; ``nack`` and ``drop`` of an errand or a knock."""

    def start(self, now: float) -> None:
        """Begin to probe, somewhere within the first interval."""
        self.alarms.set(("tick", 0), now + self._dice.random() * self._config.probe_interval)

    def wake(self, now: float) -> None:
        """Do what is due."""
        for what, sequence in self.alarms.due(now):
            if what == "tick":
                self._tick(now)
            elif what == "late":
                self._ask_around(sequence, now)
            elif what == "nack":
                errand = self._errands.get(sequence)
                if errand and errand.nack:
                    self._wires.post(errand.asker, Nack(errand.sequence))
            elif what == "drop":
                self._errands.pop(sequence, None)
                self._knocks.pop(sequence, None)

    # -- our own probes -------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        if self._probe:  # its end and this beginning fall together
            self._give_up(now)
        interval = self._members.health.stretched(self._config.probe_interval)
        self.alarms.set(("tick", 0), now + interval)
        member = self._members.next_to_probe()
        if member is None:
            return
        sequence = self._dice.getrandbits(32)
        self._probe = Probe(sequence, member, now)
        self.alarms.set(("late", sequence), now + self._members.health.stretched(self._config.probe_timeout))
        ping = self._ping(sequence, member.name)
        if member.state == State.SUSPECT:
            suspect = Suspect(member.incarnation, member.name, self._members.me)
            self._wires.post(member, ping, suspect)
        else:
            self._wires.post(member, ping)

    def _ping(self, sequence: int, name: str) -> Ping:
        return Ping(sequence, name, self._me(), self._members.me)

    def _ask_around(self, sequence: int, now: float) -> None:
        probe = self._probe
        if probe is None or probe.sequence != sequence:
            return
        target = probe.member
        helpers = self._members.some(
            self._config.helpers, lambda other: other.state == State.ALIVE and other.name != target.name
        )
        probe.helpers = len(helpers)
        for helper in helpers:
            nack = helper.versions[1] >= SPEAKS_NACK
            probe.nacks += nack
            probe.nacks_promised |= nack
            asked = IndirectPing(probe.sequence, target.address, target.name, nack, self._me(), self._members.me)
            self._wires.post(helper, asked)
        left = self.alarms.when(("tick", 0)) - now
        self._wires.call_ping(target, probe.sequence, left)

    def _give_up(self, now: float) -> None:
        probe = self._probe
        if probe is None:
            return
        self._probe = None
        self._members.health.worse(probe.nacks if probe.nacks_promised else 1)
        # Of the incarnation we asked: what it has said of itself since then stands.
        self._members.suspect(Suspect(probe.member.incarnation, probe.member.name, self._members.me), now)

    def acked(self, ack: Ack, now: float, by_stream: bool = False) -> str:
        """Somebody answered. Returns the name of a dead member that turned out to answer, else nothing."""
        if errand := self._errands.pop(ack.sequence, None):
            self._wires.post(errand.asker, Ack(errand.sequence))
        elif self._probe and self._probe.sequence == ack.sequence:
            probe, self._probe = self._probe, None
            self.alarms.cancel(("late", ack.sequence))
            self._members.health.better()
            if not probe.helpers and not by_stream:
                self._tell(Acked(probe.member.name, now - probe.sent, ack.payload))
        return self._knocks.pop(ack.sequence, "")

    def nacked(self, nack: Nack) -> None:
        """A helper is there, but got no answer either."""
        if self._probe and self._probe.sequence == nack.sequence and self._probe.nacks > 0:
            self._probe.nacks -= 1

    # -- for others -----------------------------------------------------------------------------------------------

    def run_errand(self, asked: IndirectPing, sender: Address, now: float) -> None:
        """Ping a member for somebody else, where we know it to be: we throw no stones for strangers."""
        target = self._members.table.get(asked.node)
        if target is None or len(self._errands) >= MOST_ERRANDS:
            return
        sequence = self._dice.getrandbits(32)
        self._errands[sequence] = Errand(asked.sequence, reply_to(asked.source, sender), asked.nack)
        self._wires.post(target, self._ping(sequence, asked.node))
        self.alarms.set(("nack", sequence), now + NACK_AFTER * self._config.probe_timeout)
        self.alarms.set(("drop", sequence), now + self._config.probe_interval)

    # -- at the doors of the dead ---------------------------------------------------------------------------------

    def knock(self, member: Member, now: float) -> None:
        """Ask a dead member whether it is back (``acked`` will name it)."""
        sequence = self._dice.getrandbits(32)
        self._knocks[sequence] = member.name
        self._wires.post(member, self._ping(sequence, member.name))
        self.alarms.set(("drop", sequence), now + self._config.probe_interval)


def reply_to(source: Address | None, sender: Address) -> Address:
    """Where an answer goes: to the port the asker names, but on no other machine than the question came from."""
    return source if source and source.ip == sender.ip else sender


def may_knock(members: Members, dice: Dice) -> Member | None:
    """A dead member to ask after, or nobody. All of us together ask each one about once in a ``knock``."""
    if not members.gone or dice.random() >= len(members.gone) / members.here:
        return None
    return members.table[list(members.gone)[dice.randrange(len(members.gone))]]
