"""What every store promises (``store.base``), asked of every store."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Store
from fairlead.store.memory import MemoryStore
from fairlead.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state.db")
    yield made
    await made.close()


async def test_what_was_put_is_there(store: Store) -> None:
    version = await store.put_if("networks/a", b"1")
    assert await store.get("networks/a") == ("networks/a", b"1", version)
    assert await store.get("networks/b") is None


async def test_a_list_is_by_prefix_in_key_order(store: Store) -> None:
    for key in ("b/2", "a/2", "b/1", "bb/1", "b/10"):
        await store.put_if(key, b"")
    assert [entry.key for entry in await store.list("b/")] == ["b/1", "b/10", "b/2"]


async def test_create_only(store: Store) -> None:
    await store.put_if("k", b"1", 0)
    with pytest.raises(Conflict):
        await store.put_if("k", b"2", 0)
    entry = await store.get("k")
    assert entry and entry.value == b"1"


async def test_compare_and_swap(store: Store) -> None:
    first = await store.put_if("k", b"1")
    second = await store.put_if("k", b"2", first)
    assert second > first
    with pytest.raises(Conflict):
        await store.put_if("k", b"3", first)
    with pytest.raises(Conflict):
        await store.delete_if("k", first)
    await store.delete_if("k", second)
    assert await store.get("k") is None


async def test_a_version_is_never_given_twice(store: Store) -> None:
    first = await store.put_if("k", b"1")
    await store.delete_if("k")
    assert await store.put_if("k", b"1") > first
    with pytest.raises(Conflict):
        await store.put_if("k", b"2", first)


async def test_deleting_what_is_absent(store: Store) -> None:
    await store.delete_if("k")
    with pytest.raises(Conflict):
        await store.delete_if("k", 7)


async def test_a_watch_sees_every_change_in_order(store: Store) -> None:
    watch = store.watch("a/")
    await store.put_if("a/1", b"1")
    await store.put_if("b/1", b"1")
    await store.put_if("a/1", b"2")
    await store.delete_if("a/1")
    seen = [await anext(watch) for _ in range(3)]
    assert [(change.key, change.value) for change in seen] == [("a/1", b"1"), ("a/1", b"2"), ("a/1", None)]
    assert seen[0].version < seen[1].version < seen[2].version


async def test_sqlite_remembers_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    script = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from fairlead.store.sqlite import SqliteStore\n"
        "asyncio.run(SqliteStore(pathlib.Path(sys.argv[1])).put_if('k', b'kept'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    store = SqliteStore(path)
    entry = await store.get("k")
    assert entry and entry.value == b"kept"
    await store.close()


async def test_sqlite_refuses_a_second_engine(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "state.db")
    await first.put_if("k", b"")
    with pytest.raises(Unavailable, match="another engine"):
        SqliteStore(tmp_path / "state.db")
    await first.close()
