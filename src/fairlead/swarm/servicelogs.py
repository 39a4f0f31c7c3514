"""Service logs: what the tasks of a service said, fetched from the nodes that have them.

    tasks(service) --call "logs"--> their nodes --Chunk ...--> one stream, line by line, with whose each line is

Rules
    1. Lines of one task come in order; those of different tasks as they arrive. ``tail`` counts for each task.
    2. With ``follow`` tasks that start later join in.
    3. What cannot be had does not hold up the rest; at the end it is said, as ``Unavailable``.

What it does not do: put a frame around lines (``api``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec

from fairlead.core.cluster import State, Task
from fairlead.core.loglines import LogLine
from fairlead.engine.logs import LogWishes
from fairlead.engine.swarm import ServiceLine
from fairlead.errors import FairleadError, NotFound, Unavailable
from fairlead.swarm.state import Event

log = logging.getLogger(__name__)

VERB = "logs"
AHEAD = 256
"""lines that wait to be read"""
INCOMPLETE = (
    "warning: incomplete log stream. some logs could not be retrieved for the following reasons: {}"  # Docker's words
)

Ask = Callable[[str, str, Any], AsyncIterator[msgspec.Raw]]
"""(node, verb, body) -> its answers (``Dispatcher.call``)."""
Hear = Callable[[Callable[[Event], None]], Callable[[], None]]
"""Have a function told of every event of the state; what is returned ends that (``Manager.hear``)."""


class LogRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node is asked: ``engine.logs.LogWishes`` of one task."""

    task: str
    wishes: LogWishes


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some lines. ``details``: what ``--details`` shows of the container."""

    details: str
    lines: list[tuple[int, int, bytes]]


class ServiceLogs:
    """Of a manager. ``tasks()``: all that there are."""

    def __init__(self, tasks: Callable[[], Iterable[Task]], ask: Ask, hear: Hear) -> None:
        self._tasks, self._ask, self._hear = tasks, ask, hear

    async def read(self, belongs: Callable[[Task], bool], wishes: LogWishes) -> AsyncIterator[ServiceLine]:
        """Lines of the tasks that belong; with ``follow`` also of those that come later, until closed."""
        reading = Reading(self._ask, wishes)

        def heard(event: Event) -> None:
            if event.kind == "tasks" and event.after is not None and belongs(event.after):
                reading.add(event.after)

        deaf = self._hear(heard) if wishes.follow else None
        try:
            for task in sorted(filter(belongs, self._tasks()), key=lambda task: (task.slot, task.created)):
                reading.add(task)
            while wishes.follow or reading.busy:
                line = await reading.lines.get()
                if line is not None:
                    yield line
            if reading.missing:
                raise Unavailable(INCOMPLETE.format(", ".join(sorted(set(reading.missing)))))
        finally:
            if deaf is not None:
                deaf()
            await reading.close()


class Reading:
    """One stream of lines: a reader for each task that has begun."""

    def __init__(self, ask: Ask, wishes: LogWishes) -> None:
        self._ask, self._wishes = ask, wishes
        self.lines: asyncio.Queue[ServiceLine | None] = asyncio.Queue(AHEAD)
        """None: a reader has come to its end"""
        self.missing: list[str] = []
        self._readers: dict[str, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        return not self.lines.empty() or not all(reader.done() for reader in self._readers.values())

    def add(self, task: Task) -> None:
        """Once, when there is something to read."""
        if task.id not in self._readers and task.node and task.status.state >= State.STARTING:
            self._readers[task.id] = asyncio.ensure_future(self._read(task))

    async def _read(self, task: Task) -> None:
        try:
            asked = LogRequest(task.id, self._wishes)
            async with aclosing(self._ask(task.node, VERB, asked)) as replies:  # type: ignore[type-var]
                async for reply in replies:
                    chunk = msgspec.json.decode(reply, type=Chunk)
                    told = details(task, chunk.details)
                    for line in chunk.lines:
                        await self.lines.put(ServiceLine(task, LogLine(*line), told))
        except NotFound as error:
            log.debug("%s", error.message)  # it never had a container, or has none any more
        except FairleadError as error:
            self.missing.append(error.message)
        await self.lines.put(None)

    async def close(self) -> None:
        for reader in self._readers.values():
            reader.cancel()
        await asyncio.gather(*self._readers.values(), return_exceptions=True)


def details(task: Task, own: str = "") -> str:
    """Whose line it is, in the words by which ``docker service logs`` finds out, and what its container adds."""
    ours = [f"com.docker.swarm.{key}={id}" for key, id in _ids(task)]
    return ",".join(sorted([*filter(None, own.split(",")), *ours]))


def _ids(task: Task) -> list[tuple[str, str]]:
    return [("node.id", task.node), ("service.id", task.service), ("task.id", task.id)]
