"""Leases, seen from the holder's side.

LocalLease      of an embedded store: the holder is this process, so it ends when it is ended or when the process does
RenewedLease    of a server: alive while somebody runs ``keep``, which renews it three times within its span
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from fairlead.errors import Unavailable

PAUSE = 0.5


class LocalLease:
    """``held``: key -> the lease that it was last written under, if any; ``delete(key)`` deletes it from the store."""

    def __init__(self, held: Mapping[str, object], delete: Callable[[str], Awaitable[None]]) -> None:
        self._held, self._delete = held, delete
        self._ended = asyncio.Event()

    async def keep(self) -> None:
        await self._ended.wait()

    async def end(self) -> None:
        for key in [key for key, lease in self._held.items() if lease is self]:
            await self._delete(key)
        self._ended.set()


class RenewedLease:
    """``renew(id)`` is False when the server knows it no more; ``revoke(id)`` ends it there."""

    def __init__(
        self,
        id: str,
        ttl: float,
        renew: Callable[[str], Awaitable[bool]],
        revoke: Callable[[str], Awaitable[object]],
    ) -> None:
        self.id = id
        self._ttl = ttl
        self._renew = renew
        self._revoke = revoke
        self._ended = asyncio.Event()

    async def keep(self) -> None:
        while not self._ended.is_set():
            pause = self._ttl / 3
            try:
                if not await self._renew(self.id):
                    return
            except Unavailable:
                pause = PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ended.wait()

    async def end(self) -> None:
        await self._revoke(self.id)
        self._ended.set()
