"""A node's side of sessions, against a real dispatcher on paper: told, acknowledged, lost, found again elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.core.cluster import Description, Report, State, TaskStatus
from fairlead.core.service import SECOND
from fairlead.core.session import Assign, Beat, Command, Told
from fairlead.core.swarmspec import Dispatcher as DispatcherSpec
from fairlead.errors import NotFound, Unavailable
from fairlead.store.base import Entry
from fairlead.store.memory import MemoryStore
from fairlead.swarm.agent import Agent
from unit.swarmpipe import End
from unit.test_dispatcher import Town, comes, story, task


class PaperWorker:
    """Does nothing of what it is told, and remembers it."""

    def __init__(self) -> None:
        self.told: list[Assign] = []
        self.known: dict[str, Report] = {}
        self.left = False
        self.tell: Callable[[Report], None] = lambda report: None

    async def run(self, tell: Callable[[Report], None]) -> None:
        self.tell = tell
        await asyncio.Event().wait()

    async def assign(self, assign: Assign) -> None:
        self.told.append(assign)

    def reports(self) -> Iterable[Report]:
        return self.known.values()

    async def leave(self) -> None:
        self.left = True

    def becomes(self, id: str, state: State) -> None:
        self.known[id] = Report(id, TaskStatus(state, at=1), ran=1)
        self.tell(self.known[id])


class Box:
    """A node with its agent; it goes to the first of ``managers`` that lives."""

    def __init__(self, town: Town, managers: str, name: str = "a") -> None:
        self.town, self.managers, self.name = town, managers, name
        self.address = "192.0.2.9:2377"
        self.worker = PaperWorker()
        self.ends: list[End] = []
        self.commands: list[Command] = []
        self.attempts: list[float] = []
        self.agent = Agent(self, self.worker, lambda: Description("box"), lambda: 0.5)
        self.running = town.tasks.create_task(self.agent.run())

    async def connect(self) -> End:
        self.attempts.append(asyncio.get_running_loop().time())
        for manager in self.managers:
            end, _ = self.town.hosts[manager].session(self.name, None)
            self.ends.append(end)
            return end
        raise Unavailable("nobody is there")

    def commanded(self, command: Command) -> None:
        self.commands.append(command)


class Cut(MemoryStore):
    """A store that cannot be reached."""

    async def get(self, key: str) -> Entry | None:
        raise Unavailable("no majority")


def test_what_a_manager_says_arrives_and_what_tasks_do_is_written() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        box = Box(town, "m")
        await comes(lambda: box.worker.told and box.commands)
        assert m.state.nodes["a"].address == "192.0.2.9"
        await m.state.commit([task("t1", "a")])
        await comes(lambda: len(box.worker.told) == 2)
        box.worker.becomes("t1", State.RUNNING)
        await comes(lambda: m.state.tasks["t1"].running)
        await asyncio.sleep(100)
        assert len(box.ends) == 1, "beats keep it"

    story("m", tell)


def test_another_manager_is_found_and_told_what_was_not_acknowledged() -> None:
    async def tell(town: Town) -> None:
        m, n = town.hosts["m"], town.hosts["n"]
        await m.state.commit([task("t1", "a"), task("t2", "a")])
        box = Box(town, "mn")
        await comes(lambda: box.worker.told)
        box.managers = "n"
        box.ends[0].silent = True
        box.worker.becomes("t1", State.RUNNING)
        await asyncio.sleep(1)
        assert not m.state.tasks["t1"].running
        box.ends[0].abort()
        await comes(lambda: n.state.tasks["t1"].running, within=2)
        assert box.worker.told[-1].whole
        box.worker.becomes("t2", State.RUNNING)
        await comes(lambda: n.state.tasks["t2"].running)

    story("mn", tell)


def test_who_is_heard_again_is_not_waited_for() -> None:
    """After half a minute without a wire the pauses are long, and so are those of TCP."""

    async def tell(town: Town) -> None:
        box = Box(town, "")
        await asyncio.sleep(60)
        begun, box.managers = asyncio.get_running_loop().time(), "m"
        await asyncio.sleep(0.01)
        assert not box.worker.told and box.attempts[-1] - box.attempts[-2] > 4, "pauses are long by now"
        box.agent.hurry()
        await comes(lambda: box.worker.told, within=0.2)
        assert box.attempts[-1] < begun + 0.1

    story("m", tell)


def test_an_attempt_that_hangs_is_begun_anew_when_somebody_is_heard_again() -> None:
    async def tell(town: Town) -> None:
        box = Box(town, "m")
        usual, hung = box.connect, []

        async def connect() -> End:
            if not hung:
                hung.append(True)
                await asyncio.Event().wait()
            return await usual()

        box.connect = connect  # type: ignore[method-assign]
        await asyncio.sleep(30)
        assert hung and not box.worker.told
        box.agent.hurry()
        await comes(lambda: box.worker.told, within=0.2)

    story("m", tell)


def test_a_manager_that_falls_silent_is_left_before_it_gives_up_its_nodes() -> None:
    async def tell(town: Town) -> None:
        town.tasks.create_task(town.hosts["n"].lead())
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        box.managers = "n"
        box.ends[0].other.silent = True
        await comes(lambda: len(box.ends) == 2, within=10)
        states: list[str] = []
        while len(states) < 300:
            states.append(town.hosts["n"].state.nodes["a"].state)
            await asyncio.sleep(0.1)
        assert set(states) == {"ready"}

    story("mn", tell)


def test_a_manager_without_the_others_lets_go_of_its_nodes() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        cut = Cut()
        m.dispatcher._ledger = cut
        await comes(lambda: box.agent.trouble, within=7)
        await comes(lambda: box.agent.trouble == "this manager cannot reach the others", within=5)
        box.managers = "n"
        await comes(lambda: len(box.worker.told) == 2, within=9)

    story("mn", tell)


def test_another_pace_holds_from_now_on() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        for period, beats in ((1, 100), (20, 5)):
            (cluster,) = m.state.cluster.values()
            spec = replace(cluster.spec, dispatcher=DispatcherSpec(period * SECOND))
            await m.state.commit([replace(cluster, spec=spec)])
            await asyncio.sleep(0.1)
            box.ends[0].sent.clear()
            await asyncio.sleep(100)
            assert box.ends[0].sent.count(Beat()) == beats
        assert len(box.ends) == 1

    story("m", tell)


def test_where_nobody_is_attempts_become_rare() -> None:
    async def tell(town: Town) -> None:
        box = Box(town, "")
        await asyncio.sleep(100)
        pauses = [round(after - before, 3) for before, after in zip(box.attempts, box.attempts[1:], strict=False)]
        assert pauses[0] < 0.2 and pauses == sorted(pauses) and pauses[-1] == 8.0
        with pytest.raises(Unavailable):
            await box.agent.one("get")
        assert box.agent.trouble == "nobody is there"
        box.managers = "m"
        await comes(lambda: box.worker.told, within=9)

    story("m", tell)


def test_another_certificate_another_session() -> None:
    async def tell(town: Town) -> None:
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        box.agent.renewed()
        await comes(lambda: len(box.worker.told) == 2, within=1)

    story("m", tell)


def test_a_node_that_is_not_of_the_swarm_hears_so() -> None:
    async def tell(town: Town) -> None:
        box = Box(town, "m", name="stranger")
        await comes(lambda: box.agent.trouble)
        assert not box.worker.told

    story("m", tell)


def test_questions_go_both_ways() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]

        async def count(who: Any, body: msgspec.Raw) -> AsyncIterator[Any]:
            for number in range(msgspec.json.decode(body)):
                yield number

        async def missing(who: Any, body: msgspec.Raw) -> AsyncIterator[Any]:
            raise NotFound("there is none")
            yield

        async def echo(body: msgspec.Raw) -> AsyncIterator[Any]:
            yield body

        m.dispatcher.verbs |= {"count": count, "missing": missing}
        box = Box(town, "m")
        box.agent.verbs["echo"] = echo
        await comes(lambda: box.worker.told)
        assert [int(bytes(raw)) async for raw in box.agent.ask("count", 500)] == list(range(500))
        with pytest.raises(NotFound, match="there is none"):
            await box.agent.one("missing")
        assert [bytes(raw) async for raw in m.dispatcher.call("a", "echo", {"x": 1})] == [b'{"x":1}']

    story("m", tell)


def test_who_answers_is_not_far_ahead_of_who_reads() -> None:
    async def tell(town: Town) -> None:
        made: list[int] = []

        async def endless(who: Any, body: msgspec.Raw) -> AsyncIterator[Any]:
            while True:
                made.append(1)
                yield len(made)

        town.hosts["m"].dispatcher.verbs["endless"] = endless
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        answers = box.agent.ask("endless")
        for _ in range(200):
            await anext(answers)
        await asyncio.sleep(1)
        assert len(made) < 300
        await answers.aclose()

    story("m", tell)


def test_a_question_ends_with_the_session() -> None:
    async def tell(town: Town) -> None:
        async def never(who: Any, body: msgspec.Raw) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        town.hosts["m"].dispatcher.verbs["never"] = never
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        asking = asyncio.ensure_future(box.agent.one("never"))
        await asyncio.sleep(1)
        box.ends[0].abort()
        with pytest.raises(Unavailable):
            await asking

    story("m", tell)


def test_who_leaves_says_so_and_cleans_up() -> None:
    async def tell(town: Town) -> None:
        box = Box(town, "m")
        await comes(lambda: "presence/a" in town.ledger._entries)
        await box.agent.leave()
        assert box.worker.left
        await comes(lambda: town.ledger._entries["presence/a"].value == b"", within=1)

    story("m", tell)


def test_many_reports_are_told_in_pieces_and_each_once() -> None:
    async def tell(town: Town) -> None:
        m = town.hosts["m"]
        await m.state.commit([task(f"t{number}", "a") for number in range(1200)])
        box = Box(town, "m")
        await comes(lambda: box.worker.told)
        for number in range(1200):
            box.worker.becomes(f"t{number}", State.RUNNING)
        await comes(lambda: all(one.running for one in m.state.tasks.values()))
        told = [one for one in box.ends[0].sent if isinstance(one, Told)]
        assert sum(len(one.reports) for one in told) == 1200
        assert Beat() in box.ends[0].sent

    story("m", tell)
