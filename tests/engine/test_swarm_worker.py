"""Tasks on a node, real containers over a runtime of paper: every state, in order, and what comes after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from paper import Paper, PaperDisk, engine
from runtimes import PaperRuntime

from fairlead.core.cluster import Attachment, Description, NodeSpec, Report, State, Task, TaskStatus
from fairlead.core.cluster import Node as Machine
from fairlead.core.container import Config, Container, Health, Healthcheck, HostConfig
from fairlead.core.imagespec import Credentials
from fairlead.core.model import EndpointSettings, Network, ServicePart
from fairlead.core.service import ContainerSpec, FileTarget, SecretReference, TaskSpec
from fairlead.core.session import Assign, ServiceView
from fairlead.core.swarmspec import FileSpec, Secret, SharedNetwork
from fairlead.engine.containers import Containers
from fairlead.engine.logs import LogWishes
from fairlead.errors import FairleadError, Internal, NotFound, Unavailable
from fairlead.swarm.servicelogs import LogRequest
from fairlead.swarm.worker import Worker

WEB = ServiceView("s", "web")


@dataclass
class Disk(PaperDisk):
    """Creation, images and a registry besides."""

    ids: Any = field(default_factory=lambda: count(1))
    images: set[str] = field(default_factory=lambda: {"busybox:latest"})
    registry: set[str] = field(default_factory=set)
    pulls: list[str] = field(default_factory=list)
    slow: asyncio.Event | None = None
    """a pull waits for it"""
    health: Health | None = None
    """of containers with a check, when they start"""

    async def settle(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings], platform: str
    ) -> tuple[Container, list[str]]:
        if config.image not in self.images:
            raise NotFound(f"No such image: {config.image}")
        self.paper.catalog.check_name(name)
        id = hashlib.sha256(str(next(self.ids)).encode()).hexdigest()
        host = replace(host, network_mode=host.network_mode or "none")
        made = Container(id=id, name=name, created="", config=config, host=host, networks=networks)
        return made, []

    def find(self, image: str) -> object:
        return image if image in self.images else None

    async def pull(self, image: str, credentials: Credentials) -> AsyncIterator[dict[str, str]]:
        self.pulls.append(image)
        self.asked_by = credentials
        if self.slow is not None:
            await self.slow.wait()
        if image not in self.registry:
            raise Unavailable("the registry is away")
        self.images.add(image)
        yield {}

    def begin(self, container: Container) -> Health | None:
        return self.health if container.config.healthcheck else None


class PaperGround:
    """Who serves; ``missing``: networks that are not here yet."""

    def __init__(self, story: list[str]) -> None:
        self.story, self.missing = story, set[str]()
        self.seen: list[tuple[str, int]] = []
        """how a task is to be seen, as it was told: policy, weight"""

    async def assign(self, assign: Assign) -> None: ...

    async def ready(self, networks: Iterable[str]) -> None:
        if self.missing.intersection(networks):
            raise Unavailable("the network is not here yet")

    async def serve(self, container: str) -> None:
        self.story.append("serve")

    async def withdraw(self, container: str) -> None:
        self.story.append("withdraw")

    async def label(self, container: str, parts: Mapping[str, ServicePart]) -> None:
        self.seen += [(part.policy, part.weight) for part in parts.values()]


class PaperFiles:
    def __init__(self) -> None:
        self.written: dict[str, list[tuple[bytes, int, int, int]]] = {}

    def write(self, task: str, files: Iterable[tuple[bytes, int, int, int]]) -> list[str]:
        self.written[task] = list(files)
        return [f"/files/{task}/{number}" for number in range(len(self.written[task]))]

    def remove(self, task: str) -> None:
        self.written.pop(task, None)

    def close(self) -> None:
        self.closed = True


class Node:
    """A machine with its worker; ``boot`` begins the engine's part anew over what is remembered."""

    def __init__(self, paper: Paper, group: asyncio.TaskGroup) -> None:
        self.paper, self.group, self.runtime, self.disk = paper, group, PaperRuntime(), Disk(paper)
        self.story: list[str] = []
        self.ground, self.files = PaperGround(self.story), PaperFiles()
        self.told: dict[str, list[TaskStatus]] = {}
        self.times = count(1000)
        parts: Any = (self.disk, paper.controller, paper.attachments, self.disk, self.disk, self.runtime, self.disk)
        self.containers = Containers(paper.catalog, *parts, paper.events, lambda: "2026-01-01T00:00:00Z", group)
        stop, self.runtime.kill = self.runtime.kill, self._kill  # type: ignore[method-assign]
        self._stop = stop
        self.stubborn = False

    async def _kill(self, id: str, signal: int) -> None:
        self.story.append(f"signal {signal}")
        if signal == 9 or not self.stubborn:
            self.runtime.end(id, 0 if signal == 15 else 128 + signal)

    def boot(self) -> None:
        logs = SimpleNamespace(read=self._read)
        parts = SimpleNamespace(
            containers=self.containers, images=self.disk, transfers=self.disk, logs=logs, events=self.paper.events
        )
        self.worker = Worker(
            "node1", parts, self.ground, self.files, self.paper.store, lambda: Description("box"), self.times.__next__
        )
        self.running = self.group.create_task(self.worker.run(self._hear))

    async def crash(self) -> None:
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def _read(self, container: Container, wishes: LogWishes) -> AsyncIterator[Any]:
        yield SimpleNamespace(stream=1, time=5, text=b"hello\n")

    def _hear(self, report: Report) -> None:
        self.told.setdefault(report.id, []).append(report.status)

    async def bury(self) -> None:
        async for end in self.runtime.exits():
            self.group.create_task(self.containers.ended(end))

    async def assign(self, *tasks: Task, whole: bool = False, drop: tuple[tuple[str, str], ...] = ()) -> None:
        await self.worker.assign(Assign(whole=whole, tasks=tasks, services=(WEB,), drop=drop))

    def states(self, id: str = "t1") -> list[str]:
        return [status.state.text for status in self.told.get(id, [])]

    def last(self, id: str = "t1") -> TaskStatus:
        return self.told[id][-1]

    async def comes(self, state: str, id: str = "t1") -> TaskStatus:
        async with asyncio.timeout(10):
            while id not in self.told or self.last(id).state.text != state:
                await asyncio.sleep(0.002)
        return self.last(id)

    @property
    def container(self) -> Container:
        (found,) = self.paper.catalog
        return found


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with asyncio.TaskGroup() as group:
        made = Node(engine(tmp_path / "paper"), group)
        burying = group.create_task(made.bury())
        made.boot()
        yield made
        made.running.cancel()
        burying.cancel()


