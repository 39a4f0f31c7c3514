"""The store that forgets at the end of the process: for tests and dry runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fairlead.errors import Conflict
from fairlead.store.base import ANY, Change, Entry
from fairlead.store.watching import Watchers


class MemoryStore:
    """``store.base.Store`` in a dictionary."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._clock = 0
        self._watchers = Watchers()

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]

    async def put_if(self, key: str, value: bytes, version: int = ANY) -> int:
        self._compare(key, version)
        self._clock += 1
        self._entries[key] = Entry(key, value, self._clock)
        self._watchers.announce(Change(key, value, self._clock))
        return self._clock

    async def delete_if(self, key: str, version: int = ANY) -> None:
        self._compare(key, version)
        if self._entries.pop(key, None) is not None:
            self._clock += 1
            self._watchers.announce(Change(key, None, self._clock))

    def _compare(self, key: str, version: int) -> None:
        entry = self._entries.get(key)
        if version != ANY and version != (entry.version if entry else 0):
            raise Conflict(f"{key} was changed by somebody else")

    def watch(self, prefix: str) -> AsyncIterator[Change]:
        return self._watchers.watch(prefix)

    async def close(self) -> None:
        self._entries.clear()
