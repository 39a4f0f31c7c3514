"""The store that forgets at the end of the process, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from fairlead.errors import Conflict
from fairlead.store.base import ANY, Change, Entry, Lease, Write
from fairlead.store.leases import LocalLease
from fairlead.store.watching import Watchers, differences


class MemoryStore:
    """``store.base.Store`` in a dictionary. Several engines of one test may share it."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._leases: dict[str, Lease] = {}
        self._clock = 0
        self._watchers = Watchers()

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return await self.commit([Write(key, value, version)], (), lease)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self.commit([Write(key, None, version)])

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        for key, version in (*guards, *((write.key, write.version) for write in writes)):
            self._compare(key, version)
        self._clock += 1
        for key, value, _ in writes:
            self._leases.pop(key, None)
            if value is not None:
                self._entries[key] = Entry(key, value, self._clock)
                if lease:
                    self._leases[key] = lease
            elif self._entries.pop(key, None) is None:
                continue
            self._watchers.announce(Change(key, value, self._clock))
        return self._clock

    def _compare(self, key: str, version: int) -> None:
        entry = self._entries.get(key)
        if version != ANY and version != (entry.version if entry else 0):
            raise Conflict(f"{key} was changed by somebody else")

    def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        present = [entry for key, entry in self._entries.items() if key.startswith(prefix)]
        versions = {entry.key: entry.version for entry in seen}
        return self._watchers.watch(prefix, differences(versions, present, self._clock))

    async def lease(self, ttl: float) -> Lease:
        return LocalLease(self._leases, self.delete_if)

    async def close(self) -> None:
        self._entries.clear()
