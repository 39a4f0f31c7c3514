"""The engine's records on a disk that is full."""

from pathlib import Path

import pytest

from fairlead.errors import FairleadError, Unavailable
from fairlead.store.http import Servers
from fairlead.store.sqlite import SqliteStore


async def test_what_cannot_be_written_is_refused_as_a_whole_and_written_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    await store.put_if("there", b"before")
    (pages,) = store._db.execute("pragma page_count").fetchone()
    store._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(FairleadError, match="cannot be written down"):
        await store.put_if("big", b"x" * 100_000)
    assert await store.get("big") is None
    entry = await store.get("there")
    assert entry and entry.value == b"before"
    store._db.execute("pragma max_page_count = 1000000")
    await store.put_if("big", b"x" * 100_000)
    assert await store.get("big")
    await store.close()


async def test_a_client_that_was_closed_says_so_in_words() -> None:
    """A manager's part ends while somebody asks."""
    servers = Servers(["etcd"], socket=Path("/nonexistent/socket"))
    with pytest.raises(Unavailable):
        await servers.ask("GET", "/any")
    await servers.close()
    with pytest.raises(Unavailable):
        await servers.ask("GET", "/any")
