"""Whoever leads the swarm leads no etcd, where another can."""

import asyncio

import pytest

from fairlead.core.cluster import Node, NodeSpec
from fairlead.errors import Conflict
from fairlead.store.memory import MemoryStore
from fairlead.swarm.members import Member
from fairlead.swarm.offices import AGAIN, LOOK, Offices
from fairlead.swarm.state import State
from unit.jumping import in_jumping_time


class Etcd:
    """Three members; the first leads."""

    def __init__(self, *, obeys: bool = True) -> None:
        self.leader, self.obeys = "1", obeys
        self.asked: list[tuple[float, str]] = []

    async def list(self) -> list[Member]:
        return [Member("1", "m1", False, True), Member("2", "m2", True, True), *map(voter, ("3", "4"))]

    async def leading(self) -> bool:
        return self.leader == "1"

    async def hand_over(self, id: str) -> None:
        self.asked.append((asyncio.get_running_loop().time(), id))
        if not self.obeys:
            raise Conflict("etcdserver: request timed out, leader transfer took too long")
        self.leader = id


def voter(id: str) -> Member:
    return Member(id, f"m{id}", False, True)


@pytest.mark.parametrize(("obeys", "times"), [(True, 1), (False, 3)])
def test_another_etcd_leads_that_has_a_vote_and_is_here(obeys: bool, times: int) -> None:
    async def tell() -> None:
        etcd, state = Etcd(obeys=obeys), State(MemoryStore())
        states = {"m1": "ready", "m2": "ready", "m3": "down", "m4": "ready"}
        await state.commit([Node(id, NodeSpec(role="manager"), state=states[id]) for id in states])
        leading = asyncio.ensure_future(Offices(state, etcd, "m1").lead(("leader", 1)))  # type: ignore[arg-type]
        await asyncio.sleep(2.5 * AGAIN + LOOK)
        leading.cancel()
        assert [id for _, id in etcd.asked] == ["4"] * times and etcd.asked[0][0] >= LOOK

    in_jumping_time(tell())


def test_one_manager_alone_keeps_both() -> None:
    async def tell() -> None:
        etcd, state = Etcd(), State(MemoryStore())
        await state.commit([Node("m1", NodeSpec(role="manager"), state="ready")])
        leading = asyncio.ensure_future(Offices(state, etcd, "m1").lead(("leader", 1)))  # type: ignore[arg-type]
        await asyncio.sleep(30)
        assert not etcd.asked
        await state.commit([Node("m3", NodeSpec(role="manager"), state="ready")])
        await asyncio.sleep(6)
        assert [id for _, id in etcd.asked] == ["3"], "it came, and takes over soon"
        leading.cancel()

    in_jumping_time(tell())
