"""Store: where we remember. Five verbs, versions for compare-and-swap, one contract test for all.

    get(key)                      Entry or None
    list(prefix)                  entries in key order
    put_if(key, value, version)   write if the key is still at ``version`` (0: absent, ANY: whatever)
    delete_if(key, version)       the same for deleting
    watch(prefix)                 every later change, in order, without a gap

Keys are paths (``networks/3f2a…``), values are bytes (msgspec JSON of a model).

Rules
    1. A write that returned is remembered after SIGKILL.
    2. Versions of one key only grow; a version is never reused for another value.
    3. A failed compare raises ``Conflict`` and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

ANY = -1


class Entry(NamedTuple):
    """One remembered value."""

    key: str
    value: bytes
    version: int


class Change(NamedTuple):
    """One step of a watch; ``value`` is None for a deletion."""

    key: str
    value: bytes | None
    version: int


class Store(Protocol):
    """The contract; ``memory``, ``sqlite`` (and later etcd, consul, zookeeper) keep it."""

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> list[Entry]: ...

    async def put_if(self, key: str, value: bytes, version: int = ANY) -> int:
        """Write and return the new version; ``Conflict`` when the key is not at ``version``."""

    async def delete_if(self, key: str, version: int = ANY) -> None:
        """Delete; deleting what is absent is fine with ANY and ``Conflict`` otherwise."""

    def watch(self, prefix: str) -> AsyncIterator[Change]:
        """Changes after the call, until the iterator is closed."""

    async def close(self) -> None: ...
