"""The leader dies, and his node with him: how soon what is asked for then runs elsewhere. In virtual time, with leases
that end as the store's do."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import count

import pytest
from msgspec.structs import replace

from fairlead.core.cluster import Report, Service, State, TaskStatus
from fairlead.core.service import SECOND
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Lease
from fairlead.store.leases import RenewedLease
from fairlead.store.memory import MemoryStore
from fairlead.swarm.leader import Guard, Leader, stand
from fairlead.swarm.presence import Attendance, RollCall
from fairlead.swarm.state import Event
from fairlead.swarm.state import State as SwarmState
from unit.jumping import in_jumping_time
from unit.swarmtown import replicated, town_node

NEVER = 60.0


class Leasing(MemoryStore):
    """A server's leases: each ends by itself, unless its holder lives and renews it."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[str] = set()
        self._numbers = count(1)

    def grant(self, holder: str, ttl: float) -> Lease:
        loop = asyncio.get_running_loop()

        async def renew(id: str) -> bool:
            if holder in self.dead:
                raise Unavailable("nobody asks")
            nonlocal timer
            timer.cancel()
            timer = loop.call_later(ttl, lambda: tasks.append(asyncio.ensure_future(self._end(lease))))
            return True

        async def revoke(id: str) -> None:
            await renew(id)
            timer.cancel()
            await self._end(lease)

        tasks: list[asyncio.Future[None]] = []
        timer = loop.call_later(ttl, lambda: tasks.append(asyncio.ensure_future(self._end(lease))))
        lease = RenewedLease(str(next(self._numbers)), ttl, renew, revoke)
        return lease

    async def _end(self, lease: Lease) -> None:
        for key in [key for key, holder in self._leases.items() if holder is lease]:
            await self.delete_if(key)


class Manager:
    """One node: its state, its presence, its chance to lead, and the tasks that it runs."""

    def __init__(self, ledger: Leasing, name: str, pause: float) -> None:
        """``pause``: seconds before it stands for election."""
        self.ledger, self.name, self.pause, self.leads = ledger, name, pause, False
        self._ears: list[Leader | RollCall] = []
        self.state = SwarmState(ledger, self._told)
        self._moved = asyncio.Event()

    def _told(self, event: Event) -> None:
        for ear in self._ears:
            ear.hear(event)
        self._moved.set()

    async def run(self) -> None:
        store = Held(self.ledger, self.name)
        await self.state.load()
        here = Attendance(store, self.name, lambda: 15.0, lambda node: None)
        here.came(self.name)
        async with asyncio.TaskGroup() as group:
            for part in (self.state.run(), here.run(), self._obey()):
                group.create_task(part)
            await asyncio.sleep(self.pause)
            group.create_task(stand(store, self.name, self._lead))

    async def _lead(self, guard: Guard) -> None:
        ids = count(1)
        decides = Leader(self.state, now, lambda: f"{self.name}{next(ids)}", 5)
        calls = RollCall(self.state, self.ledger, self.name, lambda node: (), now, 15.0)
        self._ears, self.leads = [decides, calls], True
        async with asyncio.TaskGroup() as group:
            group.create_task(decides.lead(guard))
            group.create_task(calls.lead(guard))

    async def _obey(self) -> None:
        while True:
            self._moved.clear()
            for task in list(self.state.tasks.values()):
                told = TaskStatus(State.RUNNING if task.wanted else State.SHUTDOWN, at=now())
                if task.node == self.name and task.status.state < told.state:
                    known = self.state.reports.get(task.id)
                    with contextlib.suppress(Conflict):
                        await self.state.commit([Report(task.id, told, version=known.version if known else 0)])
            await self._moved.wait()


class Held:
    """The store as one manager asks it: leases are his."""

    def __init__(self, ledger: Leasing, holder: str) -> None:
        self._ledger, self._holder = ledger, holder

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def lease(self, ttl: float) -> Lease:
        return self._ledger.grant(self._holder, ttl)


def now() -> int:
    return int((1000 + asyncio.get_running_loop().time()) * SECOND)


async def until(so: object, within: float = NEVER) -> float:
    """Seconds."""
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(within):
        while not so():  # type: ignore[operator]
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - begun


@pytest.mark.parametrize("apart", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("later", [0.0, 0.3, 0.6, 0.9])
def test_what_is_asked_for_after_the_leader_died_runs_soon(apart: float, later: float) -> None:
    """Though the dead node may seem to be here when another leads: its leases are prolonged at moments of their own."""

    async def story() -> None:
        ledger = Leasing()
        managers = [Manager(ledger, name, apart) for name in "abc"]
        await managers[0].state.load()
        await managers[0].state.commit([replace(town_node(name), state="unknown") for name in "abc"])
        lives = {one.name: asyncio.ensure_future(one.run()) for one in managers}
        try:
            await until(lambda: all(node.state == "ready" for node in managers[0].state.nodes.values()))
            await asyncio.sleep(10 + later)
            dead = next(one for one in managers if one.leads)
            ledger.dead.add(dead.name)
            lives.pop(dead.name).cancel()
            other = next(one for one in managers if one is not dead)
            await other.state.commit([Service("s", replicated(3))])
            alive, known = lives.keys(), other.state.tasks
            took = await until(lambda: sum(task.running and task.node in alive for task in known.values()) == 3)
            assert took < 3.5
        finally:
            for life in lives.values():
                life.cancel()
            await asyncio.gather(*lives.values(), return_exceptions=True)

    in_jumping_time(story())
