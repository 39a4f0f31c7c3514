"""Rekeying: the leader sees that the data key changes when it has to, step by step (``core.datakeys``).

    due --> made, in the ring --> every member says that it has it --> used
    the leader's own office is sealed with an older one --> it resigns
    whoever leads then: values under older keys are sealed anew, ``PIECE`` a turn --> none is left --> dropped

Rules
    1. All is decided anew from the ring, the nodes and the members' list in every turn: a new leader goes on where the
       one before was.
    2. The members' list is asked after the nodes are known: who was enrolled by a manager that did not have the newest
       key yet is on it when that manager says that it has.
    3. What stands under a lease (``LEASED``) is written anew by who holds the lease.
    4. A value that somebody changed meanwhile is sealed with the new key by that. Nothing is overwritten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from fairlead.core import datakeys, tokens
from fairlead.core.datakeys import RING, Facts, Ring
from fairlead.errors import FairleadError
from fairlead.store.base import Entry, Write
from fairlead.swarm.datakeys import DataKeys
from fairlead.swarm.leader import KEY, Guard
from fairlead.swarm.members import RESTARTING, Members
from fairlead.swarm.presence import PREFIX
from fairlead.swarm.sealedledger import SealedLedger
from fairlead.swarm.state import MARK, Event, State

log = logging.getLogger(__name__)

LOOK, SOON, PAUSE = 5.0, 1.0, 0.1
"""Seconds between two looks; while something is awaited; between two pieces."""
PIECE, LARGEST = 200, 1 << 20
"""Values, and bytes of them (or one), that are sealed anew at once."""
LEASED = (KEY, RESTARTING)


class Rekeying:
    """``fresh`` makes a key; ``clock``: nanoseconds since 1970; ``resign``: this node leads no more."""

    def __init__(
        self,
        state: State,
        ledger: SealedLedger,
        members: Members,
        keys: DataKeys,
        me: str,
        clock: Callable[[], int],
        fresh: Callable[[], bytes],
        resign: Callable[[], object],
    ) -> None:
        self._state, self._ledger, self._members, self._keys, self._me = state, ledger, members, keys, me
        self._clock, self._fresh, self._resign = clock, fresh, resign
        self._news = asyncio.Event()
        self._awaited: list[str] = []
        self._older: list[Entry] = []
        """still to be sealed anew, of the last look at all there is"""

    def hear(self, event: Event) -> None:
        """Something that a key may follow from."""
        before, after = event.before, event.after
        if event.kind == "datakeys":
            self._news.set()
        elif event.kind == "nodes":
            was, so = (node and (node.spec.role, node.holds) for node in (before, after))
            if was != so:
                self._news.set()
        elif event.kind == "cluster" and before and after and before.trust != after.trust:
            self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            pause = SOON
            try:
                pause = await self._turn(guard)
            except FairleadError as problem:
                self._older.clear()
                log.info("the data keys of the swarm are looked after later: %s", problem.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _turn(self, guard: Guard) -> float:
        """One step; the seconds until the next."""
        await self._state.current()
        ring = self._state.datakeys.get(RING, Ring())
        facts = await self._facts()
        if self._me not in facts.managers:  # whoever leads next may have keys that we may not
            return LOOK
        if why := datakeys.due(ring, facts):
            id = self._keys.make(self._fresh(), ring)
            await self._state.commit([datakeys.begun(ring, id, facts)], guard=guard)
            log.info("the swarm gets another data key, %s: %s", id[:8], why)
            return PAUSE
        if ring.keys[0] != ring.used and not self._missing(ring, facts):
            await self._state.commit([datakeys.changed(ring)], guard=guard)
            log.info("all managers have the data key %s: it is used from now on", ring.keys[0][:8])
            return PAUSE
        if datakeys.older(ring):
            return await self._seal_anew(ring, guard)
        return LOOK

    async def _facts(self) -> Facts:
        """The nodes as they are known before the members are asked."""
        holds = {node.id: node.holds for node in self._state.nodes.values() if node.spec.role == "manager"}
        cluster = next(iter(self._state.cluster.values()))
        members = {member.node for member in await self._members.list()}
        managers = {node: newest for node, newest in holds.items() if node in members}
        root = tokens.digest(cluster.trust.root.encode())
        return Facts(self._me, self._keys.held.keys(), managers, root, self._clock())

    def _missing(self, ring: Ring, facts: Facts) -> list[str]:
        """Managers that do not have the newest key; said once."""
        awaited = datakeys.awaited(ring, facts)
        if awaited and awaited != self._awaited:
            log.info("the data key %s is used when others have it, too: %s", ring.keys[0][:8], ", ".join(awaited))
        self._awaited = awaited
        return awaited

    # -- what is under older keys ------------------------------------------------------------------------------------

    async def _seal_anew(self, ring: Ring, guard: Guard) -> float:
        if not self._older:
            self._older = [*await self._ledger.older(ring.used)]
            if not self._older:
                await self._state.commit([datakeys.without_older(ring)], guard=guard)
                log.info("nothing is under an older data key than %s any more: it is the only one", ring.used[:8])
                return PAUSE
            if any(entry.key == KEY for entry in self._older):
                self._resign()
                return LOOK
            self._older = [entry for entry in self._older if not _leased(entry)]
            if not self._older:
                return SOON
        await self._ledger.commit([*(Write(*entry) for entry in self._piece()), Write(MARK, b"")], [guard])
        return PAUSE

    def _piece(self) -> Iterator[Entry]:
        size = 0
        while self._older and size < LARGEST:
            entry = self._older.pop()
            if entry.key != MARK:
                size += max(len(entry.value), LARGEST // PIECE)
                yield entry


def _leased(entry: Entry) -> bool:
    return entry.key in LEASED or (entry.key.startswith(PREFIX) and entry.value != b"")
