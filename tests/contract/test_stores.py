"""What every store promises, asked of those that live in this process. The shared ones: tests/stores."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.errors import Unavailable
from fairlead.store import sqlite
from fairlead.store.base import Store
from fairlead.store.memory import MemoryStore
from fairlead.store.sqlite import SqliteStore
from lane.store_promises import *  # noqa: F403


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state.db")
    yield made
    await made.close()


@pytest.fixture
def other(store: Store) -> Store:
    return store


async def test_sqlite_remembers_after_a_kill_but_for_what_was_leased(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    script = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from fairlead.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "    await store.put_if('k', b'kept')\n"
        "    await store.put_if('leased', b'', 0, await store.lease(10))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    store = SqliteStore(path)
    assert [entry[:2] for entry in await store.list("")] == [("k", b"kept")]
    await store.close()


async def test_no_version_is_given_twice_whoever_dies(tmp_path: Path) -> None:
    last = 0
    for _ in range(3):
        store = SqliteStore(tmp_path / "state.db")
        for number in range(sqlite.AHEAD // 2 + 7):
            given = await store.put_if(f"a/{number % 3}", b"x")
            assert given > last
            last = given
        await store.delete_if("a/0")
        store._db.close()  # as a kill leaves it


async def test_sqlite_refuses_a_second_engine(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "state.db")
    await first.put_if("k", b"")
    with pytest.raises(Unavailable, match="another engine"):
        SqliteStore(tmp_path / "state.db")
    await first.close()
