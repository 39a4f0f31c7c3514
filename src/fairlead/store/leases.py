"""The lease of an embedded store: its holder is this process, so it ends when it is ended or when the process does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class LocalLease:
    """``delete(lease)`` deletes what was written under it."""

    def __init__(self, delete: Callable[[LocalLease], Awaitable[None]]) -> None:
        self._delete = delete
        self._ended = asyncio.Event()

    async def keep(self) -> None:
        await self._ended.wait()

    async def end(self) -> None:
        await self._delete(self)
        self._ended.set()
