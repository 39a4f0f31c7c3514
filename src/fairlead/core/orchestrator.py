"""The orchestrator: everything a swarm's leader decides, from what it hears to what it writes.

    hear(thing changed) --> what is dirty --> turn: addresses and ports --> slots --> addresses --> nodes --> Batch
                                                    (allocation)     (reconcile) (allocation) (placement)

A service that was just created has its address, its tasks, their addresses and their nodes after one turn.

Rules
    1. Nothing is remembered that does not follow from the objects: a new leader hears them all, and goes on.
    2. A turn looks at what is dirty, not at what there is; turns follow until one has nothing to write.
       ``wake_at`` says when time alone makes something dirty.
    3. What a turn decided is in here at once; if it could not be written, ``undo`` takes it back, and the next turn
       decides anew.
    4. What cannot be had now (an address, a node) is waited for, and the task's status says what for.

What it does not do: write (``swarm.leader``), talk to nodes (``swarm.dispatcher``), know who leads.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core.allocation import Desk, on_network
from fairlead.core.cluster import Attachment, Loan, Node, Service, State, Task, TaskStatus
from fairlead.core.draft import Changes
from fairlead.core.placement import Roster, Verdict, place
from fairlead.core.reconcile import reconcile, wind_up
from fairlead.core.swarmspec import HISTORY, SharedNetwork
from fairlead.errors import Conflict, NotFound, Unavailable

Thing = Node | Service | Task | SharedNetwork | Loan


class Step(NamedTuple):
    """One object before and after; None: it was not, or is no more."""

    before: Thing | None
    after: Thing | None


class Orchestrator:
    """``new_id``: draws an id. ``history``: ended tasks that a slot keeps."""

    def __init__(self, new_id: Callable[[], str], history: int = HISTORY) -> None:
        self.new_id, self.history = new_id, history
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, dict[str, Task]] = defaultdict(dict)
        """service -> id -> task"""
        self.living: dict[str, Counter[int | str]] = defaultdict(Counter)
        """service -> place -> tasks that have not ended"""
        self.everywhere: set[str] = set()
        """global services"""
        self.desk, self.roster = Desk(), Roster()
        self.dirty: set[str] = set()
        """services"""
        self.waiting: dict[str, Task] = {}
        """tasks that want an address or a node"""
        self.arrived: set[str] = set()
        """nodes whose address on ingress is to be looked after"""
        self.loans: dict[str, Loan] = {}
        self.asked: set[str] = set()
        """loans that were not looked at yet"""
        self.retry = False
        """something became free: those that wait may have a chance"""
        self.alarms: list[tuple[int, str]] = []

    # -- hearing -------------------------------------------------------------------------------------

    def hear(self, before: Thing | None, after: Thing | None) -> None:
        """An object changed. ``before`` is what was heard of it last, or None."""
        match after if after is not None else before:
            case Task():
                self._task(before, after)  # type: ignore[arg-type]
            case Service():
                self._service(before, after)  # type: ignore[arg-type]
            case Node():
                self._node(before, after)  # type: ignore[arg-type]
            case SharedNetwork() as network:
                self._network(network, gone=after is None)
            case Loan():
                self._loan(before, after)  # type: ignore[arg-type]

    def _task(self, before: Task | None, after: Task | None) -> None:
        task = after or before
        assert task is not None
        known = self._keep(task, after)
        old = known or before
        self._count(known, after)
        if known is not None and after is not None and _goes_its_way(known, after):
            self.roster.put(after)
            if known.status is after.status or self._only_waited_for(after):
                return
        else:
            self._hold(old, after)
        self.dirty.add(task.service)

    def _keep(self, task: Task, after: Task | None) -> Task | None:
        """As it was known until now. (Nothing is taken out only to be put in again: a dictionary that is emptied and
        filled by turns is made anew every so often.)"""
        of = self.tasks[task.service]
        known = of.get(task.id)
        if after is not None:
            of[after.id] = after
        else:
            of.pop(task.id, None)
            if not of:
                del self.tasks[task.service]
        if after is not None and after.status.state < State.ASSIGNED and after.wanted:
            self.waiting[after.id] = after
        else:
            self.waiting.pop(task.id, None)
        return known

    def _hold(self, old: Task | None, after: Task | None) -> None:
        """What a task has of addresses, and of its node."""
        if old is not None:
            self.roster.drop(old)
        if after is not None:
            self.roster.put(after)
        had = old.networks if old and not _lets_go(old) else ()
        has = after.networks if after and not _lets_go(after) else ()
        if had == has:
            return
        if old and had:
            self.desk.release(old)
        if after and has:
            self.desk.hold(after)

    def _count(self, old: Task | None, after: Task | None) -> None:
        if old and after and (old.place, old.status.state.ended) == (after.place, after.status.state.ended):
            return
        for task, by in ((old, -1), (after, 1)):
            if task is not None and not task.status.state.ended:
                living = self.living[task.service]
                living[task.place] += by
                if not living[task.place]:
                    del living[task.place]
                    if not living:
                        del self.living[task.service]

    def _only_waited_for(self, task: Task) -> bool:
        """Nothing follows from a task's getting on where it is alone in its place, and no rollout waits for it."""
        service = self.services.get(task.service)
        if service is None or self.living[task.service][task.place] > 1:
            return False
        return service.update is None or service.update.state.endswith("completed")

    def _loan(self, before: Loan | None, after: Loan | None) -> None:
        loan = after or before
        assert loan is not None
        if (old := self.loans.pop(loan.id, None) or before) is not None:
            self.desk.release(old)
            self.retry = True
        if after is not None:
            self.loans[after.id] = after
            self.desk.hold(after)
            self.asked.add(after.id)

    def _service(self, before: Service | None, after: Service | None) -> None:
        service = after or before
        assert service is not None
        old = self.services.pop(service.id, None)
        if old is not None:
            self.desk.release(old)
        self.everywhere.discard(service.id)
        if after is not None:
            self.services[service.id] = after
            self.desk.hold(after)
            if after.mode.is_global:
                self.everywhere.add(after.id)
        self.retry |= after is None
        self.dirty.add(service.id)

    def _node(self, before: Node | None, after: Node | None) -> None:
        node = after or before
        assert node is not None
        if (old := self.nodes.get(node.id) or before) is not None:
            self.desk.release(old)
        if after is None:
            self.nodes.pop(node.id, None)
            self.asked |= {loan.id for loan in self.loans.values() if loan.node == node.id}
            self.arrived.discard(node.id)
            self.retry = True
            self.dirty |= {task.service for task in self._on(node.id)}
            self.roster.drop_node(node.id)
            return
        self.nodes[node.id] = after
        self.desk.hold(after)
        self.arrived.add(node.id)
        self.roster.put_node(after)
        if before is None or _worth(before) != _worth(after):
            self.retry = True
            self.dirty |= {task.service for task in self._on(node.id)}
            self.dirty |= self.everywhere

    def _on(self, node_id: str) -> list[Task]:
        seat = self.roster.seats.get(node_id)
        return list(seat.tasks.values()) if seat else []

    def _network(self, network: SharedNetwork, *, gone: bool) -> None:
        self.arrived |= set(self.nodes) if network.spec.ingress else set()
        if gone:
            self.desk.close(network.id)
            return
        unseen = network.id in self.desk.unseen
        self.desk.open(network)
        self.retry = True
        self.dirty |= {service.id for service in self.services.values() if on_network(service.spec, network)}
        if not unseen:
            return
        for node in self.nodes.values():
            self.desk.hold(node)
        for loan in self.loans.values():
            self.desk.hold(loan)
        for service in self.services.values():
            self.desk.hold(service)
        for tasks in self.tasks.values():
            for task in tasks.values():
                if not _lets_go(task):
                    self.desk.hold(task)

    # -- deciding ------------------------------------------------------------------------------------

    @property
    def wake_at(self) -> int | None:
        """When a turn is due though nothing was heard."""
        return self.alarms[0][0] if self.alarms else None

    def turn(self, now: int) -> list[Step]:
        """What is to be written; every step stands for itself."""
        while self.alarms and self.alarms[0][0] <= now:
            self.dirty.add(heapq.heappop(self.alarms)[1])
        steps: dict[str, Step] = {}
        dirty, self.dirty = self.dirty, set()
        for service in sorted(dirty):
            self._reconcile(service, now, steps)
        self._attach(now, steps)
        self._lend(steps)
        if self.retry or dirty:
            self.retry = False
            self._serve(now, steps)
        return [step for step in steps.values() if step.before != step.after]

    def clock_was_set(self) -> None:
        """Nothing is due when it seemed to be: every service is looked at."""
        self.alarms.clear()
        self.dirty |= set(self.services)

    def undo(self, steps: Iterable[Step]) -> None:
        """They could not be written."""
        for before, after in steps:
            self.hear(after, before)

    def _reconcile(self, id: str, now: int, steps: dict[str, Step]) -> None:
        service, tasks = self.services.get(id), dict(self.tasks.get(id, {}))
        if service is None:
            self._apply(wind_up(tasks.values(), self.nodes, now), tasks, steps)
            return
        settled = service
        with contextlib.suppress(Conflict, NotFound, Unavailable):  # its tasks will say what is missing
            settled = self.desk.service(service)
        if settled is not service:
            self._note(service, settled, steps)
        changes = reconcile(settled, tasks.values(), self.nodes, now, self.new_id, self.history)
        self._apply(changes, tasks, steps)
        if changes.service is not None:
            self._note(settled, changes.service, steps)
        if changes.wake_at is not None:
            heapq.heappush(self.alarms, (changes.wake_at, id))

    def _attach(self, now: int, steps: dict[str, Step]) -> None:
        """An address on ingress for each node; one for which none is left goes without until there is."""
        arrived, self.arrived = self.arrived, set()
        for id in sorted(arrived):
            node = self.nodes[id]
            try:
                settled = self.desk.node(node)
            except Unavailable:
                self.arrived.add(id)
                continue
            if settled is not node:
                self._note(node, replace(settled, updated=now), steps)
            self.arrived.discard(id)

    def _lend(self, steps: dict[str, Step]) -> None:
        """Addresses for containers that are no tasks; those of a node that is gone for good are free again."""
        asked, self.asked = self.asked, set()
        for loan in (self.loans[id] for id in sorted(asked & self.loans.keys())):
            if loan.node not in self.nodes:
                self._note(loan, None, steps)
            elif not (loan.addresses or loan.error):
                try:
                    settled = self.desk.loan(loan)
                except (Conflict, NotFound, Unavailable) as error:
                    settled = replace(loan, error=error.message)
                self._note(loan, settled, steps)
        self.asked.clear()

    def _apply(self, changes: Changes, tasks: dict[str, Task], steps: dict[str, Step]) -> None:
        for task in changes.put:
            self._note(tasks.get(task.id), task, steps)
        for gone in changes.delete:
            self._note(tasks[gone], None, steps)

    def _serve(self, now: int, steps: dict[str, Step]) -> None:
        """Addresses and nodes for those that wait; alike ones together, and one such group after the other."""
        groups: dict[object, list[Task]] = defaultdict(list)
        for task in sorted(self.waiting.values(), key=lambda task: (task.service, task.slot, task.id)):
            groups[task.service, id(task.spec), task.host_ports].append(task)
        assigned = TaskStatus(State.ASSIGNED, now, "scheduler assigned task to node")
        for alike in groups.values():
            settled = {task.id: task for task in self._addressed(alike, now, steps)}
            for name, verdict in place(list(settled.values()), self.roster, now).items():
                self._placed(settled[name], verdict, assigned, steps)

    def _addressed(self, alike: list[Task], now: int, steps: dict[str, Step]) -> Iterator[Task]:
        """Those of a group that have their addresses, or get them."""
        service = self.services.get(alike[0].service)
        pending = TaskStatus(State.PENDING, now, "pending task scheduling")
        wishes: list[Attachment] | None = None
        for task in alike:
            if task.status.state >= State.PENDING:
                yield task
            elif service is not None:
                try:
                    wishes = self.desk.wishes(service.spec, task.spec) if wishes is None else wishes
                    settled = replace(task, networks=self.desk.give(wishes), status=pending)
                except (NotFound, Unavailable) as error:
                    self._status(task, TaskStatus(State.NEW, now, task.status.message, error.message), steps)
                    continue
                self._note(task, settled, steps)
                yield settled

    def _placed(self, task: Task, verdict: Verdict, assigned: TaskStatus, steps: dict[str, Step]) -> None:
        """``assigned``: what becomes of the status of each that has a node."""
        if verdict.node:
            sits = replace(task, node=verdict.node, generic=verdict.generic, status=assigned, updated=assigned.at)
            self._note(task, sits, steps)
        else:
            status = TaskStatus(State.PENDING, assigned.at, task.status.message, verdict.reason)
            self._status(task, status, steps)

    def _status(self, task: Task, status: TaskStatus, steps: dict[str, Step]) -> None:
        """A reason that was given already is not given again."""
        if (task.status.state, task.status.error) != (status.state, status.error):
            self._note(task, replace(task, status=status, updated=status.at), steps)

    def _note(self, before: Thing | None, after: Thing | None, steps: dict[str, Step]) -> None:
        thing = after if after is not None else before
        assert thing is not None
        first = steps[thing.id].before if thing.id in steps else before
        steps[thing.id] = Step(first, after)
        self.hear(before, after)


def _lets_go(task: Task) -> bool:
    """Its addresses are free: it has ended, or never came to a node and never will."""
    return task.status.state.ended or (task.desired > State.RUNNING and not task.node)


def _goes_its_way(before: Task, after: Task) -> bool:
    """Nothing was decided about it: it gets on where it is, or nothing is new but its version."""
    state = after.status.state
    told = before.status.state >= State.ASSIGNED and state <= State.RUNNING and after.desired == State.RUNNING
    return (
        (before.status is after.status or told)
        and before.node == after.node
        and before.desired == after.desired
        and before.networks == after.networks
        and before.host_ports == after.host_ports
        and (before.spec is after.spec or before.spec == after.spec)
    )


def _worth(node: Node) -> object:
    """What of a node matters for where tasks go."""
    return node.state, node.spec, node.description, node.address
