"""The worker: all tasks of this node, from what managers assign and from what was going on before the engine's restart.

    Assign --> networks, services (``Ground``)     first: tasks name them
           --> secrets, configs                    in memory only
           --> tasks --> a course each (``tasks``) --> records, and told to a manager

    swarmtasks/<id>      a task with its status, as it was told last

Rules
    1. What runs goes on without a manager, and while the engine is away: at the start every task that had a container
       is taken up where it was. One that had none yet waits to be assigned again.
    2. What a whole assignment does not mention is not wanted any more.
    3. A secret that nothing here needs is forgotten when the manager says so.

What it does not do: talk to managers (``agent``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from fairlead.core.cluster import Description, Node, NodeSpec, Report, State, Task
from fairlead.core.imagespec import Credentials
from fairlead.core.loglines import LogLine, attributes
from fairlead.core.model import ServicePart
from fairlead.core.session import Assign, ServiceView
from fairlead.core.swarmspec import ConfigFile, Secret, SharedNetwork
from fairlead.engine.containers import Containers
from fairlead.engine.events import Event, Events
from fairlead.engine.images import Images
from fairlead.engine.logs import Logs
from fairlead.engine.records import Records
from fairlead.engine.transfers import Transfers
from fairlead.errors import FairleadError, NotFound, Unavailable
from fairlead.store.base import Store
from fairlead.swarm.servicelogs import Chunk, LogRequest
from fairlead.swarm.tasks import Course, Files, Ground, Hands
from fairlead.swarm.taskspec import Around, parts

log = logging.getLogger(__name__)

RECORDS = "swarmtasks"
AT_ONCE = 8
"""containers that are being started"""
REFUSED = 60_000_000_000
"""nanoseconds for which a registry that could not be asked is left alone"""
LINES = 256
"""of a log, in one message"""


class Terrain(Ground, Protocol):
    """``swarm.shared``: told of every assignment before its tasks are."""

    async def assign(self, assign: Assign) -> None:
        """Networks that this node is to have. What it takes may be done later."""

    async def label(self, container: str, parts: Mapping[str, ServicePart]) -> None:
        """A task is to be seen so, by network; whether it serves stays as it is."""


class Engine(Protocol):
    """The parts of ``engine.engine.Engine`` that tasks need."""

    @property
    def containers(self) -> Containers: ...

    @property
    def images(self) -> Images: ...

    @property
    def transfers(self) -> Transfers: ...

    @property
    def logs(self) -> Logs: ...

    @property
    def events(self) -> Events: ...


class Worker:
    """``describe``: what this node says of itself; ``me``: its id. ``store``: the engine's own, local one."""

    def __init__(
        self,
        me: str,
        engine: Engine,
        ground: Terrain,
        files: Files,
        store: Store,
        describe: Callable[[], Description],
        clock: Callable[[], int],
    ) -> None:
        self._me, self._engine, self._ground, self._describe = me, engine, ground, describe
        self._records = Records(store, RECORDS, Task)
        turn = asyncio.Semaphore(AT_ONCE)
        self._hands = Hands(engine.containers, engine.images, self._pull, files, ground, clock, turn)
        self._courses: dict[str, Course] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._services: dict[str, ServiceView] = {}
        self._labels: dict[str, str] | None = None
        """of this node; None: no manager told yet"""
        self._labelled = asyncio.Event()
        self._networks: dict[str, SharedNetwork] = {}
        self._secrets: dict[str, Secret] = {}
        self._configs: dict[str, ConfigFile] = {}
        self._tell: Callable[[Report], None] = lambda report: None
        self._group: asyncio.TaskGroup | None = None
        self._pulls: dict[tuple[str, Credentials], asyncio.Task[None]] = {}
        self.makes: dict[str, Callable[[], Awaitable[None]]] = {}
        """images that no registry has: this node makes them, or finds that they are as they would be"""
        self._refused: dict[str, int] = {}
        """when a registry last could not be asked for it"""
        self._taken_up = asyncio.Event()

    # -- life ----------------------------------------------------------------------------------------------

    async def run(self, tell: Callable[[Report], None]) -> None:
        """Until cancelled; containers go on."""
        self._tell = tell
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._listen())
            group.create_task(self._follow_labels())
            await self._records.load()
            for task in self._records:
                if task.status.state >= State.READY:
                    self._begin(task)
            self._taken_up.set()

    def _begin(self, task: Task) -> Course:
        course = self._courses[task.id] = Course(task, self._hands, self._around, self._note)
        assert self._group is not None, "run comes first"
        self._following[task.id] = self._group.create_task(self._follow(course))
        return course

    async def _follow(self, course: Course) -> None:
        await course.run()
        del self._courses[course.task.id], self._following[course.task.id]
        await self._records.drop(course.task.id)

    async def _listen(self) -> None:
        """How containers of tasks are is told to those who run them."""
        while True:
            async with aclosing(self._engine.events.stream(wants=_of_health)) as events:  # type: ignore[type-var]
                for course in self._courses.values():
                    course.pulse.set()
                async for event in events:
                    for course in self._courses.values():
                        if course.task.status.container_id == event.id:
                            course.pulse.set()

    async def leave(self) -> None:
        """No task is left, and nothing of what they had."""
        await self._taken_up.wait()
        for task in self._records:
            if task.id not in self._courses:
                await self._records.drop(task.id)
        async with asyncio.TaskGroup() as group:
            for course in list(self._courses.values()):
                group.create_task(self._end(course))
        await self._ground.assign(Assign(whole=True))
        self._hands.files.close()

    async def _end(self, course: Course) -> None:
        """At once: nobody waits for it."""
        container, ending = course.container, self._following[course.task.id]
        course.drop()
        if container is not None:
            with suppress(FairleadError):
                await self._engine.containers.remove(container.id, force=True, volumes=True)
        await asyncio.shield(ending)

    # -- what is told --------------------------------------------------------------------------------------

    async def assign(self, assign: Assign) -> None:
        await self._taken_up.wait()
        await self._ground.assign(assign)
        for kind, shelf in self._shelves().items():
            things = {thing.id: thing for thing in getattr(assign, kind)}
            if assign.whole:
                shelf.clear()
            shelf |= things
        for task in assign.tasks:
            await self._command(task)
        told = {task.id for task in assign.tasks}
        gone = [id for kind, id in assign.drop if kind == "tasks"]
        if assign.whole:
            gone = [id for id in (*self._courses, *(task.id for task in self._records)) if id not in told]
        for id in dict.fromkeys(gone):
            if id in self._courses:
                self._courses[id].drop()
            else:
                await self._records.drop(id)
        for kind, id in assign.drop:
            self._shelves().get(kind, {}).pop(id, None)
        await self._relabel({service.id for service in assign.services})

    def heed(self, node: Node) -> None:
        """This node, as a manager has it now."""
        if node.spec.labels != self._labels:
            self._labels = node.spec.labels
            self._labelled.set()

    async def _follow_labels(self) -> None:
        """Until cancelled."""
        while True:
            await self._labelled.wait()
            self._labelled.clear()
            await self._relabel()

    async def _relabel(self, services: Collection[str] | None = None) -> None:
        """What labels say of tasks that run already: of these services, or of all."""
        for course in list(self._courses.values()):
            container, task = course.container, course.task
            if self._labels is None or container is None or (services is not None and task.service not in services):
                continue
            try:
                await self._ground.label(container.id, parts(task, self._around(task)))
            except FairleadError as problem:
                log.info("task %s: its labels: %s", task.id, problem.message)

    def _shelves(self) -> dict[str, dict[str, Any]]:
        return {
            "services": self._services,
            "networks": self._networks,
            "secrets": self._secrets,
            "configs": self._configs,
        }

    async def _command(self, task: Task) -> None:
        course = self._courses.get(task.id)
        if course is not None:
            course.command(task)
            return
        known = self._records.get(task.id)
        course = self._begin(known if known is not None else task)
        course.command(task)

    async def _note(self, task: Task) -> None:
        """Written down, then told. That it came to nothing is told in any case: where the disk is full, others may do
        it."""
        try:
            await self._records.put(replace(task, spec=replace(task.spec, registry=None)))  # nothing secret on a disk
        except FairleadError as error:
            if task.status.state not in (State.REJECTED, State.FAILED):
                raise
            log.error("the end of task %s is not written down: %s", task.id, error.message)
        self._tell(_report(task))

    def reports(self) -> Iterable[Report]:
        return [_report(task) for task in self._records]

    def _around(self, task: Task) -> Around:
        service = self._services.get(task.service)
        if service is None:
            raise Unavailable(f"service {task.service} of the task is not known here yet")
        node = Node(self._me, NodeSpec(labels=self._labels or {}), description=self._describe())
        return Around(service, node, self._networks, self._secrets, self._configs)

    # -- images --------------------------------------------------------------------------------------------

    async def _pull(self, image: str, here: bool, who: Credentials) -> None:
        """One pull of an image at a time, for all tasks that want it; it goes on though one of them does not.

        ``here``: there is one, and a registry that could not be asked a moment ago is not waited for again.
        """
        if here and image in self._refused and self._hands.clock() < self._refused[image] + REFUSED:
            return
        key = image, who
        if key not in self._pulls:
            pull = self._pulls[key] = self._owned(self._pull_now(image, who))
            pull.add_done_callback(lambda _: self._pulls.pop(key))
        await asyncio.shield(self._pulls[key])

    def _owned(self, deed: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As a task that ends with ``run``; when that is about to end, whoever asks is ended, too."""
        assert self._group is not None, "run comes first"
        try:
            return self._group.create_task(deed)
        except RuntimeError:
            deed.close()
            raise asyncio.CancelledError from None

    async def _pull_now(self, image: str, who: Credentials) -> None:
        try:
            if image in self.makes:
                return await self.makes[image]()
            async for _ in self._engine.transfers.pull(image, credentials=who):
                pass
        except (FairleadError, OSError) as error:
            self._refused[image] = self._hands.clock()
            log.info("image %s cannot be pulled: %s", image, error)
        else:
            self._refused.pop(image, None)

    # -- logs ----------------------------------------------------------------------------------------------

    async def logs(self, body: msgspec.Raw) -> AsyncIterator[Any]:
        """A task's output, for managers (``servicelogs``)."""
        asked = msgspec.json.decode(body, type=LogRequest)
        course = self._courses.get(asked.task)
        container = course.container if course is not None else None
        if container is None:
            raise NotFound(f"task {asked.task} has no container on this node")
        lines = self._engine.logs.read(container, asked.wishes)
        details = attributes(container)
        async with aclosing(_gathered(lines, 1 if asked.wishes.follow else LINES)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield Chunk(details, [(line.stream, line.time, line.text) for line in chunk])


async def _gathered(lines: AsyncIterator[LogLine], most: int) -> AsyncIterator[list[LogLine]]:
    chunk: list[LogLine] = []
    async with aclosing(lines):  # type: ignore[type-var]
        async for line in lines:
            chunk.append(line)
            if len(chunk) >= most:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _of_health(event: Event) -> bool:
    return event.kind == "container" and event.action.startswith("health_status")


def _report(task: Task) -> Report:
    return Report(task.id, task.status, task.ran)
