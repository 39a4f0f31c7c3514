"""Hosts that share a store find each other by gossip, know who lives, and share keys; the store may be away.

Real sockets on loopback; the store is one in memory that can be away."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from fairlead.core.effects import Address
from fairlead.core.members import SwimConfig
from fairlead.core.places import read_place
from fairlead.engine.events import Event, Events
from fairlead.errors import Invalid, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease
from fairlead.store.memory import MemoryStore
from fairlead.swarm import peers as module
from fairlead.swarm.peers import Peers
from fairlead.swarm.ring import KEY, encode_ring, read_ring
from gossip.stock import free_port

QUICK = SwimConfig(
    probe_interval=0.2, probe_timeout=0.1, gossip_interval=0.02, push_pull=2.0, knock=0.1, rejoin=0.1, suspicion=2.0
)


class Flaky(MemoryStore):
    """A store that can be away. Watches wait, as they promise."""

    away = False

    async def get(self, key: str):  # type: ignore[no-untyped-def]
        self._refuse()
        return await super().get(key)

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        self._refuse()
        await asyncio.sleep(0)
        return await super().put_if(key, value, version, lease)

    async def lease(self, ttl: float) -> Lease:
        self._refuse()
        return await super().lease(ttl)

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        while self.away:
            await asyncio.sleep(0.02)
        async for change in super().watch(prefix, seen):
            yield change

    def _refuse(self) -> None:
        if self.away:
            raise Unavailable("the cluster store is away")


class Town:
    """Hosts with gossip; each can be ended and started again with its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Flaky()
        self.ports: dict[str, int] = {}
        self.peers: dict[str, Peers] = {}
        self.events: dict[str, Events] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.returned: list[str] = []
        """who was told that somebody is there again"""

    def start(self, *names: str) -> None:
        for name in names:
            port = self.ports.setdefault(name, free_port())
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            events = self.events[name] = Events(lambda: 1)
            node = name.encode().hex().rjust(32, "0")
            place = Address("127.0.0.1", port)
            self.peers[name] = Peers(
                self.store,
                events,
                node,
                name,
                place,
                folder,
                config=QUICK,
                returned=partial(self.returned.append, name),
            )
            self.tasks[name] = asyncio.ensure_future(self.peers[name].run())

    async def end(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del self.peers[name]

    def sees(self, name: str) -> dict[str, str]:
        return {peer.host: peer.state for peer in self.peers[name].list()}

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not look():
                await asyncio.sleep(0.02)

    async def all_see(self, **states: str) -> None:
        await self.until(lambda: all(self.sees(name) == states for name in self.peers))

    def told(self, name: str) -> list[tuple[str, str, str]]:
        found: list[Event] = self.events[name].past(lambda event: event.kind == "node")
        return [(e.action, e.attributes["name"], e.attributes.get("state.new", "")) for e in found]


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(module, "RETRY", 0.1)
    monkeypatch.setattr("fairlead.swarm.discovery.PAUSE", 0.1)
    monkeypatch.setattr("fairlead.swarm.ring.PAUSE", 0.1)
    made = Town(tmp_path)
    yield made
    for name in list(made.peers):
        await made.end(name)


ALL = {"one": "alive", "two": "alive", "three": "alive"}


async def test_hosts_find_each_other_through_the_store_and_tell_who_failed_and_came_back(town: Town) -> None:
    town.start("one", "two", "three")
    await town.all_see(**ALL)
    assert len(read_ring((await town.store.get(KEY)).value).keys) == 1  # type: ignore[union-attr]
    await town.end("two")
    await town.all_see(**ALL | {"two": "failed"})
    assert "host two of the cluster" in town.peers["one"].warnings()[0]
    assert not town.returned, "who comes for the first time was not away"
    town.start("two")
    await town.all_see(**ALL)
    assert {"one", "three"} <= set(town.returned)
    assert town.peers["one"].warnings() == []
    assert town.told("one")[-2:] == [("update", "two", "down"), ("update", "two", "ready")]


async def test_a_host_may_change_its_address(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    """Its identity is its name and its key; and it is not taken for its own double."""
    town.start("one", "two", "three")
    await town.all_see(**ALL)
    await town.end("two")
    town.ports["two"] = free_port()
    town.start("two")

    def known() -> set[str]:
        return {peer.address for name in ("one", "three") for peer in town.peers[name].list() if peer.host == "two"}

    await town.until(lambda: known() == {f"127.0.0.1:{town.ports['two']}"})
    await town.all_see(**ALL)
    assert "disk copied" not in caplog.text


async def test_two_engines_of_one_identity_are_told_apart(
    town: Town, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOUBT", 0.0)
    town.start("one", "two")
    await town.all_see(one="alive", two="alive")
    twin = Peers(
        town.store, Events(lambda: 1), town.peers["two"]._me.node, "twin", Address("127.0.0.1", free_port()),
        town.folder, config=QUICK,
    )  # fmt: skip
    town.tasks["twin"] = asyncio.ensure_future(twin.run())
    await town.until(lambda: "was its disk copied" in caplog.text)
    town.tasks["twin"].cancel()


async def test_who_leaves_has_left_and_nobody_looks_for_it(town: Town) -> None:
    town.start("one", "two")
    await town.all_see(one="alive", two="alive")
    await town.peers["two"].leave()
    await town.until(lambda: town.sees("one")["two"] == "left")
    assert town.told("one")[-1] == ("remove", "two", "")
    assert [entry.key[-6:] for entry in await town.store.list("nodes/")] == [b"one".hex()]


async def test_without_the_store_hosts_find_each_other_by_what_is_on_their_disks(town: Town) -> None:
    town.start("one", "two", "three")
    await town.all_see(**ALL)
    for name in ALL:
        await town.end(name)
    town.store.away = True
    town.start("two", "three")
    await town.all_see(two="alive", three="alive")
    town.store.away = False
    town.start("one")
    await town.all_see(**ALL)


async def test_a_first_start_waits_for_the_store(town: Town) -> None:
    town.store.away = True
    town.start("one", "two")
    await asyncio.sleep(0.3)
    assert town.sees("one") == {}
    assert "it waits for the cluster store" in town.peers["one"].warnings()[0]
    town.store.away = False
    await town.all_see(one="alive", two="alive")


async def test_a_place_that_somebody_deletes_is_written_again_and_an_emptied_store_gets_the_ring_back(
    town: Town,
) -> None:
    town.start("one", "two")
    await town.all_see(one="alive", two="alive")
    ring = (await town.store.get(KEY)).value  # type: ignore[union-attr]
    for entry in [*await town.store.list("nodes/"), *await town.store.list("gossip/")]:
        await town.store.delete_if(entry.key)

    def back() -> bool:
        entries = town.store._entries
        return len([key for key in entries if key.startswith("nodes/")]) == 2 and entries.get(KEY) is not None

    await town.until(back)
    assert (await town.store.get(KEY)).value == ring  # type: ignore[union-attr]


async def test_a_port_that_is_taken_is_said_in_words_and_tried_again(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    town.start("two")
    port = town.ports["one"] = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        town.start("one")
        words = f"gossip cannot listen: listen tcp 127.0.0.1:{port}: bind: address already in use"
        await town.until(lambda: words in town.peers["one"].warnings()[0])
        await asyncio.sleep(0.3)
    await town.all_see(one="alive", two="alive")
    assert len([record for record in caplog.records if words in record.message]) == 1  # not once a try


async def test_a_mistake_of_ours_costs_the_engine_nothing(
    town: Town, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(module, "Gossip", None)
        town.start("one")
        await town.until(lambda: "gossip stumbled" in caplog.text)
        assert not town.tasks["one"].done() and town.peers["one"].warnings()
    await town.until(lambda: town.sees("one") == {"one": "alive"})


async def test_a_host_that_gossip_never_meets_is_pointed_at(town: Town) -> None:
    town.start("one")
    await town.until(lambda: town.sees("one"))
    ghost = msgspec.structs.replace(town.peers["one"]._me, node="f" * 32, host="ghost", port=free_port())
    await town.store.put_if(f"nodes/{ghost.node}", msgspec.json.encode(ghost))
    await town.until(lambda: any("ghost" in line and "firewall" in line for line in town.peers["one"].warnings()))


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "CVE-2026-41184",
    guard=("swarm/peers.py", 'gossip keys: %s, as was asked by gossip", deed)', 'gossip keys: %s", key.hex())'),
)
async def test_the_key_is_rotated_everywhere_and_remembered(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    town.start("one", "two", "three")
    await town.all_see(**ALL)
    (before,) = await town.peers["one"].keys()
    assert before.used and before.hosts == ("one", "three", "two")
    await town.end("three")  # away meanwhile: it finds the new ring in the store
    await town.until(lambda: town.sees("one")["three"] == "failed")
    await town.peers["two"].rotate()
    (after,) = await town.peers["one"].keys()
    assert after.used and after.hosts == ("one", "two") and after.fingerprint != before.fingerprint
    town.start("three")
    await town.all_see(**ALL)
    ring = read_ring((await town.store.get(KEY)).value)  # type: ignore[union-attr]
    assert {peers._ring.ring.keys for peers in town.peers.values()} == {ring.keys}
    said = caplog.text + repr(town.peers["one"].list()) + repr(after)
    for secret in (*ring.keys, town.peers["one"]._discovery._kept.notes.private):
        assert secret.hex() not in said and encode_ring((secret,) * 1).decode()[2:12] not in said
    for name in ALL:
        assert (town.folder / name / "gossip.json").stat().st_mode & 0o777 == 0o600


async def test_a_key_that_somebody_does_not_take_is_not_used(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS", 0.5)
    town.start("one", "two")
    await town.all_see(one="alive", two="alive")
    two = town.peers["two"]._gossip
    assert two is not None
    monkeypatch.setattr(two.machine, "_asked", lambda query: [])
    with pytest.raises(Unavailable, match="two did not answer"):
        await town.peers["one"].rotate()
    assert len(read_ring((await town.store.get(KEY)).value).keys) == 1  # type: ignore[union-attr]
    assert len(await town.peers["one"].keys()) == 1


# -- hostile store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'["x"]', b'["c2hvcnQ="]', b"null", b"[" + b'"",' * 99 + b'""]'])
async def test_nonsense_in_place_of_the_ring_changes_nothing(town: Town, value: bytes) -> None:
    with pytest.raises(Invalid, match="makes no sense"):
        read_ring(value)
    town.start("one")
    await town.until(lambda: town.sees("one"))
    keys = town.peers["one"]._ring.ring.keys
    await town.store.put_if(KEY, value)
    await asyncio.sleep(0.1)
    assert town.peers["one"]._ring.ring.keys == keys and town.sees("one") == {"one": "alive"}


def test_a_place_speaks_for_itself_and_makes_sense() -> None:
    good = {"node": "a" * 32, "host": "ada", "ip": "10.0.0.1", "port": 7946, "key": "A" * 43 + "="}
    assert read_place("nodes/" + "a" * 32, msgspec.json.encode(good)).address == Address("10.0.0.1", 7946)
    for change in (
        {"node": "b" * 32}, {"node": "../x"}, {"host": ""}, {"host": "a b"}, {"ip": "0.0.0.0"}, {"ip": "224.0.0.1"},
        {"ip": "010.0.0.1"}, {"ip": "x"}, {"port": 0}, {"port": 65536}, {"key": "AAAA"}, {"key": "?"}, {"key": 5},
    ):  # fmt: skip
        with pytest.raises(Invalid):
            read_place("nodes/" + "a" * 32, msgspec.json.encode(good | change))
