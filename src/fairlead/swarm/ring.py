"""Ring: the cluster's gossip keys, in the store they share.

    gossip/ring     the keys in base64, the one in use first     made by whoever comes first

    store --watch--> ours, and on disk          a deed of ours, or one asked for by gossip --compare-and-swap--> store

Rules
    1. With a ring on disk nobody waits for the store; without one there is no gossip until it answers.
    2. A deed (install, use, remove) is done here first and written when the store answers; done already, it
       is fine. So all hosts that were asked may write it.
    3. An empty store gets the ring that we have, if we have one: a restored store does not part a cluster.
    4. Keys are in no log and in no error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from fairlead.core.sealing import Keyring
from fairlead.core.serfkeys import MOST_KEYS, obey
from fairlead.errors import Conflict, FairleadError, Invalid, Unavailable
from fairlead.store.base import Store
from fairlead.swarm.kept import Kept

log = logging.getLogger(__name__)

KEY = "gossip/ring"
PAUSE = 1.0
MOST_DEEDS = 64


def encode_ring(keys: tuple[bytes, ...]) -> bytes:
    """A ring as the store has it."""
    return msgspec.json.encode([base64.b64encode(key).decode() for key in keys])


def read_ring(value: bytes) -> Keyring:
    """A ring out of the store; ``Invalid`` when it is none."""
    try:
        texts = msgspec.json.decode(value, type=list[str])
        if len(texts) > MOST_KEYS:
            raise Invalid("too many keys")
        return Keyring([base64.b64decode(text, validate=True) for text in texts])
    except (msgspec.MsgspecError, binascii.Error, ValueError, Invalid):
        raise Invalid(f"the cluster store's {KEY} makes no sense") from None


class SharedRing:
    """``ring`` is there once ``ready``; it is one object that changes. ``fresh`` makes a new key."""

    def __init__(
        self,
        store: Store,
        kept: Kept,
        fresh: Callable[[], bytes],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        makes: Callable[[], bool] = lambda: True,
    ) -> None:
        """``makes``: whether this host may write the ring (in a swarm, managers may)."""
        self._store, self._kept, self._fresh, self._pause, self._makes = store, kept, fresh, pause, makes
        self.ready = asyncio.Event()
        self._deeds: deque[tuple[str, bytes]] = deque(maxlen=MOST_DEEDS)
        self._undone = asyncio.Event()
        if kept.notes.ring:
            self.ring = Keyring(kept.notes.ring)
            self.ready.set()

    async def run(self) -> None:
        """Until cancelled: have the ring that the store has, and write into it what was done here."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._write())

    def done(self, deed: str, key: bytes) -> None:
        """Something was done with our ring: the store is to have it, too."""
        self._remember()
        self._deeds.append((deed, key))
        self._undone.set()

    async def do(self, deed: str, key: bytes) -> None:
        """Do it in the store, now, or raise."""
        while True:
            entry = await self._store.get(KEY)
            if entry is None:
                await self._make()
                continue
            ring = read_ring(entry.value)
            before = ring.keys
            if not obey(ring, deed, key).done or ring.keys == before:
                return
            try:
                await self._store.put_if(KEY, encode_ring(ring.keys), entry.version)
                return
            except Conflict:
                continue  # somebody was quicker: look again

    async def _hear(self) -> None:
        while not await self._made():
            await self._pause(PAUSE)
        async for change in self._store.watch(KEY):
            try:
                if change.value is None:
                    await self._make()
                else:
                    self._become(read_ring(change.value).keys)
            except FairleadError as problem:
                log.warning("the gossip keys stay as they are: %s", problem.message)

    async def _made(self) -> bool:
        """See to it that the store has a ring; False while it does not answer."""
        try:
            if await self._store.get(KEY) is None:
                await self._make()
                return self._makes()
        except Unavailable:
            return False
        return True

    async def _make(self) -> None:
        if not self._makes():
            return
        keys = self.ring.keys if self.ready.is_set() else (self._fresh(),)
        try:
            await self._store.put_if(KEY, encode_ring(keys), 0)
        except Conflict:
            return  # somebody was quicker, and that one counts

    def _become(self, keys: tuple[bytes, ...]) -> None:
        if not self.ready.is_set():
            self.ring = Keyring(keys)
            self.ready.set()
        elif self.ring.keys != keys:
            self.ring.become(keys)
        self._remember()

    def _remember(self) -> None:
        if self._kept.notes.ring != list(self.ring.keys):
            self._kept.notes.ring = list(self.ring.keys)
            self._kept.save()

    async def _write(self) -> None:
        while True:
            await self._undone.wait()
            try:
                while self._deeds:
                    await self.do(*self._deeds[0])
                    self._deeds.popleft()
                self._undone.clear()
            except FairleadError as problem:
                log.info("the cluster store does not have the new gossip keys yet: %s", problem.message)
                await self._pause(PAUSE)
