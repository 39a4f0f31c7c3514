"""The leader: one manager at a time decides what the swarm should run, and writes it down.

    every manager:  key "leader" under a lease --taken--> wait --free--> take it --> lead until the lease is lost
                                                                                     or the key (``succession``)
    the leader:     state --events--> core.orchestrator --steps--> state.commit(guard = the leader's key)

Rules
    1. Whoever lost the lease may not know it yet. Its writes name the key as it was when it was elected, so they fail.
    2. What could not be written is taken back, and decided anew from what is so then.
    3. Steps are written in pieces of ``PIECE``; each piece stands for itself.

What it does not do: talk to nodes (``dispatcher``). Managers that do not lead serve the API and the nodes all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from fairlead.core.orchestrator import Orchestrator, Step
from fairlead.core.orchestrator import Thing as Decided
from fairlead.core.service import SECOND
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Entry, Ledger
from fairlead.swarm.state import Event, State, Thing

log = logging.getLogger(__name__)

KEY = "leader"
TERM = 3.0
"""seconds without a sign of the leader, after which another is elected"""
PIECE = 1000
"""steps in one commit"""
PAUSE = 0.2
SET = SECOND
"""by which the time of day jumps when it is set, and not just kept right"""
KINDS = ("nodes", "networks", "services", "tasks", "loans")
"""in the order in which a new leader hears of them: networks first, else each would ask about all there is"""

Guard = tuple[str, int]


async def stand(ledger: Ledger, node: str, lead: Callable[[Guard], Awaitable[None]]) -> None:
    """Stands for election for ever; ``lead`` runs while this node is elected, and is cancelled when it is no more."""
    while True:
        try:
            lease = await ledger.lease(TERM)
            elected = await ledger.put_if(KEY, node.encode(), 0, lease)
        except (Conflict, Unavailable):
            await _vacancy(ledger, node)
            continue
        log.info("this node leads the swarm")
        try:
            office = Entry(KEY, node.encode(), elected)
            await until_lost(lease.keep(), until_lost(_changed(ledger, office), lead((KEY, elected))))
        finally:
            await give_up(lease.end())
        log.info("this node leads the swarm no more")


async def _vacancy(ledger: Ledger, node: str) -> None:
    """Until nobody holds the key (or nobody can be asked: then after a pause). It may have been let go just now."""
    holder = None
    with contextlib.suppress(Conflict, Unavailable):
        holder = await ledger.get(KEY)
        if holder is not None and holder.value == node.encode():  # from our life before, or a write that got no answer
            await ledger.delete_if(KEY, holder.version)
            return
    if holder is None:
        await asyncio.sleep(PAUSE)
    else:
        await _changed(ledger, holder)


async def _changed(ledger: Ledger, office: Entry) -> None:
    """Until nobody holds it, or somebody else."""
    async for change in ledger.watch(KEY, [office]):
        if change.key == KEY:
            return


async def until_lost(keep: Awaitable[None], lead: Awaitable[None]) -> None:
    """``lead`` for as long as the lease is kept."""
    async with asyncio.TaskGroup() as group:

        async def watch() -> None:
            await keep
            leading.cancel()

        async def rule() -> None:
            await lead
            keeping.cancel()

        keeping, leading = group.create_task(watch()), group.create_task(rule())


async def give_up(end: Awaitable[None]) -> None:
    """Ends a lease, if that is quickly done."""
    try:
        await asyncio.wait_for(end, PAUSE)
    except (TimeoutError, Unavailable, Conflict):
        log.debug("the leader's lease ends by itself")


class Leader:
    """``clock``: nanoseconds since 1970; ``new_id``: draws an id."""

    def __init__(self, state: State, clock: Callable[[], int], new_id: Callable[[], str], history: int) -> None:
        self._state, self._clock = state, clock
        self._orchestrator = Orchestrator(new_id, history)
        self._news = asyncio.Event()
        self._ahead = 0
        for kind in KINDS:
            for thing in getattr(state, kind).values():
                self._orchestrator.hear(None, thing)

    def hear(self, event: Event) -> None:
        """Something in the state changed."""
        if event.kind in KINDS:
            self._orchestrator.hear(event.before, event.after)
            self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Decides and writes, until cancelled."""
        while True:
            self._news.clear()
            self._watch_clock()
            steps = self._orchestrator.turn(self._clock())
            if not steps:
                await self._wait()
                continue
            for start in range(0, len(steps), PIECE):
                piece = steps[start : start + PIECE]
                if not await self._write(piece, guard):
                    self._orchestrator.undo(map(self._undone, reversed(steps[start:])))
                    await asyncio.sleep(PAUSE)
                    break

    def _undone(self, step: Step) -> Step:
        """Back to what the state has: it may have heard of somebody else's change while we wrote, and told us."""
        thing = step.after if step.after is not None else step.before
        return Step(cast(Decided | None, self._state.now(cast(Thing, thing))), step.after)

    def _watch_clock(self) -> None:
        """The time of day against the time that passes: whether somebody set it."""
        ahead = self._clock() - int(asyncio.get_running_loop().time() * SECOND)
        if abs(ahead - self._ahead) > SET:
            self._orchestrator.clock_was_set()
        self._ahead = ahead

    async def _write(self, steps: Sequence[Step], guard: Guard) -> bool:
        put = [cast(Thing, step.after) for step in steps if step.after is not None]
        delete = [cast(Thing, step.before) for step in steps if step.after is None]
        try:
            await self._state.commit(put, delete, guard)
        except (Conflict, Unavailable) as error:
            log.info("what was decided could not be written, and is decided anew: %s", error.message)
            return False
        return True

    async def _wait(self) -> None:
        """Until there is news, or it is time."""
        wake = self._orchestrator.wake_at
        seconds = None if wake is None else max(0, wake - self._clock()) / SECOND
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
