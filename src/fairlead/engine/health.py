"""Health checks: probe containers that say how, and remember what came of it.

    started ──> wait ──> probe (an exec) ──> core.health.step ──> record, tell ──┐
                 ^                                                               │
                 └───────────────────────────────────────────────────────────────┘

Rules
    1. One probe at a time a container; the next wait begins when a probe ended.
    2. A probe that takes longer than its timeout is ended and has failed.
    3. It stops with the container, and never ends the engine: a probe that
       cannot be made is a failed one.

Time is the loop's: a loop whose clock jumps makes hours of checks a test of milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairlead.core import health as rules
from fairlead.core.container import Container, Health, Healthcheck, HealthProbe
from fairlead.core.life import ExecSpec
from fairlead.engine.events import Events, facts
from fairlead.errors import FairleadError

Probe = Callable[[Container, ExecSpec, int], Awaitable[tuple[int, bytes]]]
"""Run a program in a container: exit code and at most so many bytes (``Execs.run``)."""


class Healths:
    """The health of all containers that run."""

    def __init__(
        self,
        probe: Probe,
        record: Callable[[str, Health], Awaitable[None]],
        events: Events,
        now: Callable[[], str],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._probe = probe
        self._record = record
        self._events = events
        self._now = now
        self._tasks = tasks
        self._watches: dict[str, asyncio.Task[None]] = {}

    def begin(self, container: Container) -> Health | None:
        """It runs (again). Its health now, None if it has no check; probes follow."""
        self.end(container.id)
        check = container.config.healthcheck
        words = rules.command(check, container.config.shell)
        if check is None or words is None:
            return None
        health = container.state.health or Health()
        self._watches[container.id] = self._tasks.create_task(self._watch(container, check, words, health))
        return health

    def end(self, id: str) -> None:
        """It does not run any more."""
        watch = self._watches.pop(id, None)
        if watch is not None:
            watch.cancel()

    async def _watch(self, container: Container, check: Healthcheck, words: tuple[str, ...], health: Health) -> None:
        loop = asyncio.get_running_loop()
        born = loop.time()

        def age() -> int:
            return int((loop.time() - born) * rules.SECOND)

        while True:
            await asyncio.sleep(rules.wait(check, health, age()) / rules.SECOND)
            asked = age()
            probe = await self._ask(container, check, words)
            before, health = health.status, rules.step(check, health, probe, asked)
            await self._record(container.id, health)
            if health.status != before:
                self._events.publish("container", f"health_status: {health.status}", container.id, facts(container))

    async def _ask(self, container: Container, check: Healthcheck, words: tuple[str, ...]) -> HealthProbe:
        begun = self._now()
        seconds = (check.timeout or rules.TIMEOUT) / rules.SECOND
        try:
            async with asyncio.timeout(seconds):
                code, output = await self._probe(container, ExecSpec(words), rules.LARGEST)
            said = output.decode(errors="replace")
        except TimeoutError:
            code, said = rules.TIMED_OUT, f"Health check exceeded timeout ({_seconds(seconds)})"
        except FairleadError as error:
            code, said = rules.TIMED_OUT, error.message
        return HealthProbe(begun, self._now(), code, said)


def _seconds(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
