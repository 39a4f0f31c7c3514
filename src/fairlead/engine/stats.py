"""Stats: what a container uses, once or every second.

    read(container)    -> Sample              one reading
    watch(container)   -> Sample, Sample …    every second until the container is gone

A ``Sample`` carries the reading before it: use per second is the difference.
What does not run reads as nothing, once a second, as dockerd does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from fairlead.core.usage import Machine, NetworkUse, Usage
from fairlead.engine.catalog import Catalog
from fairlead.engine.runtime import Runtime

EVERY = 1.0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look. ``time`` is nanoseconds since the epoch, 0: never."""

    time: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    machine: Machine = msgspec.field(default_factory=Machine)
    networks: dict[str, NetworkUse] = msgspec.field(default_factory=dict)


class Sample(msgspec.Struct, frozen=True):
    """This look and the one before."""

    now: Reading
    before: Reading


class Stats:
    """Readings of all containers. ``clock`` gives nanoseconds since the epoch."""

    def __init__(self, catalog: Catalog, runtime: Runtime, clock: Callable[[], int]) -> None:
        self._catalog = catalog
        self._runtime = runtime
        self._clock = clock

    async def read(self, ref: str, one_shot: bool = False) -> Sample:
        """One sample; without ``one_shot`` a second passes between its two looks."""
        id = self._catalog.get(ref).id
        if one_shot:
            return Sample(self._look(id), Reading())
        before = self._look(id)
        await asyncio.sleep(EVERY if before.time else 0)
        return Sample(self._look(id), before)

    async def watch(self, ref: str) -> AsyncIterator[Sample]:
        """A sample a second; the first compares with nothing."""
        id = self._catalog.get(ref).id
        before = Reading()
        while self._catalog.find(id) is not None:
            now = self._look(id)
            yield Sample(now, before)
            before = now
            await asyncio.sleep(EVERY)

    def _look(self, id: str) -> Reading:
        usage = self._runtime.usage(id)
        if not usage.version:
            return Reading()
        return Reading(
            time=self._clock(),
            usage=usage,
            machine=self._runtime.machine(),
            networks=self._runtime.networks(id),
        )
