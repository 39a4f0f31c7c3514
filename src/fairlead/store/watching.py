"""Watching: what the stores share in telling their watchers.

    differences     the changes between what somebody has seen and what is: how every watch begins, and
                    how it goes on after its store was away, lost its history or tells only that *something* changed
    Watchers        fan-out for the embedded stores, where every change passes through this process

A watcher's queue is unbounded on purpose: it lives in this process, and losing
a change would break the promise of no gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from fairlead.store.base import Change, Entry


def differences(seen: Mapping[str, int], present: Iterable[Entry], version: int) -> list[Change]:
    """The changes from ``seen`` (key -> version) to ``present``: deletions (at ``version``), then the rest by age."""
    now = {entry.key: entry for entry in present}
    gone = [Change(key, None, version) for key in sorted(seen.keys() - now.keys())]
    fresh = [Change(*entry) for entry in now.values() if entry.version != seen.get(entry.key)]
    return gone + sorted(fresh, key=lambda change: change.version)


def note(seen: dict[str, int], change: Change) -> bool:
    """Take ``change`` into what was seen; False if it is old news."""
    known = seen.get(change.key, 0)
    if change.value is None:
        return change.version > known and seen.pop(change.key, None) is not None
    if change.version <= known:
        return False
    seen[change.key] = change.version
    return True


class Watchers:
    """All watches of one store."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[Change], str] = {}

    def announce(self, change: Change) -> None:
        for queue, prefix in self._queues.items():
            if change.key.startswith(prefix):
                queue.put_nowait(change)

    def watch(self, prefix: str, first: Iterable[Change]) -> AsyncIterator[Change]:
        """``first``, then what is announced from this call on (not from the first ``anext``)."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        for change in first:
            queue.put_nowait(change)
        self._queues[queue] = prefix
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
        try:
            while True:
                yield await queue.get()
        finally:
            del self._queues[queue]
