"""Fan-out of changes to watchers: the part of a store that the embedded ones share.

A watcher gets every change under its prefix that was announced after it began,
in order. Its queue is unbounded on purpose: a watcher lives in this process,
and losing a change would break the promise of no gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fairlead.store.base import Change


class Watchers:
    """All watches of one store."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[Change], str] = {}

    def announce(self, change: Change) -> None:
        for queue, prefix in self._queues.items():
            if change.key.startswith(prefix):
                queue.put_nowait(change)

    def watch(self, prefix: str) -> AsyncIterator[Change]:
        """Subscribed from the call on, not from the first ``anext``: nothing is lost in between."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._queues[queue] = prefix
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
        try:
            while True:
                yield await queue.get()
        finally:
            del self._queues[queue]
