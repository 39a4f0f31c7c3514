"""Members: who is in the cluster, and what we make of the things that are said about them.

        said alive               suspect               dead by others, time is up
    (new) ------> ALIVE ------------------> SUSPECT ------------------> DEAD
                    ^   <------------------    |                         |
                    |      alive, higher       | dead, said by itself    | alive, higher
                    +-- LEFT <-----------------+-------------------------+

Every word carries the *incarnation* of the node it is about, a number that only that node raises.

Rules (SWIM, sections 4.2 and 5; numbers are in the tests' names)
    1. Alive counts against anything only with a higher incarnation.
    2. Suspect counts against alive of the same or a lower incarnation, dead against alive and
       suspect of the same or a lower one. Equal news is no news: it is not told on.
    3. Suspected or declared dead ourselves, we raise our incarnation beyond what was said and tell
       everybody that we live. Only we can.
    4. What is said of nobody we know is ignored, unless it is alive.
    5. A name belongs to its address until the node is dead or has left.
    6. In a push-pull DEAD counts as suspect: the node gets its chance to object.
    7. An accuser counts only if we know it as alive: names cannot be made up to hurry a suspicion.
    8. At most ``most_nodes`` are kept, and no dead one longer than ``forget`` seconds.

It sends nothing: ``spread`` takes what should be told on, ``tell`` what has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fairlead.core.alarms import Alarms
from fairlead.core.deck import Deck
from fairlead.core.effects import Address, Dice
from fairlead.core.suspicion import LocalHealth, Suspicion
from fairlead.core.swimwire import PROTOCOL, Alive, Dead, Known, Message, State, Suspect

HERE = (State.ALIVE, State.SUSPECT)


class SwimConfig(NamedTuple):
    """How patient, how talkative. Times in seconds; the defaults are for one site."""

    probe_interval: float = 0.5
    probe_timeout: float = 0.25
    helpers: int = 3
    """Nodes asked for an indirect probe."""
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    gossip_to_the_dead: float = 30.0
    retransmit: int = 4
    suspicion: float = 4.0
    """The shortest suspicion, in probe intervals per power of ten of the cluster's size."""
    suspicion_longest: float = 6.0
    """The longest, in shortest ones."""
    confirmations: int = 2
    """So many others must agree for the shortest."""
    worst_health: int = 8
    push_pull: float = 30.0
    knock: float = 1.0
    """How often we think about knocking at a dead member's door."""
    rejoin: float = 0.5
    """Alone, the first pause between two tries to find somebody at the seeds."""
    rejoin_longest: float = 5.0
    stream_timeout: float = 10.0
    forget: float = 24 * 3600.0
    most_nodes: int = 50_000


class Member(NamedTuple):
    """A node as we know it. ``since``: when its state was last changed."""

    name: str
    address: Address
    meta: bytes = b""
    incarnation: int = 0
    state: State = State.ALIVE
    since: float = 0.0
    versions: tuple[int, ...] = PROTOCOL

    def as_alive(self) -> Alive:
        return Alive(self.incarnation, self.name, self.address, self.meta, self.versions)


class Changed(NamedTuple):
    """A member is new (``before`` None), changed its state, or its meta (the state is the same)."""

    member: Member
    before: State | None


class NameTaken(NamedTuple):
    """Somebody at ``address`` uses the name of a member that lives elsewhere."""

    member: Member
    address: Address


