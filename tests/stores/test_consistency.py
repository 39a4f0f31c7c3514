"""Several hosts at work on one store while its servers are killed and cut off: the history must be one that a correct
store could have given; no address and no subnet was ever held twice; no acknowledged write was lost."""

import asyncio
import ipaddress
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.engine.claims import Claims
from fairlead.lab.world import World
from fairlead.store.base import Store
from lane import store_host
from lane.history import READ, Hold, Operation, held_twice, unexplained
from lane.store_servers import HOSTS, Cluster, Server, until_it_answers
from lane.store_writer import connect

TESTS = Path(__file__).parents[1]


class Seen:
    """What all hosts wrote down."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.holds: list[Hold] = []

    def read(self, lines: str) -> None:
        for line in map(json.loads, lines.splitlines()):
            if "operation" in line:
                self.operations.append(Operation(*line["operation"]))
            else:
                self.holds.append(Hold(*line["hold"]))


async def found_shared(store: Store) -> None:
    """The network that all hosts take addresses of."""
    await until_it_answers(lambda: Claims(store, "test").found(lambda _: store_host.SHARED))


def start(world: World, kind: str, places: str, prefix: str, seconds: float) -> list[subprocess.Popen[str]]:
    """The hosts, each on its own machine."""
    return [
        subprocess.Popen(
            world[name].enter(sys.executable, store_host.__file__, name, kind, places, prefix, str(seconds), str(seed)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**world[name].environment(), "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"},
        )
        for seed, name in enumerate(HOSTS)
    ]  # fmt: skip


async def finish(hosts: list[subprocess.Popen[str]], store: Store) -> Seen:
    """Their histories, and a last look at every key."""
    seen = Seen()
    for host in hosts:
        out, trouble = await asyncio.to_thread(host.communicate, timeout=60)
        assert host.returncode == 0, trouble
        seen.read(out)
    for key in store_host.KEYS:
        began = time.monotonic()
        entry = await store.get(key)
        value = entry.value.decode() if entry else None
        seen.operations.append(Operation("last", READ, key, began, time.monotonic(), value))
    assert not await store.list("addresses/"), "all were given back in the end"
    return seen


def check(seen: Seen, enough: int) -> None:
    done = [operation for operation in seen.operations if operation.outcome == "ok"]
    assert len(done) > enough, f"only {len(done)} operations"
    assert len(seen.holds) > enough / 10
    assert unexplained(seen.operations) == []
    assert held_twice(seen.holds, collide) == []


def collide(one: str, other: str) -> bool:
    return ipaddress.ip_network(one).overlaps(ipaddress.ip_network(other))


async def test_etcd_leaders_killed_and_cut_off(cluster: Cluster, world: World) -> None:
    store = connect("etcd", cluster.places, "chaos")
    await found_shared(store)
    hosts = start(world, "etcd", ",".join(cluster.places), "chaos", 12)
    for disturb in (cluster.kill_leader, cluster.cut_leader, cluster.kill_leader):
        await disturb(store)
    world.cut("host1")
    await asyncio.sleep(1)  # a moment of being alone
    world.cut("host1", up=True)
    check(await finish(hosts, store), 300)
    await store.close()


@pytest.mark.parametrize("kind", ["consul", "zookeeper"])
async def test_a_server_killed_and_cut_off(kind: str, servers: dict[str, Server], world: World, prefix: str) -> None:
    server = servers[kind]
    store = connect(kind, [server.place], prefix)
    await found_shared(store)
    hosts = start(world, kind, server.place, prefix, 8)
    await asyncio.sleep(2)  # of peace
    server.kill()
    server.start().wait()
    await asyncio.sleep(2)
    world.cut("host1")
    await asyncio.sleep(1)
    world.cut("host1", up=True)
    check(await finish(hosts, store), 200)
    await store.close()
