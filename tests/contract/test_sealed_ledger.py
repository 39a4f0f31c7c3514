"""The managers' store, sealed: it keeps a store's promises, and what lies below tells nothing and cannot be changed."""

import pytest

from fairlead.store.base import Store
from fairlead.store.memory import MemoryStore
from fairlead.swarm.sealedledger import SealedLedger
from lane.store_promises import *  # noqa: F403

KEY = b"k" * 32


@pytest.fixture
def below() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(below: MemoryStore) -> Store:
    return SealedLedger(below, KEY)


@pytest.fixture
def other(store: Store) -> Store:
    return store


async def test_what_lies_below_is_sealed(store: Store, below: MemoryStore) -> None:
    for key in ("a", "b"):
        await store.put_if(key, b"secret words")
    kept = [entry.value for entry in await below.list("")]
    assert not any(b"secret" in value for value in kept) and kept[0] != kept[1]


@pytest.mark.parametrize("how", ["another's", "changed", "cut", "in the clear", "another key"])
async def test_what_somebody_changed_below_is_no_value(store: Store, below: MemoryStore, how: str) -> None:
    await store.put_if("a", b"secret words")
    await store.put_if("b", b"other words")
    a, b = await below.list("")
    bad = {
        "another's": b.value,
        "changed": a.value[:-1] + bytes([a.value[-1] ^ 1]),
        "cut": a.value[:5],
        "in the clear": b"secret words",
        "another key": SealedLedger(below, b"o" * 32)._seal("a", b"mine"),
    }
    await below.put_if("a", bad[how])
    found = await store.get("a")
    assert found and found.value == b""