def task(id: str = "t1", desired: State = State.RUNNING, image: str = "busybox:latest", **spec: Any) -> Task:
    template = TaskSpec(container_spec=ContainerSpec(image=image, **spec))
    return Task(id, template, service="s", slot=1, node="node1", desired=desired, status=TaskStatus(State.ASSIGNED))


ALIVE = ["accepted", "preparing", "ready", "starting", "running"]


async def test_a_life_that_ends_well(node: Node) -> None:
    await node.assign(task())
    status = await node.comes("running")
    assert node.states() == ALIVE
    assert [one.message for one in node.told["t1"]] == ["accepted", "preparing", "prepared", "starting", "started"]
    assert (status.container_id, status.pid) == (node.container.id, 1)
    assert node.container.name == "web.1.t1"
    assert node.container.config.labels["com.docker.swarm.task.id"] == "t1"
    assert node.story == ["serve"]
    node.runtime.end(node.container.id, 0)
    assert (await node.comes("complete")).message == "finished"


async def test_an_end_that_is_a_failure(node: Node) -> None:
    await node.assign(task())
    await node.comes("running")
    node.runtime.end(node.container.id, 3)
    status = await node.comes("failed")
    assert (status.error, status.message, status.exit_code) == ("task: non-zero exit (3)", "started", 3)
    assert len(list(node.paper.catalog)) == 1, "it stays, for its logs"
    await node.assign(drop=(("tasks", "t1"),))
    await gone(node)


async def gone(node: Node) -> None:
    async with asyncio.timeout(10):
        while list(node.paper.catalog) or list(node.worker.reports()):
            await asyncio.sleep(0.002)


