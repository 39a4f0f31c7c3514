"""The cluster's objects in a store: what is committed is seen by all, in order, and never torn."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import pytest
from msgspec.structs import replace

from fairlead.core.cluster import Node, NodeSpec, Report, Service, Task, TaskStatus
from fairlead.core.cluster import State as TaskState
from fairlead.core.service import ContainerSpec, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import Cluster, FileSpec, Secret, Trust
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Entry, Lease, Write
from fairlead.store.memory import MemoryStore
from fairlead.swarm import state as state_module
from fairlead.swarm.state import Event, State
from unit.jumping import in_jumping_time

SPEC = TaskSpec(container_spec=ContainerSpec(image="busybox"))


@pytest.fixture
def ledger() -> MemoryStore:
    return MemoryStore()


@contextlib.asynccontextmanager
async def running(ledger: MemoryStore) -> AsyncIterator[tuple[State, list[Event]]]:
    events: list[Event] = []
    state = State(ledger, events.append)
    await state.load()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(state.run())
        yield state, events
        task.cancel()


async def heard(check: object) -> None:
    async with asyncio.timeout(5):
        while not check():  # type: ignore[operator]
            await asyncio.sleep(0)


def web(id: str = "s1", name: str = "web") -> Service:
    return Service(id=id, spec=ServiceSpec(name=name))


async def test_what_one_commits_the_other_hears(ledger: MemoryStore) -> None:
    async with running(ledger) as (mine, _), running(ledger) as (yours, events):
        await mine.commit([web(), Node(id="n1", spec=NodeSpec(role="manager"))])
        assert mine.services["s1"].spec.name == "web", "at once where it was done"
        await heard(lambda: "n1" in yours.nodes)
        assert yours.services == mine.services
        assert [(event.kind, event.before) for event in events] == [("services", None), ("nodes", None)]


async def test_current_is_when_everything_that_returned_before_is_known(ledger: MemoryStore) -> None:
    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        for number in range(20):
            await mine.commit([web(f"s{number}", f"web{number}")])
            await yours.commit([web(f"t{number}", f"shop{number}")])
            await yours.current()
            assert f"s{number}" in yours.services, "it committed after the other, but had not heard of it yet"


async def test_who_hears_nothing_is_not_current(ledger: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "PATIENCE", 0.01)
    deaf = State(ledger)
    await deaf.load()
    await deaf.current()
    async with running(ledger) as (mine, _):
        await mine.commit([web()])
    with pytest.raises(Unavailable, match="not heard yet"):
        await deaf.current()


async def test_who_had_no_answer_a_moment_ago_does_not_wait_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "PATIENCE", 0.05)
    monkeypatch.setattr(state_module, "AGAIN", 0.0)
    ledger, loop = MemoryStore(), asyncio.get_running_loop()
    lonely, get = State(ledger), ledger.get
    await lonely.load()
    silence = asyncio.Event()

    async def asked(key: str) -> Entry | None:
        await silence.wait()
        return await get(key)

    monkeypatch.setattr(ledger, "get", asked)
    took = []
    for _ in range(2):
        begun = loop.time()
        with pytest.raises(Unavailable):
            await lonely.current()
        took.append(loop.time() - begun)
    assert took[0] >= 0.05 > took[1]
    monkeypatch.setattr(state_module, "AGAIN", 5.0)
    silence.set()
    await lonely.current()
    silence.clear()
    begun = loop.time()
    with pytest.raises(Unavailable):
        await lonely.current()
    assert loop.time() - begun >= 0.05, "after an answer it is asked as ever"


async def test_who_waits_is_released_when_its_manager_ends(
    ledger: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely, asked = State(ledger), asyncio.Event()
    await lonely.load()

    async def never(key: str) -> Entry | None:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(ledger, "get", never)
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(lonely.current())
        await asked.wait()
        lonely.release()
        lonely.release()
        with pytest.raises(Unavailable):
            await waiting


class Away(MemoryStore):
    """Answers nobody until then, by the loop's clock."""

    back = 0.0

    def _there(self) -> None:
        if asyncio.get_running_loop().time() < self.back:
            raise Unavailable("connection refused")

    async def get(self, key: str) -> Entry | None:
        self._there()
        return await super().get(key)

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        self._there()
        return await super().commit(writes, guards, lease)


def test_a_majority_that_is_away_for_a_moment_is_waited_for() -> None:
    async def tell() -> None:
        ledger, clock = Away(), asyncio.get_running_loop().time
        async with running(ledger) as (mine, _), running(ledger) as (yours, _):
            ledger.back = clock() + 8
            await mine.commit([web()])
            assert 8 <= clock() < 9 and "s1" in mine.services
            ledger.back = clock() + 8
            await yours.current()
            assert 16 <= clock() < 18 and "s1" in yours.services

    in_jumping_time(tell())


