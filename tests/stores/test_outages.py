"""Servers killed, restarted and cut off: the store says so, comes back by itself, and its watches miss nothing."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Unavailable
from fairlead.lab.world import World
from fairlead.store.base import Change, Store
from lane import store_writer
from lane.store_promises import take
from lane.store_servers import Cluster, Server, until_it_answers
from lane.store_writer import connect


async def until_it_is_away(store: Store, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await store.get("any")
            except Unavailable:
                return


async def listening(store: Store) -> AsyncIterator[Change]:
    """A watch of ``a/`` that is past its beginning: its connection stands, and it waits for what comes."""
    watch = store.watch("a/")
    await store.put_if("a/0", b"before")
    await take(watch, "a/0", b"before")
    await store.put_if("a/0", b"now")
    await take(watch, "a/0", b"now")
    return watch


def write(server: Server, prefix: str, *words: str) -> None:
    """As a client on the server's own machine, whose cable may be pulled."""
    argv = [sys.executable, store_writer.__file__, server.kind, server.place, prefix, *words]
    if server.machine.run(*argv, check=False).returncode:
        raise Unavailable("not written")


async def test_killed_and_started_again(server: Server, store: Store, other: Store) -> None:
    kept = await store.put_if("a/kept", b"1")
    watch = await listening(store)
    server.kill()
    with pytest.raises(Unavailable):
        await store.put_if("a/lost", b"", 0)
    server.start()
    entry = await until_it_answers(lambda: store.get("a/kept"))
    assert entry == ("a/kept", b"1", kept)
    await until_it_answers(lambda: other.put_if("a/kept", b"2", kept))
    seen = await take(watch, "a/kept", b"2")
    assert [change[:2] for change in seen if change.key == "a/kept"] == [("a/kept", b"2")]
    await watch.aclose()


async def test_the_cable_is_pulled_and_plugged_in(server: Server, store: Store, prefix: str) -> None:
    """What others wrote in the meantime is told after it, all of it, deletions too."""
    await store.put_if("a/gone", b"1")
    await store.put_if("a/changed", b"1")
    watch = await listening(store)
    pending = asyncio.ensure_future(take(watch, "a/end", b"1"))
    server.cut()
    try:
        await until_it_is_away(store)
        await asyncio.to_thread(
            write,
            server,
            prefix,
            *["delete", "a/gone", "put", "a/changed", "2", "put", "a/fresh", "1", "put", "a/end", "1"],
        )
    finally:
        server.heal()
    began = time.monotonic()
    told = {change.key: change.value for change in await pending}
    assert told == {"a/gone": None, "a/changed": b"2", "a/fresh": b"1", "a/end": b"1"}
    assert time.monotonic() - began < 5, "everything is told within five seconds of the cable being back"
    await watch.aclose()


@pytest.mark.parametrize("server", ["etcd"], indirect=True)
async def test_history_that_was_thrown_away(server: Server, world: World, store: Store, prefix: str) -> None:
    """What a watch of etcd has not seen was compacted away while it was cut off: it lists, and tells the difference."""
    await store.put_if("a/gone", b"1")
    watch = await listening(store)
    pending = asyncio.ensure_future(take(watch, "a/end", b"1"))
    server.cut()
    world.reboot(server.node)  # plugged in again by that; and what it had not sent yet is gone
    server.cut()
    server.start().wait()
    try:
        words = ["delete", "a/gone", "put", "a/0", "2", "put", "a/end", "1"]
        await until_it_answers(lambda: asyncio.to_thread(write, server, prefix, *words))
        found = server.machine.run("curl", "-s", f"http://{server.place}/v3/kv/range", "-d", '{"key": "AA=="}').stdout
        revision = msgspec.json.encode({"revision": msgspec.json.decode(found)["header"]["revision"]}).decode()
        server.machine.run("curl", "-sf", f"http://{server.place}/v3/kv/compaction", "-d", revision)
    finally:
        server.heal()
    assert {change.key: change.value for change in await pending} == {"a/gone": None, "a/0": b"2", "a/end": b"1"}
    await watch.aclose()


async def test_a_power_cut(server: Server, world: World, store: Store, prefix: str) -> None:
    """The server's machine went without a word and is back: nothing tells the watch, it has to find out by itself."""
    watch = await listening(store)
    pending = asyncio.ensure_future(take(watch, "a/1", b"2"))
    server.cut()
    world.reboot(server.node)
    server.start().wait()
    await until_it_answers(lambda: asyncio.to_thread(write, server, prefix, "put", "a/1", "2"))
    await pending
    await watch.aclose()


async def test_whose_holder_was_killed_is_gone(servers: dict[str, Server], prefix: str) -> None:
    """Without anybody's help, in each store's own time."""
    stores = {kind: connect(kind, [server.place], prefix) for kind, server in servers.items()}
    holders = {kind: _hold(server, prefix) for kind, server in servers.items()}
    for kind, store in stores.items():
        assert await store.get("nodes/a"), kind
    for holder in holders.values():
        holder.kill()
        holder.wait()
    async with asyncio.TaskGroup() as tasks:
        for store in stores.values():
            tasks.create_task(take_gone(store))
    for store in stores.values():
        await store.close()


def _hold(server: Server, prefix: str) -> subprocess.Popen[str]:
    argv = [sys.executable, store_writer.__file__, server.kind, server.place, prefix, "hold", "nodes/a"]
    source = str(Path(__file__).parents[2] / "src")
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": source})
    assert holder.stdout and holder.stdout.readline() == "held\n"
    return holder


async def take_gone(store: Store) -> None:
    watch = store.watch("nodes/")
    await take(watch, "nodes/a", None)
    await watch.aclose()


async def test_the_leader_is_killed(cluster: Cluster) -> None:
    store = connect("etcd", cluster.places, "three")
    version = await until_it_answers(lambda: store.put_if("a", b"0"))
    watch = store.watch("")
    await take(watch, "a", b"0")
    await cluster.kill_leader(store)
    await until_it_answers(lambda: store.put_if("a", b"1", version))
    await take(watch, "a", b"1")
    await watch.aclose()
    await store.close()
