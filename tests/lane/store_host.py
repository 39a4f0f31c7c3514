"""One host of a cluster that is at work: it reads, writes and claims for a while, and writes down what it saw.

python store_host.py NAME KIND PLACES PREFIX SECONDS SEED

One JSON line for each thing seen: {"operation": lane.history.Operation} or {"hold": lane.history.Hold}. Times are
CLOCK_MONOTONIC, which all processes of this machine share.
"""

import asyncio
import ipaddress
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.core import claims
from fairlead.engine.claiming import carry_out
from fairlead.errors import Conflict, Forbidden, Unavailable
from fairlead.store.base import Store
from lane.history import LOST, OK, READ, REFUSED, WRITE, Hold, Operation
from lane.store_writer import connect

KEYS = [f"registers/{number}" for number in range(4)]
ADDRESSES = [str(address) for address in itertools.islice(ipaddress.ip_network("10.0.0.0/28").hosts(), 6)]
SUBNETS = ["10.1.0.0/16", "10.1.1.0/24", "10.1.2.0/24", "10.2.0.0/16", "10.2.0.0/17"]


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Host:
    def __init__(self, name: str, store: Store, seconds: float, seed: int) -> None:
        self.name, self.store = name, store
        self.until = time.monotonic() + seconds
        self.dice = random.Random(seed)
        self.numbers = itertools.count()

    async def work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for job in (*[self.registers] * 4, self.addresses, self.subnets):
                tasks.create_task(self.repeat(job))

    async def repeat(self, job: Callable[[], Any]) -> None:
        while time.monotonic() < self.until:
            await job()
            await asyncio.sleep(self.dice.random() / 500)

    async def registers(self) -> None:
        """Read one, and write over what was read."""
        key = self.dice.choice(KEYS)
        start = time.monotonic()
        try:
            entry = await self.store.get(key)
        except Unavailable:
            return
        old = entry.value.decode() if entry else None
        tell(operation=Operation(self.name, READ, key, start, time.monotonic(), old))
        value = None if entry and self.dice.random() < 0.2 else f"{self.name}-{next(self.numbers)}"
        start = time.monotonic()
        try:
            if value is None:
                await self.store.delete_if(key, entry.version)  # type: ignore[union-attr]
            else:
                await self.store.put_if(key, value.encode(), entry.version if entry else 0)
            outcome = OK
        except Conflict:
            outcome = REFUSED
        except Unavailable:
            outcome = LOST
        tell(operation=Operation(self.name, WRITE, key, start, time.monotonic(), value, old, outcome))

    async def addresses(self) -> None:
        owner = f"{self.name}-{next(self.numbers)}"
        claim = claims.take_one(claims.ADDRESSES, ADDRESSES, owner, self.dice.randrange)
        await self.hold(claim, owner, lambda: claims.give_back_all(claims.ADDRESSES, owner, self.dice.randrange))

    async def subnets(self) -> None:
        owner = f"{self.name}-{next(self.numbers)}"

        def choose(table: Mapping[str, str]) -> list[str]:
            taken = [ipaddress.ip_network(text) for text in table]
            wanted = self.dice.choice(SUBNETS)
            if any(ipaddress.ip_network(wanted).overlaps(other) for other in taken):
                raise Forbidden("overlap")
            return [wanted]

        claim = claims.take_some(claims.SUBNETS, owner, choose, self.dice.randrange)
        await self.hold(claim, owner, lambda: claims.give_back(claims.SUBNETS, owner, self.dice.randrange))

    async def hold(self, claim: Any, owner: str, back: Callable[[], Any]) -> None:
        """Claim, have it for a moment, give it back. What cannot be given back stays held to the end."""
        try:
            found = await carry_out(self.store, claim)
        except Forbidden:
            return
        except Unavailable:
            found = ""
        start = time.monotonic()
        await asyncio.sleep(self.dice.random() / 20)
        end = time.monotonic()
        while True:
            try:
                await carry_out(self.store, back())
                break
            except Unavailable:
                if time.monotonic() > self.until + 20:
                    end = math.inf
                    break
        if found:
            tell(hold=Hold(owner, found if isinstance(found, str) else found[0], start, end))


async def main(name: str, kind: str, places: str, prefix: str, seconds: str, seed: str) -> None:
    store = connect(kind, places.split(","), prefix)
    await Host(name, store, float(seconds), int(seed)).work()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
