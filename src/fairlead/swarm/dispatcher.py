"""The dispatcher: a manager's side of the sessions, one for each node that chose this manager.

    Hello --> Welcome, Command, Assign (whole)         what the node says of itself is in its Node object
    Beat  --> Beat                                     presence/<node>            (``presence``)
    Told  --> reports/<task> in batches --> Reply      only of tasks that are the node's own
    Call  --> a verb that somebody serves here --> Reply ...
              state changed --> Assign (difference), Command

    call(node, verb)      a question to a node, wherever its session is: managers relay it to each other

Rules
    1. A node is who its certificate says. A second session of a node ends the first, at whichever manager: what the
       node said of itself last is so, and who is the node says it again.
    2. A report is acknowledged when it is written, and never takes a task back to an earlier state.
    3. A node that is silent for ``BEATS`` periods is not here; one whose session ended has as long to come again.
    4. A slow node delays nobody: its differences wait, as a set of names, until it reads.
    5. Times that a node tells are by its clock: where that is wrong, they are moved by as much.
    6. A manager that cannot reach the others' store lets go of its nodes: they are of more use elsewhere. Not so while
       its own is started again (``resting``).

What it does not do: decide (``leader``), open ports (``gate``), say who may come in (``welcome`` of the gate).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from fairlead.core.assignment import Boards
from fairlead.core.cluster import Node, Report, forward
from fairlead.core.service import SECOND
from fairlead.core.session import Beat, Call, Command, Hello, Refused, Relay, Reply, Told, Welcome
from fairlead.core.swarmspec import Cluster
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound, Unavailable
from fairlead.store.base import Ledger
from fairlead.swarm.ca import Identity
from fairlead.swarm.calls import Calls, raised
from fairlead.swarm.leader import KEY as LEADER
from fairlead.swarm.leader import PAUSE, PIECE
from fairlead.swarm.presence import BEATS, PREFIX, TTL, Attendance
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

LEAVE = "leave"
TRIES = 20
TOLERATED = 5 * SECOND
"""of difference between two clocks"""
LOOK = 1.0
"""seconds between two looks whether the managers' store is there"""

Verb = Callable[[Identity, msgspec.Raw], AsyncIterator[Any]]
"""(who asks, body) -> what is to be replied. Raises errors of ours."""


class Stream(Protocol):
    """As ``gate.Stream``."""

    @property
    def identity(self) -> Identity | None: ...

    @property
    def peer(self) -> str: ...

    async def receive(self, within: float | None = None) -> Any: ...

    async def send(self, message: msgspec.Struct) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


class Session:
    """One node, as long as it is connected here."""

    def __init__(self, stream: Stream, who: Identity, period: float) -> None:
        self.stream, self.who, self.period = stream, who, period
        self.news = asyncio.Event()
        self.command: Command | None = None
        """as it was sent last"""
        self.restate = True
        """what it is made from has changed since"""
        self.calls: Calls | None = None


