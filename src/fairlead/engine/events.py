"""Events: one stream of facts about what happened, for people, programs and tests.

    somebody ---- publish(...) ----> the last 256 ----> every open stream

Rules
    1. Publishing never waits and never fails: a fact is a fact.
    2. A stream gets each event once, in order: the remembered ones its ``since``
       asks for, then the live ones until ``until`` (or for ever).
    3. A stream that does not read loses nothing, but no more than ``BACKLOG`` are
       kept for it: then it is ended, so that a hung client cannot eat the memory.

Words and shapes are Docker's: kind ``container network image volume daemon``
(and of a swarm ``service node secret config``), actions as in ``docker events``.
Ours besides: kind ``fairlead``, action ``repair``, for every kernel object we had
to put right.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from fairlead.core.container import Container

REMEMBERED = 256
BACKLOG = 4096


class Event(msgspec.Struct, frozen=True):
    """One fact. ``time`` in nanoseconds since the epoch; ``id`` of the thing it happened to."""

    kind: str
    action: str
    id: str
    time: int
    attributes: dict[str, str] = {}
    scope: str = "local"


def facts(container: Container) -> dict[str, str]:
    """What every event of a container tells."""
    return {**(container.config.labels or {}), "image": container.config.image, "name": container.name}


class Events:
    """The stream. ``clock`` gives nanoseconds since the epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._last: deque[Event] = deque(maxlen=REMEMBERED)
        self._streams: set[asyncio.Queue[Event | None]] = set()

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def publish(
        self, kind: str, action: str, id: str, attributes: Mapping[str, str] | None = None, scope: str = "local"
    ) -> None:
        """``scope``: swarm for what concerns all nodes, and is told by each manager."""
        event = Event(kind, action, id, self._clock(), dict(attributes or {}), scope)
        self._last.append(event)
        for queue in tuple(self._streams):
            if queue.qsize() >= BACKLOG:
                self._streams.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def past(self, wants: Callable[[Event], bool]) -> list[Event]:
        """Those of the remembered events that ``wants`` accepts, oldest first."""
        return [event for event in self._last if wants(event)]

    async def stream(
        self, since: int | None = None, until: int | None = None, wants: Callable[[Event], bool] = lambda event: True
    ) -> AsyncIterator[Event]:
        """Events with ``since <= time <= until`` (nanoseconds) that ``wants`` accepts.

        Without ``until`` for ever; with neither from now on, with ``until`` alone all that are remembered."""
        since = 0 if since is None and until is not None else since
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._streams.add(queue)
        past = [event for event in self._last if since is not None and event.time >= since]
        try:
            for event in past:
                if (until is None or event.time <= until) and wants(event):
                    yield event
            async for event in self._live(queue, until):
                if wants(event):
                    yield event
        finally:
            self._streams.discard(queue)

    async def _live(self, queue: asyncio.Queue[Event | None], until: int | None) -> AsyncIterator[Event]:
        while True:
            left = None if until is None else max(0.0, (until - self._clock()) / 1e9)
            try:
                event = await asyncio.wait_for(queue.get(), left)
            except TimeoutError:
                return
            if event is None or (until is not None and event.time > until):
                return
            yield event
