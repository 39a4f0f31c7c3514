"""Agents and nodes of a test, all of them gone when it ends."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fairlead.core.effects import Address
from fairlead.core.envelope import Envelope
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.core.swimwire import State
from fairlead.swarm.cipher import seal_with
from fairlead.swarm.gossip import GossipNode, open_gossip
from gossip.stock import SERF, Agent, free_port

QUICK = SwimConfig(probe_interval=0.3, probe_timeout=0.15, gossip_interval=0.05, push_pull=5.0, knock=0.3)
PATIENCE = 40.0


async def until(told: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition in the world outside."""
    end = time.monotonic() + PATIENCE
    while not await told():
        assert time.monotonic() < end, f"waited in vain: {what}"
        await asyncio.sleep(0.05)


class Cluster:
    """Stock agents and nodes of ours, with one key or none."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self.key = key
        self.folder = folder
        self.agents: dict[str, Agent] = {}
        self.nodes: dict[str, GossipNode] = {}
        self.facts: list[object] = []
        self._open: dict[str, AsyncExitStack] = {}

    async def agent(self, name: str, **tags: str) -> Agent:
        agent = self.agents[name] = Agent(name, self.folder, self.key, tags)
        agent.start()
        await until(lambda: self._answers(agent), f"{name} to answer")
        return agent

    async def _answers(self, agent: Agent) -> bool:
        return bool(await agent.members())

    async def node(self, name: str, keys: tuple[bytes, ...] = (), port: int = 0, **tags: str) -> GossipNode:
        keys = keys or ((self.key,) if self.key else ())
        envelope = Envelope(seal_with(keys) if keys else None)
        me = Me(name, Address("127.0.0.1", port or free_port()), tags)
        machine = Gossip(me, QUICK, random.Random(), envelope)
        stack = self._open[name] = AsyncExitStack()
        self.nodes[name] = await stack.enter_async_context(open_gossip(machine, me.address, self.facts.append))
        return self.nodes[name]

    async def close(self, name: str) -> None:
        """A node dies without a word."""
        await self._open.pop(name).aclose()
        del self.nodes[name]

    def address(self, name: str) -> Address:
        if name in self.agents:
            return Address("127.0.0.1", self.agents[name].port)
        return self.nodes[name].machine.swim.address

    async def seen(self, by: str, whom: str) -> str:
        """What one thinks of another, in serf's words."""
        if by in self.agents:
            return (await self.agents[by].members()).get(whom, ("unknown", {}))[0]
        member = self.nodes[by].machine.swim.members.table.get(whom)
        words = {State.ALIVE: "alive", State.SUSPECT: "alive", State.DEAD: "failed", State.LEFT: "left"}
        return words[member.state] if member else "unknown"

    async def wait(self, whom: str, status: str, by: list[str]) -> None:
        """Until all of these think so."""

        async def agreed() -> bool:
            return all([await self.seen(one, whom) == status for one in by])

        await until(agreed, f"{whom} to be {status} for {by}")

    async def aclose(self) -> None:
        for stack in self._open.values():
            await stack.aclose()
        for agent in self.agents.values():
            agent.kill()


@pytest.fixture(params=["plain", "sealed"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    if SERF is None:
        pytest.skip("serf is not installed")
    made = Cluster(tmp_path, b"0123456789abcdef0123456789abcdef" if request.param == "sealed" else None)
    try:
        yield made
    finally:
        await made.aclose()