async def test_what_cannot_be_had_is_rejected(node: Node) -> None:
    await node.assign(task(image="nothing:latest"))
    status = await node.comes("rejected")
    assert (status.error, status.message) == ("No such image: nothing:latest", "preparing")
    await node.assign(task("t2", env=("A={{.Nobody}}",)))
    assert "Nobody" in (await node.comes("rejected", "t2")).error


async def test_what_cannot_start_has_failed(node: Node) -> None:
    async def refuse(*words: Any, **more: Any) -> int:
        raise FairleadError("no such program")

    node.runtime.create = refuse  # type: ignore[method-assign]
    await node.assign(task())
    status = await node.comes("failed")
    assert (status.error, status.message) == ("starting container failed: no such program", "starting")


async def test_an_image_is_pulled_once_for_all_that_want_it(node: Node) -> None:
    node.disk.registry.add("new:1")
    node.disk.slow = asyncio.Event()
    await node.assign(*(replace(task(f"t{number}", image="new:1"), slot=number) for number in range(5)))
    await node.comes("preparing", "t4")
    node.disk.slow.set()
    for number in range(5):
        await node.comes("running", f"t{number}")
    assert node.disk.pulls == ["new:1"]


async def test_a_registry_is_told_who_asks_and_no_disk_is(node: Node) -> None:
    me = Credentials("me", "hush")
    one = task()
    await node.assign(replace(one, spec=replace(one.spec, registry=me)))
    await node.comes("running")
    assert node.disk.asked_by == me
    records = await node.paper.store.list("swarmtasks/")
    assert records and not [entry for entry in records if b"hush" in entry.value]


async def test_a_registry_that_is_away_is_asked_once_for_an_image_that_is_here(node: Node) -> None:
    for number in range(3):
        await node.assign(replace(task(f"t{number}"), slot=number))
        await node.comes("running", f"t{number}")
    assert node.disk.pulls == ["busybox:latest"]


async def test_it_waits_until_it_is_wanted(node: Node) -> None:
    await node.assign(task(desired=State.READY))
    await node.comes("ready")
    await asyncio.sleep(0.05)
    assert node.states()[-1] == "ready" and not node.runtime.started
    await node.assign(task())
    await node.assign(task(desired=State.READY))  # from a manager that is behind
    await node.comes("running")


async def test_stopped_it_is_withdrawn_first_and_killed_after_its_grace(node: Node) -> None:
    node.stubborn = True
    await node.assign(task(stop_grace_period=0))
    await node.comes("running")
    await node.assign(task(desired=State.SHUTDOWN, stop_grace_period=0))
    status = await node.comes("shutdown")
    assert (status.message, status.exit_code) == ("shutdown", 137)
    assert node.story == ["serve", "withdraw", "signal 15", "signal 9"]
    await node.assign(task())
    await asyncio.sleep(0.05)
    assert node.last().state == State.SHUTDOWN, "states only move forward"


async def test_stopped_while_it_pulls(node: Node) -> None:
    node.disk.slow = asyncio.Event()
    await node.assign(task(image="huge:1"))
    await node.comes("preparing")
    await node.assign(task(image="huge:1", desired=State.SHUTDOWN))
    await node.comes("shutdown")
    assert not list(node.paper.catalog)


async def test_what_ended_is_never_started(node: Node) -> None:
    """A manager tells of a task that failed before this node forgot everything."""
    await node.assign(replace(task(), status=TaskStatus(State.FAILED)), replace(task("t2"), desired=State.SHUTDOWN))
    await node.comes("shutdown", "t2")
    assert "t1" not in node.told and not list(node.paper.catalog)


CHECK = Healthcheck(test=("CMD", "true"))


async def becomes(node: Node, status: str) -> None:
    await node.containers.record_health(node.container.id, Health(status))
    node.paper.events.publish("container", f"health_status: {status}", node.container.id)


async def test_it_serves_when_it_is_healthy(node: Node) -> None:
    node.disk.health = Health()
    await node.assign(task(health_check=CHECK))
    await node.comes("starting")
    await asyncio.sleep(0.05)
    assert node.states()[-1] == "starting" and node.story == []
    await becomes(node, "healthy")
    await node.comes("running")
    assert node.story == ["serve"]
    await becomes(node, "unhealthy")
    status = await node.comes("failed")
    assert (status.error, status.message) == ("dockerexec: unhealthy container", "started")
    assert node.story == ["serve", "withdraw", "signal 15"]