class Members:
    """The table, suspicions included."""

    def __init__(
        self,
        me: Member,
        config: SwimConfig,
        dice: Dice,
        spread: Callable[[str, Message], None],
        tell: Callable[[object], None],
    ) -> None:
        self.config = config
        self.table: dict[str, Member] = {me.name: me}
        self.me = me.name
        self.health = LocalHealth(config.worst_health)
        self.leaving = False
        self.here = 1
        """How many are alive or suspect, we among them."""
        self.alarms: Alarms[str] = Alarms()
        """When a suspect's time is up."""
        self.gone: dict[str, None] = {}
        """Those who failed, the first first."""
        self.refutations = 0
        self._deck = Deck(dice, [me.name])
        self._spread = spread
        self._tell = tell
        self._suspicions: dict[str, Suspicion] = {}

    # -- what is said ---------------------------------------------------------------------------------------------

    def alive(self, said: Alive, now: float) -> None:
        """Somebody says that a node lives."""
        known = self.table.get(said.node)
        if known is None:
            if len(self.table) < self.config.most_nodes:
                self._deck.add(said.node)
                self._set(_member(said, now), None)
                self._spread(said.node, said)
            return
        if said.address != known.address and known.state in HERE:
            self._tell(NameTaken(known, said.address))
        elif said.node == self.me:
            if said.incarnation > known.incarnation or (
                said.incarnation == known.incarnation and said.meta != known.meta
            ):
                self._live_on(said.incarnation)
        elif said.incarnation > known.incarnation:
            self._acquit(said.node)
            since = known.since if known.state == State.ALIVE else now
            self._set(_member(said, since), known)
            self._spread(said.node, said)

    def suspect(self, said: Suspect, now: float) -> None:
        """Somebody got no answer from a node."""
        known = self.table.get(said.node)
        if known is None or self._answer_stale(said, known) or not self._may_accuse(said.accuser):
            return
        if suspicion := self._suspicions.get(said.node):
            if suspicion.confirm(said.accuser):
                self.alarms.set(said.node, suspicion.ends())
                self._spread(said.node, said)
        elif known.state == State.ALIVE and said.node == self.me:
            self._live_on(said.incarnation)
        elif known.state == State.ALIVE:
            suspicion = self._suspicion(said.accuser, now)
            self._suspicions[said.node] = suspicion
            self.alarms.set(said.node, suspicion.ends())
            self._set(known._replace(incarnation=said.incarnation, state=State.SUSPECT, since=now), known)
            self._spread(said.node, said)

    def dead(self, said: Dead, now: float) -> None:
        """Somebody has given a node up, or it says itself that it leaves."""
        known = self.table.get(said.node)
        if known is None or self._answer_stale(said, known) or known.state not in HERE:
            return
        if said.node == self.me and not self.leaving:
            self._live_on(said.incarnation)
            return
        state = State.LEFT if said.accuser == said.node else State.DEAD
        self._acquit(said.node)
        self._set(known._replace(incarnation=said.incarnation, state=state, since=now), known)
        self._spread(said.node, said)

    def merge(self, nodes: Iterable[Known], now: float) -> None:
        """What another node thinks of everybody."""
        for said, state in nodes:
            if state == State.ALIVE:
                self.alive(said, now)
            elif state == State.LEFT:
                self.dead(Dead(said.incarnation, said.node, said.node), now)
            else:
                self.suspect(Suspect(said.incarnation, said.node, self.me), now)

    def expire(self, now: float) -> None:
        """Give up the suspects whose time is up."""
        for name in self.alarms.due(now):
            self.dead(Dead(self.table[name].incarnation, name, self.me), now)

    def forget(self, now: float) -> None:
        """Drop those that have been gone for long."""
        for member in [m for m in self.table.values() if m.state not in HERE]:
            if now - member.since > self.config.forget and member.name != self.me:
                del self.table[member.name]
                self.gone.pop(member.name, None)
                self._deck.remove(member.name)

    # -- ourselves ------------------------------------------------------------------------------------------------

    def change_me(self, meta: bytes) -> None:
        """We have changed: say so with a higher incarnation."""
        me = self.table[self.me]
        if meta != me.meta:
            self.table[self.me] = me._replace(meta=meta)
            self._say_alive(me.incarnation)

    def leave(self, now: float) -> None:
        """Say that we leave; from now on nobody hears from us that we live."""
        self.leaving = True
        self.dead(Dead(self.table[self.me].incarnation, self.me, self.me), now)

    def _live_on(self, incarnation: int) -> None:
        if not self.leaving:
            self.health.worse()
            self.refutations += 1
            self._say_alive(incarnation)

    def _answer_stale(self, said: Suspect | Dead, known: Member) -> bool:
        """Whether that is of an earlier incarnation. Said of us, its sender has missed our answer: say it again."""
        if said.incarnation >= known.incarnation:
            return False
        if said.node == self.me and not self.leaving:
            self._spread(self.me, known.as_alive())
        return True

    def _say_alive(self, beyond: int) -> None:
        me = self.table[self.me]
        me = me._replace(incarnation=max(me.incarnation, beyond) + 1)
        self.table[self.me] = me
        self._spread(self.me, me.as_alive())

    # -- choosing -------------------------------------------------------------------------------------------------

    def next_to_probe(self) -> Member | None:
        """The next in turn that is alive or suspect; everybody's turn comes once a round, in an order of our own."""
        for _ in range(len(self.table)):
            member = self.table.get(self._deck.draw())
            if member is not None and member.name != self.me and member.state in HERE:
                return member
        return None

    def some(self, count: int, fits: Callable[[Member], bool]) -> list[Member]:
        """Up to ``count`` others that fit, by chance."""
        found: dict[str, Member] = {}
        for name in self._deck.glimpse(3 * count + 8):
            member = self.table.get(name)
            if member is not None and name != self.me and fits(member):
                found[name] = member
                if len(found) == count:
                    break
        return list(found.values())

    # -- the rest -------------------------------------------------------------------------------------------------

    def _set(self, member: Member, known: Member | None) -> None:
        before = known.state if known else None
        self.here += (member.state in HERE) - (before in HERE)
        self.table[member.name] = member
        if member.state == State.DEAD:
            self.gone[member.name] = None
        else:
            self.gone.pop(member.name, None)
        if known is None or (before, known.meta, known.address) != (member.state, member.meta, member.address):
            self._tell(Changed(member, before))

    def _acquit(self, name: str) -> None:
        self._suspicions.pop(name, None)
        self.alarms.cancel(name)

    def _may_accuse(self, name: str) -> bool:
        accuser = self.table.get(name)
        return accuser is not None and accuser.state in HERE

    def _suspicion(self, accuser: str, now: float) -> Suspicion:
        config = self.config
        scale = max(1.0, math.log10(self.here))
        shortest = config.suspicion * scale * config.probe_interval
        wanted = config.confirmations if self.here - 2 >= config.confirmations else 0
        return Suspicion(now, accuser, shortest, shortest * config.suspicion_longest, wanted)


def _member(said: Alive, since: float) -> Member:
    return Member(said.node, said.address, said.meta, said.incarnation, State.ALIVE, since, said.versions)
