"""The managers' store, sealed: it keeps a store's promises, and what lies below tells nothing and cannot be changed."""

import msgspec
import pytest

from fairlead.core import datakeys
from fairlead.core.datakeys import ZERO, Ring
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Store, Write
from fairlead.store.memory import MemoryStore
from fairlead.swarm.sealedledger import RECORD, SealedLedger, seal, sealed_with
from lane.held import Held
from lane.store_promises import *  # noqa: F403

KEY, NEXT, STRANGE = b"k" * 32, b"n" * 32, b"o" * 32
ID, NEW = datakeys.name(KEY), datakeys.name(NEXT)


@pytest.fixture
def below() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(below: MemoryStore) -> Store:
    return SealedLedger(below, Held(KEY))


@pytest.fixture
def other(store: Store) -> Store:
    return store


async def test_what_lies_below_is_sealed(store: Store, below: MemoryStore) -> None:
    for key in ("a", "b"):
        await store.put_if(key, b"secret words")
    kept = [entry.value for entry in await below.list("")]
    assert not any(b"secret" in value for value in kept) and kept[0] != kept[1]
    assert [sealed_with(value) for value in kept] == [ID, ID]


@pytest.mark.parametrize("how", ["another's", "changed", "cut", "in the clear", "another key", "another key's name"])
async def test_what_somebody_changed_below_is_no_value(store: Store, below: MemoryStore, how: str) -> None:
    await store.put_if("a", b"secret words")
    await store.put_if("b", b"other words")
    a, b = await below.list("")
    bad = {
        "another's": b.value,
        "changed": a.value[:-1] + bytes([a.value[-1] ^ 1]),
        "cut": a.value[:5],
        "in the clear": b"secret words",
        "another key": seal(datakeys.name(STRANGE), STRANGE, "a", b"mine"),
        "another key's name": seal(ID, STRANGE, "a", b"mine"),
    }
    await below.put_if("a", bad[how])
    found = await store.get("a")
    assert found and found.value == b""


async def test_a_value_under_a_key_that_others_have_is_waited_for(below: MemoryStore) -> None:
    keys = Held(KEY)
    store = SealedLedger(below, keys)
    await below.put_if("a", seal(NEW, NEXT, "a", b"words"))
    keys.others = None
    for ask in (store.get("a"), store.list("")):
        with pytest.raises(Unavailable):
            await ask
    keys.others = {NEW: NEXT}
    found = await store.get("a")
    assert found and found.value == b"words"


async def test_others_are_asked_once_about_what_nobody_knows(below: MemoryStore) -> None:
    keys = Held(KEY)
    store = SealedLedger(below, keys)
    await below.put_if("a", seal(datakeys.name(STRANGE), STRANGE, "a", b"mine"))
    for _ in range(3):
        assert [entry.value for entry in await store.list("")] == [b""]
    assert keys.asked == 1


async def test_what_is_from_before_there_were_rings_is_read_and_written_as_it_was(below: MemoryStore) -> None:
    old = SealedLedger(below, Held(zero=KEY))
    await below.put_if("a", seal(ZERO, KEY, "a", b"words"))
    assert [entry.value for entry in await old.list("")] == [b"words"]
    await old.put_if("b", b"others")
    assert [sealed_with(entry.value) for entry in await below.list("")] == [ZERO, ZERO]
    begun = SealedLedger(below, Held(NEXT, zero=KEY))
    await begun.put_if(RECORD, msgspec.json.encode(Ring(keys=(NEW, ZERO))), 0)
    await begun.put_if("b", b"more")
    assert {sealed_with(entry.value) for entry in await below.list("")} == {ZERO}, "it is not used yet"


async def used(store: SealedLedger, id: str) -> None:
    """From now on."""
    entry = await store.get(RECORD)
    ring = Ring(keys=(NEW, ID), used=id)
    await store.put_if(RECORD, msgspec.json.encode(ring), entry.version if entry else 0)


@pytest.mark.proves("swarm-data-keys", guard=("swarm/sealedledger.py", "[(RECORD, used.version)]", '[("nothing", 0)]'))
async def test_nothing_is_written_under_the_key_before_once_another_is_used(below: MemoryStore) -> None:
    """By a manager that has not heard of it, either."""
    mine, yours = (SealedLedger(below, Held(KEY, NEXT)) for _ in range(2))
    await used(mine, ID)
    first = await yours.put_if("a", b"before")
    lease = await yours.lease(10)
    await used(mine, NEW)
    await yours.put_if("a", b"after", first)
    await yours.commit([Write("b", b"after")], [])
    await yours.put_if("c", b"for a while", 0, lease)
    kept = {entry.key: sealed_with(entry.value) for entry in await below.list("")}
    assert kept == {RECORD: ID, "a": NEW, "b": NEW, "c": NEW}
    older = await mine.older(NEW)
    assert [entry.key for entry in older] == [RECORD]
    await mine.commit([Write(*entry) for entry in older])
    assert not await mine.older(NEW) and [entry.key for entry in await mine.older(ID)] == ["a", "b", "c", RECORD]
    await lease.end()
    assert await below.get("c") is None


async def test_who_writes_the_ring_over_another_than_he_knows_is_refused(below: MemoryStore) -> None:
    mine, yours = (SealedLedger(below, Held(KEY, NEXT)) for _ in range(2))
    await used(mine, ID)
    known = await yours.get(RECORD)
    await used(mine, NEW)
    assert known
    with pytest.raises(Conflict):
        await yours.put_if(RECORD, known.value, known.version)
    with pytest.raises(Conflict):
        await yours.put_if("a", b"", 77)


async def test_a_manager_without_the_key_that_is_used_writes_nothing(below: MemoryStore) -> None:
    mine, yours = SealedLedger(below, Held(KEY, NEXT)), SealedLedger(below, Held(KEY))
    await used(mine, NEW)
    with pytest.raises(Unavailable):
        await yours.put_if("a", b"words")
    assert await below.get("a") is None
