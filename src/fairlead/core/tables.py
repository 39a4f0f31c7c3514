"""Tables: rows about networks, known on every node that has the network, and on no other.

    put, delete --> my row, a later time --> gossip to nodes of the network --> theirs --> ...
    every few seconds, with one of them:     compare (core.shelf) --> what one of the two lacks
    a node fails --> its rows are suspended; returns --> they stand again, at once

One network is had by everybody, ``EVERYWHERE``. Its one table says which node has which network, so
it says to whom a row may go.

A row *stands* while it has a value, its owner is here (alive or suspect), and its owner has the
network. Only standing rows are shown, and ``RowChanged`` tells when one begins or ends to stand.

Rules
    1. The later version wins. Times are Lamport's: whatever we write is later than all we have seen.
    2. Only the owner writes: others' rows about ourselves are answered with a later version of the
       truth; where nodes have keys, a row without its owner's signature is refused, whoever brings it.
    3. Deleted rows are remembered for ``remember`` seconds, and not passed on in the last tenth, so
       that none wanders through the cluster for ever.
    4. A node that has forgotten its own rows learns of them from the others, and deletes what it no
       longer means. So put your rows *before* you join, or they will blink.
    5. What a row needs is compared in the same exchange as the row: who has the network goes with
       every network. A row whose owner is not known yet waits, unseen and not passed on, for a minute.
    6. Rows go only to members that have the network, in messages that fit a packet; what does not fit
       waits for the next round.
    7. Bounded: rows of a network, of an owner, of a message; times more than ``LEAP`` ahead are refused.

Times are seconds. What a value means is the business of those who put it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from fairlead.core import rows as wire
from fairlead.core.alarms import Alarms
from fairlead.core.broadcasts import Broadcasts, times
from fairlead.core.effects import NEVER, Address, Datagram, Dice, Effects
from fairlead.core.members import HERE, Changed, Member
from fairlead.core.packing import Malformed
from fairlead.core.rows import Row
from fairlead.core.shelf import Shelf
from fairlead.core.swimwire import State
from fairlead.errors import NotFound

EVERYWHERE = ""
NETWORKS = "networks"
LEAP = 1 << 40
MANY = 5
"""So many new rows in one answer are a gap of ours, no news to others."""
MOST_MESSAGES = 16
"""Answers to one message, and gossip packets of one round and network."""


class TablesConfig(NamedTuple):
    """Times in seconds."""

    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    retransmit: int = 4
    exchange: float = 5.0
    remember: float = 1800.0
    unknown_owner: float = 60.0
    most_rows: int = 50_000
    most_of_owner: int = 20_000
    most_networks: int = 96
    """Compared in one exchange; others have their turn in the next."""


class RowChanged(NamedTuple):
    """A row stands now, with a new value perhaps, or does not stand any longer: it is deleted or forgotten if it has no
    value, else its owner is away."""

    row: Row
    stands: bool


class Keys(Protocol):
    """Signatures of nodes. ``verify`` is False also for an owner whose key is not known yet."""

    def sign(self, data: bytes) -> bytes: ...

    def verify(self, owner: str, data: bytes, signature: bytes) -> bool: ...


class NoKeys:
    """Nodes without keys: whoever has the cluster's gossip key is believed."""

    def sign(self, data: bytes) -> bytes:
        return b""

    def verify(self, owner: str, data: bytes, signature: bytes) -> bool:
        return True


