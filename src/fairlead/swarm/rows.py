"""Rows: a host's endpoints told by gossip instead of through a store, in a form that ``engine.cluster`` can use.

                          GossipRows, a Store
    endpoints/<node>/<id>      |        everything else
              core.tables  <---+--->    the store behind it (claims, networks)

    put_if    the network is had from its first endpoint on, and the row told to the hosts that have it
    delete_if the row is deleted everywhere; with the last one the network is had no longer
    watch     rows that begin to stand, change, or no longer stand: their owner deleted them, failed or left

A worker of a swarm sees no store: with this, it needs none for its endpoints. Only rows of networks
that are had here are known, each owner's under its own signature (``core.tables``).

Rules
    1. A row is its owner's: it is known under ``endpoints/<owner>/``, whatever it says of itself, and
       ``engine.cluster`` checks every word of it as it checks the store's.
    2. Rows of a host that failed no longer stand, and stand again the moment it returns. Meanwhile its endpoints are
       known, as away: what goes on without its engine is reached as before. Its tasks do not serve; the name of a
       service does not vanish because a cable is out.
    3. What a watcher has seen in an earlier life, and nobody tells of within ``settle`` seconds, is gone. (Of a host
       that failed meanwhile, the others tell.)
    4. Names that do not fit a packet are left out, the last ones first, and it is said.
    5. Gossip may not be there yet, or begin anew: what is ours is told as soon as it is, before anybody is joined.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from fairlead.core.effects import Effects
from fairlead.core.model import Remote
from fairlead.core.rows import LARGEST_ROW, Row
from fairlead.core.tables import RowChanged, Tables
from fairlead.errors import Forbidden, Invalid
from fairlead.store.base import ANY, Change, Entry, Lease, Store

log = logging.getLogger(__name__)

PREFIX = "endpoints/"
TABLE = "endpoints"
SETTLE = 15.0
SIGNATURE = 64
_REMOTE = msgspec.json.Decoder(Remote)

Step = Callable[[Tables, float], Effects]


class GossipRows:
    """``node``: whose rows are ours."""

    def __init__(self, behind: Store, node: str, settle: float = SETTLE) -> None:
        self._behind, self._node, self._settle = behind, node, settle
        self._tables: Tables | None = None
        self._do: Callable[[Step], None] = lambda step: None
        self._own: dict[str, tuple[str, bytes]] = {}
        """endpoint of ours -> its network, its row"""
        self._kept: set[str] = set()
        """networks that are had whether we have an endpoint there or not"""
        self._watchers: set[asyncio.Queue[Change]] = set()

    def attach(self, tables: Tables, do: Callable[[Step], None]) -> None:
        """Gossip begins, or begins anew, before it joins anybody: it has our rows first. ``do`` takes a step of the
        tables, ``tables`` shows them."""
        doubted = {entry.key for entry in self._standing()}
        self._tables, self._do = tables, do
        for network in sorted({network for network, _ in self._own.values()} | self._kept):
            self._have(network)
        for id, (network, row) in self._own.items():
            self._put(network, id, row)
        for queue in self._watchers:
            asyncio.get_running_loop().call_later(self._settle, self._give_up, queue, doubted)

    def keep(self, network: str) -> None:
        """Know its rows although no endpoint of ours may be there."""
        self._kept.add(network)
        self._have(network)

    def nodes(self, network: str) -> frozenset[str]:
        """Those that have it now, as far as we know."""
        return self._tables.nodes(network) if self._tables else frozenset()

    def hear(self, fact: object) -> None:
        """A fact of the gossip machine."""
        if isinstance(fact, RowChanged) and fact.row.table == TABLE:
            change = _shown(fact.row) if fact.stands else _away(fact.row)
            for queue in self._watchers:
                queue.put_nowait(change)

    # -- the store's verbs ----------------------------------------------------------------------------------------

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        if not key.startswith(PREFIX):
            return await self._behind.put_if(key, value, version, lease)
        id = self._mine(key)
        remote = _REMOTE.decode(value)
        row = _fitting(remote)
        self._own[id] = remote.network, row
        self._have(remote.network)
        self._put(remote.network, id, row)
        found = await self.get(key)
        return found.version if found else 0

    async def delete_if(self, key: str, version: int = ANY) -> None:
        if not key.startswith(PREFIX):
            await self._behind.delete_if(key, version)
            return
        id = self._mine(key)
        network, _ = self._own.pop(id, ("", b""))
        if self._tables and network in self._tables.networks:
            self._do(lambda tables, now: tables.delete(network, TABLE, id, now))
            self._leave_if_unused(network)

    async def get(self, key: str) -> Entry | None:
        if not key.startswith(PREFIX):
            return await self._behind.get(key)
        return next((entry for entry in self._standing() if entry.key == key), None)

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        if not prefix.startswith(PREFIX):
            async for change in self._behind.watch(prefix, seen):
                yield change
            return
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.add(queue)
        for entry in self._standing():
            queue.put_nowait(Change(entry.key, entry.value, entry.version))
        doubted = {entry.key for entry in seen}
        late = asyncio.get_running_loop().call_later(self._settle, self._give_up, queue, doubted)
        try:
            while True:
                yield await queue.get()
        finally:
            late.cancel()
            self._watchers.discard(queue)

    def _give_up(self, queue: asyncio.Queue[Change], doubted: set[str]) -> None:
        tables = self._tables
        told = {_key(row) for network in tables.networks for row in tables.kept(network, TABLE)} if tables else set()
        for key in sorted(doubted - told):
            queue.put_nowait(Change(key, None, 0))

    async def lease(self, ttl: float) -> Lease:
        return await self._behind.lease(ttl)

    async def close(self) -> None:
        await self._behind.close()

    # -- the inside -----------------------------------------------------------------------------------------------

    def _standing(self) -> Sequence[Entry]:
        tables = self._tables
        shown = (
            (_shown(row) for network in tables.networks for row in tables.standing(network, TABLE)) if tables else ()
        )
        return [Entry(change.key, change.value or b"", change.version) for change in shown]

    def _have(self, network: str) -> None:
        if self._tables and network not in self._tables.networks:
            self._do(lambda tables, now: tables.join_network(network, now))

    def _put(self, network: str, id: str, row: bytes) -> None:
        if self._tables:
            self._do(lambda tables, now: tables.put(network, TABLE, id, row, now))

    def _leave_if_unused(self, network: str) -> None:
        used = network in self._kept or any(network == other for other, _ in self._own.values())
        if self._tables and network in self._tables.networks and not used:
            self._do(lambda tables, now: tables.leave_network(network, now))

    def _mine(self, key: str) -> str:
        _, node, id = key.split("/", 2)
        if node != self._node:
            raise Forbidden(f"{key} is not this host's to change")
        return id

    async def list(self, prefix: str) -> list[Entry]:
        if not prefix.startswith(PREFIX):
            return await self._behind.list(prefix)
        return [entry for entry in self._standing() if entry.key.startswith(prefix)]


def _key(row: Row) -> str:
    return f"{PREFIX}{row.owner}/{row.key}"


def _shown(row: Row) -> Change:
    """A row as the store would have it: what its name says is taken from there."""
    try:
        remote = _REMOTE.decode(row.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Change(_key(row), row.value, row.time)  # nonsense: whoever reads it says so
    whole = replace(remote, id=row.key, network=row.network, node=row.owner)
    return Change(_key(row), msgspec.json.encode(whole), row.time)


def _away(row: Row) -> Change:
    """A row whose owner is not heard of: known on, but a task does not serve. One that was deleted is gone."""
    gone, shown = Change(_key(row), None, row.time), _shown(row)
    try:
        remote = _REMOTE.decode(shown.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return gone
    if row.value is None:
        return gone
    part = remote.part and replace(remote.part, serving=False)
    return Change(_key(row), msgspec.json.encode(replace(remote, part=part, away=True)), row.time)


def _fitting(remote: Remote) -> bytes:
    """What goes into the row; what its name says need not be said again."""
    names = remote.names
    while True:
        told = replace(remote, id="", network="", node="", names=names)
        value = msgspec.json.encode(told)
        row = Row(remote.network, TABLE, remote.id, remote.node, 1 << 48, value, bytes(SIGNATURE))
        if len(row.signed) + SIGNATURE + 16 <= LARGEST_ROW:
            break
        if not names:
            raise Invalid(f"endpoint {remote.name} takes more than a row of gossip can hold")
        names = names[:-1]
    if names != remote.names:
        log.warning("%s has too many names for gossip: told are %s", remote.name, ", ".join(names))
    return value
