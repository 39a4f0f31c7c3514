"""The agent: a node's side of its session. It keeps to one manager as long as it can, and goes on to another when not.

    link.connect: any manager --> Hello --Welcome--> Assign  -> worker.assign
             ^                      |                Command -> link.commanded
             '---- lost, silent ----'                Call    -> verbs
                                    '--- Beat, Told (until acknowledged), Call (``ask``)

Rules
    1. A session that is lost is followed by another at once; where none comes about, after a pause that grows up to
       ``LONGEST``, or as soon as gossip hears somebody again (``hurry``): what was sent into a cut wire is not waited
       for, either.
    2. A manager that says nothing for ``SILENCE`` periods is lost: early enough to be elsewhere before it gives us up.
    3. What was told and not acknowledged is told again in the next session, and so is all that is known of tasks.
    4. Without a manager the worker goes on with what it has.

What it does not do: run tasks (``worker``), keep certificates (``credentials``), know networks (``shared``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec

from fairlead.core.cluster import Description, Report
from fairlead.core.session import Assign, Beat, Call, Command, Hello, Refused, Reply, Told, Welcome
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.swarm.calls import ENDED, Calls, raised
from fairlead.swarm.dispatcher import LEAVE, Stream

log = logging.getLogger(__name__)

WELCOME = 10.0
SILENCE = 1.5
FIRST, LONGEST = 0.1, 8.0
"""seconds between two attempts"""
AT_ONCE = 500
"""reports in one message"""
PATIENCE = 30.0
"""seconds until an acknowledgement is missed"""

Verb = Callable[[msgspec.Raw], AsyncIterator[Any]]


class Worker(Protocol):
    """Who does what a node is told (``swarm.worker``)."""

    async def run(self, tell: Callable[[Report], None]) -> None:
        """Until cancelled; what it started goes on, and is found again by the next ``run``."""

    async def assign(self, assign: Assign) -> None:
        """Soon returns: what it takes is done later."""

    def reports(self) -> Iterable[Report]:
        """All that is known of the tasks here."""

    async def leave(self) -> None:
        """Nothing of what was assigned is left."""


class Link(Protocol):
    """What a session needs of the node that it is for (``swarm.membership``)."""

    @property
    def address(self) -> str:
        """``host:port``, where others reach this node."""

    async def connect(self) -> Stream:
        """To a manager: to ourselves if we are one, else to any."""

    def commanded(self, command: Command) -> None:
        """Other managers, roots, another role, a certificate to renew."""


class Agent:
    """``describe``: what this node says of itself. ``dice``: a number from 0 to 1."""

    def __init__(
        self,
        link: Link,
        worker: Worker,
        describe: Callable[[], Description],
        dice: Callable[[], float],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._link, self._worker, self._describe, self._dice, self._clock = link, worker, describe, dice, clock
        self.verbs: dict[str, Verb] = {}
        """what managers may ask this node"""
        self.trouble = ""
        """why there is no session"""
        self._stream: Stream | None = None
        self._calls: Calls | None = None
        self._connected = asyncio.Event()
        self._hurried = asyncio.Event()
        self._untold: dict[str, Report] = {}
        self._news = asyncio.Event()
        self._acknowledged: dict[int, asyncio.Event] = {}
        self._number = 0
        self._period = 0.0
        """seconds between two beats"""
        self._paced = asyncio.Event()
        """that is another one"""

    async def run(self) -> None:
        """Work and sessions, one after the other, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.run(self.tell))
            group.create_task(self._stay_connected())

    async def _stay_connected(self) -> None:
        failed = 0
        while True:
            try:
                await self._attend()
                failed = 0
                await asyncio.sleep(FIRST * self._dice())
            except FairleadError as error:
                self.trouble = error.message
                log.info("no session with a manager: %s", error.message)
                self._hurried.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(FIRST * 2.0**failed, LONGEST) * (0.5 + self._dice())):
                        await self._hurried.wait()
                failed = min(failed + 1, 16)

    async def _attend(self) -> None:
        """One session, to its end; raises when none came about."""
        while (stream := await self._reached()) is None:
            log.debug("somebody is heard again: another attempt")
        try:
            host = self._link.address.rpartition(":")[0].strip("[]")
            await stream.send(Hello(self._describe(), host))
            welcome = await stream.receive(within=WELCOME)
            if isinstance(welcome, Refused):
                raise raised(Reply(0, error=welcome.kind, message=welcome.message))
            if not isinstance(welcome, Welcome):
                raise Invalid("this is no welcome")
            await self._session(stream, welcome)
        finally:
            stream.abort()

    async def _reached(self) -> Stream | None:
        """A manager; None: somebody was heard again meanwhile, so it is better tried anew."""
        self._hurried.clear()
        connecting = asyncio.ensure_future(self._link.connect())
        hurried = asyncio.ensure_future(self._hurried.wait())
        try:
            await asyncio.wait((connecting, hurried), return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                return connecting.result()
            await asyncio.sleep(FIRST * self._dice())
            return None
        finally:
            hurried.cancel()
            if connecting.cancel():
                await asyncio.wait((connecting,))

    def hurry(self) -> None:
        """The wire may be whole again: a session is tried now, if there is none."""
        self._hurried.set()

    def renewed(self) -> None:
        """Another certificate: a session shows the one that it began with, so another one begins."""
        if self._stream is not None:
            self._stream.abort()

    async def leave(self) -> None:
        """Says goodbye, if anybody listens, and takes away what was assigned."""
        try:
            if self._connected.is_set():
                await self.one(LEAVE)
        except FairleadError as error:
            log.info("nobody heard that this node leaves: %s", error.message)
        await self._worker.leave()

    async def _session(self, stream: Stream, welcome: Welcome) -> None:
        log.info("this node is in session with the manager at %s", stream.peer)
        self._untold.update((report.id, report) for report in self._worker.reports())
        try:
            async with asyncio.TaskGroup() as group:
                self._stream, self._calls, self.trouble = stream, Calls(stream.send, self._served, group), ""
                self._connected.set()
                self._period = welcome.period
                group.create_task(self._beat(stream))
                group.create_task(self._tell(stream))
                await self._read(stream, self._calls)
        except* FairleadError as lost:
            self.trouble = str(lost.exceptions[0])
            log.info("the session with the manager at %s is over: %s", stream.peer, self.trouble)
        finally:
            self._stream = None
            self._connected.clear()
            if self._calls is not None:
                self._calls.end()

    async def _read(self, stream: Stream, calls: Calls) -> None:
        while True:
            match await stream.receive(within=SILENCE * self._period):
                case Welcome(period=period):
                    self._period = period
                    self._paced.set()
                case Assign() as assign:
                    await self._worker.assign(assign)
                case Command() as command:
                    self._link.commanded(command)
                case Reply(number=number) if number < 0:
                    if number in self._acknowledged:
                        self._acknowledged[number].set()
                case Call() | Reply() as message:
                    calls.hear(message)
                case Refused() as refused:
                    raise raised(Reply(0, error=refused.kind, message=refused.message))

    async def _beat(self, stream: Stream) -> None:
        while True:
            self._paced.clear()
            await stream.send(Beat())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period):
                    await self._paced.wait()

    # -- telling -----------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """What became of a task. It arrives once there is a manager."""
        self._untold[report.id] = report
        self._news.set()

    async def _tell(self, stream: Stream) -> None:
        while True:
            self._news.clear()
            while self._untold:
                await self._tell_some(stream, dict(list(self._untold.items())[:AT_ONCE]))
            await self._news.wait()

    async def _tell_some(self, stream: Stream, reports: Mapping[str, Report]) -> None:
        """Numbers below 0: those above are the ones of ``Calls``."""
        self._number -= 1
        arrived = self._acknowledged[self._number] = asyncio.Event()
        try:
            await stream.send(Told(self._number, tuple(reports.values()), self._clock()))
            async with asyncio.timeout(PATIENCE):
                await arrived.wait()
        except TimeoutError:
            raise Unavailable("the manager does not acknowledge what it is told") from None
        finally:
            self._acknowledged.clear()
        for id, report in reports.items():
            if self._untold.get(id) is report:
                del self._untold[id]

    # -- questions ---------------------------------------------------------------------------------------

    async def ask(self, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]:
        """What the manager answers; raises what it raised, and ``Unavailable`` when there is none, or none any more."""
        if self._calls is None or not self._connected.is_set():
            raise Unavailable(ENDED)
        async with aclosing(self._calls.ask(verb, body)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                yield reply

    async def one(self, verb: str, body: Any = None) -> msgspec.Raw:
        """The answer to a question that has one."""
        if self._calls is None or not self._connected.is_set():
            raise Unavailable(ENDED)
        return await self._calls.one(verb, body)

    async def connected(self) -> None:
        """Returns when there is a session."""
        await self._connected.wait()

    async def _served(self, verb: str, body: msgspec.Raw) -> AsyncIterator[Any]:
        served = self.verbs.get(verb)
        if served is None:
            raise Invalid(f"this node does not know {verb!r}")
        async with aclosing(served(body)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                yield reply
