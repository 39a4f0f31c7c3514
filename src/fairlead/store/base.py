"""Store: where we remember. Six verbs, versions for compare-and-swap, one contract test for all.

    get(key)                          Entry or None
    list(prefix)                      entries in key order
    put_if(key, value, version)       write if the key is still at ``version`` (0: absent, ANY: whatever)
    delete_if(key, version)           the same for deleting
    watch(prefix, seen)               what differs from ``seen``, then every later change
    lease(ttl)                        values written under it vanish when their holder does

Keys are paths (``networks/3f2a…``) without empty parts, values are bytes (msgspec JSON of a model).

    embedded: memory, sqlite          never wait, never away, one process
    shared:   etcd, consul, zookeeper may be away: every verb but ``watch`` may raise ``Unavailable``

Rules
    1. A write that returned is remembered: after SIGKILL of us, and, where the
       store is shared, as long as a majority of its servers lives.
    2. Reads are current: they show every write that had returned before they began.
    3. Versions of one key only grow; a version is never reused for another value.
    4. A failed compare raises ``Conflict`` and changes nothing. After ``Unavailable``
       the outcome of a write is unknown: read, or write again with a compare.
    5. A watch never ends and never raises because the store is away: it waits and
       goes on without a gap. It may pass over a value that was overwritten before it
       was seen (Consul and ZooKeeper do), never the last one, and never turns back
       to an older version of a key. Between keys there is no order.
    6. A lease ends with ``end()``, or after its time (the store's own bounds apply;
       Consul takes up to twice as long) when nobody kept it. Whoever overwrites a
       value under a lease gives that lease again.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from fairlead.core.protocol import Protocol

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


class Write(NamedTuple):
    """One part of a commit; ``value`` None: delete. ``version`` as in ``put_if``."""

    key: str
    value: bytes | None
    version: int = ANY


class Lease(Protocol):
    """A span of life for values. The holder runs ``keep`` for as long as they should stay."""

    async def keep(self) -> None:
        """Renew it until it is lost, then return: the values are gone, a new lease must be taken."""

    async def end(self) -> None:
        """Give it up: its values are deleted now."""


class Store(Protocol):
    """The contract that every store keeps."""

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> list[Entry]: ...

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        """Write and return the new version; ``Conflict`` when the key is not at ``version`` or the lease is over."""

    async def delete_if(self, key: str, version: int = ANY) -> None:
        """Delete; deleting what is absent is fine with ANY and ``Conflict`` otherwise."""

    def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        """What turns ``seen`` (the answer to an earlier ``list``) into what is now, then what follows, until closed."""

    async def lease(self, ttl: float) -> Lease:
        """A new lease of ``ttl`` seconds, of this store only."""

    async def close(self) -> None: ...


class Ledger(Store, Protocol):
    """A store that can change several keys at once: memory and etcd. A swarm's state is kept in one."""

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        """All of it, or nothing and ``Conflict``. The new version of every key that was written.

        ``guards``: (key, version) of keys that are only read, 0 for one that must be absent. No key twice. ``lease``:
        under which all that is written stands.
        """