async def test_it_never_becomes_healthy(node: Node) -> None:
    node.disk.health, node.stubborn = Health(), True
    await node.assign(task(health_check=CHECK, stop_grace_period=0))
    await node.comes("starting")
    await asyncio.sleep(0.05)
    await becomes(node, "unhealthy")
    status = await node.comes("failed")
    assert status.error == "task: non-zero exit (137): dockerexec: unhealthy container"
    assert status.message == "starting"


async def test_a_user_may_kill_or_remove_it(node: Node) -> None:
    await node.assign(task())
    await node.comes("running")
    await node.containers.remove(node.container.id, force=True)
    assert (await node.comes("failed")).error == "task: non-zero exit (137)"
    await node.assign(drop=(("tasks", "t1"),))
    await gone(node)


async def test_a_network_that_is_not_here_yet_is_waited_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.swarm.tasks.PAUSE", 0.01)
    node.ground.missing.add("n")
    await node.assign(replace(task(), networks=(Attachment("n"),)))
    async with asyncio.timeout(10):
        while not (node.told.get("t1") and node.last().error):
            await asyncio.sleep(0.002)
    assert (node.last().state, node.last().error) == (State.PREPARING, "the network is not here yet")
    await node.assign(task(desired=State.SHUTDOWN))
    await node.comes("shutdown")


async def test_secrets_are_files_that_go_with_the_task(node: Node) -> None:
    reference = SecretReference(FileTarget("pw", "5", "6", 0o400), "id1", "pw")
    assign = Assign(
        tasks=(task(secrets=(reference,)),), services=(WEB,), secrets=(Secret("id1", FileSpec("pw", data=b"x")),)
    )
    await node.worker.assign(assign)
    await node.comes("running")
    assert node.files.written == {"t1": [(b"x", 5, 6, 0o400)]}
    assert node.container.host.mounts == (
        {"Type": "bind", "Source": "/files/t1/0", "Target": "/run/secrets/pw", "ReadOnly": True},
    )
    await node.assign(drop=(("tasks", "t1"), ("secrets", "id1")))
    await gone(node)
    assert node.files.written == {}


# -- the engine comes back ---------------------------------------------------------------------------------------------


async def test_what_runs_goes_on_while_the_engine_is_away(node: Node) -> None:
    await node.assign(task(), replace(task("t2"), slot=2))
    await node.comes("running")
    await node.comes("running", "t2")
    before = dict(node.told)
    await node.crash()
    first = next(c for c in node.paper.catalog if c.name == "web.1.t1")
    node.runtime.end(first.id, 4)
    node.boot()
    assert (await node.comes("failed")).error == "task: non-zero exit (4)"
    assert node.told["t2"] == before["t2"], "nothing new of it, and no manager was needed"
    assert len(node.runtime.started) == 2
    await node.assign(replace(task("t2"), desired=State.SHUTDOWN))
    await node.comes("shutdown", "t2")


@pytest.mark.parametrize("state", ["preparing", "ready", "starting", "running"])
async def test_a_crash_after_any_step_and_nothing_is_started_twice(node: Node, state: str) -> None:
    """The engine ends as soon as that state is told; the manager tells all again."""
    crashed = asyncio.Event()
    hear = node._hear

    def fall(report: Report) -> None:
        hear(report)
        if report.status.state.text == state and not crashed.is_set():
            crashed.set()
            node.running.cancel()

    node._hear = fall  # type: ignore[method-assign]
    await node.crash()
    node.boot()
    await node.assign(task())
    await asyncio.wait_for(crashed.wait(), 5)
    await node.crash()
    node.boot()
    await node.assign(task(), whole=True)
    if state != "running":
        await node.comes("running")
    await asyncio.sleep(0.05)
    assert node.states() == ALIVE and len(node.runtime.started) == 1 and len(list(node.paper.catalog)) == 1


