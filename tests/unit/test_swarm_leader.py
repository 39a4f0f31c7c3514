"""One leads; what it decides is written; another goes on where it was. Stores in memory, nodes on paper."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import count

from msgspec.structs import replace

from fairlead.core.cluster import Report, Service, TaskStatus
from fairlead.core.cluster import State as TaskState
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.service import Mode, Replicated, RestartRule, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import SharedNetwork
from fairlead.errors import Conflict
from fairlead.store.base import Lease, Write
from fairlead.store.memory import MemoryStore
from fairlead.swarm.leader import KEY, Guard, Leader, stand
from fairlead.swarm.state import Event, State
from unit.swarmtown import town_node

ids = count(1)


class Refusing(MemoryStore):
    """Counts what it refused."""

    refused = 0

    async def commit(self, *parts: object) -> int:
        try:
            return await super().commit(*parts)  # type: ignore[arg-type]
        except Conflict:
            self.refused += 1
            raise


class Manager:
    """A state, and a leader that hears of it while it leads."""

    def __init__(self, ledger: MemoryStore) -> None:
        self.ledger = ledger
        self.leader: Leader | None = None
        self.state = State(ledger, self._told)
        self.terms = 0

    def _told(self, event: Event) -> None:
        if self.leader:
            self.leader.hear(event)

    async def lead(self, guard: Guard) -> None:
        self.terms += 1
        self.leader = Leader(self.state, time.time_ns, lambda: f"t{next(ids)}", 5)
        try:
            await self.leader.lead(guard)
        finally:
            self.leader = None


@contextlib.asynccontextmanager
async def manager(ledger: MemoryStore, name: str) -> AsyncIterator[Manager]:
    made = Manager(ledger)
    await made.state.load()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(made.state.run())
        standing = group.create_task(stand(ledger, name, made.lead))
        yield made
        standing.cancel()
        hearing.cancel()


class Beaten(MemoryStore):
    """``first`` is done, once, when the leader is about to write."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[], Awaitable[None]] | None = None

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        guards = list(guards)
        if self.first is not None and any(key == KEY for key, _ in guards):
            first, self.first = self.first, None
            await first()
        return await super().commit(writes, guards, lease)


async def obey(ledger: MemoryStore) -> None:
    """Every node does at once what it is told."""
    heard = asyncio.Event()
    state = State(ledger, lambda event: heard.set())
    await state.load()
    async with asyncio.TaskGroup() as group:
        group.create_task(state.run())
        while True:
            heard.clear()
            for task in list(state.tasks.values()):
                wanted = TaskState.RUNNING if task.desired <= TaskState.RUNNING else TaskState.SHUTDOWN
                if task.node and task.status.state < wanted and task.desired != TaskState.READY:
                    old = state.reports.get(task.id)
                    now = time.time_ns()
                    told = Report(task.id, TaskStatus(wanted, at=now), ran=now, version=old.version if old else 0)
                    await state.commit([told])
            await heard.wait()


