"""The embedded store: one SQLite file below the data root.

    entries(key primary key, value, version)      what is
    clock(version)                                no version above this one was ever given out
    leased(key)                                   what lives only as long as this process

Write-ahead logging with ``synchronous=NORMAL``: a write that returned survives
the death of the process (the kernel has it); power loss may take the last
moments, never the consistency. A write costs about 0.1 ms, which is why nothing
here is handed to a thread: the thread would cost more than the write. It is one statement: the clock is set ahead
by many versions at once, and who opens the store after us begins there.

One process holds the file: the lock is SQLite's own, taken for as long as the
store is open, so that two engines on one data root are refused at the start.
So a lease needs no time: what an earlier process left under one is deleted on
opening.

On a disk that is full writes fail (``Internal``), as a whole; what is there can be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from fairlead.errors import Conflict, Internal, Unavailable
from fairlead.store import leases
from fairlead.store.base import ANY, Change, Entry, Lease
from fairlead.store.watching import Watchers, differences

SCHEMA = """
create table if not exists entries(key text primary key, value blob not null, version integer not null) without rowid;
create table if not exists clock(version integer not null);
insert into clock select 0 where not exists (select 1 from clock);
create table if not exists leased(key text primary key) without rowid;
update clock set version = version + 1 where exists (select 1 from leased);
delete from entries where key in (select key from leased);
delete from leased;
"""


_PUT = """
insert into entries values (?, ?, ?)
on conflict (key) do update set value = excluded.value, version = excluded.version
"""
AHEAD = 1000
"""Versions for which the clock is written once."""


class SqliteStore:
    """``store.base.Store`` in one file."""

    def __init__(self, path: Path) -> None:
        """Open or create; ``Unavailable`` when another engine holds the file."""
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0.5)
        try:
            self._db.execute("pragma locking_mode=exclusive")
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            self._db.execute("begin immediate")
            for statement in SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            self._db.execute("commit")
            self._clock = int(self._db.execute("select version from clock").fetchone()[0])
        except sqlite3.OperationalError as error:
            self._db.close()
            raise Unavailable(f"cannot use {path}: {error}; is another engine running on this data root?") from error
        self._reserved = self._clock
        self._watchers = Watchers()
        self._leases: dict[str, Lease] = {}

    def _present(self, prefix: str) -> list[Entry]:
        rows = self._db.execute(
            "select key, value, version from entries where key >= ? and key < ? order by key",
            (prefix, prefix + "\U0010ffff"),
        )
        return [Entry(*row) for row in rows]

    async def get(self, key: str) -> Entry | None:
        row = self._db.execute("select key, value, version from entries where key = ?", (key,)).fetchone()
        return Entry(*row) if row else None

    async def list(self, prefix: str) -> list[Entry]:
        return self._present(prefix)

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        now = self._write(key, value, version, lease)
        self._watchers.announce(Change(key, value, now))
        return now

    async def delete_if(self, key: str, version: int = ANY) -> None:
        now = self._write(key, None, version)
        if now:
            self._watchers.announce(Change(key, None, now))

    def _write(self, key: str, value: bytes | None, version: int, lease: Lease | None = None) -> int:
        """All or nothing; returns the new version, 0 when there was nothing to delete."""
        if version != ANY:
            row = self._db.execute("select version from entries where key = ?", (key,)).fetchone()
            if version != (row[0] if row else 0):
                raise Conflict(f"{key} was changed by somebody else")
        now = self._clock + 1
        reserved = self._reserved if now <= self._reserved else now + AHEAD
        several = reserved != self._reserved or lease is not None or key in self._leases
        try:
            if several:
                self._db.execute("begin immediate")
                self._db.execute("update clock set version = ?", (reserved,))
            if value is not None:
                self._db.execute(_PUT, (key, value, now))
            elif not self._db.execute("delete from entries where key = ?", (key,)).rowcount:
                return 0
            if several:
                self._write_lease(key, lease)
                self._db.execute("commit")
        except sqlite3.OperationalError as error:  # the disk is full, or gone: nothing was written
            raise Internal(f"this cannot be written down: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("rollback")
        self._clock, self._reserved = now, reserved
        return now

    def _write_lease(self, key: str, lease: Lease | None) -> None:
        if lease:
            self._db.execute("insert or ignore into leased values (?)", (key,))
            self._leases[key] = lease
        elif self._leases.pop(key, None):
            self._db.execute("delete from leased where key = ?", (key,))

    def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        versions = {entry.key: entry.version for entry in seen}
        return self._watchers.watch(prefix, differences(versions, self._present(prefix), self._clock))

    async def lease(self, ttl: float) -> Lease:
        return leases.LocalLease(self._leases, self.delete_if)

    async def close(self) -> None:
        self._db.close()