async def test_a_crash_between_making_a_container_and_noting_it(node: Node) -> None:
    await node.assign(task(desired=State.READY))
    await node.comes("ready")
    await node.crash()
    record = replace(task(), status=TaskStatus(State.PREPARING, message="preparing"))
    await node.worker._records.put(record)
    node.boot()
    await node.assign(task(), whole=True)
    await node.comes("running")
    assert len(list(node.paper.catalog)) == 1


async def test_a_disk_that_is_full_for_a_while(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.swarm.tasks.PAUSE", 0.01)
    await node.assign(task())
    await node.comes("running")
    put, full = node.paper.store.put_if, [Internal("the disk is full")] * 5

    async def refuse(key: str, *words: Any, **more: Any) -> int:
        if key.startswith("swarmtasks") and full:
            raise full.pop()
        return await put(key, *words, **more)

    monkeypatch.setattr(node.paper.store, "put_if", refuse)
    await node.assign(task(desired=State.SHUTDOWN))
    assert (await node.comes("shutdown")).message == "shutdown"
    assert not full and node.states() == [*ALIVE, "shutdown"]


async def test_a_disk_that_is_full_when_a_task_comes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have room for it."""
    put = node.paper.store.put_if

    async def refuse(key: str, *words: Any, **more: Any) -> int:
        if key.startswith("swarmtasks"):
            raise Internal("the disk is full")
        return await put(key, *words, **more)

    monkeypatch.setattr(node.paper.store, "put_if", refuse)
    await node.assign(task())
    assert (await node.comes("rejected")).error == "the disk is full"


async def test_a_container_of_that_name_that_is_somebody_elses(node: Node) -> None:
    await node.containers.create("web.1.t1", Config(image="busybox:latest"), HostConfig(), {})
    await node.assign(task())
    assert "already in use" in (await node.comes("rejected")).error
    await node.assign(drop=(("tasks", "t1"),))
    await asyncio.sleep(0.05)
    assert node.container.name == "web.1.t1"


async def test_labels_of_service_and_node_reach_tasks_that_run(node: Node) -> None:
    net = SharedNetwork("n", Network("n", "net", ""))
    await node.assign(task())
    await node.comes("running")
    one = replace(task(), networks=(Attachment("n", ("10.0.1.7/24",)),))
    await node.worker.assign(Assign(whole=True, tasks=(one,), services=(WEB,), networks=(net,)))
    node.worker.heed(Machine("node1", NodeSpec(labels={"fairlead.weight": "3"})))
    async with asyncio.timeout(10):
        while node.ground.seen[-1:] != [("", 3)]:
            await asyncio.sleep(0.002)
    await node.worker.assign(Assign(services=(replace(WEB, labels={"fairlead.policy": "source"}),)))
    assert node.ground.seen[-1] == ("source", 3)
    told = len(node.ground.seen)
    await node.worker.assign(Assign(services=(replace(WEB, id="other"),)))
    assert len(node.ground.seen) == told


async def test_what_a_whole_assignment_does_not_mention_goes(node: Node) -> None:
    await node.assign(task(), replace(task("t2"), slot=2))
    await node.comes("running")
    await node.comes("running", "t2")
    await node.crash()
    node.boot()
    await node.assign(replace(task("t2"), slot=2), whole=True)
    async with asyncio.timeout(10):
        while len(list(node.paper.catalog)) > 1:
            await asyncio.sleep(0.002)
    assert node.container.name == "web.2.t2" and node.container.state.running


async def test_who_leaves_leaves_nothing(node: Node) -> None:
    node.stubborn = True
    await node.assign(task(), replace(task("t2"), slot=2))
    await node.comes("running", "t2")
    await asyncio.wait_for(node.worker.leave(), 5)
    assert not list(node.paper.catalog) and not list(node.worker.reports()) and node.files.closed


async def test_logs_are_told_to_managers(node: Node) -> None:
    await node.assign(task())
    await node.comes("running")
    body = msgspec.Raw(msgspec.json.encode(LogRequest("t1", LogWishes())))
    assert [chunk.lines async for chunk in node.worker.logs(body)] == [[(1, 5, b"hello\n")]]
    with pytest.raises(NotFound):
        await anext(node.worker.logs(msgspec.Raw(msgspec.json.encode(LogRequest("t9", LogWishes())))))
