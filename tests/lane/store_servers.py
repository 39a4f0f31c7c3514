"""Real etcd, Consul and ZooKeeper on pretend machines: started, killed, cut off."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from fairlead.errors import Unavailable
from fairlead.host.netns import inside
from fairlead.lab import keyvalue
from fairlead.lab.world import World
from fairlead.store.base import Store
from fairlead.store.http import Servers

MEMBERS = ("one", "two", "three")
"""Machines of a cluster of servers."""
HOSTS = ("host1", "host2", "host3")
"""Machines of those who use it."""


class Server:
    """One server on the machine of its name. It keeps its data when it is killed and started again."""

    def __init__(self, world: World, kind: str, node: str, peers: Mapping[str, str] | None = None, *more: str) -> None:
        self.world, self.kind, self.node = world, kind, node
        self.machine = world[node]
        folder = self.machine.folder / "data"
        self._command = keyvalue.command(kind, folder, self.machine.address4, peers, *more)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = keyvalue.PORTS[kind]

    @property
    def place(self) -> str:
        return f"{self.machine.address4}:{self.port}"

    def start(self) -> "Server":
        self._process = self.machine.start(*self._command, log=self.kind)
        return self

    def wait(self) -> "Server":
        """Until it accepts connections (which may be before it serves)."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with inside(f"/proc/{self.machine.pid}/ns/net"), socket.socket() as probe:
                if probe.connect_ex((self.machine.address4, self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise AssertionError(f"{self.kind} does not listen:\n{self.machine.log(self.kind)[-3000:]}")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:  # nsenter waits for one
            os.kill(int(child), 9)
        self._process.wait()

    def cut(self) -> None:
        self.world.cut(self.node)

    def heal(self) -> None:
        self.world.cut(self.node, up=True)


async def until_it_answers(ask: Callable[[], Awaitable[object]], seconds: float = 20) -> object:
    """What ``ask`` answers once the store is there."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.02)


class Cluster:
    """Three etcd members."""

    def __init__(self, world: World, names: tuple[str, ...]) -> None:
        peers = {name: world[name].address4 for name in names}
        self.members = {name: Server(world, "etcd", name, peers) for name in names}

    @property
    def places(self) -> list[str]:
        return [member.place for member in self.members.values()]

    def start(self) -> None:
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            member.wait()

    def kill(self) -> None:
        for member in self.members.values():
            member.kill()

    async def leader(self) -> Server:
        """The member that leads, asked of each about itself; there may be none for a moment."""
        async with asyncio.timeout(20):
            while True:
                for member in self.members.values():
                    if await self._leads(member):
                        return member

    async def _leads(self, member: Server) -> bool:
        servers = Servers([member.place])
        try:
            status = msgspec.json.decode((await servers.ask("POST", "/v3/maintenance/status", b"{}")).body)
        except Unavailable:
            return False
        finally:
            await servers.close()
        return status.get("leader") == status["header"]["member_id"]

    async def answers(self, store: Store) -> None:
        await until_it_answers(lambda: store.get("any"))

    async def kill_leader(self, store: Store) -> None:
        """... and start it again as soon as another one leads."""
        leader = await self.leader()
        leader.kill()
        await self.answers(store)
        leader.start().wait()

    async def cut_leader(self, store: Store) -> None:
        """... and plug it in as soon as another one leads."""
        leader = await self.leader()
        leader.cut()
        await self.answers(store)
        leader.heal()
