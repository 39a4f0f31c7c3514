"""One host of a cluster that is at work: it reads, writes and claims for a while, and writes down what it saw.

python store_host.py NAME KIND PLACES PREFIX SECONDS SEED

One JSON line for each thing seen: {"operation": lane.history.Operation} or {"hold": lane.history.Hold}. Times are
CLOCK_MONOTONIC, which all processes of this machine share. Claims are made by the engine's own ``engine.claims``; all
hosts take addresses of one network, ``SHARED``, which the test has made.
"""

import asyncio
import ipaddress
import itertools
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.remotes import VNI
from fairlead.engine.claims import Claims
from fairlead.errors import Conflict, FairleadError, Forbidden, Unavailable
from fairlead.store.base import Store
from lane.history import LOST, OK, READ, REFUSED, WRITE, Hold, Operation
from lane.store_writer import connect

KEYS = [f"registers/{number}" for number in range(4)]
ADDRESSES = [str(address) for address in itertools.islice(ipaddress.ip_network("10.0.0.0/28").hosts(), 6)]
SUBNETS = ["10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24", "10.2.0.0/16", "10.2.0.0/17"]


def network(id: str, subnet: str) -> Network:
    return Network(id=id, name=id, created="", driver="overlay", ipam=Ipam(config=(Subnet(subnet=subnet),)))


SHARED = network("shared", "10.0.0.0/28")


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Host:
    def __init__(self, name: str, store: Store, seconds: float, seed: int) -> None:
        self.name, self.store = name, store
        self.claims = Claims(store, name)
        self.alive: set[str] = set()
        """endpoints that use their address"""
        self.until = time.monotonic() + seconds
        self.dice = random.Random(seed)
        self.numbers = itertools.count()

    async def work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for job in (*[self.register] * 4, self.endpoint, self.endpoint, self.network, self.tidy):
                tasks.create_task(self.repeat(job))
        await self.in_the_end(lambda: self.claims.tidy(()))

    async def repeat(self, job: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self.until:
            await job()
            await asyncio.sleep(self.dice.random() / 500)

    async def in_the_end(self, deed: Callable[[], Awaitable[object]]) -> None:
        """Again and again until the store answers. (A conflict: ``tidy`` was there in between.)"""
        async with asyncio.timeout(30):
            while True:
                try:
                    await deed()
                    return
                except (Unavailable, Conflict):
                    await asyncio.sleep(0.1)

    async def register(self) -> None:
        """Read one, and write over what was read."""
        key = self.dice.choice(KEYS)
        start = time.monotonic()
        try:
            entry = await self.store.get(key)
        except Unavailable:
            return
        old, version = (entry.value.decode(), entry.version) if entry else (None, 0)
        tell(operation=Operation(self.name, READ, key, start, time.monotonic(), old))
        value = None if entry and self.dice.random() < 0.2 else f"{self.name}-{next(self.numbers)}"
        start = time.monotonic()
        try:
            if value is None:
                await self.store.delete_if(key, version)
            else:
                await self.store.put_if(key, value.encode(), version)
            outcome = OK
        except Conflict:
            outcome = REFUSED
        except Unavailable:
            outcome = LOST
        tell(operation=Operation(self.name, WRITE, key, start, time.monotonic(), value, old, outcome))

    async def endpoint(self) -> None:
        """One that comes, has its address for a moment, and goes."""
        id = f"{self.name}-{next(self.numbers)}"

        def choose(taken: set[str]) -> str:
            free = [address for address in ADDRESSES if address not in taken]
            if not free:
                raise Forbidden("all are taken")
            return self.dice.choice(free)

        try:
            address = await self.claims.address(SHARED, id, "", (), choose)
            self.alive.add(id)
        except FairleadError:
            return
        finally:
            self.claims.settled(id)
        await self.hold(id, address)
        self.alive.discard(id)
        await self.in_the_end(lambda: self.claims.release(SHARED.id, id, address))

    async def network(self) -> None:
        """One that is made, stands for a moment, and is removed."""
        id = f"{self.name}-{next(self.numbers)}"

        def settle(others: list[Network]) -> Network:
            wanted = ipaddress.ip_network(self.dice.choice(SUBNETS))
            taken = [ipaddress.ip_network(pool.subnet) for other in others for pool in other.ipam.config]
            if any(wanted.overlaps(other) for other in taken):
                raise Forbidden("overlap")
            return network(id, str(wanted))

        try:
            made = await self.claims.found(settle)
        except FairleadError:
            return
        # An identifier is held as an address of its own, in 127.0.0.0/8: what collides is the same either way.
        number = str(ipaddress.ip_address("127.0.0.0") + int(made.options[VNI]))
        await self.hold(id, made.ipam.config[0].subnet, number)
        await self.in_the_end(lambda: self.claims.dissolve(made, {}))

    async def hold(self, owner: str, *things: str) -> None:
        start = time.monotonic()
        await asyncio.sleep(self.dice.random() / 20)
        for thing in things:
            tell(hold=Hold(owner, thing, start, time.monotonic()))

    async def tidy(self) -> None:
        """What the engine does whenever the store was away."""
        with suppress(Unavailable, Conflict):
            await self.claims.tidy(self.alive)
        await asyncio.sleep(0.5)


async def main(name: str, kind: str, places: str, prefix: str, seconds: str, seed: str) -> None:
    store = connect(kind, places.split(","), prefix)
    await Host(name, store, float(seconds), int(seed)).work()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
