"""The cluster's store, seen from the engine: up, down, and no at once."""

import asyncio

import pytest

from fairlead.engine import clusterstore
from fairlead.engine.clusterstore import ClusterStore
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Entry
from fairlead.store.memory import MemoryStore


class Flaky(MemoryStore):
    """Away when it is told so; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    async def get(self, key: str) -> Entry | None:
        self.asked += 1
        if self.away:
            raise Unavailable("10.0.0.1:8500: connection refused")
        return await super().get(key)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusterstore, "CALM", 60.0)
    monkeypatch.setattr(clusterstore, "ANXIOUS", 0.001)
    monkeypatch.setattr(clusterstore, "FIRST", 0.05)


async def until(store: ClusterStore, up: bool) -> None:
    async with asyncio.timeout(5):
        while store.up != up:
            await asyncio.sleep(0.001)


async def test_down_says_no_at_once_and_how_to_see_it() -> None:
    inner = Flaky()
    inner.away = True
    store = ClusterStore(inner, "consul://10.0.0.1:8500/network", "curl http://10.0.0.1:8500/v1/status/leader")
    with pytest.raises(Unavailable, match="no answer within"):
        await store.get("k")  # nobody asks it
    before = inner.asked
    for verb in (store.get("k"), store.list(""), store.put_if("k", b""), store.delete_if("k"), store.lease(5)):
        with pytest.raises(Unavailable) as told:
            await verb
    assert inner.asked == before, "nobody waits for a store that is away"
    for word in ("--cluster-store=consul://10.0.0.1:8500/network", "curl http", "local networks do not need it"):
        assert word in told.value.message


async def test_what_is_wanted_before_the_first_answer_waits_for_it() -> None:
    inner = Flaky()
    store = ClusterStore(inner, "etcd://a:2379")
    async with asyncio.TaskGroup() as tasks:
        written = tasks.create_task(store.put_if("k", b"1"))
        await asyncio.sleep(0)
        running = tasks.create_task(store.run())
        await written
        running.cancel()
    assert (await store.get("k")) == Entry("k", b"1", written.result())


async def test_it_comes_and_goes_and_comes() -> None:
    inner = Flaky()
    store = ClusterStore(inner, "etcd://a:2379")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        await until(store, True)
        watch = store.watch("")
        await store.put_if("k", b"1")
        inner.away = True
        with pytest.raises(Unavailable, match="connection refused"):
            await store.get("k")  # makes run() ask at once, not after CALM
        await until(store, False)
        await inner.put_if("k", b"2")
        inner.away = False
        await until(store, True)
        assert [(await anext(watch)).value for _ in range(2)] == [b"1", b"2"]
        running.cancel()


async def test_a_refusal_is_not_an_outage() -> None:
    store = ClusterStore(Flaky(), "etcd://a:2379")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        await until(store, True)
        await store.put_if("k", b"1")
        with pytest.raises(Conflict):
            await store.put_if("k", b"2", 0)
        assert store.up
        running.cancel()
