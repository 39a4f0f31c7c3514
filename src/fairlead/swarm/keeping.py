"""Keeping: what the leader does with what nodes share (``sharedstore``), and with specs that no task names any more.

    every ``lifetime``    gossip/ring: a new key, used, the old ones gone      step by step: all nodes follow the ring
    none names a spec     specs/<digest> goes, after ``AGAIN``: what is being written may name it
    a node is removed     nodes/<node>, keys/<node> go, and gossip gets another key at once: it had the old one

Rules
    1. When the ring was changed last is written beside it, so a new leader goes on counting.
    2. A change that was begun and not ended leaves keys that are not used; the next change removes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fairlead.core.serfkeys import INSTALL, REMOVE, USE, obey
from fairlead.core.service import SECOND
from fairlead.errors import Conflict, FairleadError
from fairlead.store.base import Store
from fairlead.swarm.leader import PIECE, Guard
from fairlead.swarm.ring import KEY, encode_ring, read_ring
from fairlead.swarm.sharedstore import OWN, SHARED
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

LIFETIME = 12 * 3600 * SECOND
FOLLOW = 10.0
"""seconds in which all who are in session see a step; the others see the ring as it is when they return"""
AGAIN = 60.0
ROTATED = f"{SHARED}gossip/rotated"


class Keeping:
    """``fresh`` makes a key; ``clock``: nanoseconds since 1970; ``lifetime``: of a key, the same."""

    def __init__(
        self,
        state: State,
        ledger: Store,
        clock: Callable[[], int],
        fresh: Callable[[], bytes],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lifetime: int = LIFETIME,
    ) -> None:
        self._state, self._ledger, self._clock, self._fresh, self._pause = state, ledger, clock, fresh, pause
        self._lifetime = lifetime
        self._news = asyncio.Event()
        self._unused: set[str] = set()
        self._looked = -AGAIN
        self._removed = False
        """a node that knows the key is none any more"""

    def hear(self, event: Event) -> None:
        """Something in the state changed."""
        if event.kind == "nodes" and event.after is None:
            self._removed = True
            self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            try:
                await self._forget()
                await self._forget_specs(guard)
                await self._rotate()
            except FairleadError as problem:
                log.info("what nodes share is looked after later: %s", problem.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(AGAIN, self._lifetime / SECOND)):
                    await self._news.wait()

    async def _forget(self) -> None:
        """What nodes wrote that are none any more."""
        for prefix in OWN:
            for entry in await self._ledger.list(SHARED + prefix):
                if entry.key.rpartition("/")[2] not in self._state.nodes:
                    await self._ledger.delete_if(entry.key)
        if self._removed:  # written down: whoever leads next goes on with it
            await self._ledger.put_if(ROTATED, b"0")
            self._removed = False

    async def _forget_specs(self, guard: Guard) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._looked + AGAIN:
            return
        unused = self._state.unused()
        over, self._unused, self._looked = unused & self._unused, unused, now
        await self._state.forget(sorted(over)[:PIECE], guard)

    async def _rotate(self) -> None:
        last, now = await self._ledger.get(ROTATED), self._clock()
        if last is None:
            await self._ledger.put_if(ROTATED, str(now).encode())
        elif now - int(last.value) >= self._lifetime:
            new = self._fresh()
            for deed in (INSTALL, USE):
                await self._do(deed, new)
                await self._pause(FOLLOW)
            await self._do(REMOVE, new)
            await self._ledger.put_if(ROTATED, str(now).encode())
            log.info("gossip has another key")

    async def _do(self, deed: str, new: bytes) -> None:
        """One step; ``REMOVE``: of all keys but this."""
        while entry := await self._ledger.get(SHARED + KEY):
            ring = read_ring(entry.value)
            for key in [old for old in ring.keys if old != new] if deed == REMOVE else [new]:
                obey(ring, deed, key)
            with suppress(Conflict):  # somebody was quicker: look again
                await self._ledger.put_if(SHARED + KEY, encode_ring(ring.keys), entry.version)
                return
