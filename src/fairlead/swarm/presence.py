"""Presence: which node is here. Managers that hold sessions write it down; the leader draws the conclusion.

    every manager:  Attendance    presence/<node> = our node id, all under one lease
                                  "" in its place: it was here, and we know that it is gone
    the leader:     RollCall      presence  -->  Node.state ready, unknown, down;  Node.manager;  orphaned tasks

    a session ends --grace--> nobody else has the node: ""    -> down, "heartbeat failure"
    a manager dies --lease ends--> its nodes' keys vanish     -> unknown --grace, nobody else has them--> down

Rules
    1. Whoever holds a node's session overwrites the key, again when another strikes it; whoever lost the session may
       only strike what is still its own. Whoever finds another's name over his own has lost it (``elsewhere``).
    2. A session that ends in one place and begins in another within the grace is no change of state.
    3. A new leader, and one who hears of a vanished key, gives every node the grace before it calls it down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from msgspec.structs import replace

from fairlead.core.cluster import Manager, Node, State, Task, TaskStatus
from fairlead.core.service import SECOND
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import ANY, Entry, Lease, Ledger, Write
from fairlead.swarm.leader import PAUSE, PIECE, TERM, Guard, give_up, until_lost
from fairlead.swarm.state import Event, Thing
from fairlead.swarm.state import State as SwarmState

log = logging.getLogger(__name__)

PREFIX = "presence/"
TTL = TERM
"""seconds after which a dead manager's sessions count as ended: as soon as another leads, who would give him tasks"""
BEATS = 3
"""that may fail to come"""
AT_ONCE = 32
"""keys that are being written"""
ORPHANED_AFTER = 24 * 3600 * SECOND
FAILED = "heartbeat failure"
LOST = 'heartbeat failure for node in "unknown" state'
UNKNOWN = 'Node moved to "unknown" state due to leadership change in cluster'


