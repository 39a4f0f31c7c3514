"""The order of nodes by their load, so that whoever looks for the least loaded need not look at all (``placement``).

a task comes or goes --> changed --settle, when somebody asks--> order
a service's first task on a node, its last one, a failure -----> having
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator


class Ranks:
    """All nodes by how many tasks they have, and which have to do with a service; brought up to date when asked."""

    def __init__(self) -> None:
        self.changed: dict[str, int | None] = {}
        """node -> how many tasks it has by now, or None: it is gone"""
        self.having: dict[str, set[str]] = defaultdict(set)
        """service -> nodes that carry it, or on which it failed"""
        self._counts: dict[str, int] = {}
        self._with: dict[int, list[str]] = defaultdict(list)
        """tasks -> nodes with so many, if any, sorted"""

    def settle(self) -> None:
        """The order as it is now."""
        for node, count in self.changed.items():
            before = self._counts.pop(node, None)
            if before is not None:
                alike = self._with[before]
                del alike[bisect_left(alike, node)]
            if count is not None:
                self._counts[node] = count
                insort(self._with[count], node)
        self.changed.clear()

    def order(self) -> Iterator[str]:
        """From the least loaded up; of use until the next ``settle``."""
        for count in sorted(self._with):
            yield from self._with[count]
