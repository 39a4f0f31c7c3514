"""Encrypted networks between engines on paper: guard, keys by pair, new ones in time, nothing made twice.

one --- store --- two --- three
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from engine.paper import Paper, engine
from engine.test_cluster import Flaky
from fairlead.core import keying
from fairlead.core.keying import GRACE, LIFETIME, Row
from fairlead.core.model import Ipam, NetworkRequest, Subnet
from fairlead.core.wanted import Association, Element, Link, Policy
from fairlead.engine.drivers.overlay import SEALED_PORT
from fairlead.errors import FairleadError, Internal, Unsupported

RED = NetworkRequest(
    "RED", "overlay", internal=True, options={"encrypted": ""}, ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"),))
)


class Hosts:
    """Three engines, their store, and a clock that is turned by hand."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.store, self.now, self._tasks, self._folder = Flaky(), 0.0, tasks, folder
        self.papers: dict[str, Paper] = {}
        self.running: dict[str, asyncio.Task[None]] = {}
        for name in ("one", "two", "three"):
            self.start(name)

    def start(self, name: str) -> None:
        number = {"one": 11, "two": 12, "three": 13}[name]
        paper = engine(
            self._folder / name, cluster=self.store, node=f"n{number}", name=name, vtep=f"192.168.77.{number}",
            clock=lambda: self.now,
        )  # fmt: skip
        assert paper.cluster
        self.papers[name] = paper
        self.running[name] = self._tasks.create_task(paper.cluster.run(paper.controller))

    def __getitem__(self, name: str) -> Paper:
        return self.papers[name]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for paper in self.papers.values():
            assert paper.overlays.encryption
            paper.overlays.encryption.look_again()

    async def settled(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not look():
                await asyncio.sleep(0)

    async def join(self, name: str, container: str) -> None:
        await self.settled(lambda: any(n.name == "RED" for n in self[name].controller.networks()))
        await self[name].open(await self[name].container(container, "RED"))

    async def leave(self, name: str, container: str) -> None:
        stack = self[name].attachments.stack(self[name].catalog.get(container))
        assert stack
        await self[name].attachments.close(stack)

    def leaves(self, name: str, to: str) -> tuple[bytes, bytes] | None:
        """The key under which a packet leaves, and the one that its number opens at the other end."""
        there = f"192.168.77.{ {'one': 11, 'two': 12, 'three': 13}[to] }"
        for item in self[name].host.look():
            if isinstance(item, Policy) and item.way == "out" and item.target == f"{there}/32":
                key = Association(source="", target=there, spi=int(item.need), port=0).key
                return self[name].host.keys[key], self[to].host.keys.get(key, b"")
        return None

    def speak(self, *pairs: tuple[str, str]) -> bool:
        """Whether packets pass, both ways, between these."""
        ways = [way for pair in pairs for way in (pair, pair[::-1])]
        keys = [self.leaves(*way) for way in ways]
        return all(key and key[0] == key[1] for key in keys)


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    async with asyncio.TaskGroup() as tasks:
        hosts = Hosts(tmp_path, tasks)
        await hosts["one"].controller.create(RED)
        yield hosts
        for task in hosts.running.values():
            task.cancel()


def associations(paper: Paper) -> set[Association]:
    return {item for item in paper.host.look() if isinstance(item, Association)}


def policies(paper: Paper) -> list[str]:
    return sorted(str(item) for item in paper.host.look() if isinstance(item, Policy))


async def test_every_pair_and_direction_has_a_key_of_its_own(hosts: Hosts) -> None:
    for name in ("one", "two", "three"):
        await hosts.join(name, f"c-{name}")
    pairs = (("one", "two"), ("one", "three"), ("two", "three"))
    await hosts.settled(lambda: hosts.speak(*pairs))
    keys = {hosts.leaves(*way) for pair in pairs for way in (pair, pair[::-1])}
    assert len(keys) == 6
    assert [len(associations(hosts[name])) for name in hosts.papers] == [4, 4, 4]


@pytest.mark.proves("CVE-2025-32793", guard=("engine/drivers/overlay.py", "if port == SEALED_PORT:", "if False:"))
async def test_the_guard_stands_before_the_tunnel_and_goes_after_it(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    made = [item for deed, item in hosts["one"].host.log if deed == "make"]
    guards = [made.index(item) for item in made if isinstance(item, Policy) or getattr(item, "map", "") == "sealed"]
    (tunnel,) = [made.index(item) for item in made if isinstance(item, Link) and item.kind == "vxlan"]
    assert len(guards) == 3 and max(guards) < tunnel
    await hosts.leave("one", "web")
    await hosts.settled(lambda: not policies(hosts["one"]))
    removed = [item for deed, item in hosts["one"].host.log if deed == "remove"]
    (tunnel,) = [removed.index(item) for item in removed if isinstance(item, Link) and item.kind == "vxlan"]
    guards = [
        removed.index(item)
        for item in removed
        if isinstance(item, Policy) or (isinstance(item, Element) and item.map == "sealed")
    ]
    assert len(guards) == 3 and min(guards) > tunnel


async def test_it_goes_without_a_trace(hosts: Hosts) -> None:
    before = set(hosts["two"].host.look())
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    assert {e.key for e in await hosts.store.list("keys/")} == {"keys/n11", "keys/n12"}
    await hosts.leave("two", "db")
    await hosts.settled(lambda: not associations(hosts["one"]) and not policies(hosts["two"]))
    assert set(hosts["two"].host.look()) == before
    assert len(policies(hosts["one"])) == 2, "the guard alone"
    await hosts.leave("one", "web")
    await hosts.settled(lambda: not policies(hosts["one"]))
    await hosts.settled(lambda: not [key for key in hosts.store._entries if key.startswith("keys/")])


async def test_a_kernel_that_cannot_encrypt_refuses(hosts: Hosts) -> None:
    one = hosts["one"]
    before = set(one.host.look())
    one.host.no_encryption = Unsupported("this kernel has no ESP")
    with pytest.raises(FairleadError, match="no ESP"):
        await hosts.join("one", "web")
    assert set(one.host.look()) == before


async def test_new_keys_in_time_and_always_one_that_both_have(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    old = associations(hosts["one"])
    hosts.pass_time(LIFETIME)

    def renewed() -> bool:
        assert hosts.speak(("one", "two")), "a gap"
        return len(associations(hosts["one"]) - old) == 2

    await hosts.settled(renewed)
    hosts.pass_time(GRACE)
    await hosts.settled(lambda: hosts.speak(("one", "two")) and not associations(hosts["one"]) & old)
    assert len(associations(hosts["one"])) == len(associations(hosts["two"])) == 2


@pytest.mark.proves(
    "CVE-2024-28860", guard=("core/wanted.py", "once: ClassVar[bool] = True", "once: ClassVar[bool] = False")
)
async def test_what_the_kernel_lost_is_replaced_and_never_made_again(hosts: Hosts) -> None:
    """``ip xfrm state flush``: the same key with numbers from zero would give every secret away."""
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    one = hosts["one"]
    old = dict(one.host.keys)
    one.host.lose(associations(one))
    await one.kernel.heal()
    await hosts.settled(lambda: hosts.speak(("one", "two")) and not one.kernel.drift()[0])
    hosts.pass_time(GRACE)
    await hosts.settled(lambda: len(associations(one)) == len(associations(hosts["two"])) == 2)
    new = {one.host.keys[item.key] for item in associations(one)}
    assert hosts.speak(("one", "two")) and not new & set(old.values())


async def test_an_engine_killed_keeps_what_its_kernel_has_and_agrees_anew(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    hosts.running["one"].cancel()
    before, store, kept = hosts["one"].host, hosts["one"].store, associations(hosts["one"])
    network = hosts["one"].controller.network("RED")
    again = engine(
        hosts._folder / "again", cluster=hosts.store, node="n11", name="one", vtep="192.168.77.11",
        clock=lambda: hosts.now,
    )  # fmt: skip
    again.host.things, again.host.keys = before.things, before.keys
    again.store._entries.update(store._entries)
    await again.overlays.load()
    again.overlays.adopt("c" * 64, [network])
    made, removed = again.kernel.repair()
    assert not [item for item in (*made, *removed) if isinstance(item, Association | Policy)]
    assert associations(again) == kept and hosts.speak(("one", "two"))


async def test_an_engine_that_comes_back_forgets_who_left_meanwhile(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    await hosts.leave("two", "db")
    hosts.running["one"].cancel()
    entries = dict(hosts["one"].store._entries)
    await hosts.settled(lambda: not associations(hosts["two"]))
    hosts.start("one")
    hosts["one"].store._entries.update(entries)
    await hosts["one"].overlays.load()
    await hosts.settled(lambda: not [key for key in hosts.store._entries if key.startswith("keys/")])


async def test_with_the_store_away_what_stands_stands(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    hosts.store.away = True
    hosts.pass_time(LIFETIME)
    for _ in range(100):
        await asyncio.sleep(0)
        assert hosts.speak(("one", "two"))
    hosts.store.away = False
    old = associations(hosts["one"])
    await hosts.settled(lambda: len(associations(hosts["one"]) - old) == 2 and hosts.speak(("one", "two")))


async def test_what_the_kernel_refuses_is_tried_again_with_another_key(hosts: Hosts) -> None:
    await hosts.join("one", "web")
    make, refused = hosts["two"].host.make, []

    def refuse(objects: object) -> None:
        if any(isinstance(item, Association) for item in objects) and len(refused) < 3:  # type: ignore[attr-defined]
            refused.append([item.secret.take() for item in objects if isinstance(item, Association)])  # type: ignore
            raise Internal("no memory")
        make(objects)  # type: ignore[arg-type]

    hosts["two"].host.make = refuse  # type: ignore[method-assign]
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    assert len(refused) == 3


async def test_of_two_nodes_at_one_address_the_later_is_there(hosts: Hosts) -> None:
    """A machine whose disk was emptied has a new identity; what it told before stays in the store."""
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    (told,) = await hosts.store.list("endpoints/n12/")
    ghost = msgspec.json.decode(told.value) | {"node": "n99", "id": "9" * 64, "ipv4": "10.9.0.99/24"}
    ghost["mac"] = "02:42:0a:09:00:63"
    await hosts.store.put_if(f"endpoints/n99/{'9' * 64}", msgspec.json.encode(ghost))
    await hosts.settled(lambda: len(list(hosts["one"].overlays.everything())) == 2)
    row = Row("n99", "192.168.77.12", begun=4, asks={"n11 192.168.77.11": ("ab" * 32,)})
    await hosts.store.put_if("keys/n99", msgspec.json.encode(row))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(associations(hosts["one"])) == 2 and hosts.speak(("one", "two"))
    await hosts.store.put_if("keys/n99", msgspec.json.encode(msgspec.structs.replace(row, begun=6)))
    await hosts.settled(lambda: len(associations(hosts["one"])) == 1)


async def test_no_key_is_written_down_logged_or_shown(hosts: Hosts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await hosts.join("one", "web")
    await hosts.join("two", "db")
    await hosts.settled(lambda: hosts.speak(("one", "two")))
    one = hosts["one"]
    shown = [caplog.text, repr(one.kernel.wanted()), *(str(item) for item in one.kernel.wanted())]
    shown += [repr(entry) for store in (hosts.store, one.store) for entry in await store.list("")]
    for key in one.host.keys.values():
        assert key and not any(text for text in shown if key.hex() in text or repr(key)[2:-1] in text)


def test_the_port_is_the_drivers() -> None:
    assert keying.guard("10.0.0.1", SEALED_PORT)[0].port == 4790  # type: ignore[attr-defined]
