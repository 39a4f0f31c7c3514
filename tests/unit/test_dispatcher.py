"""Sessions, the manager's side: what a node is told, what it may tell, who is here. On paper, in time that jumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.core import datakeys
from fairlead.core.cluster import Description, Manager, Node, NodeSpec, Report, Service, State, Task, TaskStatus
from fairlead.core.service import SECOND, ContainerSpec, SecretReference, ServiceSpec, TaskSpec
from fairlead.core.session import Assign, Beat, Call, Command, Hello, Relay, Reply, Told, Welcome
from fairlead.core.swarmspec import Cluster, FileSpec, Secret, Trust
from fairlead.errors import FairleadError, NotFound, Unavailable
from fairlead.store.base import Change, Entry, Lease
from fairlead.store.memory import MemoryStore
from fairlead.swarm.dispatcher import Dispatcher
from fairlead.swarm.gate import refusal
from fairlead.swarm.presence import FAILED, LOST, ORPHANED_AFTER, UNKNOWN, Attendance, RollCall
from fairlead.swarm.state import Event
from fairlead.swarm.state import State as SwarmState
from unit.jumping import in_jumping_time
from unit.swarmpipe import End, pipe
from unit.swarmtown import town_node


class Host:
    """A manager: state, dispatcher, and, while it leads, a roll call."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name
        self.state = SwarmState(town.ledger, self._told)
        self.dispatcher: Dispatcher | None = None
        self.roll: RollCall | None = None
        self.running: asyncio.Task[None] | None = None

    def _told(self, event: Event) -> None:
        for part in (self.dispatcher, self.roll):
            if part is not None:
                part.hear(event)

    async def start(self) -> None:
        await self.state.load()
        self.dispatcher = Dispatcher(self.state, self.town.ledger, self.name, self.town.connect)
        self.running = self.town.tasks.create_task(self._run())

    async def _run(self) -> None:
        assert self.dispatcher
        async with asyncio.TaskGroup() as group:
            group.create_task(self.state.run())
            group.create_task(self.dispatcher.run())

    async def lead(self) -> None:
        assert self.dispatcher
        tasks = self.dispatcher.boards.tasks
        self.roll = RollCall(self.state, self.town.ledger, self.name, tasks, self.town.clock, 15.0)
        await self.town.ledger.put_if("leader", self.name.encode())
        await self.roll.lead(("leader", (await self.town.ledger.get("leader")).version))

    async def die(self) -> None:
        assert self.running
        self.running.cancel()

    def session(self, node: str, says: Description | None = Description("box")) -> tuple[End, asyncio.Task[None]]:
        """``says`` None: the node says hello itself."""
        near, far = pipe(node, manager=self.name)

        async def serve() -> None:
            assert self.dispatcher
            try:
                await self.dispatcher.session(far, Hello(says) if says else await far.receive())
            except FairleadError as error:
                with contextlib.suppress(Unavailable):
                    await far.send(refusal(error))
            far.abort()

        return near, self.town.tasks.create_task(serve())


class Town:
    """Managers over one ledger."""

    def __init__(self, tasks: asyncio.TaskGroup, managers: str) -> None:
        self.tasks, self.ledger = tasks, MemoryStore()
        self.hosts = {name: Host(self, name) for name in managers}

    def clock(self) -> int:
        return int(asyncio.get_running_loop().time() * SECOND) + 1000 * SECOND

    async def connect(self, address: str) -> End:
        host = self.hosts[address]
        near, far = pipe("caller", "manager", address)

        async def serve() -> None:
            asked = await far.receive()
            try:
                await far.send(await host.dispatcher.relay(far, asked))
            except FairleadError as error:
                await far.send(refusal(error))
            far.abort()

        self.tasks.create_task(serve())
        return near


def story(managers: str, tell: Callable[[Town], Any]) -> float:
    """In a town whose managers run, with nodes a and b and the managers themselves."""

    async def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(10**6):
                town = Town(tasks, managers)
                state = SwarmState(town.ledger)
                cluster = Cluster(id="cluster", trust=Trust(root="ROOT"))
                nodes = [replace(town_node(name), state="unknown") for name in "ab"]
                nodes += [Node(id=m, spec=NodeSpec(role="manager"), manager=Manager(address=m)) for m in managers]
                await state.commit([cluster, *nodes, Service("s", ServiceSpec(name="web"))])
                for host in town.hosts.values():
                    await host.start()
                await tell(town)
                for task in tasks._tasks:
                    task.cancel()

    return in_jumping_time(run())


