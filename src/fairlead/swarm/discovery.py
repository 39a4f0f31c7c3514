"""Discovery: hosts find each other's gossip through the store they share.

    nodes/<node>     where its gossip answers, and its public key     under a lease: who is off for long is gone
        me --write-->  store  --watch-->  others: told to ``learnt``, kept on disk

Rules
    1. Our place is written anew whenever it is lost: the lease ended, the store forgot, somebody deleted it.
    2. A place that goes from the store stays on our disk, and its key stays known: gossip itself says who
       lives, and a store that is away, or emptied, must not part hosts that hear each other. In a swarm places have
       no lease, and managers take away those of nodes that were removed: they are forgotten (``gone``).
    3. A place that makes no sense is passed over, and said (``core.places``).

When to try which place again is not decided here (``core.seeds``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from fairlead.core.places import Place, read_place
from fairlead.errors import FairleadError, Unavailable
from fairlead.store.base import Entry, Lease, Store
from fairlead.swarm.kept import Kept

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two attempts to write to an absent store."""
TTL = 60.0
"""Docker's own: a host that is silent for so long is no longer listed."""


class Discovery:
    """``learnt`` is called for every place that is new or has changed; ``gone``, in a swarm, with every node that is
    in it no more."""

    def __init__(
        self,
        store: Store,
        kept: Kept,
        me: Place,
        learnt: Callable[[Place], None],
        ttl: float = TTL,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        gone: Callable[[str], None] | None = None,
    ) -> None:
        self._store, self._kept, self._me, self._learnt, self._ttl, self._pause = store, kept, me, learnt, ttl, pause
        self._gone = gone
        self.listed: set[str] = set()
        """Nodes that the store has now."""
        self._missing = asyncio.Event()
        self._withdrawn = False

    @property
    def places(self) -> dict[str, Place]:
        """The others, as far as they were ever told."""
        return self._kept.notes.places

    async def tell(self) -> None:
        """Until cancelled: see to it that the others can find us."""
        while True:
            try:
                lease = await self._store.lease(self._ttl)
                if self._gone is None:
                    await self._store.delete_if(self._key)  # what an earlier life of ours wrote ends with its lease
                await self._write(lease)
                await _first(lease.keep(), self._write_again(lease))
                log.info("our place in the cluster store was lost; it is written anew")
            except FairleadError as problem:
                level = logging.DEBUG if isinstance(problem, Unavailable) else logging.WARNING
                log.log(level, "the cluster store cannot be told where our gossip answers: %s", problem.message)
                await self._pause(PAUSE)

    async def withdraw(self) -> None:
        """We go for good: nobody is to look for us."""
        self._withdrawn = True
        await self._store.delete_if(self._key)

    @property
    def _key(self) -> str:
        return f"nodes/{self._me.node}"

    async def _write(self, lease: Lease) -> None:
        await self._store.put_if(self._key, msgspec.json.encode(self._me), lease=lease)

    async def _write_again(self, lease: Lease) -> None:
        """Until cancelled: somebody deletes our place, we write it again."""
        while True:
            await self._missing.wait()
            self._missing.clear()
            await self._write(lease)

    async def hear(self) -> None:
        """Until cancelled: learn where the others are; those on disk first."""
        for place in list(self.places.values()):
            self._learnt(place)
        told = [] if self._gone is None else [Entry(f"nodes/{node}", b"", 0) for node in self.places]
        async for change in self._store.watch("nodes/", told):
            node = change.key.partition("/")[2]
            if change.value is None:
                self.listed.discard(node)
                if node != self._me.node:
                    self._forget(node)
                elif not self._withdrawn:
                    self._missing.set()
                continue
            try:
                place = read_place(change.key, change.value)
            except FairleadError as problem:
                log.warning("a host of the cluster is passed over: %s", problem.message)
                continue
            if place.node != self._me.node:
                self._heed(place)

    def _forget(self, node: str) -> None:
        if self._gone is not None:
            if self.places.pop(node, None):
                self._kept.save()
            self._gone(node)

    def _heed(self, place: Place) -> None:
        self.listed.add(place.node)
        if self.places.get(place.node) != place:
            self.places.pop(place.node, None)  # so that the newest stand last
            self.places[place.node] = place
            self._kept.save()
            self._learnt(place)


async def _first(*deeds: Coroutine[Any, Any, None]) -> None:
    """Do several things until one of them is over; the others are ended."""
    tasks = [asyncio.ensure_future(deed) for deed in deeds]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
