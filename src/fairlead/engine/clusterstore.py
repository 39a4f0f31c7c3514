"""The cluster's store, seen from the engine: is it there? If not, no is said at once.

    networks of the cluster ---> ClusterStore ---> store.etcd, consul, zookeeper, sqlite
                                    |
                                    +--- run(): asks every few seconds whether it answers

Rules
    1. Nothing of this machine waits for it: the engine starts without it, and local
       networks do not know that it exists.
    2. While it is away every verb but ``watch`` raises ``Unavailable`` without trying,
       saying which option names it and how to see it oneself. The engine has only just
       begun, and nobody knows yet? The first answer is awaited, ``FIRST`` seconds at most.
    3. A watch waits and goes on by itself (``store.base``): nobody has to start it again.
    4. One failed request proves nothing. It only makes ``run`` ask at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from fairlead.errors import FairleadError, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease, Store

T = TypeVar("T")

log = logging.getLogger(__name__)

CALM = 2.0
"""Seconds between two questions while it answers."""
ANXIOUS = 0.5
"""... and while it does not."""
FIRST = 5.0
"""Seconds for the first answer; then the store counts as away."""


class ClusterStore:
    """``store.base.Store``, and whether it is there. ``name``: as it may be shown; ``see``: a command that shows it."""

    def __init__(self, store: Store, name: str, see: str = "") -> None:
        self._store = store
        self._name = name
        self._see = see
        self.up = False
        self._known = asyncio.Event()
        self._doubt = asyncio.Event()
        self.trouble = "its first answer is awaited"

    async def run(self) -> None:
        """Until cancelled: know whether it is there."""
        while True:
            self._doubt.clear()
            try:
                await self._store.get("up")
            except FairleadError as error:
                self._found(False, error.message)
            else:
                self._found(True)
            if not self.up:
                await asyncio.sleep(ANXIOUS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(CALM):
                    await self._doubt.wait()

    def _found(self, up: bool, trouble: str = "") -> None:
        changed = up != self.up or not self._known.is_set()
        self._known.set()
        self.trouble = trouble
        self.up = up
        if not changed:
            return
        if up:
            log.info("cluster store %s answers", self._name)
        else:
            log.error("%s", self.complaint)

    @property
    def complaint(self) -> str:
        return self._words(f"is not reachable: {self.trouble}")

    def _words(self, trouble: str) -> str:
        see = f" (see it: {self._see})" if self._see else ""
        return (
            f"the cluster store {trouble}. Networks of the cluster cannot be changed until it answers; local networks"
            f" do not need it. Check --cluster-store={self._name}{see}"
        )

    # -- the store's verbs ----------------------------------------------------------------

    async def _first(self) -> None:
        """A command may be quicker than the store's first answer, which is no reason to refuse it."""
        try:
            async with asyncio.timeout(None if self._known.is_set() else FIRST):
                await self._known.wait()
        except TimeoutError:
            self._found(False, f"no answer within {FIRST:g} seconds")

    async def _try(self, deed: Callable[[Store], Awaitable[T]]) -> T:
        await self._first()
        if not self.up:
            raise Unavailable(self.complaint)
        try:
            return await deed(self._store)
        except Unavailable as error:
            self._doubt.set()
            raise Unavailable(self._words(f"gave no answer: {error.message}")) from error

    async def get(self, key: str) -> Entry | None:
        return await self._try(lambda store: store.get(key))

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return await self._try(lambda store: store.put_if(key, value, version, lease))

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self._try(lambda store: store.delete_if(key, version))

    def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        return self._store.watch(prefix, seen)

    async def lease(self, ttl: float) -> Lease:
        return await self._try(lambda store: store.lease(ttl))

    async def list(self, prefix: str) -> list[Entry]:
        return await self._try(lambda store: store.list(prefix))

    async def close(self) -> None:
        await self._store.close()
