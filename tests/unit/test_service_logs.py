"""Logs of services: fetched from many nodes, told whose they are; what is missing is said, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from fairlead.core.cluster import State, Task, TaskStatus
from fairlead.core.service import TaskSpec
from fairlead.engine.logs import LogWishes
from fairlead.errors import NotFound, Unavailable
from fairlead.swarm.servicelogs import Chunk, LogRequest, ServiceLogs, details
from fairlead.swarm.state import Event


def task(id: str, node: str = "n1", state: State = State.RUNNING, service: str = "s") -> Task:
    return Task(id, TaskSpec(), service, 1, node, status=TaskStatus(state))


class Town:
    """Nodes that answer; ``more``: what a node says after its first line, while somebody listens."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = list(tasks)
        self.asked: list[LogRequest] = []
        self.ears: list[Callable[[Event], None]] = []
        self.trouble: dict[str, Exception] = {}
        self.logs = ServiceLogs(lambda: self.tasks, self.ask, self.hear)

    async def ask(self, node: str, verb: str, body: Any) -> AsyncIterator[msgspec.Raw]:
        self.asked.append(body)
        if node in self.trouble:
            raise self.trouble[node]
        yield msgspec.Raw(msgspec.json.encode(Chunk("k=v", [(1, 5, f"{body.task}\n".encode())])))
        if body.wishes.follow:
            await asyncio.Event().wait()

    def hear(self, ear: Callable[[Event], None]) -> Callable[[], None]:
        self.ears.append(ear)
        return lambda: self.ears.remove(ear)


def of_s(task: Task) -> bool:
    return task.service == "s"


async def test_all_tasks_of_a_service_and_no_others() -> None:
    town = Town(task("t1"), task("t2", "n2", State.FAILED), task("t3", service="other"), task("t4", state=State.READY))
    said = [line async for line in town.logs.read(of_s, LogWishes(tail=3))]
    assert sorted(line.line.text for line in said) == [b"t1\n", b"t2\n"]
    assert (
        said[0].details == "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s,com.docker.swarm.task.id=t1,k=v"
    )
    assert all(one.wishes.tail == 3 for one in town.asked)


async def test_what_is_missing_is_said_after_the_rest() -> None:
    town = Town(task("t1"), task("t2", "away"), task("t3", "empty"))
    town.trouble = {"away": Unavailable("node away is not connected"), "empty": NotFound("no container")}
    said = []
    with pytest.raises(Unavailable, match=r"^warning: incomplete log stream.*: node away is not connected$"):
        async for line in town.logs.read(of_s, LogWishes()):
            said.append(line.task.id)
    assert said == ["t1"]


async def test_those_that_start_later_are_followed_too_and_nobody_is_asked_twice() -> None:
    town = Town(task("t1"))
    lines = town.logs.read(of_s, LogWishes(follow=True))
    assert (await anext(lines)).task.id == "t1"
    for state in (State.READY, State.STARTING, State.RUNNING):
        for ear in town.ears:
            ear(Event("tasks", None, task("t2", state=state)))
            ear(Event("tasks", None, task("t1", state=state)))
    assert (await anext(lines)).task.id == "t2"
    assert len(town.asked) == 2
    await lines.aclose()
    assert not town.ears


def test_details_without_any_of_the_container() -> None:
    assert details(task("t1")).startswith("com.docker.swarm.node.id=n1,")
