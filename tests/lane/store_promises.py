"""What every store promises (``store.base``). Imported by a file that has the fixtures ``store`` and ``other``.

``other`` is a second client of the same store; where there can be none, the store itself.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.errors import Conflict
from fairlead.store.base import Change, Store


async def take(watch: AsyncIterator[Change], key: str, value: bytes | None) -> list[Change]:
    """Changes up to the one that says that ``key`` is ``value``."""
    seen = []
    async with asyncio.timeout(30):
        async for change in watch:
            seen.append(change)
            if change[:2] == (key, value):
                return seen
    raise AssertionError("the watch ended")


async def test_what_was_put_is_there(store: Store, other: Store) -> None:
    version = await store.put_if("networks/a", b"\x001")
    assert await other.get("networks/a") == ("networks/a", b"\x001", version)
    assert await store.get("networks/b") is None
    assert await store.get("networks") is None


async def test_a_list_is_by_prefix_in_key_order(store: Store) -> None:
    for key in ("b/2", "a/2", "b/1", "bb/1", "b/10", "b", "b/1/c", "b/ä%2F:~"):
        await store.put_if(key, b"")
    assert [entry.key for entry in await store.list("b/")] == ["b/1", "b/1/c", "b/10", "b/2", "b/ä%2F:~"]
    assert await store.list("c/") == []


async def test_create_only(store: Store, other: Store) -> None:
    await store.put_if("k", b"1", 0)
    with pytest.raises(Conflict):
        await other.put_if("k", b"2", 0)
    entry = await store.get("k")
    assert entry and entry.value == b"1"


async def test_compare_and_swap(store: Store, other: Store) -> None:
    first = await store.put_if("k", b"1")
    second = await other.put_if("k", b"2", first)
    assert second > first
    with pytest.raises(Conflict):
        await store.put_if("k", b"3", first)
    with pytest.raises(Conflict):
        await store.delete_if("k", first)
    await store.delete_if("k", second)
    assert await other.get("k") is None
    with pytest.raises(Conflict):
        await store.put_if("k", b"3", second)


async def test_a_version_is_never_given_twice(store: Store, other: Store) -> None:
    """What was deleted and made anew in the meantime is not what was read before."""
    first = await store.put_if("k", b"1")
    await other.delete_if("k")
    assert await other.put_if("k", b"1") > first
    with pytest.raises(Conflict):
        await store.put_if("k", b"2", first)
    with pytest.raises(Conflict):
        await store.delete_if("k", first)


async def test_deleting_what_is_absent(store: Store) -> None:
    await store.delete_if("k")
    with pytest.raises(Conflict):
        await store.delete_if("k", 7)


async def test_one_of_many_wins(store: Store, other: Store) -> None:
    version = await store.put_if("k", b"")
    writes = (client.put_if("k", b"%d" % number, version) for number, client in enumerate((store, other) * 8))
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, int) for result in done) == 1
    assert sum(isinstance(result, Conflict) for result in done) == 15


async def test_a_watch_tells_what_is_and_what_comes(store: Store, other: Store) -> None:
    await store.put_if("b/1", b"1")
    await store.put_if("a/1", b"1")
    watch = other.watch("a/")
    seen = await take(watch, "a/1", b"1")
    await store.put_if("b/1", b"2")
    await store.put_if("a/1", b"2")
    seen += await take(watch, "a/1", b"2")
    await store.delete_if("a/1")
    seen += await take(watch, "a/1", None)
    await store.put_if("a/1", b"2")
    seen += await take(watch, "a/1", b"2")
    assert [change.value for change in seen] == [b"1", b"2", None, b"2"]
    assert [change.version for change in seen] == sorted({change.version for change in seen})
    await watch.aclose()


async def test_a_watch_goes_on_from_what_was_seen(store: Store, other: Store) -> None:
    for key in ("a/gone", "a/same", "a/changed"):
        await store.put_if(key, b"1")
    seen = await store.list("a/")
    await store.delete_if("a/gone")
    await store.put_if("a/changed", b"2")
    await store.put_if("a/fresh", b"1")
    watch = other.watch("a/", seen)
    told = await take(watch, "a/fresh", b"1")
    assert sorted((change.key, change.value) for change in told) == [
        ("a/changed", b"2"),
        ("a/fresh", b"1"),
        ("a/gone", None),
    ]
    await watch.aclose()


async def test_many_writers_one_watch(store: Store, other: Store) -> None:
    """Versions of a key only grow, and the last value always comes."""
    watch = other.watch("a/")

    async def write(key: str) -> None:
        for number in range(20):
            await store.put_if(key, b"%d" % number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(write(f"a/{number}"))
    await store.put_if("a/end", b"")
    last: dict[str, Change] = {}
    async with asyncio.timeout(30):
        async for change in watch:
            assert change.version > (last[change.key].version if change.key in last else 0)
            last[change.key] = change
            if len(last) == 5 and all(last[f"a/{number}"].value == b"19" for number in range(4)):
                break
    await watch.aclose()


async def test_what_is_leased_ends_with_the_lease(store: Store, other: Store) -> None:
    lease = await store.lease(10)
    await store.put_if("nodes/a", b"1", 0, lease)
    await store.put_if("nodes/b", b"1")
    with pytest.raises(Conflict):
        await store.put_if("nodes/b", b"2", 0, lease)
    watch = other.watch("nodes/")
    await take(watch, "nodes/b", b"1")
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(lease.keep())
        await asyncio.sleep(0)
        await lease.end()
        async with asyncio.timeout(30):
            await keeping
    await take(watch, "nodes/a", None)
    assert [entry.key for entry in await store.list("nodes/")] == ["nodes/b"]
    await lease.end()  # again is fine
    await watch.aclose()