class Attendance:
    """What this manager says of the nodes whose sessions it has. ``grace``: seconds."""

    def __init__(
        self, ledger: Ledger, manager: str, grace: Callable[[], float], elsewhere: Callable[[str], None]
    ) -> None:
        self._ledger, self._manager, self._grace, self._elsewhere = ledger, manager, grace, elsewhere
        self._here: set[str] = set()
        self._versions: dict[str, int] = {}
        """of the keys that we wrote"""
        self._theirs: dict[str, int] = {}
        """of those where another manager wrote his name since"""
        self._unsaid: set[str] = set()
        """whose sessions are not written down yet"""
        self._repeated: set[str] = set()
        """whose sessions are written down once more, if nobody has written since"""
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._changed: dict[str, None] = {}
        self._news = asyncio.Event()

    def came(self, node: str) -> None:
        if timer := self._leaving.pop(node, None):
            timer.cancel()
        self._here.add(node)
        self._unsaid.add(node)
        self._repeated.discard(node)
        self._note(node)

    def left(self, node: str, at_once: bool = False) -> None:
        """Its session ended. ``at_once``: it will not come again, or we waited for it already."""
        seconds = 0 if at_once else self._grace()
        self._leaving[node] = asyncio.get_running_loop().call_later(seconds, self._gone, node)

    def again(self) -> None:
        """What we said is sealed with a key that is used no more. Another's word stays as it is."""
        for node in self._here - self._leaving.keys() - self._unsaid:
            self._repeated.add(node)
            self._note(node)

    def _gone(self, node: str) -> None:
        self._leaving.pop(node, None)
        self._theirs.pop(node, None)
        self._here.discard(node)
        self._note(node)

    def _note(self, node: str) -> None:
        self._changed[node] = None
        self._news.set()

    async def run(self) -> None:
        """Writes, until cancelled; then nobody is here any more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._say_all())

    async def _listen(self) -> None:
        """Another manager says that a node is not here, and it is: at this one. Or that it is with him, and it was."""
        async for change in self._ledger.watch(PREFIX):
            node = change.key.removeprefix(PREFIX)
            if node not in self._here or node in self._leaving:
                continue
            if not change.value:
                self._note(node)
            elif change.value != self._manager.encode():
                self._theirs[node] = change.version
                self._compare(node)

    def _compare(self, node: str) -> None:
        """Whose session is the later one, once both are written down."""
        if node not in self._unsaid and self._theirs.pop(node, 0) > self._versions[node]:
            self._elsewhere(node)

    async def _say_all(self) -> None:
        while True:
            try:
                lease = await self._ledger.lease(TTL)
            except (Conflict, Unavailable):
                await asyncio.sleep(PAUSE)
                continue
            for node in self._here - self._leaving.keys():  # who is leaving may be elsewhere by now
                self._note(node)
            try:
                await until_lost(lease.keep(), self._write(lease))
            finally:
                await give_up(lease.end())

    async def _write(self, lease: Lease) -> None:
        while True:
            while self._changed:
                nodes = list(self._changed)[:AT_ONCE]
                for node in nodes:
                    del self._changed[node]
                async with asyncio.TaskGroup() as group:
                    for node in nodes:
                        group.create_task(self._say(node, lease))
            self._news.clear()
            await self._news.wait()

    async def _say(self, node: str, lease: Lease) -> None:
        try:
            if node in self._here:
                key, value = PREFIX + node, self._manager.encode()
                before = self._versions.get(node, ANY) if node in self._repeated else ANY
                self._versions[node] = await self._ledger.put_if(key, value, before, lease)
                self._repeated.discard(node)
                self._unsaid.discard(node)
                self._compare(node)
            elif node in self._versions:
                await self._ledger.put_if(PREFIX + node, b"", self._versions.pop(node))
        except Conflict:
            self._repeated.discard(node)
            log.debug("another manager has node %s", node)  # or the lease is over, and ``run`` says all again
        except Unavailable:
            await asyncio.sleep(PAUSE)
            self._note(node)


async def strike(ledger: Ledger, manager: str) -> None:
    """That manager is gone: nobody is in session with it. (If it is not, it says so again.) Raises ``Unavailable``."""
    while theirs := [entry for entry in await ledger.list(PREFIX) if entry.value == manager.encode()]:
        with suppress(Conflict):  # some of them are elsewhere by now
            await ledger.commit([Write(entry.key, None, entry.version) for entry in theirs[:PIECE]])


class Tasks(Protocol):
    def __call__(self, node: str) -> Iterable[Task]: ...


class RollCall:
    """The leader's part. ``tasks(node)``: its tasks. ``clock``: nanoseconds since 1970; ``grace``: seconds."""

    def __init__(
        self, state: SwarmState, ledger: Ledger, me: str, tasks: Tasks, clock: Callable[[], int], grace: float
    ) -> None:
        self._state, self._ledger, self._me, self._tasks, self._clock = state, ledger, me, tasks, clock
        self._grace = grace
        self._present: dict[str, str] = {}
        """node -> who has its session, "": nobody"""
        self._vanished: dict[str, float] = {}
        """node -> when its grace ends, by the loop's clock: the day's may be set"""
        self._down: set[str] = set()
        self._dirty: set[str] = set()
        self._news = asyncio.Event()
        for node in state.nodes.values():
            self.hear(Event("nodes", None, node))

    def hear(self, event: Event) -> None:
        if event.kind == "nodes":
            id = (event.after or event.before).id
            (self._down.add if event.after is not None and event.after.state == "down" else self._down.discard)(id)
            self._note(id)

    def _note(self, node: str) -> None:
        self._dirty.add(node)
        self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Calls the roll, until cancelled."""
        seen = await self._list()
        for entry in seen:
            self._hear(entry.key, entry.value)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(seen))
            while True:
                self._news.clear()
                if not await self._conclude(guard):
                    await asyncio.sleep(PAUSE)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._due()):
                        await self._news.wait()

    async def _list(self) -> list[Entry]:
        while True:
            try:
                return await self._ledger.list(PREFIX)
            except Unavailable:
                await asyncio.sleep(PAUSE)

    async def _listen(self, seen: list[Entry]) -> None:
        async for change in self._ledger.watch(PREFIX, seen):
            self._hear(change.key, change.value)

    def _hear(self, key: str, value: bytes | None) -> None:
        node = key.removeprefix(PREFIX)
        if value is None:
            self._present.pop(node, None)
        else:
            self._present[node] = value.decode()
        self._note(node)

    def _due(self) -> float | None:
        """Seconds until time alone changes something."""
        left = [end - asyncio.get_running_loop().time() for end in self._vanished.values()]
        left += [(node.since + ORPHANED_AFTER - self._clock()) / SECOND for node in self._silent()]
        return max(0, min(left)) if left else None

    async def _conclude(self, guard: Guard) -> bool:
        """One look at what changed; whether all could be written."""
        now = self._clock()
        self._dirty |= {node for node, end in self._vanished.items() if end <= asyncio.get_running_loop().time()}
        dirty, self._dirty = self._dirty, set()
        put: list[Thing] = []
        for id in dirty:
            node = self._state.nodes.get(id)
            if node is None:
                self._vanished.pop(id, None)
            elif (judged := self._judge(node, now)) != node:
                put.append(judged)
        for node in self._silent():
            if node.since + ORPHANED_AFTER <= now:
                put += [_orphan(task, now) for task in self._tasks(node.id) if _hopeful(task)]
        try:
            for id in dirty - self._state.nodes.keys():
                if self._present.get(id) == "":
                    await self._ledger.delete_if(PREFIX + id)
            for start in range(0, len(put), PIECE):
                await self._state.commit(put[start : start + PIECE], guard=guard)
        except (Conflict, Unavailable) as error:
            log.info("who is here could not be written, and is looked at again: %s", error.message)
            self._dirty |= dirty
            return False
        return True

    def _silent(self) -> list[Node]:
        """Nodes that are down, with tasks that somebody may still wait for."""
        nodes = [self._state.nodes[id] for id in self._down]
        return [node for node in nodes if node.since and any(map(_hopeful, self._tasks(node.id)))]

    def _judge(self, node: Node, now: int) -> Node:
        """As it is to be written."""
        state, message = self._standing(node)
        manager = node.manager
        if manager is not None:
            reachable = "reachable" if self._present.get(node.id) else "unreachable"
            manager = Manager(node.id == self._me, reachable, manager.address)
        if (state, message, manager) == (node.state, node.message, node.manager):
            return node
        since = now if state != node.state else node.since
        return replace(node, state=state, message=message, manager=manager, since=since, updated=now)

    def _standing(self, node: Node) -> tuple[str, str]:
        holder = self._present.get(node.id)
        if holder is not None:
            self._vanished.pop(node.id, None)
            return ("ready", "") if holder else ("down", FAILED)
        if node.state == "down":
            return node.state, node.message
        now = asyncio.get_running_loop().time()
        if self._vanished.setdefault(node.id, now + self._grace) > now:
            return "unknown", UNKNOWN if node.state == "ready" else node.message
        del self._vanished[node.id]
        return "down", LOST


def _hopeful(task: Task) -> bool:
    """Somebody may still wait for it."""
    return State.ASSIGNED <= task.status.state <= State.RUNNING


def _orphan(task: Task, now: int) -> Task:
    status = TaskStatus(State.ORPHANED, now, "orphaned", container_id=task.status.container_id)
    return replace(task, status=status, updated=now)
