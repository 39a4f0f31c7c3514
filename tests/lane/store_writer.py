"""A client of a cluster store in a process of its own, on whatever machine it is started.

python store_writer.py KIND PLACE PREFIX WORD KEY [VALUE] ...

WORD: put KEY VALUE, delete KEY, hold KEY (under a lease of 2 s, until killed; says "held" when it is).
"""

import asyncio
import sys
from collections.abc import Sequence

from fairlead.store.base import Store
from fairlead.store.consul import ConsulStore
from fairlead.store.etcd import EtcdStore
from fairlead.store.http import Servers
from fairlead.store.zookeeper import Access, ZookeeperStore


def connect(kind: str, places: Sequence[str], prefix: str) -> Store:
    if kind == "etcd":
        return EtcdStore(Servers(places), f"{prefix}/")
    if kind == "consul":
        return ConsulStore(Servers(places), f"{prefix}/")
    return ZookeeperStore(Access(places), f"/{prefix}")


async def main(kind: str, place: str, prefix: str, *words: str) -> None:
    store = connect(kind, [place], prefix)
    queue = list(words)
    while queue:
        word, key = queue.pop(0), queue.pop(0)
        if word == "put":
            await store.put_if(key, queue.pop(0).encode())
        elif word == "delete":
            await store.delete_if(key)
        elif word == "hold":
            lease = await store.lease(2)
            await store.put_if(key, b"held", 0, lease)
            print("held", flush=True)
            await lease.keep()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
