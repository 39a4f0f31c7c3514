"""Alarms: what a machine wants to do later, soonest first.

    alarms.set(("probe", 7), now + 0.5)
    for key in alarms.due(now): ...

One alarm per key: setting it again moves it. Setting and cancelling cost a logarithm.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from fairlead.core.effects import NEVER

Key = TypeVar("Key", bound=Hashable)


class Alarms(Generic[Key]):
    """Keys and when they are due."""

    def __init__(self) -> None:
        self._when: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: Key, when: float) -> None:
        """Be due at ``when``, and no longer when it was before."""
        self._when[key] = when
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 64 + 4 * len(self._when):
            self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def when(self, key: Key) -> float:
        """When it is due; never, if it is not set."""
        return self._when.get(key, NEVER)

    def cancel(self, key: Key) -> None:
        """Not at all; fine if it was not set."""
        self._when.pop(key, None)

    def next(self) -> float:
        """When the first is due."""
        while self._heap and self._when.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[Key]:
        """Every key that is due, in order, each taken off. What is set meanwhile may come too."""
        while self.next() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._when[key]
            yield key
