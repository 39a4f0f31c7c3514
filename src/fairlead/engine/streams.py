"""Streams: people attached to containers, and the bytes between them.

    client A ─┐                                 ┌─ stdin
              ├─ Hub (one a container) ── Wire ─┤          Wire: the keeper's attach socket
    client B ─┘                                 └─ stdout, stderr

``docker run`` attaches before it starts: such a client waits at the hub, and the
hub connects between *create* and *start*, so the first byte is not missed.

Rules
    1. One wire a container, however many clients; each gets every byte from the
       moment it attached to the end of the process.
    2. Bounded: a client that does not read holds the container back when
       ``ROOM`` bytes wait for it, exactly as a full pipe would. A client that
       leaves holds nobody back.
    3. The end of a client's input is the end of the container's if it was made
       for one client (``StdinOnce``) and has no terminal; else only the
       client's own end. As dockerd has it.
    4. Detach keys end the client's attachment and nothing else.

What it does not do: HTTP, and the frames around bytes (``api.hijack``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, Self

from fairlead.core.container import Container
from fairlead.core.detach import Detector, parse
from fairlead.engine.catalog import Catalog
from fairlead.engine.events import Events, facts
from fairlead.engine.logs import Logs, LogWishes
from fairlead.engine.runtime import Runtime, Wire
from fairlead.errors import Conflict, Unsupported

ROOM = 256 << 10
"""Bytes of output that may wait for one client."""


class Client(Protocol):
    """Somebody's end of a hijacked connection (``api.hijack.Stream``)."""

    async def read(self) -> bytes:
        """Input, b"" when there will be no more."""

    async def write(self, data: bytes) -> None:
        """Output; ``ConnectionError`` when nobody is there any more."""


class Attached:
    """One client's share of a process's streams: iterate for (stream, bytes); write input with ``feed``."""

    def __init__(self, tty: bool, detector: Detector | None, left: Callable[[], None]) -> None:
        self.tty = tty
        self.detached = False
        """The client typed the detach keys (then ``left`` is called)."""
        self._detector = detector
        self._left = left
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._over = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # -- for the client -----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        which, data = self._waiting.popleft()
        self._size -= len(data)
        if self._size < ROOM:
            self._room.set()
        return which, data

    async def feed(self, data: bytes) -> None:
        """Input. The detach keys in it end this attachment."""
        if self._detector is not None:
            data, typed = self._detector.feed(data)
            if typed:
                self.detached = True
        if data:
            await self._write(data)
        if self.detached:
            self._left()
            self.finish()

    async def end_input(self) -> None:
        """The client has no more input."""
        rest = self._detector.rest() if self._detector is not None else b""
        if rest:
            await self._write(rest)
        self._end_input()

    def close(self) -> None:
        """The client leaves."""
        self.finish()
        self._waiting.clear()
        self._room.set()

    # -- for whoever has the bytes ---------------------------------------------------------------

    async def give(self, which: int, data: bytes) -> None:
        """Output for this client; waits while it has enough to read."""
        while not self._room.is_set() and not self._over:
            await self._room.wait()
        if self._over:
            return
        self._waiting.append((which, data))
        self._size += len(data)
        if self._size >= ROOM:
            self._room.clear()
        self._changed.set()

    def finish(self) -> None:
        """No more output; what waits is still read."""
        self._over = True
        self._changed.set()
        self._room.set()

    # -- where input goes --------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        """Nowhere."""

    def _end_input(self) -> None:
        """Nobody listens."""


class _Member(Attached):
    """A client of a hub. ``wants`` are the streams it asked for."""

    def __init__(
        self,
        hub: Hub,
        tty: bool,
        detector: Detector | None,
        wants: frozenset[int],
        input: bool,
        left: Callable[[], None],
    ) -> None:
        super().__init__(tty, detector, left)
        self.wants = wants
        self._hub = hub
        self._input = input

    async def _write(self, data: bytes) -> None:
        if self._input:
            await self._hub.write(data)

    def _end_input(self) -> None:
        if self._input and not self._hub.end_input():
            self.finish()

    def close(self) -> None:
        super().close()
        if self._input:
            self._hub.end_input()
        self._hub.leave(self)