class Dispatcher:
    """``me``: this manager's node id. ``connect(address)``: a stream to another manager.

    ``renew(stream, node)``: whether the node needs another certificate than the one it showed.
    """

    def __init__(
        self,
        state: State,
        ledger: Ledger,
        me: str,
        connect: Callable[[str], Awaitable[Stream]],
        renew: Callable[[Stream, Node], bool] = lambda stream, node: False,
        clock: Callable[[], int] = time.time_ns,
        resting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._state, self._ledger, self._me, self._connect, self._renew = state, ledger, me, connect, renew
        self._clock, self._resting = clock, resting
        self.boards = Boards(lambda kind, id: getattr(state, kind).get(id))
        self.verbs: dict[str, Verb] = {LEAVE: self._leave}
        self._sessions: dict[str, Session] = {}
        self._attendance = Attendance(ledger, me, lambda: BEATS * self._period, self._elsewhere)
        self._reports = Reports(state)
        self._cut_off = False
        self._managers = self._find_managers()
        for kind in ("secrets", "services", "tasks", "networks", "cluster"):
            for thing in getattr(state, kind).values():
                self.hear(Event(kind, None, thing))

    @property
    def _cluster(self) -> Cluster | None:
        return next(iter(self._state.cluster.values()), None)

    @property
    def _period(self) -> float:
        """Seconds between two beats."""
        cluster = self._cluster
        return cluster.spec.dispatcher.heartbeat_period / SECOND if cluster else 5.0

    async def run(self) -> None:
        """Until cancelled: write down who is here and what was told."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._attendance.run())
            group.create_task(self._reports.run())
            group.create_task(self._stay_useful())

    async def _stay_useful(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TTL):
                    await self._ledger.get(LEADER)
                self._cut_off = False
            except (Unavailable, TimeoutError):
                if self._resting():
                    await asyncio.sleep(PAUSE)
                    continue
                self._cut_off = True
                for session in self._sessions.values():
                    session.stream.abort()
            await asyncio.sleep(LOOK)

    # -- news --------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Something in the state changed."""
        if event.kind == "cluster" and event.after is not None:
            self.boards.log_driver = event.after.spec.task_defaults.log_driver
            self.boards.data_port = event.after.data_port
        if event.kind == "datakeys" and event.before and event.after and event.before.used != event.after.used:
            self._attendance.again()
        for node in self.boards.hear(*event):
            self._sessions[node].news.set()
        if event.kind == "cluster" or (event.kind == "nodes" and _manages(event.before) != _manages(event.after)):
            self._managers = self._find_managers()
            for session in self._sessions.values():
                session.restate = True
                session.news.set()
        elif event.kind == "nodes" and (concerned := self._sessions.get((event.after or event.before).id)):
            concerned.restate = True
            concerned.news.set()

    def _find_managers(self) -> dict[str, str]:
        """Node id -> address."""
        managers = ((node.id, node.manager) for node in self._state.nodes.values())
        return {id: manager.address for id, manager in managers if manager is not None and manager.address}

    # -- a session ---------------------------------------------------------------------------------------

    async def session(self, stream: Stream, hello: Hello) -> None:
        """The whole of it; raises what ends it."""
        who = stream.identity
        if who is None:
            raise Forbidden("a certificate of this swarm is needed")
        if self._cut_off:
            raise Unavailable("this manager cannot reach the others")
        session = Session(stream, who, self._period)
        node = await self._describe(who.node, hello, stream)
        if (before := self._sessions.pop(who.node, None)) is not None:
            before.stream.abort()
        self._sessions[who.node] = session
        self.boards.open(who.node)
        silent = False
        try:
            await stream.send(Welcome(who.cluster, session.period, node))
            self._attendance.came(who.node)
            async with asyncio.TaskGroup() as group:
                session.calls = Calls(stream.send, lambda verb, body: self._served(self._now(who), verb, body), group)
                writing = group.create_task(self._write(session))
                silent = await self._read(session, session.calls, group)
                session.calls.end()
                writing.cancel()
                raise _Over
        except* (_Over, Unavailable):
            log.debug("the session with node %s is over", who.node)
        finally:
            if self._sessions.get(who.node) is session:
                del self._sessions[who.node]
                self.boards.close(who.node)
                self._attendance.left(who.node, at_once=silent)

    def _elsewhere(self, node: str) -> None:
        """It has a session with another manager, which began after ours."""
        if (session := self._sessions.get(node)) is not None:
            session.stream.abort()

    def _now(self, who: Identity) -> Identity:
        """As what it may ask: a manager that is to be none any more may have its certificate still."""
        node = self._state.nodes.get(who.node)
        return who if node is not None and node.spec.role == who.role else who._replace(role="worker")

    async def _describe(self, id: str, hello: Hello, stream: Stream) -> Node:
        """The node as it is after it said what it is."""
        for _ in range(TRIES):
            node = self._state.nodes.get(id)
            if node is None:
                raise NotFound(f"node {id} is not part of this swarm")
            said = replace(node, description=hello.description, address=hello.address or stream.peer)
            if said == node:
                return node
            with suppress(Conflict):
                await self._state.commit([said])
                return self._state.nodes[id]
            await asyncio.sleep(PAUSE)
        raise Unavailable(f"node {id} is changed all the time")

    async def _read(self, session: Session, calls: Calls, group: asyncio.TaskGroup) -> bool:
        """Until the stream ends; True: because nothing was heard any more."""
        loop = asyncio.get_running_loop()
        while True:
            heard = loop.time()
            try:
                message = await session.stream.receive(within=BEATS * session.period)
            except FairleadError:
                return loop.time() - heard >= BEATS * session.period
            match message:
                case Beat():
                    group.create_task(_say(session.stream, message))
                case Told():
                    group.create_task(self._take(session, message))
                case Call() | Reply():
                    calls.hear(message)

    async def _write(self, session: Session) -> None:
        """What is news for the node, one after the other."""
        node_id = session.who.node
        while True:
            session.news.clear()
            node = self._state.nodes.get(node_id)
            if node is None or self._sessions.get(node_id) is not session:
                session.stream.abort()
                return
            if session.restate:
                session.restate = False
                if session.period != self._period:
                    session.period = self._period
                    await session.stream.send(Welcome(session.who.cluster, session.period, node))
                command = self._command(session, node)
                if command != session.command:
                    session.command = command
                    await session.stream.send(command)
            if assign := self.boards.take(node_id):
                await session.stream.send(assign)
            await session.news.wait()

    def _command(self, session: Session, node: Node) -> Command:
        cluster = self._cluster
        shown = replace(node, version=0, updated=0)
        return Command(self._managers, cluster.trust.roots if cluster else "", self._renew(session.stream, node), shown)

    async def _take(self, session: Session, told: Told) -> None:
        """Reports of tasks that are its own; of others it is as if they were written."""
        wrong = self._clock() - told.now if told.now else 0
        mine = [_moved(report, wrong) for report in told.reports if self._owns(session.who.node, report)]
        await self._reports.write(mine)
        await _say(session.stream, Reply(told.number))

    def _owns(self, node: str, report: Report) -> bool:
        task = self._state.tasks.get(report.id)
        if task is not None and task.node != node:
            log.warning("node %s told of task %s, which is not its own", node, report.id)
        return task is not None and task.node == node

    # -- questions ---------------------------------------------------------------------------------------

    async def _served(self, who: Identity, verb: str, body: msgspec.Raw) -> AsyncIterator[Any]:
        served = self.verbs.get(verb)
        if served is None:
            raise Invalid(f"there is no question {verb!r}")
        async with aclosing(served(who, body)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                yield reply

    async def _leave(self, who: Identity, body: msgspec.Raw) -> AsyncIterator[Any]:
        self._attendance.left(who.node, at_once=True)
        yield None

    async def call(self, node: str, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]:
        """What a node answers; raises ``Unavailable`` when nobody has a session with it."""
        session = self._sessions.get(node)
        if session is not None and session.calls is not None:
            async with aclosing(session.calls.ask(verb, body)) as replies:  # type: ignore[type-var]
                async for reply in replies:
                    yield reply
            return
        stream = await self._connect(await self._whereabouts(node))
        try:
            await stream.send(Relay(node, verb, msgspec.Raw(msgspec.json.encode(body))))
            while True:
                match await stream.receive():
                    case Reply(more=True, body=reply):
                        yield reply
                    case Refused() as refused:
                        raise raised(Reply(0, error=refused.kind, message=refused.message))
                    case _:
                        return
        finally:
            await stream.close()

    async def _whereabouts(self, node: str) -> str:
        """The address of the manager that has its session."""
        entry = await self._ledger.get(PREFIX + node)
        manager = self._state.nodes.get(entry.value.decode()) if entry is not None else None
        if manager is None or manager.id == self._me or manager.manager is None:
            raise Unavailable(f"node {node} is not connected to any manager")
        return manager.manager.address

    async def relay(self, stream: Stream, asked: Relay) -> Reply:
        """Another manager wants to know something of a node that is here."""
        session = self._sessions.get(asked.node)
        if session is None or session.calls is None:
            raise Unavailable(f"node {asked.node} is not connected to this manager")
        relaying = asyncio.ensure_future(_pass_on(session.calls, stream, asked))
        gone = asyncio.ensure_future(stream.receive())  # he says nothing more: this ends with him
        try:
            await asyncio.wait((relaying, gone), return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                relaying.result()
        finally:
            relaying.cancel()
            gone.cancel()
            await asyncio.gather(relaying, gone, return_exceptions=True)
        return Reply(0)


class Reports:
    """Writes what nodes tell: one commit for all that came while the one before it was under way."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[str, Report] = {}
        self._written: asyncio.Future[None] | None = None
        self._news = asyncio.Event()

    async def write(self, reports: list[Report]) -> None:
        """On return they are written, or of no use any more."""
        if not reports:
            return
        for report in reports:
            before = self._waiting.get(report.id)
            if before is None or forward(before.status, report.status) is report.status:
                self._waiting[report.id] = report
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        self._news.set()
        await asyncio.shield(self._written)

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._waiting = list(self._waiting.values()), {}
            written, self._written = self._written, None
            for start in range(0, len(batch), PIECE):
                await self._commit(batch[start : start + PIECE])
            if written is not None:
                written.set_result(None)

    async def _commit(self, reports: list[Report]) -> None:
        """As often as it takes: a node that goes to another manager may be faster there."""
        while put := [found for report in reports if (found := self._new(report)) is not None]:
            try:
                await self._state.commit(put)
                return
            except (Conflict, Unavailable) as error:
                log.info("reports of tasks could not be written, and are tried again: %s", error.message)
                await asyncio.sleep(PAUSE)

    def _new(self, report: Report) -> Report | None:
        """As it is to be written over what is there; None: that says as much, or more."""
        known = self._state.reports.get(report.id)
        if report.id not in self._state.tasks:
            return None
        if known is None:
            return replace(report, version=0)
        if forward(known.status, report.status) is known.status or known.status == report.status:
            return None
        return replace(report, version=known.version)


def _moved(report: Report, by: int) -> Report:
    """As our clock would have had it: what follows from a time is decided here, and a node's clock may be wrong."""
    if abs(by) < TOLERATED:
        return report
    at, ran = (moment + by if moment else 0 for moment in (report.status.at, report.ran))
    return replace(report, status=replace(report.status, at=at), ran=ran)


class _Over(Exception):
    """Ends a session's tasks."""


async def _pass_on(calls: Calls, stream: Stream, asked: Relay) -> None:
    async with aclosing(calls.ask(asked.verb, asked.body)) as replies:  # type: ignore[type-var]
        async for body in replies:
            await stream.send(Reply(0, body, more=True))


async def _say(stream: Stream, message: msgspec.Struct) -> None:
    with suppress(Unavailable):
        await stream.send(message)


def _manages(node: Node | None) -> str | None:
    """What of a node all others have to know."""
    return node.manager.address if node is not None and node.manager is not None else None
