"""The cache of builds: which of its records a prune takes.

    everything there is  --until, id, impossible-->  what may go  --spare-->  what goes, least lately used first

A record is an image of a step, or one that a Dockerfile starts from; records share layers. Of dockerd's filters those
have a meaning for ours: when a record was last used, and its id. Every record is of the type ``regular``; whoever asks
for another, for a parent, a description or what is in use gets none (``impossible``): no filter takes more than it
says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec


class CacheRecord(msgspec.Struct, frozen=True):
    """``used``: nanoseconds since the epoch; ``layers``: bytes of each by its id."""

    id: str
    used: int
    layers: Mapping[str, int]


class Spare(msgspec.Struct, frozen=True):
    """Bytes that bound a prune, 0 no bound: ``reserved`` may stay, no more than ``most``, ``free`` are to be free."""

    reserved: int = 0
    most: int = 0
    free: int = 0

    def kept(self, total: int, free: int) -> int:
        """How many bytes of ``total`` may stay where ``free`` are free on the disk."""
        if not self.most and not self.free:
            return self.reserved
        kept = min(self.most or total, total - max(0, self.free - free))
        return max(kept, self.reserved)


class Pruning(msgspec.Struct, frozen=True):
    """What was asked for. ``until``: only what was last used before; ``named``: whose id fits."""

    until: int | None = None
    named: Callable[[str], bool] | None = None
    impossible: bool = False
    spare: Spare = Spare()

    @property
    def everything(self) -> bool:
        return self == Pruning()

    def _takes(self, record: CacheRecord) -> bool:
        old = self.until is None or record.used <= self.until
        return old and not self.impossible and (self.named is None or self.named(record.id))

    def chosen(self, records: Sequence[CacheRecord], free: int) -> list[str]:
        """Ids of those that go. ``free``: bytes on the disk."""
        goes = sorted(filter(self._takes, records), key=lambda record: (record.used, -len(record.layers)))
        if self.spare == Spare():
            return [record.id for record in goes]
        sizes = {layer: size for record in records for layer, size in record.layers.items()}
        holders = Counter(layer for record in records for layer in record.layers)
        total = sum(sizes.values())
        kept, ids = self.spare.kept(total, free), []
        for record in goes:
            if total <= kept:
                break
            ids.append(record.id)
            holders.subtract(record.layers.keys())
            total -= sum(size for layer, size in record.layers.items() if not holders[layer])
        return ids
