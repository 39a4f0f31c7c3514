"""Records: the engine's values in the store, and an index of them in memory.

One process owns the local store, so what was read at the start and written
since *is* the truth: reading is a dictionary, and only writing waits.

    put(value)     remembered, then known: after a crash nobody knew what was not remembered
    drop(id)       forgotten in both
    load()         at the start

Rule: values are frozen; a change is ``put`` of a new value. A record that this
version cannot read stops the start, by name: guessing would lose addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from fairlead.errors import Internal
from fairlead.store.base import Store

T = TypeVar("T")


class Records(Generic[T]):
    """All values of one type below ``prefix/``; ``key`` is the name of their identifying field."""

    def __init__(self, store: Store, prefix: str, type: type[T], key: str = "id") -> None:
        self._store = store
        self._prefix = prefix
        self._type = type
        self._key = key
        self._known: dict[str, T] = {}

    async def load(self) -> None:
        decode = msgspec.json.Decoder(self._type).decode
        for entry in await self._store.list(self._prefix + "/"):
            try:
                value = decode(entry.value)
            except msgspec.MsgspecError as error:
                raise Internal(f"cannot read the record {entry.key}: {error}") from error
            self._known[getattr(value, self._key)] = value

    async def put(self, value: T) -> T:
        id = getattr(value, self._key)
        await self._store.put_if(f"{self._prefix}/{id}", msgspec.json.encode(value))
        self._known[id] = value
        return value

    async def drop(self, id: str) -> None:
        await self._store.delete_if(f"{self._prefix}/{id}")
        self._known.pop(id, None)

    def get(self, id: str) -> T | None:
        return self._known.get(id)

    def __getitem__(self, id: str) -> T:
        return self._known[id]

    def __contains__(self, id: str) -> bool:
        return id in self._known

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def starting_with(self, prefix: str) -> list[T]:
        """Values whose id starts so: what a short id may mean."""
        return [value for id, value in self._known.items() if id.startswith(prefix)] if prefix else []