class Hub:
    """The clients of one container."""

    def __init__(self, container: Container, forget: Callable[[], None]) -> None:
        config = container.config
        self._members: list[_Member] = []
        self._forget = forget
        self._wire: Wire | None = None
        self._connected = asyncio.Event()
        self._ends_input = config.stdin_once and not config.tty
        # Leaving the wire would end the input of a container that nobody has fed yet.
        self._must_stay = config.open_stdin and config.stdin_once
        self._input_ended = False

    def join(self, member: _Member) -> None:
        self._members.append(member)

    def leave(self, member: _Member) -> None:
        if member in self._members:
            self._members.remove(member)
        if not self._members and not (self._must_stay and self._wire is not None and not self._input_ended):
            self._forget()
            if self._wire is not None:
                self._wire.close()

    def begin(self, wire: Wire) -> None:
        """From now on it is served; ``serve`` is next."""
        self._wire = wire
        if self._input_ended:
            wire.end_input()
        self._connected.set()

    async def serve(self, wire: Wire) -> None:
        """Hand out everything the process says, to its end."""
        try:
            with suppress(OSError):
                while (packet := await wire.read()) is not None:
                    for member in tuple(self._members):
                        if packet[0] in member.wants:
                            await member.give(*packet)
        finally:
            self.end()

    @property
    def served(self) -> bool:
        return self._wire is not None

    def end(self) -> None:
        """The process is gone, or will not come."""
        self._forget()
        self._connected.set()
        if self._wire is not None:
            self._wire.close()
        for member in self._members:
            member.finish()

    async def write(self, data: bytes) -> None:
        """Input for the process; what nobody takes is dropped, as in a closed pipe."""
        await self._connected.wait()
        if self._wire is not None and not self._input_ended:
            with suppress(BrokenPipeError):
                await self._wire.write(data)

    def end_input(self) -> bool:
        """A client's input is over; True when that ends the container's."""
        if self._ends_input and not self._input_ended:
            self._input_ended = True
            if self._wire is not None:
                self._wire.end_input()
        return self._ends_input


class Streams:
    """Everybody who is attached to a container."""

    def __init__(
        self, catalog: Catalog, runtime: Runtime, logs: Logs, events: Events, tasks: asyncio.TaskGroup
    ) -> None:
        self._catalog = catalog
        self._runtime = runtime
        self._logs = logs
        self._events = events
        self._tasks = tasks
        self._hubs: dict[str, Hub] = {}
        runtime.when_created(self._connect)
        runtime.when_over(self._over)

    async def attach(
        self,
        ref: str,
        *,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Attached:
        """Attach; with ``logs`` what it said before comes first; without ``stream`` nothing comes after."""
        container = self._catalog.get(ref)
        keys = parse(detach_keys)
        if container.state.status == "paused":
            raise Conflict(f"container {container.name} is paused, unpause the container before attach")
        if container.state.status == "restarting":
            raise Conflict(f"container {container.name} is restarting, wait until the container is running")
        config = container.config
        hub = self._hub(container)
        wants = frozenset(n for n, wanted in ((1, stdout), (2, stderr)) if wanted)
        takes = stdin and stream and config.open_stdin
        detector = Detector(keys) if config.tty and stdin else None
        member = _Member(hub, config.tty, detector, wants, takes, lambda: self._tell("detach", container))
        if stream:
            hub.join(member)
        if logs:
            self._tasks.create_task(self._replay(container, member, wants, stream))
        elif not stream:
            member.finish()
        if stream and container.state.running and not hub.served:
            await self._join_running(container.id, hub)
        self._tell("attach", container)
        return member

    async def converse(self, attached: Attached, client: Client, frame: Callable[[int, bytes], bytes]) -> None:
        """Carry bytes both ways until the output ends, the keys were typed, or the client is gone.

        ``frame`` packs output of a process that has no terminal.
        """
        async with asyncio.TaskGroup() as pair:
            listening = pair.create_task(_input(attached, client))
            try:
                with suppress(ConnectionError):
                    async for which, data in attached:
                        await client.write(data if attached.tty else frame(which, data))
            finally:
                attached.close()
                listening.cancel()

    # -- inside -----------------------------------------------------------------------------

    def _hub(self, container: Container) -> Hub:
        if container.id not in self._hubs:
            self._hubs[container.id] = hub = Hub(container, lambda: self._drop(container.id, hub))
        return self._hubs[container.id]

    def _drop(self, id: str, hub: Hub) -> None:
        if self._hubs.get(id) is hub:
            del self._hubs[id]

    def _tell(self, action: str, container: Container) -> None:
        self._events.publish("container", action, container.id, facts(container))

    async def _join_running(self, id: str, hub: Hub) -> None:
        """Connect a hub late; should the process end just now, its clients have heard all there is."""
        try:
            await self._connect(id)
        except Conflict:
            hub.end()

    async def _connect(self, id: str) -> None:
        """The container has streams now: those who wait get them."""
        hub = self._hubs.get(id)
        if hub is not None and not hub.served:
            wire = await self._runtime.attach(id)
            hub.begin(wire)  # now, not in the task: the next client is asking already
            self._tasks.create_task(hub.serve(wire))

    def _over(self, id: str) -> None:
        """It ended, or could not be made. A hub with a wire hears that from the wire, after the last byte."""
        hub = self._hubs.get(id)
        if hub is not None and not hub.served:
            hub.end()

    async def _replay(self, container: Container, member: _Member, wants: frozenset[int], stream: bool) -> None:
        with suppress(Unsupported, OSError):
            async for line in self._logs.read(container, LogWishes(stdout=1 in wants, stderr=2 in wants)):
                await member.give(line.stream, line.text)
        if not stream:
            member.finish()


async def _input(attached: Attached, client: Client) -> None:
    while data := await client.read():
        await attached.feed(data)
    await attached.end_input()
