"""Two hosts agree on keys again and again, in two real kernels' tables, while packets are counted."""

import asyncio
import re
import secrets
from pathlib import Path

import pytest

from fairlead.core import keying
from fairlead.core.keying import Keying, Peer
from fairlead.engine.drivers.overlay import SEALED_PORT
from fairlead.engine.encryption import Encryption
from fairlead.engine.kernel import Kernel
from fairlead.host.halves import X25519
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import inside
from fairlead.lab.machine import Machine
from fairlead.store.memory import MemoryStore
from lane import sealed
from lane.sealed import address, wire


def agreeing(machine: Machine, other: Machine, store: MemoryStore, folder: Path) -> Encryption:
    with inside(f"/proc/{machine.pid}/ns/net"):
        host = LinuxHost(folder / machine.name)
    me, there = Peer(machine.name, address(machine)), Peer(other.name, address(other))
    keys = Keying(me, SEALED_PORT, X25519, secrets.randbelow, lifetime=4.0, begun=1)
    encryption = Encryption(store, MemoryStore(), Kernel(host), host, me, SEALED_PORT, keys)
    encryption.enter("RED", lambda: {there})
    return encryption


def numbers(machine: Machine) -> set[str]:
    return set(re.findall(r"spi (0x\w+)", machine.run("ip", "xfrm", "state").stdout))


async def test_keys_follow_each_other_without_losing_a_packet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keying, "GRACE", 1.0)
    store = MemoryStore()
    with wire("four", tmp_path) as world:
        one, two, _ = world.hosts
        sealed.make(one, sealed.plan(one, 2, two, 3, ["rules"]))
        sealed.make(two, sealed.plan(two, 3, one, 2, ["rules"]))
        async with asyncio.TaskGroup() as tasks:
            sides = [agreeing(one, two, store, tmp_path), agreeing(two, one, store, tmp_path)]
            running = [tasks.create_task(side.run()) for side in sides]
            async with asyncio.timeout(60):
                while not await asyncio.to_thread(sealed.pings, one, 2, "10.9.0.3"):
                    await asyncio.sleep(0.1)
            pinging = one.start(
                *("nsenter", f"--net=/run/fl/netns/{sealed.joined(2).namespace}"),
                *("ping", "-q", "-i", "0.05", "-w", "25", "10.9.0.3"),
                log="pinging",
            )
            seen = await asyncio.to_thread(numbers, one)
            while pinging.poll() is None:
                await asyncio.sleep(0.5)
                seen |= await asyncio.to_thread(numbers, one)
            for task in running:
                task.cancel()
        said = one.log("pinging")
        assert " 0% packet loss" in said and len(seen) >= 8, (said, seen)
