"""Encryption: what two hosts say in an encrypted overlay network leaves in ESP, under keys that are theirs alone.

    encrypted networks here, and who is on them   --enter, leave-------->  +------------+  guard, then by peer:
    shared store   keys/<node>  (core.keying: Row)  --watch, tell------->  | Encryption |  associations, policies
    the kernel lost an association                  --when_lost--------->  +------------+  ---> Kernel

    owner "encryption"           the guard: policies by which nothing clear comes or goes
    owner "encryption <peer>"    what is between this host and another

Rules
    1. The guard stands before the first tunnel, and goes when the last is out of the kernel. (What stands with
       each tunnel besides: ``drivers.overlay``, Rule 5.)
    2. An offer is told when the kernel has what it offers; an ask when it is remembered locally.
    3. Of two nodes at one address the one that started later is there: the other was this machine before
       its disk was emptied.
    4. No key is ever written down, logged or shown: what goes through the store is public.
    5. With the store away what stands stands; nothing new is agreed upon.

What it does not do: make keys (``core.keying``), know who is on which network (``engine.overlays``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from fairlead.core import keying
from fairlead.core.keying import Keying, Peer, Row
from fairlead.core.wanted import Association
from fairlead.engine.kernel import Kernel
from fairlead.engine.records import Records
from fairlead.errors import FairleadError
from fairlead.host.base import Host
from fairlead.store.base import Entry, Store

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two attempts to tell an absent store, or to give the kernel what it refused."""
OWNER = "encryption"