async def comes(check: Callable[[], object], within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not check():
            await asyncio.sleep(0.01)


async def heard(end: End, kind: type) -> Any:
    """The next message of that kind."""
    while True:
        message = await end.receive(60)
        if isinstance(message, kind):
            return message


def task(id: str, node: str, *secrets: str, state: State = State.ASSIGNED) -> Task:
    refs = tuple(SecretReference(secret_id=one) for one in secrets)
    spec = TaskSpec(container_spec=ContainerSpec(image="x", secrets=refs or None))
    return Task(id=id, spec=spec, service="s", slot=1, node=node, status=TaskStatus(state))


def told(number: int, *reports: tuple[str, State]) -> Told:
    return Told(number, tuple(Report(id, TaskStatus(state, at=5), ran=7) for id, state in reports))


def test_a_node_is_welcomed_described_and_told_what_is_its_own() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        secrets = [Secret(name, FileSpec(name, data=b"x")) for name in ("mine", "other")]
        await m.state.commit([*secrets, task("t1", "a", "mine"), task("t2", "b", "other")])
        end, _ = m.session("a", Description("new name"))
        welcome = await end.receive()
        assert (welcome.cluster, welcome.period, welcome.node.description.hostname) == ("cluster", 5.0, "new name")
        assert m.state.nodes["a"].address == "of a"
        command = await end.receive()
        assert (command.managers, command.roots, command.renew) == ({"m": "m"}, "ROOT", False)
        whole = await end.receive()
        assert whole.whole and [one.id for one in whole.tasks] == ["t1"]
        assert [one.id for one in whole.secrets] == ["mine"]
        await m.state.commit([task("t3", "a", "other"), task("t4", "b", "mine")])
        assign = await end.receive()
        assert [one.id for one in assign.tasks] == ["t3"] and [one.id for one in assign.secrets] == ["other"]
        await m.state.commit([replace(m.state.nodes["a"], spec=NodeSpec(labels={"zone": "1"}))])
        assert (await heard(end, Command)).node.spec.labels == {"zone": "1"}

    story("m", tell)


def test_a_change_of_a_task_is_no_reason_to_look_at_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = Dispatcher._find_managers
    monkeypatch.setattr(Dispatcher, "_find_managers", lambda self: looks.append(1) or look(self))

    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        end, _ = m.session("a")
        await heard(end, Assign)
        before = len(looks)
        for number in range(10):
            await m.state.commit([task(f"t{number}", "a")])
            await heard(end, Assign)
        assert len(looks) == before
        await m.state.commit([replace(m.state.nodes["m"], manager=Manager(address="elsewhere"))])
        assert (await heard(end, Command)).managers == {"m": "elsewhere"}

    story("m", tell)


def test_who_is_not_of_the_swarm_has_no_session() -> None:
    async def tell(town: Town) -> None:
        _, far = pipe("stranger")
        with pytest.raises(NotFound, match="node stranger is not part of this swarm"):
            await town.hosts["m"].dispatcher.session(far, Hello(Description()))

    story("m", tell)


def test_reports_are_written_acknowledged_and_only_of_tasks_that_are_its_own() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        await m.state.commit([task("t1", "a"), task("t2", "b")])
        end, _ = m.session("a")
        await end.send(told(1, ("t1", State.RUNNING), ("t2", State.RUNNING), ("never", State.RUNNING)))
        assert (await heard(end, Reply)).number == 1
        assert (m.state.tasks["t1"].running, m.state.tasks["t1"].ran) == (True, 7)
        assert not m.state.tasks["t2"].running and set(m.state.reports) == {"t1"}
        await end.send(told(2, ("t1", State.PREPARING)))
        assert (await heard(end, Reply)).number == 2
        assert m.state.tasks["t1"].running, "states only move forward"
        await end.send(told(3, ("t1", State.FAILED)))
        await heard(end, Reply)
        assert m.state.tasks["t1"].status.state == State.FAILED

    story("m", tell)


def test_a_report_that_came_by_another_manager_is_no_obstacle() -> None:
    """The node went from one to the other, whose memory is not up to date yet."""

    async def tell(town: Town) -> None:
        one, two = town.hosts["m"], town.hosts["n"]
        await one.state.commit([task("t1", "a")])
        await comes(lambda: "t1" in two.state.tasks)
        first, _ = one.session("a")
        second, _ = two.session("a")
        await first.send(told(1, ("t1", State.STARTING)))
        await second.send(told(1, ("t1", State.RUNNING)))
        await heard(second, Reply)
        await comes(lambda: one.state.tasks["t1"].running and two.state.tasks["t1"].running)

    story("mn", tell)


def test_a_second_session_ends_the_first() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        first, ends = m.session("a")
        await heard(first, Assign)
        second, _ = m.session("a")
        await heard(second, Assign)
        await ends
        await m.state.commit([task("t1", "a")])
        assert [one.id for one in (await heard(second, Assign)).tasks] == ["t1"]

    story("m", tell)


async def beat(end: End) -> None:
    with contextlib.suppress(Unavailable):
        while True:
            await end.send(Beat())
            await asyncio.sleep(5)


def states(town: Town, node: str) -> Callable[[], str]:
    return lambda: town.hosts["m"].state.nodes[node].state


def test_silence_makes_a_node_down_and_a_beat_ready_again() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        leading = town.tasks.create_task(m.lead())
        state = states(town, "a")
        end, _ = m.session("a")
        beating = town.tasks.create_task(beat(end))
        await comes(lambda: state() == "ready")
        await asyncio.sleep(100)
        assert state() == "ready"
        beating.cancel()
        began = town.clock()
        await comes(lambda: state() == "down")
        assert 10 < (town.clock() - began) / SECOND < 16
        assert m.state.nodes["a"].message == FAILED
        end, _ = m.session("a")
        town.tasks.create_task(beat(end))
        await comes(lambda: state() == "ready")
        assert m.state.nodes["a"].message == ""
        leading.cancel()

    story("m", tell)


def test_a_session_that_moves_is_no_change_and_one_that_ends_is_waited_for() -> None:
    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        town.tasks.create_task(m.lead())
        seen: list[str] = []
        state = states(town, "a")
        first, _ = m.session("a")
        await comes(lambda: state() == "ready")
        told = m.roll.hear
        m.roll.hear = lambda event: (seen.append(m.state.nodes["a"].state), told(event))
        first.abort()
        await asyncio.sleep(3)
        second, _ = n.session("a")
        town.tasks.create_task(beat(second))
        await asyncio.sleep(60)
        assert set(seen) <= {"ready"} and state() == "ready"
        second.abort()
        await asyncio.sleep(14)
        assert state() == "ready"
        await asyncio.sleep(2)
        assert state() == "down"

    story("mn", tell)


def test_a_session_elsewhere_ends_the_first_and_takes_away_nobody_who_comes_again() -> None:
    """A hello that was slow, or somebody with a copy of its keys, who says something else of the node."""

    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        town.tasks.create_task(m.lead())
        state = states(town, "a")
        seen: set[str] = set()
        first, ends = m.session("a")
        town.tasks.create_task(beat(first))
        await comes(lambda: state() == "ready")
        second, _ = n.session("a", Description("somebody else's box"))
        await heard(second, Assign)
        second.abort()
        await ends
        await m.state.current()
        third, goes_on = m.session("a")
        town.tasks.create_task(beat(third))
        for _ in range(60):
            await asyncio.sleep(1)
            seen.add(state())
        assert seen == {"ready"} and not goes_on.done()
        assert m.state.nodes["a"].description.hostname == "box"
        third.abort()
        await comes(lambda: state() == "down", within=16)

    story("mn", tell)


class Late(MemoryStore):
    """Tells what changed when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[Change] = asyncio.Queue()

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:  # type: ignore[override]
        while True:
            yield await self.news.get()


def test_who_came_here_later_is_not_ended_by_news_of_where_it_was() -> None:
    ended: list[str] = []

    async def tell() -> None:
        ledger = Late()
        attendance = Attendance(ledger, "m", lambda: 15.0, ended.append)

        async def hears(version: int) -> None:
            ledger.news.put_nowait(Change("presence/a", b"n", version))
            await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(attendance.run())
            before = await ledger.put_if("presence/a", b"n")
            attendance.came("a")
            await hears(before)
            await hears(before)
            between = await ledger.put_if("presence/a", b"n")
            attendance.came("a")
            await hears(between)
            assert not ended, "it came again, here"
            await hears(await ledger.put_if("presence/a", b"n"))
            assert ended == ["a"]
            running.cancel()

    in_jumping_time(tell())


def test_what_a_manager_said_of_its_nodes_is_said_again_when_another_key_is_used() -> None:
    """But not over what another manager has said since."""

    async def tell() -> None:
        ledger = MemoryStore()
        attendance = Attendance(ledger, "m", lambda: 15.0, lambda node: None)

        async def versions() -> dict[str, tuple[bytes, int]]:
            await asyncio.sleep(1)
            return {entry.key[-1]: (entry.value, entry.version) for entry in await ledger.list("presence/")}

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(attendance.run())
            for node in "abc":
                attendance.came(node)
            before = await versions()
            attendance.left("c")
            await ledger.put_if("presence/b", b"n")
            attendance.again()  # it has not heard of that yet
            after = await versions()
            assert after["a"][0] == b"m" and after["a"][1] > before["a"][1]
            assert after["b"][0] == b"n" and after["c"] == before["c"], "it may be elsewhere by now"
            running.cancel()

    in_jumping_time(tell())


def test_another_data_key_makes_managers_say_again_who_is_here() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        m.session("a")
        assert m.dispatcher
        await asyncio.sleep(1)
        ring = datakeys.first("one", "m", "root", 1)
        seen = []
        for after in (ring, replace(ring, keys=("two", "one")), replace(ring, keys=("two", "one"), used="two")):
            before = next(iter(m.state.datakeys.values()), None)
            await m.state.commit([replace(after, version=before.version if before else 0)])
            await asyncio.sleep(1)
            entry = await town.ledger.get("presence/a")
            seen.append(entry and entry.version)
        assert seen[0] == seen[1] != seen[2]

    story("m", tell)


def test_a_manager_cut_off_from_the_others_lets_go_of_its_nodes_unless_its_store_is_about_to_come_back() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        assert m.dispatcher
        resting, m.dispatcher._resting = True, lambda: resting
        end, over = m.session("a")
        town.tasks.create_task(beat(end))
        await heard(end, Assign)

        async def refused(key: str) -> None:
            raise Unavailable("connection refused")

        town.ledger.get = refused  # type: ignore[method-assign, assignment]
        await asyncio.sleep(10)
        assert not over.done()
        resting = False
        await asyncio.sleep(2)
        assert over.done()

    story("m", tell)


def test_a_manager_that_was_away_does_not_say_again_who_left_it_meanwhile() -> None:
    class Leased(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.lost = asyncio.Event()

        async def lease(self, ttl: float) -> Lease:
            lease, self.lost = await super().lease(ttl), asyncio.Event()
            lease.keep = self.lost.wait  # type: ignore[method-assign, assignment]
            return lease

    async def tell() -> None:
        ledger = Leased()
        attendance = Attendance(ledger, "m", lambda: 15.0, lambda node: None)

        async def said() -> list[bytes]:
            await asyncio.sleep(1)
            return [entry.value for entry in await ledger.list("presence/")]

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(attendance.run())
            for node in "ab":
                attendance.came(node)
            assert await said() == [b"m", b"m"]
            attendance.left("a")
            ledger.lost.set()
            await asyncio.sleep(0.1)
            await ledger.put_if("presence/a", b"n")
            ledger.lost.set()
            assert await said() == [b"n", b"m"]
            running.cancel()

    in_jumping_time(tell())


def test_who_says_goodbye_is_down_at_once() -> None:
    async def tell(town: Town) -> None:
        town.tasks.create_task(town.hosts["m"].lead())
        state = states(town, "a")
        end, _ = town.hosts["m"].session("a")
        await comes(lambda: state() == "ready")
        await end.send(Call(1, "leave"))
        await comes(lambda: state() == "down", within=1)

    story("m", tell)


def test_a_dead_managers_nodes_are_unknown_until_they_come_to_another_or_do_not() -> None:
    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        for node in "ab":
            end, _ = n.session(node)
            town.tasks.create_task(beat(end))
        end, _ = n.session("n")
        town.tasks.create_task(beat(end))
        town.tasks.create_task(m.lead())
        await comes(lambda: all(m.state.nodes[node].state == "ready" for node in "abn"))
        assert m.state.nodes["n"].manager.reachability == "reachable" and m.state.nodes["m"].manager.leader
        await n.die()
        await comes(lambda: all(m.state.nodes[node].state == "unknown" for node in "ab"))
        assert m.state.nodes["a"].message == UNKNOWN
        assert m.state.nodes["n"].manager.reachability == "unreachable"
        end, _ = m.session("a")
        town.tasks.create_task(beat(end))
        await comes(lambda: m.state.nodes["b"].state == "down")
        assert (m.state.nodes["b"].message, m.state.nodes["a"].state) == (LOST, "ready")

    story("mn", tell)


def test_tasks_of_a_node_that_is_away_for_a_day_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.swarm.dispatcher.LOOK", 3600.0)

    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        town.tasks.create_task(m.lead())
        done = replace(task("t2", "a"), status=TaskStatus(State.COMPLETE))
        await m.state.commit([task("t1", "a", state=State.RUNNING), done])
        await comes(lambda: m.state.nodes["a"].state == "down")
        await asyncio.sleep(ORPHANED_AFTER / SECOND - 60)
        assert m.state.tasks["t1"].status.state == State.RUNNING
        await asyncio.sleep(120)
        assert m.state.tasks["t1"].status.state == State.ORPHANED
        assert m.state.tasks["t2"].status.state == State.COMPLETE

    assert story("m", tell) > 24 * 3600


# -- questions ---------------------------------------------------------------------------------------------------------


async def answer(end: End, *bodies: bytes, error: str = "") -> Call:
    call = await heard(end, Call)
    for body in bodies:
        await end.send(Reply(call.number, msgspec.Raw(body), more=True))
    await end.send(Reply(call.number, error=error, message=error and "no such task"))
    return call


async def asked(host: Host, node: str) -> list[bytes]:
    return [bytes(reply) async for reply in host.dispatcher.call(node, "logs", {"task": "t"})]


def test_a_node_is_asked_wherever_its_session_is() -> None:
    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        end, _ = n.session("a")
        await heard(end, Assign)
        await comes(lambda: "presence/a" in town.ledger._entries)
        for host in (n, m):
            answering = asyncio.ensure_future(answer(end, b"1", b"2"))
            assert await asked(host, "a") == [b"1", b"2"]
            assert bytes((await answering).body) == b'{"task":"t"}'
            answering = asyncio.ensure_future(answer(end, error="NotFound"))
            with pytest.raises(NotFound, match="no such task"):
                await asked(host, "a")
            await answering
        with pytest.raises(Unavailable, match="node b is not connected"):
            await asked(m, "b")

    story("mn", tell)


def test_who_loses_interest_stops_the_answer_also_through_another_manager() -> None:
    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        end, _ = n.session("a")
        await heard(end, Assign)
        await comes(lambda: "presence/a" in town.ledger._entries)
        for host in (n, m):
            replies = host.dispatcher.call("a", "logs")
            first = asyncio.ensure_future(anext(replies))
            call = await heard(end, Call)
            await end.send(Reply(call.number, msgspec.Raw(b"1"), more=True))
            await first
            await replies.aclose()
            assert (await heard(end, Call)) == Call(call.number, "enough")

    story("mn", tell)


def test_verbs_are_answered_with_who_asks() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]

        async def mine(who: Any, body: msgspec.Raw) -> AsyncIterator[Any]:
            yield [who.node, msgspec.json.decode(body)]

        m.dispatcher.verbs["mine"] = mine
        end, _ = m.session("a")
        await end.send(Call(7, "mine", msgspec.Raw(b"5")))
        assert bytes((await heard(end, Reply)).body) == b'["a",5]'
        assert not (await heard(end, Reply)).more
        await end.send(Call(8, "theirs"))
        assert (await heard(end, Reply)).error == "Invalid"

    story("m", tell)


def test_a_relay_for_a_node_that_is_not_here() -> None:
    async def tell(town: Town) -> None:
        _, far = pipe("n", "manager")
        with pytest.raises(Unavailable, match="node a is not connected to this manager"):
            await town.hosts["m"].dispatcher.relay(far, Relay("a", "logs", msgspec.Raw(b"null")))

    story("m", tell)


def test_the_first_thing_said_is_welcome() -> None:
    async def tell(town: Town) -> None:
        end, _ = town.hosts["m"].session("a")
        assert isinstance(await end.receive(), Welcome)
        await end.send(Beat())
        assert await heard(end, Beat) == Beat()

    story("m", tell)
