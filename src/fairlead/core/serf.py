"""Serf: as much of it as it takes to sit among stock ``serf`` agents and be taken for one of them.

Serf rides on memberlist. A node's tags are its meta; everything else are user messages and the
user state of a push-pull, ordered by a Lamport clock:

    join, leave      a node says it has come, or goes of its own will (without it: "failed")
    user events      passed on as they are, each once, so that they cross a cluster of ours
    queries          the same; those about keys are answered (``core.serfkeys``)

Rules
    1. A join or leave counts only if its time is later than the last one about that node.
    2. Said to have left while we are here, we say that we have joined, later.
    3. A time more than ``FARTHEST`` ahead of ours is not believed: nobody can use the clock up.
    4. What is remembered is bounded: times of known members, the last ``MOST_SEEN`` events.

What it does not do: answer queries about anything but keys; take snapshots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import Any

from fairlead.core import serfkeys
from fairlead.core.packing import Malformed, Reader, pack
from fairlead.core.serfkeys import Query
from fairlead.core.swimwire import LONGEST_META, name, number
from fairlead.errors import Invalid

LEAVE, JOIN, PUSH_PULL, EVENT, QUERY, RESPONSE = range(6)
TAGS = 255
"""First byte of a meta that holds tags."""
FARTHEST = 1 << 40
MOST_SEEN = 1024
_TIME = (1 << 64) - 1


def encode_tags(tags: dict[str, str]) -> bytes:
    """Tags as meta. ``Invalid`` when they are too long."""
    meta = bytes((TAGS,)) + pack(tags)
    if len(meta) > LONGEST_META:
        raise Invalid(f"tags take {len(meta)} bytes: at most {LONGEST_META}")
    return meta


def decode_tags(meta: bytes) -> dict[str, str]:
    """The tags of a meta; none, if it is something else."""
    if meta[:1] != bytes((TAGS,)):
        return {}
    try:
        fields = Reader(meta, 1).value()
    except Malformed:
        return {}
    if not isinstance(fields, dict):
        return {}
    pairs = [(key, value) for key, value in fields.items() if isinstance(key, bytes) and isinstance(value, bytes)]
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


class Serf:
    """Serf's share of a node. ``spread(key, data)`` tells everybody, ``members`` are the names that are known."""

    def __init__(self, me: str, spread: Callable[[str, bytes], None], members: Collection[str]) -> None:
        self._me = me
        self._spread = spread
        self._members = members
        self._time = 1
        self._query_time = 1
        self._leaving = False
        self._said: dict[str, tuple[int, bool]] = {}
        """Name -> time of the last join or leave, and whether it was a leave."""
        self._seen: dict[bytes, None] = {}

    def join(self) -> None:
        """Tell everybody that we are here."""
        self._time += 1
        self._announce(JOIN, {"LTime": self._time, "Node": self._me})

    def leave(self) -> None:
        """Tell everybody that we go of our own will."""
        self._leaving = True
        self._time += 1
        self._announce(LEAVE, {"LTime": self._time, "Node": self._me, "Prune": False})

    def user_state(self, left: Iterable[str]) -> bytes:
        """Our part of a push-pull; ``left``: the names of those who left."""
        times = {known: self._said[known][0] for known in self._members if known in self._said}
        fields = {"LTime": self._time, "StatusLTimes": times, "LeftMembers": [n for n in left if n in times]}
        return bytes((PUSH_PULL,)) + pack({**fields, "EventLTime": 0, "Events": [], "QueryLTime": self._query_time})

    def merge(self, state: bytes) -> None:
        """Somebody else's part of a push-pull."""
        if state[:1] != bytes((PUSH_PULL,)):
            return
        try:
            fields = Reader(state, 1).value()
            self._witness(number(fields, "LTime", _TIME))
            if b"QueryLTime" in fields:
                self._witness_query(number(fields, "QueryLTime", _TIME))
            times = fields.get(b"StatusLTimes") or {}
            left = fields.get(b"LeftMembers") or []
            if not isinstance(times, dict) or not isinstance(left, list):
                return
            gone = {who for who in left if isinstance(who, bytes)}
            for who in times:
                if isinstance(who, bytes):
                    self._intent(name({b"Node": who}, "Node"), number(times, who.decode(), _TIME), who in gone)
        except (Malformed, UnicodeDecodeError):
            return

    def heard(self, data: bytes) -> Query | None:
        """A user message, if it is one of serf's. A query that is new, and means us, is returned."""
        kind = data[0] if data else -1
        try:
            if kind in (LEAVE, JOIN):
                fields = Reader(data, 1).value()
                time, who = number(fields, "LTime", _TIME), name(fields, "Node")
                if self._intent(who, time, kind == LEAVE):
                    self._spread(f"intent {who}", data)
            elif kind == EVENT:
                number(Reader(data, 1).value(), "LTime", _TIME)
                self._pass_on(data)
            elif kind == QUERY:
                query = serfkeys.read_query(data, self._me)
                self._witness_query(query.time)
                if self._pass_on(data, query.told_on) and query.for_me:
                    return query
        except Malformed:
            pass
        return None

    def ask(self, question: Callable[[int], bytes]) -> None:
        """Ask everybody; ``question`` makes the query, given its time."""
        self._query_time += 1
        self._pass_on(question(self._query_time))

    def _intent(self, who: str, time: int, leave: bool) -> bool:
        """Somebody came or went at that time. Whether it was news."""
        self._witness(time)
        if time > self._time or time <= self._said.get(who, (0, False))[0] or who not in self._members:
            return False
        if who == self._me:
            if leave and not self._leaving:
                self.join()
            return False
        self._said[who] = (time, leave)
        return True

    def _announce(self, kind: int, fields: dict[str, Any]) -> None:
        self._said[self._me] = (self._time, kind == LEAVE)
        self._spread(f"intent {self._me}", bytes((kind,)) + pack(fields))

    def _witness(self, time: int) -> None:
        if self._time < time < self._time + FARTHEST:
            self._time = time + 1

    def _witness_query(self, time: int) -> None:
        if self._query_time < time < self._query_time + FARTHEST:
            self._query_time = time + 1

    def _pass_on(self, data: bytes, told_on: bool = True) -> bool:
        """Whether it is the first time that we see it."""
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest in self._seen:
            return False
        self._seen[digest] = None
        if len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        if told_on:
            self._spread(f"event {digest.hex()}", data)
        return True

    def forget(self, who: str) -> None:
        """The member is no longer known."""
        self._said.pop(who, None)