class Encryption:
    """``me``: this host; ``port``: where encrypted frames arrive; ``keys``: its side of every agreement."""

    def __init__(
        self,
        shared: Store,
        store: Store,
        kernel: Kernel,
        host: Host,
        me: Peer,
        port: int,
        keys: Keying,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._shared, self._kernel, self._host = shared, kernel, host
        self._me, self._port, self._keys = me, port, keys
        self._clock, self._pause = clock, pause
        self._rows = Records(store, "keys", Row, key="node")
        """of the others, and our own as it was told last"""
        self._networks: dict[str, Callable[[], set[Peer]]] = {}
        """encrypted networks that are here -> tells who else is on them"""
        self._known: set[Peer] = set()
        """with whom something is, or was, agreed upon"""
        self._told: bytes | None = None
        """our row in the shared store, nothing if it has none; None: not looked yet, or not sure"""
        self._news = asyncio.Event()
        self._news.set()
        kernel.when_lost(self._lost)

    async def load(self) -> None:
        """After a restart; before ``adopt``."""
        await self._rows.load()
        if own := self._rows.get(self._me.node):
            others = {row.peer: row for row in self._rows if row is not own}
            self._keys.load(own, others)
            self._known.update(others)

    # -- from the overlays ----------------------------------------------------------------

    def enter(self, network: str, peers: Callable[[], set[Peer]]) -> None:
        """An encrypted network comes to this host. On return the guard stands; ``Unsupported`` if it would be all.

        ``peers``: tells who else is on it, now and after each ``look_again``.
        """
        if not self._networks:
            self._host.check_encryption(self._me.vtep)
        self._kernel.want(OWNER, keying.guard(self._me.vtep, self._port), "encrypted networks")
        self._networks[network] = peers
        self._news.set()

    def look_again(self) -> None:
        """There may be others on one of the networks."""
        self._news.set()

    def leave(self, network: str) -> None:
        """It is not on this host any more."""
        self._networks.pop(network, None)
        self._news.set()

    def adopt(self, network: str, peers: Callable[[], set[Peer]]) -> None:
        """After a restart it is here as before: what the kernel still has is kept."""
        self._networks[network] = peers
        self._kernel.adopt(OWNER, keying.guard(self._me.vtep, self._port), "encrypted networks")
        for peer in self._peers():
            self._known.add(peer)
            self._kernel.adopt(_owner(peer), self._keys.plan(peer), _title(peer))

    def end(self) -> None:
        """Nothing of it is to be in the kernel any more: this host is at another address, or on no such network."""
        self._networks.clear()
        for peer in self._known:
            self._drop(_owner(peer))
        self._known.clear()
        self._drop(OWNER)

    # -- agreeing -------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: agree with the others, and hear them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_agreeing())
            tasks.create_task(self._hear())

    async def _keep_agreeing(self) -> None:
        while True:
            await self._news_or_time()
            try:
                settled = self._settle()
                await self._tell()
                await self._lower_the_guard()
            except FairleadError as problem:
                log.info("the cluster store cannot be told of keys: %s", problem.message)
                self._told, settled = None, False
            if not settled:
                self._news.set()
                await self._pause(PAUSE)

    async def _news_or_time(self) -> None:
        due = self._keys.due()
        try:
            async with asyncio.timeout(None if due is None else max(due - self._clock(), 0.0)):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def _settle(self) -> bool:
        """Have in the kernel what was agreed upon; False when it refused some of it."""
        peers, refused = self._peers(), False
        for peer in self._known - peers:
            self._keys.forget(peer)
            self._known.discard(peer)
            self._drop(_owner(peer))
        for peer in sorted(peers):
            self._known.add(peer)
            row = self._rows.get(peer.node)
            plan = self._keys.step(peer, row if row and row.peer == peer else None, self._clock())
            try:
                self._kernel.want(_owner(peer), plan, _title(peer))
            except (FairleadError, ExceptionGroup) as problem:
                log.warning("%s: %s; it will be tried again", _title(peer), problem)
                self._lost(item for item in plan if item not in self._kernel.wanted(_owner(peer)))
                refused = True
        return not refused

    def _peers(self) -> set[Peer]:
        """Every other host on an encrypted network of this one, one at each address."""
        found: dict[str, Peer] = {}
        for peer in sorted({p for tell in self._networks.values() for p in tell()}, key=self._begun):
            found[peer.vtep] = peer
        found.pop(self._me.vtep, None)
        return set(found.values())

    def _begun(self, peer: Peer) -> tuple[int, Peer]:
        row = self._rows.get(peer.node)
        return (row.begun if row and row.peer == peer else 0), peer

    def _lost(self, objects: Iterable[object]) -> None:
        for item in objects:
            if isinstance(item, Association):
                log.info("an association from %s to %s is lost; another is agreed upon", item.source, item.target)
                self._keys.lose(item)
                self._news.set()

    async def _lower_the_guard(self) -> None:
        """When the last tunnel is out of the kernel, and not only on its way out."""
        if self._networks or not self._kernel.wanted(OWNER):
            return
        try:
            await asyncio.to_thread(self._host.settle)
        except ExceptionGroup as refused:
            log.warning("%s: %s", refused.message, refused.exceptions[0])
            return
        if not self._networks:
            self._drop(OWNER)

    def _drop(self, owner: str) -> None:
        try:
            self._kernel.drop(owner)
        except ExceptionGroup as refused:
            log.warning("%s: %s: %s", owner, refused.message, refused.exceptions[0])

    # -- the store ------------------------------------------------------------------------

    async def _tell(self) -> None:
        key, row = f"keys/{self._me.node}", self._keys.row
        said = msgspec.json.encode(row) if row.asks or row.offers else b""
        if row != self._rows.get(self._me.node):
            await self._rows.put(row)
        if self._told is None:
            entry = await self._shared.get(key)
            self._told = entry.value if entry else b""
        if said == self._told:
            return
        if said:
            await self._shared.put_if(key, said)
        else:
            await self._shared.delete_if(key)
        self._told = said

    async def _hear(self) -> None:
        known = [Entry(f"keys/{row.node}", b"", 0) for row in self._rows if row.node != self._me.node]
        async for change in self._shared.watch("keys/", known):
            node = change.key.partition("/")[2]
            try:
                if node == self._me.node:
                    continue
                if change.value is None:
                    await self._rows.drop(node)
                else:
                    await self._rows.put(keying.read_row(change.key, change.value))
                self._news.set()
            except FairleadError as problem:
                log.warning("another host's part of keys is passed over: %s", problem.message)


def _owner(peer: Peer) -> str:
    return f"{OWNER} {peer}"


def _title(peer: Peer) -> str:
    return f"encryption with {peer.vtep}"
