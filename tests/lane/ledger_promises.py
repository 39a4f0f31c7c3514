"""What a store promises that changes several keys at once. Fixtures: ``ledger``."""

import asyncio
from collections.abc import Awaitable

import pytest

from fairlead.errors import Conflict
from fairlead.store.base import Ledger, Write


async def conflicts(deed: Awaitable[object]) -> bool:
    try:
        await deed
    except Conflict:
        return True
    return False


async def contents(ledger: Ledger) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in await ledger.list("")}


async def test_several_keys_change_at_once_and_get_one_version(ledger: Ledger) -> None:
    old = await ledger.put_if("gone", b"")
    at = await ledger.commit([Write("a", b"1", 0), Write("b", b"2", 0), Write("gone", None, old)])
    assert await contents(ledger) == {"a": b"1", "b": b"2"}
    assert {entry.version for entry in await ledger.list("")} == {at}


@pytest.mark.parametrize("wrong", ["write", "delete", "guard", "absence"])
async def test_one_wrong_version_and_nothing_changes(ledger: Ledger, wrong: str) -> None:
    first = await ledger.put_if("a", b"1")
    second = await ledger.put_if("a", b"2")
    parts = {
        "write": ([Write("b", b"", 0), Write("a", b"3", first)], []),
        "delete": ([Write("b", b"", 0), Write("a", None, first)], []),
        "guard": ([Write("b", b"")], [("a", first)]),
        "absence": ([Write("b", b"")], [("a", 0)]),
    }
    assert await conflicts(ledger.commit(*parts[wrong]))
    assert await contents(ledger) == {"a": b"2"}
    await ledger.commit([Write("b", b"")], [("a", second), ("c", 0)])
    assert await contents(ledger) == {"a": b"2", "b": b""}


async def test_of_two_who_saw_the_same_one_comes_through(ledger: Ledger) -> None:
    guard = await ledger.put_if("leader", b"me")
    deeds = [ledger.commit([Write("counter", str(n).encode(), 0)], [("leader", guard)]) for n in range(8)]
    assert sorted(await asyncio.gather(*map(conflicts, deeds))) == [False] + [True] * 7


async def test_a_watch_sees_every_part(ledger: Ledger) -> None:
    await ledger.commit([Write("w/a", b"1"), Write("w/b", b"2")])
    seen = []
    async with asyncio.timeout(10):
        async for change in ledger.watch("w/"):
            seen.append((change.key, change.value))
            if len(seen) == 2:
                await ledger.commit([Write("w/a", None), Write("w/b", b"3")])
            if len(seen) == 4:
                break
    assert sorted(seen[:2]) == [("w/a", b"1"), ("w/b", b"2")]
    assert sorted(seen[2:], key=str) == sorted([("w/a", None), ("w/b", b"3")], key=str)
