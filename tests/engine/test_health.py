"""Health checks in a time that jumps: hours in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from fairlead.core.container import Config, Container, Health, Healthcheck
from fairlead.core.health import SECOND
from fairlead.core.life import ExecSpec
from fairlead.engine.events import Events
from fairlead.engine.health import Healths
from fairlead.errors import Internal


class _Jumping(selectors.SelectSelector):
    """Instead of waiting, moves the loop's clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


def in_jumping_time(story: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]) -> None:
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(story(loop))
    finally:
        loop.close()


class Patient:
    """A container whose probes end as the test wrote down: a code, an error, or seconds it hangs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *outcomes: Any) -> None:
        self.loop = loop
        self.outcomes = list(outcomes)
        self.seen: list[tuple[float, str, int]] = []
        self.events: list[str] = []
        self.done = asyncio.Event()

    async def probe(self, container: Container, spec: ExecSpec, largest: int) -> tuple[int, bytes]:
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
            return 0, b""
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, b"said"

    async def record(self, id: str, health: Health) -> None:
        self.seen.append((self.loop.time(), health.status, health.failing_streak))
        self.last = health

    async def live(self, **check: Any) -> None:
        box = Container(
            id="c", name="c", created="", config=Config(healthcheck=Healthcheck(test=("CMD", "x"), **check))
        )
        events = Events(lambda: 0)
        events.publish = lambda kind, action, id, attributes=None: self.events.append(action)
        async with asyncio.TaskGroup() as tasks:
            healths = Healths(self.probe, self.record, events, lambda: "now", tasks)
            assert healths.begin(box) == Health()
            await self.done.wait()
            healths.end("c")
            assert healths.begin(Container(id="d", name="d", created="")) is None


def test_failing_and_healing() -> None:
    async def story(loop: asyncio.AbstractEventLoop) -> None:
        patient = Patient(loop, 0, 1, 1, 1, 0)
        await patient.live(interval=10 * SECOND)
        assert patient.seen == [
            (10, "healthy", 0), (20, "healthy", 1), (30, "healthy", 2), (40, "unhealthy", 3), (50, "healthy", 0),
        ]  # fmt: skip
        assert patient.events == [f"health_status: {status}" for status in ("healthy", "unhealthy", "healthy")]

    in_jumping_time(story)


def test_the_start_period_forgives_and_looks_more_often() -> None:
    async def story(loop: asyncio.AbstractEventLoop) -> None:
        patient = Patient(loop, 1, 1, 1, 1)
        await patient.live(interval=60 * SECOND, start_period=15 * SECOND, retries=1)
        assert patient.seen == [(5, "starting", 0), (10, "starting", 0), (15, "unhealthy", 1), (75, "unhealthy", 2)]

    in_jumping_time(story)


def test_a_probe_that_hangs_or_cannot_run_has_failed() -> None:
    async def story(loop: asyncio.AbstractEventLoop) -> None:
        patient = Patient(loop, 99.0, Internal("no"))
        await patient.live(interval=SECOND, timeout=2 * SECOND, retries=2)
        assert patient.seen == [(3, "starting", 1), (4, "unhealthy", 2)]
        assert [probe.output for probe in patient.last.log] == ["Health check exceeded timeout (2s)", "no"]
        assert {probe.exit_code for probe in patient.last.log} == {-1}

    in_jumping_time(story)
