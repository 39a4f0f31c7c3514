"""A large cluster, known to one node: what each endpoint of another host costs it in memory, and at a restart.

The networks and endpoints of 25 hosts are written into the store, for each size below a prefix of its own; they need
not exist for a node to learn them. One engine a size, restarted in turns.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.api import Job, V, weight
from bench.overlay import store
from bench.paths import Child
from bench.table import OURS
from fairlead.core.model import Ipam, Network, Remote, Subnet
from fairlead.core.remotes import VNI
from fairlead.lab.keyvalue import PORTS
from fairlead.store.opening import open_store
from lane.engines import ENGINES, Engine
from lane.machine import Lan, eventually

SIZES = (0, 2_500, 10_000)
"""endpoints, ten on each network"""
QUICK = (0, 1_000, 3_000)
FIRST = 71
"""last byte of the first engine's address on the LAN"""
HOSTS = 25


def row(what: str, size: int) -> str:
    return f"{what} with {size:,} endpoints in the cluster"


def each_endpoint(size: int) -> str:
    return f"memory for each endpoint up to {size:,}"


def rows(size: int) -> Iterator[tuple[str, bytes]]:
    """Key and value of everything that the hosts of such a cluster wrote."""
    for number in range(size // 10):
        pool = Subnet(subnet=f"10.{number >> 8}.{number & 255}.0/24")
        network = Network(
            id=f"{number:064x}",
            name=f"n{number}",
            created="2026-01-01T00:00:00Z",
            driver="overlay",
            scope="global",
            ipam=Ipam(config=(pool,)),
            options={VNI: str(4097 + number)},
        )
        yield f"networks/{network.id}", msgspec.json.encode(network)
    for number in range(size):
        network, host, place = number // 10, number % HOSTS, number % 10 + 2
        remote = Remote(
            id=f"{number:064x}",
            network=f"{network:064x}",
            node=f"node{host}",
            host=f"host{host}",
            vtep=f"192.168.77.{host + 1}",
            name=f"c{number}",
            mac=f"02:42:0a:{network >> 8:02x}:{network & 255:02x}:{place:02x}",
            ipv4=f"10.{network >> 8}.{network & 255}.{place}/24",
            names=(f"c{number}", f"{number:012x}"),
        )
        yield f"endpoints/{remote.node}/{remote.id}", msgspec.json.encode(remote)


def write(lan: Lan, size: int) -> None:
    """Write them all, below ``/known<size>``."""

    async def put() -> None:
        kept = open_store("etcd", [f"{lan.address}:{PORTS['etcd']}"], f"known{size}", "", "", {})
        waiting = rows(size)

        async def work() -> None:
            for key, value in waiting:
                await kept.put_if(key, value)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(32):
                tasks.create_task(work())
        await kept.close()

    Child(lan.network, lambda: asyncio.run(put())).result()


def knows(engine: Engine, size: int) -> bool:
    """Whether it has heard of the network that was written last, and of everybody on it. (Asking for more is work.)"""
    if not size:
        return True
    answer = engine.http().call("GET", f"{V}/networks/n{size // 10 - 1}")
    return answer.status == 200 and len(json.loads(answer.data)["Containers"]) == 10


def processor(engine: Engine) -> float:
    """Milliseconds that the daemon has worked since it began, all its threads together."""
    threads = Path(f"/proc/{engine.daemon_pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


def known(job: Job) -> None:
    """Memory and restart by size, and what one endpoint more weighs, of few and of many."""
    sizes, table = QUICK if job.quick else SIZES, job.table
    engines: dict[int, Engine] = {}
    with store(job.lan) as url, ExitStack() as undo:
        for place, size in enumerate(sizes):
            write(job.lan, size)
            own = [f"--cluster-store={url.rpartition('/')[0]}/known{size}", "--cluster-advertise=eth0:2376"]
            engines[size] = engine = ENGINES[OURS](job.lan, FIRST + place, [*job.options(OURS), *own])
            undo.callback(engine.close)
            engine.start()
            begun = time.perf_counter()
            eventually(lambda engine=engine, size=size: knows(engine, size), f"{size} endpoints known", 120)
            if size:
                table.add(row("learning all", size), OURS, (time.perf_counter() - begun) * 1000)
        for number in range(5 if job.quick else 11):
            for size in sizes if number % 2 else reversed(sizes):
                engine = engines[size]
                table.add(row("memory", size), OURS, weight(engine), "MiB")
                table.add(row("restart", size), OURS, engine.restart() * 1000)
                table.add(row("processor time of a restart", size), OURS, processor(engine))
                assert knows(engine, size)
    for few, many in pairwise(sizes):
        less, more = (table.rows[row("memory", size)].median(OURS) or 0 for size in (few, many))
        table.add(each_endpoint(many), OURS, (more - less) * 1024 / (many - few), "KiB")
