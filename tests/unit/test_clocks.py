"""Clocks that are wrong, or are set while things are under way: nobody waits for what a wrong clock said."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fairlead.core.cluster import Node, Report, Service, State, Task, TaskStatus
from fairlead.core.service import SECOND, UpdateConfig
from fairlead.core.session import Told
from fairlead.store.memory import MemoryStore
from fairlead.swarm.leader import Leader
from fairlead.swarm.presence import RollCall
from fairlead.swarm.state import State as SwarmState
from unit import test_dispatcher as managers
from unit.jumping import in_jumping_time
from unit.swarmtown import Town, replicated, version

HOUR = 3600
JUMPS = some.sampled_from([-400 * 24 * HOUR, -HOUR, -60, -7, 7, 60, HOUR, 400 * 24 * HOUR])


def sets_clock(town: Town, seconds: int, *, new_leader: bool) -> None:
    """What is under way takes as long as before. ``new_leader``: another leads, whose clock differs by so much."""
    town.now += seconds * SECOND
    town.due = {task: (at + seconds * SECOND, state) for task, (at, state) in town.due.items()}
    if new_leader:
        town.elect()
    else:
        town.leader.clock_was_set()


@settings(max_examples=40)
@given(JUMPS, some.floats(0, 6), some.booleans())
def test_a_task_that_fell_is_followed_after_its_delay(jump: int, after: float, new_leader: bool) -> None:
    town = Town(replicated(3))
    town.run(10)
    town.end(town.running()[0].id)
    town.run(after)
    sets_clock(town, jump, new_leader=new_leader)
    town.run(15)
    assert town.slots() == [1, 2, 3]


@settings(max_examples=40)
@given(JUMPS, some.floats(0, 40), some.booleans())
def test_an_update_goes_on(jump: int, after: float, new_leader: bool) -> None:
    town = Town(replicated(3))
    town.run(10)
    how = UpdateConfig(parallelism=1, delay=10 * SECOND, monitor=5 * SECOND)
    town.update(template=version(1), update_config=how)
    town.run(after)
    sets_clock(town, jump, new_leader=new_leader)
    town.run(80)
    assert town.state == "completed" and {task.spec.force_update for task in town.running()} == {1}


@pytest.mark.parametrize("wrong", [-HOUR, HOUR])
def test_what_a_node_tells_is_moved_to_our_time(wrong: int) -> None:
    async def tell(town: managers.Town) -> None:
        m = town.hosts["m"]
        assert m.dispatcher
        m.dispatcher._clock = town.clock
        await m.state.commit([managers.task("t1", "a")])
        end, _ = m.session("a")
        await asyncio.sleep(5)
        now = town.clock() + wrong * SECOND
        status = TaskStatus(State.RUNNING, at=now - SECOND)
        await end.send(Told(1, (Report("t1", status, ran=now - 2 * SECOND),), now))
        await managers.heard(end, managers.Reply)
        task = m.state.tasks["t1"]
        assert (task.status.at, task.ran) == (town.clock() - SECOND, town.clock() - 2 * SECOND)

    managers.story("m", tell)


def test_a_leader_notices_that_its_clock_was_set() -> None:
    """A restart that was due in five seconds is not due in an hour."""
    seen: list[int] = []

    async def run() -> None:
        ahead = [10**9]
        state = SwarmState(MemoryStore())
        await state.commit([Service("s", replicated(0))])
        leader = Leader(state, lambda: int((asyncio.get_running_loop().time() + ahead[0]) * SECOND), lambda: "id", 5)
        leader._orchestrator.alarms.append((int((10**9 + 5) * SECOND), "s"))
        leader._orchestrator.clock_was_set = lambda: seen.append(1)  # type: ignore[method-assign]
        leading = asyncio.ensure_future(leader.lead(("leader", 1)))
        await asyncio.sleep(1)
        seen.clear()
        ahead[0] -= HOUR
        await asyncio.sleep(6)
        leading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leading

    in_jumping_time(run())
    assert seen == [1]


def test_a_node_that_vanished_is_missed_in_time_though_the_leader_s_clock_was_set() -> None:
    async def run() -> None:
        ahead = [10**9]
        ledger = MemoryStore()
        state = SwarmState(ledger)
        await state.commit([Node("a", state="ready")])
        guard = ("leader", await ledger.put_if("leader", b"m"))

        def clock() -> int:
            return int((asyncio.get_running_loop().time() + ahead[0]) * SECOND)

        def nothing(node: str) -> list[Task]:
            return []

        calling = asyncio.ensure_future(RollCall(state, ledger, "m", nothing, clock, 15.0).lead(guard))
        await asyncio.sleep(5)
        ahead[0] -= HOUR
        await asyncio.sleep(5)
        assert state.nodes["a"].state == "unknown"
        await asyncio.sleep(6)
        assert state.nodes["a"].state == "down"
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling

    in_jumping_time(run())
