"""A ledger whose values only managers can read: what lies on their disks, and in copies of them, is sealed.

    value --AES-256-GCM, the data key of the swarm, bound to its name--> etcd

Keys (names of things) are in the clear, values are not. Every manager has the data key beside its own (with autolock
both are sealed with the unlock key); a new one gets it when it is enrolled, over TLS.
What cannot be opened is an empty value, and said: somebody changed it, or it is from before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fairlead.store.base import ANY, Change, Entry, Lease, Ledger, Write

log = logging.getLogger(__name__)

NONCE = 12


class SealedLedger:
    """``store.base.Ledger`` over another. ``key``: 32 bytes."""

    def __init__(self, ledger: Ledger, key: bytes) -> None:
        self._ledger, self._cipher = ledger, AESGCM(key)

    def _seal(self, key: str, value: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, value, key.encode())

    def _open(self, key: str, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], key.encode())
        except (InvalidTag, ValueError):
            log.error("the value of %s in the managers' store is not sealed with the swarm's key", key)
            return b""

    def _entry(self, entry: Entry) -> Entry:
        return entry._replace(value=self._open(entry.key, entry.value))

    async def get(self, key: str) -> Entry | None:
        found = await self._ledger.get(key)
        return found and self._entry(found)

    async def list(self, prefix: str) -> list[Entry]:
        return [self._entry(entry) for entry in await self._ledger.list(prefix)]

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return await self._ledger.put_if(key, self._seal(key, value), version, lease)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self._ledger.delete_if(key, version)

    async def commit(self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = ()) -> int:
        sealed = [
            write if write.value is None else write._replace(value=self._seal(write.key, write.value))
            for write in writes
        ]
        return await self._ledger.commit(sealed, guards)

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        async with aclosing(self._ledger.watch(prefix, seen)) as changes:  # type: ignore[type-var]
            async for change in changes:
                yield change if change.value is None else change._replace(value=self._open(change.key, change.value))

    async def lease(self, ttl: float) -> Lease:
        return await self._ledger.lease(ttl)

    async def close(self) -> None:
        await self._ledger.close()
