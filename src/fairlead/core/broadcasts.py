"""Broadcasts: what should be known everywhere, riding along on whatever is sent.

Each is sent a number of times that grows with the logarithm of the cluster, to somebody else each
time; after that everybody has it, up to a vanishing rest that push-pull mends (SWIM, section 4.1).

Rules
    1. What was sent least goes first, among equals the newest.
    2. A broadcast replaces an older one under the same key: only the newest word on a node is worth telling.
    3. At most ``most`` are kept. What has been told most often is dropped first.
"""

from __future__ import annotations

import math


def times(multiplier: int, nodes: int) -> int:
    """How often each node sends a broadcast in a cluster of so many nodes.

    memberlist has one ``multiplier`` less; among ten nodes that leaves out one in a hundred each time."""
    return multiplier * (1 + math.ceil(math.log10(nodes + 1)))


class Broadcasts:
    """The queue of one node."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tiers: list[dict[str, bytes]] = [{}]
        """By how often they were sent."""
        self._tier_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tier_of)

    def __contains__(self, key: str) -> bool:
        return key in self._tier_of

    def add(self, key: str, message: bytes) -> None:
        """Spread an encoded message, instead of the one that was spread under this key."""
        self.drop(key)
        if len(self._tier_of) >= self._most:
            oldest = next(next(iter(tier)) for tier in reversed(self._tiers) if tier)
            self.drop(oldest)
        self._tiers[0][key] = message
        self._tier_of[key] = 0

    def drop(self, key: str) -> None:
        """Stop spreading; fine if it was not spread."""
        tier = self._tier_of.pop(key, None)
        if tier is not None:
            del self._tiers[tier][key]

    def take(self, room: int, each: int, limit: int) -> list[bytes]:
        """Messages for one packet: together at most ``room`` bytes, each costing ``each`` more than its length.

        Whatever has been taken ``limit`` times is done."""
        taken: list[tuple[str, int]] = []
        found: list[bytes] = []
        for sent, tier in enumerate(self._tiers):
            for key in reversed(tier):
                cost = len(tier[key]) + each
                if cost <= room and len(found) < 200:
                    room -= cost
                    found.append(tier[key])
                    taken.append((key, sent))
            if room <= 32:
                break
        for key, sent in taken:
            self._told(key, sent + 1, limit)
        return found

    def _told(self, key: str, sent: int, limit: int) -> None:
        message = self._tiers[sent - 1].pop(key)
        if sent >= limit:
            del self._tier_of[key]
            return
        while len(self._tiers) <= sent:
            self._tiers.append({})
        self._tiers[sent][key] = message
        self._tier_of[key] = sent