def test_one_that_does_not_come_back_is_not_waited_for_long() -> None:
    """Least of all by who can ask elsewhere, or decides anew: and who did not wait knows nothing for others."""

    async def tell() -> None:
        ledger, clock = Away(), asyncio.get_running_loop().time
        took = []
        async with running(ledger) as (state, _):
            await state.commit([web()])
            ledger.back = math.inf
            for ask in (
                lambda: state.commit([web("s2", "other")], guard=("leader", 1)),
                lambda: state.current(5.0),
                lambda: state.commit([web("s3", "third")]),
                state.current,
            ):
                begun = clock()
                with pytest.raises(Unavailable):
                    await ask()
                took.append(round(clock() - begun))
        assert took == [0, 5, 10, 2]

    in_jumping_time(tell())


class Lossy(MemoryStore):
    """Writes what ``commit`` brings and loses the answer, as often as ``lost`` says; then somebody may be quick."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self.late = False
        """what was asked for arrives only when it is asked for again"""
        self.then: Callable[[], Awaitable[object]] | None = None
        self.written: list[str] = []

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        if self.late and not self.lost:
            self.late = False
            await super().commit(writes, guards, lease)
        if not self.lost:
            version = await super().commit(writes, guards, lease)
            self.written += [write.key for write in writes]
            return version
        self.lost -= 1
        if not self.late:
            await super().commit(writes, guards, lease)
            self.written += [write.key for write in writes]
            if self.then is not None:
                deed, self.then = self.then, None
                await deed()
        raise Unavailable("no answer in time")


@pytest.mark.parametrize("late", [False, True])
async def test_what_was_written_though_nobody_said_so_is_written_once(late: bool) -> None:
    ledger = Lossy()
    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        ledger.lost, ledger.late = 1, late
        version = await mine.commit([web()])
        assert mine.services["s1"].version == version == (await ledger.get("services/s1")).version  # type: ignore[union-attr]
        await mine.commit([replace(mine.services["s1"], created=1)])
        await yours.current()
        assert yours.services["s1"].created == 1


async def test_what_was_written_and_taken_away_by_somebody_else_is_not_written_again() -> None:
    ledger = Lossy()

    async def removed() -> None:
        await yours.current()
        await yours.commit(delete=[yours.services["s1"]])

    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        ledger.lost, ledger.then = 1, removed
        await mine.commit([web()])
        assert ledger.written.count("services/s1") == 2, "made, and deleted"
        await yours.current()
        assert await ledger.get("services/s1") is None and not yours.services


async def test_who_was_not_heard_and_then_was_too_late_is_refused() -> None:
    ledger = Away()
    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        await yours.commit([web()])
        await mine.current()
        old = mine.services["s1"]
        ledger.back = asyncio.get_running_loop().time() + 0.2
        late = asyncio.create_task(mine.commit([replace(old, created=1)]))
        await asyncio.sleep(0.05)
        await MemoryStore.commit(ledger, [Write("services/s1", b'{"id":"s1"}')])
        with pytest.raises(Conflict):
            await late


async def test_a_name_belongs_to_one(ledger: MemoryStore) -> None:
    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        await mine.commit([web()])
        with pytest.raises(Conflict, match="service web already exists"):
            await mine.commit([web("s2")])
        with pytest.raises(Conflict):
            await yours.commit([web("s3")]), "even who has not heard of it yet"
        await mine.commit(delete=[mine.services["s1"]])
        await mine.commit([web("s4")])


async def test_an_old_version_changes_nothing(ledger: MemoryStore) -> None:
    async with running(ledger) as (state, _):
        await state.commit([web()])
        old = state.services["s1"]
        await state.commit([replace(old, created=1)])
        with pytest.raises(Conflict):
            await state.commit([replace(old, created=2), Node(id="n1")])
        assert (state.services["s1"].created, state.nodes) == (1, {})


async def test_what_was_only_read_must_stand(ledger: MemoryStore) -> None:
    async with running(ledger) as (state, _):
        await state.commit([web()])
        old = state.services["s1"]
        await state.commit([replace(old, created=1)])
        with pytest.raises(Conflict):
            await state.commit([Node(id="n1")], read=[old])


async def test_who_leads_no_more_writes_no_more(ledger: MemoryStore) -> None:
    async with running(ledger) as (state, _):
        mine = await ledger.put_if("leader", b"me")
        await state.commit([web()], guard=("leader", mine))
        await ledger.put_if("leader", b"you")
        with pytest.raises(Conflict):
            await state.commit([Node(id="n1")], guard=("leader", mine))


async def test_a_thousand_tasks_say_once_what_they_are(ledger: MemoryStore) -> None:
    async with running(ledger) as (mine, _), running(ledger) as (yours, _):
        tasks = [Task(id=f"t{n}", spec=SPEC, service="s1", slot=n) for n in range(1000)]
        await mine.commit(tasks)
        await heard(lambda: len(yours.tasks) == 1000)
        assert yours.tasks["t7"].spec == SPEC and yours.tasks["t7"].slot == 7
        assert len({id(task.spec) for task in yours.tasks.values()}) == 1
        assert len(await ledger.list("specs/")) == 1
        assert max(len(entry.value) for entry in await ledger.list("tasks/")) < 150


async def test_a_value_that_makes_no_sense_is_passed_over(ledger: MemoryStore) -> None:
    await ledger.put_if("nodes/bad", b"{")
    await ledger.put_if("tasks/bad", b'{"spec":"nowhere","rest":{}}')
    await ledger.put_if("elsewhere/x", b"?")
    async with running(ledger) as (state, _):
        await state.commit([Node(id="n1")])
        assert set(state.nodes) == {"n1"} and not state.tasks


async def test_the_past_does_not_come_back(ledger: MemoryStore) -> None:
    """Our own deletion is known before the watch tells of what came before it."""
    async with running(ledger) as (state, events):
        await ledger.put_if("nodes/first", b'{"id":"first"}')
        await heard(lambda: "first" in state.nodes)
        await state.commit([Node(id="n1")])
        await state.commit([replace(state.nodes["n1"], message="changed")])
        await state.commit(delete=[state.nodes["n1"]])
        await ledger.put_if("nodes/last", b'{"id":"last"}')
        await heard(lambda: "last" in state.nodes)
        assert [event.after and event.after.id for event in events] == ["first", "n1", "n1", None, "last"]


async def test_a_task_comes_back_as_it_was(ledger: MemoryStore) -> None:
    async with running(ledger) as (mine, _):
        task = Task(id="t", spec=SPEC, status=TaskStatus(TaskState.PENDING, at=7, error="no"), restarts=(1, 2))
        version = await mine.commit([task])
    async with running(ledger) as (other, _):
        assert other.tasks["t"] == replace(task, version=version)


async def test_leader_and_node_write_of_a_task_without_getting_in_each_others_way(ledger: MemoryStore) -> None:
    async with running(ledger) as (leader, events), running(ledger) as (other, _):
        await leader.commit([Task(id="t", spec=SPEC)])
        await heard(lambda: "t" in other.tasks)
        seen = leader.tasks["t"]
        await other.commit([Report("t", TaskStatus(TaskState.RUNNING, at=5), ran=5)])
        await heard(lambda: leader.tasks["t"].running)
        await leader.commit([replace(seen, desired=TaskState.SHUTDOWN)]), "as it saw it before the report"
        assert leader.tasks["t"].running and leader.tasks["t"].ran == 5
        await other.commit([replace(other.reports["t"], status=TaskStatus(TaskState.SHUTDOWN, at=6))])
        await heard(lambda: leader.tasks["t"].status.state.ended)
        assert {event.kind for event in events} == {"tasks"}
        await leader.commit(delete=[leader.tasks["t"]])
        assert not leader.tasks and not leader.reports
        assert {entry.key.partition("/")[0] for entry in await ledger.list("")} == {"specs", "written"}


def test_secrets_are_in_no_repr() -> None:
    things = (
        Cluster("c", Trust("root", key="hidden"), worker="hidden", manager="hidden", unlock_key="hidden"),
        Secret("s", FileSpec("password", data=b"hidden")),
    )
    assert not any("hidden" in repr(thing) for thing in things)


def of_spec(id: str) -> Task:
    return Task(id=id, spec=SPEC, service="s1", slot=1)


async def test_a_spec_that_nobody_names_is_forgotten_and_written_again_when_somebody_does(ledger: MemoryStore) -> None:
    guard = ("leader", await ledger.put_if("leader", b"m"))
    async with running(ledger) as (state, _):
        await state.commit([of_spec("t1")])
        await state.forget(["0" * 32, *state._specs], guard)
        assert not state.unused() and len(await ledger.list("specs/")) == 1
        await state.commit(delete=[state.tasks["t1"]])
        (digest,) = state.unused()
        with pytest.raises(Conflict):
            await state.forget([digest], ("leader", 99))
        await state.forget([digest], guard)
        assert not state.unused() and not await ledger.list("specs/")
        await state.commit([of_spec("t2")])
        assert len(await ledger.list("specs/")) == 1
    async with running(ledger) as (again, _):
        assert again.tasks["t2"].spec == SPEC and not again.unused()


async def test_who_names_a_spec_and_has_not_heard_that_it_is_gone_is_refused(ledger: MemoryStore) -> None:
    """Else there would be a task that nobody can read."""
    guard = ("leader", await ledger.put_if("leader", b"m"))
    async with running(ledger) as (state, _):
        await state.commit([of_spec("t1")])
        late = State(ledger)
        await late.load()
        await state.commit(delete=[state.tasks["t1"]])
        await state.forget(state.unused(), guard)
        with pytest.raises(Conflict):
            await late.commit([of_spec("t2")])
        hearing = asyncio.create_task(late.run())
        await heard(lambda: not late._specs)
        await late.commit([of_spec("t2")])
        await heard(lambda: "t2" in state.tasks)
        hearing.cancel()