class Tables:
    """One node's share."""

    def __init__(
        self,
        me: str,
        members: Mapping[str, Member],
        config: TablesConfig,
        dice: Dice,
        keys: Keys,
        speaks: Callable[[Member], bool] = lambda member: True,
        distance: Callable[[str], float] = lambda name: NEVER,
    ) -> None:
        """``members``: as swim knows them. ``speaks``: who understands us. ``distance``: to a node, in seconds."""
        self.refused = 0
        self._me = me
        self._members = members
        self._config = config
        self._dice = dice
        self._keys = keys
        self._speaks = speaks
        self._distance = distance
        self._time = 0
        self._shelves = {EVERYWHERE: Shelf(EVERYWHERE)}
        self._having: dict[str, set[str]] = {}
        """Network -> nodes that say they have it."""
        self._news: dict[str, Broadcasts] = {}
        self._alarms: Alarms[tuple[str, str, tuple[str, str, str]]] = Alarms()
        """``gossip`` of a network, ``exchange``, ``visit`` to a node, ``hide`` and ``drop`` of a row."""
        self._names: dict[Address, str] = {}
        self._now = 0.0
        self._send: list[Datagram] = []
        self._facts: list[object] = []

    # -- what we want ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> Effects:
        """Begin to compare."""
        self._now = now
        self._set("exchange", now + self._dice.random() * self._config.exchange)
        return self._effects()

    def join_network(self, network: str, now: float) -> Effects:
        """Have a network: take and give its rows from now on."""
        self._now = now
        if network not in self._shelves:
            self._shelves[network] = Shelf(network)
            self._write(EVERYWHERE, NETWORKS, network, b"")
            for name in self._some(network, 2):
                self._set("visit", now, name)
        return self._effects()

    def leave_network(self, network: str, now: float) -> Effects:
        """Have it no longer: our rows are deleted everywhere, all others forgotten here."""
        self._now = now
        shelf = self._shelf(network)
        for row in shelf.owned(self._me):
            if row.value is not None:
                self._write(network, row.table, row.key, None)
        self._write(EVERYWHERE, NETWORKS, network, None)
        self._gossip(network)  # a last time
        for row in list(shelf.rows.values()):
            self._drop(shelf, row)
        del self._shelves[network]
        self._news.pop(network, None)
        return self._effects()

    def put(self, network: str, table: str, key: str, value: bytes, now: float) -> Effects:
        """Write a row of ours. ``Invalid`` when it is too large for a packet, ``NotFound`` without the network."""
        self._now = now
        mine = self._shelf(network).get((table, key, self._me))
        if mine is None or mine.value != value:
            self._write(network, table, key, value)
        return self._effects()

    def delete(self, network: str, table: str, key: str, now: float) -> Effects:
        """Delete a row of ours; fine if there is none."""
        self._now = now
        mine = self._shelf(network).get((table, key, self._me))
        if mine is not None and mine.value is not None:
            self._write(network, table, key, None)
        return self._effects()

    def wake(self, now: float) -> Effects:
        """Do what is due."""
        self._now = now
        for what, where, name in self._alarms.due(now):
            shelf = self._shelves.get(where)
            if what == "gossip":
                self._gossip(where)
            elif what == "exchange":
                self._exchange()
            elif what == "visit":
                self._compare_with(where)
            elif shelf and (row := shelf.get(name)) and what == "hide":
                shelf.hide(row)
                self._set("drop", now + self._config.remember / 10, where, name)
            elif shelf and row and what == "drop" and (row.value is None or self._waits(row)):
                self._drop(shelf, row)
        return self._effects()

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def networks(self) -> frozenset[str]:
        """The networks we have."""
        return frozenset(self._shelves) - {EVERYWHERE}

    def nodes(self, network: str) -> frozenset[str]:
        """The nodes here that have a network, whether we have it or not."""
        return frozenset(name for name in self._having.get(network, ()) if self._is_here(name))

    def standing(self, network: str, table: str) -> list[Row]:
        """The rows that stand, in order of key and owner."""
        found = self._shelf(network).rows.values()
        return sorted((r for r in found if r.table == table and self._stands(r)), key=lambda row: (row.key, row.owner))

    def kept(self, network: str, table: str) -> list[Row]:
        """The rows that stand, and those that would if their owner were here."""
        return [row for row in self._shelf(network).rows.values() if row.table == table and row.value is not None]

    def sizes(self) -> dict[str, int]:
        """Network -> rows kept, deleted and suspended ones too."""
        return {network: len(shelf) for network, shelf in self._shelves.items()}

    # -- what comes in --------------------------------------------------------------------------------------------

    def changed(self, fact: Changed, now: float) -> Effects:
        """Swim has news of a member."""
        self._now = now
        member, name = fact.member, fact.member.name
        was, here = fact.before in HERE, member.state in HERE
        if here:
            self._names[member.address] = name
        if name == self._me:
            return self._effects()
        if was != here:
            for shelf in list(self._shelves.values()):
                for row in shelf.owned(name):
                    self._settle(shelf, row)
                    if row.value is not None and self._has(name, row.network):
                        self._facts.append(RowChanged(row, here))
        if here and not was and self._dice.random() < 4 / len(self._members):
            self._set("visit", now + self._dice.random() * self._config.gossip_interval, name)
        return self._effects()

    def heard(self, data: bytes, sender: Address, now: float) -> Effects:
        """A message of another node's tables."""
        self._now = now
        try:
            compared, found, ranges = wire.decode(data)
        except Malformed:
            self.refused += 1
            return self._effects()
        news = [row for row, left in found if self._take(row, left)]
        if compared and len(news) >= MANY:  # we are far behind: go on comparing until it is over, whatever gets lost
            again = self._now + self._config.gossip_interval
            self._set("exchange", min(self._alarms.when(("exchange", "", ("", "", ""))), again))
        else:
            for row in news:
                self._tell_on(row)
        asker = self._names.get(sender, "")
        if not self._may_hear(asker) or self._members[asker].address != sender:
            return self._effects()
        prints = {row.print for row, _ in found}
        answer_rows: list[bytes] = []
        answer_ranges: list[bytes] = []
        for theirs in ranges:
            shelf = self._shelves.get(theirs.network)
            if shelf is not None and self._has(asker, theirs.network):
                answer = shelf.compare(theirs, prints)
                answer_rows += [self._encoded(row) for row in answer.rows]
                answer_ranges += [wire.encode_range(part) for part in answer.ranges]
        self._post(sender, answer_rows, answer_ranges)
        return self._effects()

    def _take(self, row: Row, left: float) -> bool:
        """Somebody says that this row is so. Whether it was news to us."""
        shelf = self._shelves.get(row.network)
        if shelf is None or row.time > self._time + LEAP:
            return False
        if row.owner == self._me:
            self._defend(shelf, row)
            return False
        old = shelf.get(row.name)
        if old and (old.time, old.print) >= (row.time, row.print):
            return False
        if row.value is None and not old and left <= self._config.remember / 10:
            return False
        crowded = len(shelf) >= self._config.most_rows or (
            len(shelf.of_owner.get(row.owner, ())) >= self._config.most_of_owner
        )
        if (not old and crowded) or not self._keys.verify(row.owner, row.signed, row.signature):
            self.refused += 1
            return False
        self._time = max(self._time, row.time)
        return self._keep(shelf, row, min(left, self._config.remember))

    def _defend(self, shelf: Shelf, said: Row) -> None:
        """Somebody has a row of ours: from an earlier life, or made up."""
        mine = shelf.get(said.name)
        value = mine.value if mine else None
        if mine and (mine.time, mine.print) >= (said.time, said.print):
            return
        if not mine and said.value is None:
            return
        self._time = max(self._time, said.time)
        self._write(said.network, said.table, said.key, value)

    # -- rows -----------------------------------------------------------------------------------------------------

    def _write(self, network: str, table: str, key: str, value: bytes | None) -> None:
        row = Row(network, table, key, self._me, self._time + 1, value)
        row = Row(network, table, key, self._me, self._time + 1, value, self._keys.sign(row.signed))
        wire.encode_row(row, 0)  # too large: nothing has happened yet
        self._time += 1
        self._keep(self._shelves[network], row, self._config.remember)
        self._tell_on(row)

    def _keep(self, shelf: Shelf, row: Row, left: float) -> bool:
        old = shelf.get(row.name)
        stood = old is not None and self._stands(old)
        if not shelf.keep(row):
            return False
        if row.network == EVERYWHERE and row.table == NETWORKS:
            self._has_now(row)
        stands = self._stands(row)
        if stands or stood:
            self._facts.append(RowChanged(row, stands))
        for what in ("hide", "drop"):
            self._alarms.cancel((what, row.network, row.name))
        self._settle(shelf, row)
        if row.value is None and not self._waits(row):
            self._set("hide", self._now + max(0.0, left - self._config.remember / 10), row.network, row.name)
        return True

    def _waits(self, row: Row) -> bool:
        """Whether what the row needs is not known: its owner as a member, or as one that has the network."""
        owner = self._members.get(row.owner)
        gone = row.owner != self._me and (owner is None or owner.state == State.LEFT)
        return gone or not self._has(row.owner, row.network)

    def _settle(self, shelf: Shelf, row: Row) -> None:
        """What it needs has come or gone: pass it on or not, keep it or not for long."""
        if self._waits(row):
            shelf.hide(row)
            if self._alarms.when(("drop", row.network, row.name)) == NEVER:
                self._set("drop", self._now + self._config.unknown_owner, row.network, row.name)
        elif row.value is not None:
            shelf.hide(row, False)
            self._alarms.cancel(("drop", row.network, row.name))

    def _has_now(self, row: Row) -> None:
        """A node has a network, or has it no longer: its rows there stand or fall with it."""
        having = self._having.setdefault(row.key, set())
        had, has = row.owner in having, row.value is not None
        if had == has:
            return
        having.add(row.owner) if has else having.discard(row.owner)
        if not having:
            del self._having[row.key]
        if shelf := self._shelves.get(row.key):
            for other in shelf.owned(row.owner):
                self._settle(shelf, other)
                if other.value is not None and self._is_here(row.owner):
                    self._facts.append(RowChanged(other, has))
            if has and self._may_hear(row.owner) and self._dice.random() < 2 / len(having):
                self._set("visit", self._now + self._dice.random() * self._config.gossip_interval, row.owner)

    def _drop(self, shelf: Shelf, row: Row) -> None:
        if row.value is not None:
            gone = Row(row.network, row.table, row.key, row.owner, row.time, None)
            self._facts.append(RowChanged(gone, False))
        shelf.drop(row)
        if row.network == EVERYWHERE and row.table == NETWORKS:
            self._has_now(Row(row.network, row.table, row.key, row.owner, row.time, None))

    def _stands(self, row: Row) -> bool:
        return row.value is not None and self._is_here(row.owner) and self._has(row.owner, row.network)

    def _is_here(self, name: str) -> bool:
        member = self._members.get(name)
        return name == self._me or (member is not None and member.state in HERE)

    def _has(self, name: str, network: str) -> bool:
        return network == EVERYWHERE or name in self._having.get(network, ())

    def _shelf(self, network: str) -> Shelf:
        if network not in self._shelves:
            raise NotFound(f"this node does not have network {network}")
        return self._shelves[network]

    # -- gossip and exchange --------------------------------------------------------------------------------------

    def _tell_on(self, row: Row) -> None:
        if self._waits(row):
            return
        news = self._news.setdefault(row.network, Broadcasts(self._config.most_rows))
        news.add(f"{row.place:x}", self._encoded(row))
        if self._alarms.when(("gossip", row.network, ("", "", ""))) == NEVER:
            self._set("gossip", self._now + self._dice.random() * self._config.gossip_interval / 8, row.network)

    def _gossip(self, network: str) -> None:
        news = self._news.get(network)
        if not news:
            return
        count = len(self._members) if network == EVERYWHERE else len(self._having.get(network, ()))
        limit = times(self._config.retransmit, count)
        others = self._some(network, self._config.gossip_nodes)
        for name in others:
            for _ in range(MOST_MESSAGES):
                for message in wire.messages(news.take(wire.ROOM - 16, 0, limit)):
                    self._send.append(Datagram(self._members[name].address, message))
                if len(news) <= 8:
                    break
        if not others:
            self._news.pop(network)
        elif news:
            self._set("gossip", self._now + self._config.gossip_interval, network)

    def _exchange(self) -> None:
        """Compare everything with one node that has a network of ours, or with any."""
        self._set("exchange", self._now + self._config.exchange * (0.75 + self._dice.random() / 2))
        self._names = {address: name for address, name in self._names.items() if name in self._members}
        for shelf in self._shelves.values():
            for owner in shelf.of_owner.keys() - self._members.keys():
                for row in shelf.owned(owner):  # swim has forgotten the owner: so do we, in a while
                    self._settle(shelf, row)
        ours = sorted(self.networks)
        network = ours[self._dice.randrange(len(ours))] if ours and self._dice.random() < 0.75 else EVERYWHERE
        two = self._some(network, 2) or self._some(EVERYWHERE, 2)
        if two:
            self._compare_with(min(two, key=self._distance))

    def _compare_with(self, name: str) -> None:
        member = self._members.get(name)
        if member is None or member.state not in HERE or not self._speaks(member):
            return
        shared = sorted(network for network in self.networks if self._has(name, network))
        while len(shared) > self._config.most_networks:
            shared.pop(self._dice.randrange(len(shared)))
        here = self._shelves[EVERYWHERE]
        first = [here.get((NETWORKS, network, self._me)) for network in shared]
        ranges = [self._shelves[network].everything() for network in (EVERYWHERE, *shared)]
        self._post(
            member.address, [self._encoded(row) for row in first if row], [wire.encode_range(whole) for whole in ranges]
        )

    def _some(self, network: str, count: int) -> list[str]:
        """Up to ``count`` others, by chance, that have a network and understand us."""
        names = self._members if network == EVERYWHERE else self._having.get(network, ())
        able = [name for name in names if self._may_hear(name)]
        if network != EVERYWHERE:
            able.sort()
        chosen: list[str] = []
        while able and len(chosen) < count:
            at = self._dice.randrange(len(able))
            able[at], able[-1] = able[-1], able[at]
            chosen.append(able.pop())
        return chosen

    def _may_hear(self, name: str) -> bool:
        member = self._members.get(name)
        return name != self._me and member is not None and member.state in HERE and self._speaks(member)

    def _post(self, to: Address, rows: Iterable[bytes], ranges: Iterable[bytes]) -> None:
        for count, message in enumerate(wire.messages(rows, ranges, compared=True)):
            if count < MOST_MESSAGES:
                self._send.append(Datagram(to, message))

    def _encoded(self, row: Row) -> bytes:
        """With the time left of a deleted one."""
        ends = self._alarms.when(("hide", row.network, row.name))
        left = ends - self._now + self._config.remember / 10 if row.value is None and ends < NEVER else 0.0
        return wire.encode_row(row, max(0.0, left))

    # -- effects --------------------------------------------------------------------------------------------------

    def _set(self, what: str, when: float, where: str = "", name: tuple[str, str, str] = ("", "", "")) -> None:
        self._alarms.set((what, where, name), when)

    def _effects(self) -> Effects:
        send, tell = tuple(self._send), tuple(self._facts)
        self._send, self._facts = [], []
        return Effects(send, tell, self._alarms.next())
