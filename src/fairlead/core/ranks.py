"""The order of nodes by their load, so that whoever looks for the least loaded need not look at all (``placement``).

a task comes or goes --> changed --settle, when somebody asks--> order
a service's first task on a node, its last one, a failure -----> having
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict


class Ranks:
    """All nodes by how many tasks they have, and which have to do with a service; brought up to date when asked."""

    def __init__(self) -> None:
        self.order: list[tuple[int, str]] = []
        """(tasks, node), sorted"""
        self.changed: dict[str, int | None] = {}
        """node -> how many tasks it has by now, or None: it is gone"""
        self.having: dict[str, set[str]] = defaultdict(set)
        """service -> nodes that carry it, or on which it failed"""
        self._counts: dict[str, int] = {}

    def settle(self) -> None:
        """The order as it is now: few nodes are moved, for many it is made anew."""
        few = len(self.changed) * 8 < len(self._counts)
        for node, count in self.changed.items():
            before = self._counts.pop(node, None)
            if few and before is not None:
                del self.order[bisect_left(self.order, (before, node))]
            if count is not None:
                self._counts[node] = count
                if few:
                    insort(self.order, (count, node))
        self.changed.clear()
        if not few:
            self.order = sorted((count, node) for node, count in self._counts.items())
