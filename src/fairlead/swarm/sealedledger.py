"""A ledger whose values only managers can read: what lies on their disks, and in copies of them, is sealed.

    value --AES-256-GCM, the data key that is used, bound to its name--> etcd        mark | id of the key | nonce | text
                                                                        key zero:                         nonce | text

Keys (names of things) are in the clear, values are not. Every manager has the data keys beside its own (with autolock
all are sealed with the unlock key); a new one gets them when it is enrolled, over TLS (``core.datakeys``).

Rules
    1. Every write is guarded by the version of the ring that its key was chosen by. Where that has moved on meanwhile,
       it is sealed and written anew; who called does not notice.
    2. A value under a key that we do not have is waited for: other managers are asked for the ring (``Keys.ask``).
       ``Unavailable`` while none answers.
    3. What no key opens though others were asked, or there is nobody to ask, is an empty value, and said: somebody
       changed it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

from fairlead.core import datakeys
from fairlead.core.datakeys import ID_BYTES, RING, ZERO
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease, Ledger, Write
from fairlead.swarm.cipher import AesGcm

log = logging.getLogger(__name__)

NONCE = 12
MARK = b"\x00key"
HEAD = len(MARK) + ID_BYTES
RECORD = f"datakeys/{RING}"
_CIPHER = AesGcm()
PAUSE = 1.0
"""seconds until others are asked again, by a watch"""


class Keys(Protocol):
    """The data keys that this manager has: id -> key."""

    @property
    def held(self) -> dict[str, bytes]: ...

    async def ask(self, wanted: Collection[str]) -> None:
        """Other managers for these. Returns when one has answered, whether it had them or not, and when there is no
        other; raises ``Unavailable``."""


class Choice(NamedTuple):
    """The key that is used, and the version of the ring that says so."""

    version: int
    id: str
    key: bytes


class SealedLedger:
    """``store.base.Ledger`` over another."""

    def __init__(self, ledger: Ledger, keys: Keys) -> None:
        self._ledger, self._keys = ledger, keys
        self._choice: Choice | None = None
        self._strange: set[str] = set()
        """ids that others do not know either"""

    # -- one value ---------------------------------------------------------------------------------------------------

    def _open(self, key: str, sealed: bytes) -> bytes:
        found = unseal(self._keys.held, key, sealed)
        if found is None:
            log.error("the value of %s in the managers' store is sealed with no key of the swarm", key)
        return found or b""

    async def _learn(self, values: Iterable[bytes]) -> None:
        """Have the keys that these are sealed with, as far as others know them."""
        held = self._keys.held
        if wanted := {sealed_with(value) for value in values} - held.keys() - self._strange - {ZERO}:
            await self._keys.ask(wanted)
            self._strange |= wanted - self._keys.held.keys()

    async def _used(self) -> Choice:
        if self._choice is None:
            entry = await self.get(RECORD)
            held = self._keys.held
            if entry is None:  # a swarm that begins, or one from before there were rings
                id = ZERO if ZERO in held else next(iter(held), ZERO)
                version = 0
            else:
                version, id = entry.version, datakeys.read(entry.value).used
            if id not in held:
                await self._keys.ask([id])
            if id not in (held := self._keys.held):
                raise Unavailable("this manager does not have the key with which the managers' store is sealed now")
            self._choice = Choice(version, id, held[id])
        return self._choice

    # -- reading -----------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        found = await self._ledger.get(key)
        if found is None:
            return None
        await self._learn([found.value])
        return found._replace(value=self._open(key, found.value))

    async def list(self, prefix: str) -> list[Entry]:
        found = await self._ledger.list(prefix)
        await self._learn(entry.value for entry in found)
        return [entry._replace(value=self._open(entry.key, entry.value)) for entry in found]

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        async with aclosing(self._ledger.watch(prefix, seen)) as changes:  # type: ignore[type-var]
            async for change in changes:
                if change.value is None:
                    yield change
                    continue
                await self._learned(change.value)
                yield change._replace(value=self._open(change.key, change.value))

    async def _learned(self, value: bytes) -> None:
        """As ``_learn``, for as long as it takes."""
        while True:
            try:
                await self._learn([value])
                return
            except Unavailable as error:
                log.debug("a watch of the managers' store waits: %s", error.message)
                await asyncio.sleep(PAUSE)

    async def older(self, used: str) -> Sequence[Entry]:
        """What is sealed with another key than this, opened. (What none opens stays as it is, and does not count.)"""
        held, found = self._keys.held, []
        for entry in await self._ledger.list(""):
            if sealed_with(entry.value) == used:
                continue
            if (value := unseal(held, entry.key, entry.value)) is not None:
                found.append(entry._replace(value=value))
        return found

    # -- writing -----------------------------------------------------------------------------------------------------

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return await self.commit([Write(key, value, version)], (), lease)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self._ledger.delete_if(key, version)

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        guards = list(guards)
        if all(write.value is None for write in writes):
            return await self._ledger.commit(writes, guards, lease)
        while True:
            used = await self._used_for(writes)
            by = [] if any(write.key == RECORD for write in writes) else [(RECORD, used.version)]
            try:
                return await self._ledger.commit([_sealed(write, used) for write in writes], [*guards, *by], lease)
            except Conflict:
                self._choice = None
                if (await self._used()).version == used.version:
                    raise
            finally:
                if not by:
                    self._choice = None

    async def _used_for(self, writes: Sequence[Write]) -> Choice:
        """A write of the ring itself is compared with it: it has to be of the version that its key is chosen by."""
        used = await self._used()
        for write in writes:
            if write.key == RECORD and write.version != used.version:
                self._choice = None
                used = await self._used()
                if write.version != used.version:
                    raise Conflict(f"{RECORD} was changed by somebody else")
        return used

    async def lease(self, ttl: float) -> Lease:
        return await self._ledger.lease(ttl)

    async def close(self) -> None:
        await self._ledger.close()


def sealed_with(value: bytes) -> str:
    """The id of the key, as it is said there."""
    return value[len(MARK) : HEAD].hex() if value.startswith(MARK) and len(value) > HEAD + NONCE else ZERO


def seal(id: str, cipher_key: bytes, key: str, value: bytes) -> bytes:
    """``key``: the name that the value is bound to."""
    nonce = os.urandom(NONCE)
    head = MARK + bytes.fromhex(id) if id else b""
    return head + nonce + _CIPHER.seal(cipher_key, nonce, value, key.encode())


def unseal(held: dict[str, bytes], key: str, sealed: bytes) -> bytes | None:
    """None: none of these keys opens it. (A value under key zero may begin by chance as others do.)"""
    found = None
    if (id := sealed_with(sealed)) and id in held:
        found = _try(held[id], key, sealed[HEAD:])
    return _try(held[ZERO], key, sealed) if found is None and ZERO in held else found


def _try(cipher_key: bytes, key: str, sealed: bytes) -> bytes | None:
    return _CIPHER.open(cipher_key, sealed[:NONCE], sealed[NONCE:], key.encode()) if len(sealed) > NONCE else None


def _sealed(write: Write, used: Choice) -> Write:
    if write.value is None:
        return write
    return write._replace(value=seal(used.id, used.key, write.key, write.value))