async def comes(check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


def web(replicas: int) -> Service:
    template = TaskSpec(restart_policy=RestartRule(delay=0))
    return Service(
        id="s", spec=ServiceSpec(name="web", mode=Mode(replicated=Replicated(replicas)), task_template=template)
    )


def running(of: Manager) -> int:
    return sum(task.running and task.wanted for task in of.state.tasks.values())


async def test_what_was_heard_while_it_wrote_in_vain_is_what_it_decides_by_next() -> None:
    """Nothing else happens after that: nobody would tell it of the node again."""
    ledger, ingress = Beaten(), Subnet("10.0.0.0/24", gateway="10.0.0.1")
    async with manager(ledger, "one") as one:
        await comes(lambda: one.leader)

        async def meanwhile() -> None:
            other = State(ledger, lambda event: None)
            await other.load()
            await other.commit([replace(other.nodes["a"], address="192.0.2.1")])
            await comes(lambda: one.state.nodes["a"].address)

        ledger.first = meanwhile
        network = Network("n", "ingress", "", ipam=Ipam(config=(ingress,)), ingress=True)
        await one.state.commit([town_node("a"), SharedNetwork("n", network)])
        await comes(lambda: one.state.nodes["a"].attachments)
        assert one.state.nodes["a"].address == "192.0.2.1" and ledger.first is None


async def test_a_service_comes_up_and_follows_what_is_asked() -> None:
    ledger = MemoryStore()
    async with manager(ledger, "one") as one, asyncio.TaskGroup() as group:
        nodes = group.create_task(obey(ledger))
        await one.state.commit([town_node("a"), town_node("b"), web(4)])
        await comes(lambda: running(one) == 4)
        service = one.state.services["s"]
        await one.state.commit([replace(service, spec=web(2).spec)])
        await comes(lambda: running(one) == 2 and len(one.state.tasks) == 2)
        await one.state.commit(delete=[one.state.services["s"]])
        await comes(lambda: not one.state.tasks)
        nodes.cancel()


async def test_another_goes_on_where_the_leader_was() -> None:
    ledger = MemoryStore()
    async with asyncio.TaskGroup() as group:
        nodes = group.create_task(obey(ledger))
        async with manager(ledger, "two") as two:
            async with manager(ledger, "one") as one:
                await comes(lambda: two.terms + one.terms == 1)
                leads, follows = (one, two) if one.terms else (two, one)
                await follows.state.commit([town_node("a"), web(3)]), "any manager takes orders"
                await comes(lambda: running(follows) == 3)
                before = set(leads.state.tasks)
            if follows is one:
                nodes.cancel()
                return
            await comes(lambda: two.terms == 1)
            await two.state.commit([replace(two.state.services["s"], spec=web(5).spec)])
            await comes(lambda: running(two) == 5)
            assert before < set(two.state.tasks)
        nodes.cancel()


async def test_who_was_deposed_writes_nothing() -> None:
    ledger = Refusing()
    old, new = Manager(ledger), Manager(ledger)
    await old.state.load()
    await old.state.commit([town_node("a"), web(3)])
    guard = (KEY, await ledger.put_if(KEY, b"old"))
    await ledger.put_if(KEY, b"new")
    old.leader = Leader(old.state, time.time_ns, lambda: f"t{next(ids)}", 5)
    deposed = asyncio.ensure_future(old.leader.lead(guard))
    await comes(lambda: ledger.refused)
    await new.state.load()
    assert not new.state.tasks
    deposed.cancel()


async def test_a_leader_that_dies_is_followed() -> None:
    ledger = MemoryStore()
    elected: list[str] = []

    async def lead(name: str) -> None:
        elected.append(name)
        await asyncio.Event().wait()

    one = asyncio.ensure_future(stand(ledger, "one", lambda guard: lead("one")))
    await comes(lambda: elected == ["one"])
    two = asyncio.ensure_future(stand(ledger, "two", lambda guard: lead("two")))
    for _ in range(50):
        await asyncio.sleep(0)
    assert elected == ["one"]
    one.cancel()
    await comes(lambda: elected == ["one", "two"])
    two.cancel()


async def test_a_leader_whose_office_is_struck_leads_no_more_and_stands_again() -> None:
    ledger, told = MemoryStore(), list[str]()

    async def lead(guard: Guard) -> None:
        told.append("leads")
        try:
            await asyncio.Event().wait()
        finally:
            told.append("no more")

    one = asyncio.ensure_future(stand(ledger, "one", lead))
    await comes(lambda: told == ["leads"])
    await ledger.delete_if(KEY)
    await comes(lambda: told == ["leads", "no more", "leads"])
    await ledger.put_if(KEY, b"two")
    await comes(lambda: len(told) == 4)
    for _ in range(50):
        await asyncio.sleep(0)
    assert told[3:] == ["no more"], "another has it"
    one.cancel()


async def test_who_finds_its_own_name_from_its_life_before_waits_for_nobody() -> None:
    ledger, led = MemoryStore(), asyncio.Event()

    async def lead(guard: Guard) -> None:
        led.set()
        await asyncio.Event().wait()

    await ledger.put_if(KEY, b"one")
    one = asyncio.ensure_future(stand(ledger, "one", lead))
    await comes(led.is_set)
    one.cancel()


class LetGo(MemoryStore):
    """Somebody held the key, and lets go of it before anybody can look."""

    late = 1

    async def put_if(self, key: str, *rest: object) -> int:
        if key == KEY and self.late:
            self.late -= 1
            raise Conflict("somebody leads")
        return await super().put_if(key, *rest)  # type: ignore[arg-type]


async def test_a_key_that_was_let_go_just_now_is_taken() -> None:
    async with asyncio.timeout(5), manager(LetGo(), "one") as one:
        while not one.leader:
            await asyncio.sleep(0)
