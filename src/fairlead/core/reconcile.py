"""Reconcile: a service and its tasks -> which tasks there should be. Asked again whenever one of them changed.

    what fell (ended, node gone) -----> shut down, and followed by a new task in its slot, if the policy says so
    too few, too many ----------------> new slots from 1 up; surplus removed where most of them are
    out of date ----------------------> ``rollout``: so many at a time
    made ready, may start now --------> desired running
    its node was removed -------------> orphaned: its addresses are free
    history --------------------------> the oldest ended tasks of a slot are forgotten

Everything follows from the service, its tasks, the nodes and the time: nothing is remembered between two calls, so that
a new leader goes on where the old one was. ``wake_at`` says when to ask again though nothing changed.

Rules
    1. A task's desired state only moves forward.
    2. A follower starts when the delay is over and the task before it has ended, or sits on a node that nobody hears.
    3. A task that ended for good keeps its slot: it is not started again because somebody else's task changed.

What it does not do: choose nodes (``placement``), hand out addresses (the allocator).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from fairlead.core import rollout, service
from fairlead.core.cluster import Node, Service, State, Task, TaskStatus
from fairlead.core.draft import Changes, Draft, allowed
from fairlead.core.swarmspec import HISTORY

NODE_GONE = "Task belonged to a node that has been deleted"


def reconcile(
    of: Service,
    tasks: Iterable[Task],
    nodes: Mapping[str, Node],
    now: int,
    new_id: Callable[[], str],
    history: int = HISTORY,
) -> Changes:
    """One look at one service."""
    draft = Draft(of, tasks, nodes, now, new_id)
    draft.service = rollout.judge(draft)
    if of.mode.is_job:
        _job(draft)
    else:
        _fallen(draft)
        if of.mode.is_global:
            _everywhere(draft)
        else:
            _scale(draft, service.replicas(draft.service.spec))
        draft.service = rollout.advance(draft)
    _ready(draft)
    _orphan(draft)
    _forget(draft, history)
    changes = draft.changes()
    return changes._replace(service=draft.service) if draft.service != of else changes


def wind_up(tasks: Iterable[Task], nodes: Mapping[str, Node], now: int) -> Changes:
    """What becomes of the tasks of a service that was removed."""
    draft = Draft(Service(id="", spec=service.ServiceSpec()), tasks, nodes, now, str)
    for task in list(draft.tasks.values()):
        draft.desire(task, State.REMOVE)
    _forget(draft, 0)
    return draft.changes()


# -- what fell -------------------------------------------------------------------------------------------------------


def _fallen(draft: Draft) -> None:
    """Tasks that should run and do not, or cannot stay where they are."""
    for place, slot in draft.stirred().items():
        for task in slot:
            if task.desired > State.RUNNING or _still_waits(draft, task):
                continue
            displaced = not task.status.state.ended and not draft.may_stay(task)
            if task.status.state.ended or displaced:
                draft.desire(task, State.SHUTDOWN)
                alone = not any(other.wanted for other in slot if other is not task)
                if alone and not (displaced and draft.service.mode.is_global):
                    _follow(draft, place, task, displaced)


def _still_waits(draft: Draft, task: Task) -> bool:
    """It fell while it was made ready, its delay not yet over: its follower comes when it would have come itself."""
    return task.desired == State.READY and task.status.state.ended and _early(draft, task)


def _early(draft: Draft, task: Task) -> bool:
    """Its delay is not over."""
    delay = service.restart(task.spec).delay or 0
    return draft.wake(task.not_before - delay, delay)


def _follow(draft: Draft, place: int | str, task: Task, displaced: bool = False) -> None:
    """A new task in the place of one that ended, if the restart policy says so."""
    restarts = _again(task, draft.now, displaced)
    if restarts is None:
        return
    update = draft.service.update
    paused = update is not None and update.state.endswith("paused")
    delay = 0 if displaced else service.restart(task.spec).delay or 0
    draft.create(
        place,
        desired=State.READY,
        spec=task.spec if paused else None,
        not_before=max(task.status.at or draft.now, task.not_before) + delay if delay else 0,
        restarts=restarts,
    )


def _again(task: Task, now: int, displaced: bool = False) -> tuple[int, ...] | None:
    """None: its restart policy has no follower for it; else the restarts that the follower has to count."""
    rule = service.restart(task.spec)
    if task.status.state <= State.ASSIGNED:
        return task.restarts  # it never began
    if rule.condition == "none" or (rule.condition == "on-failure" and task.status.state == State.COMPLETE):
        return None
    if not rule.max_attempts or displaced:
        return ()
    fell = task.status.at or now
    counted = [at for at in task.restarts if not rule.window or at > fell - rule.window]
    return (*counted, fell) if len(counted) < rule.max_attempts else None


def _ready(draft: Draft) -> None:
    """Those that were only made ready, and may start now."""
    for slot in draft.stirred().values():
        stopping = any(
            task.desired > State.RUNNING and not task.status.state.ended and not draft.silent(task) and task.node
            for task in slot
        )
        for task in slot:
            if task.desired == State.READY and not _early(draft, task) and not stopping:
                draft.desire(task, State.RUNNING)


# -- how many --------------------------------------------------------------------------------------------------------


def _scale(draft: Draft, wanted: int) -> None:
    """As many slots as there should be. Slots whose last task ended for good count: they had their run."""
    slots = {place: tasks for place, tasks in draft.slots().items() if _fills(draft, tasks)}
    surplus = len(slots) - wanted
    if surplus > 0:
        for place in _surplus(slots)[:surplus]:
            for task in slots[place]:
                draft.desire(task, State.REMOVE)
    number = 0
    for _ in range(-surplus):
        number += 1
        while number in slots:
            number += 1
        draft.create(number)


def _fills(draft: Draft, tasks: Sequence[Task]) -> bool:
    """Whether somebody runs there, or ran as asked and is done."""
    if any(task.wanted or _still_waits(draft, task) for task in tasks):
        return True
    last = tasks[-1]
    done = last.desired != State.REMOVE and last.status.state.ended and draft.up_to_date(last)
    return done and _again(last, draft.now) is None


def _surplus(slots: Mapping[int | str, Sequence[Task]]) -> list[int | str]:
    """Places in the order in which they can be done without: idle ones, then from the fullest node, newest first."""
    order: list[int | str] = []
    left = {place: next((task for task in tasks if task.wanted), tasks[-1]) for place, tasks in slots.items()}
    idle = [place for place, task in left.items() if not task.running]
    order += sorted(idle, key=lambda place: (left[place].wanted, -int(place)))
    load = Counter(task.node for task in left.values() if task.running)
    for place in idle:
        del left[place]
    by_node: dict[str, list[int | str]] = defaultdict(list)
    for place in sorted(left, key=int):
        by_node[left[place].node].append(place)
    while by_node:
        fullest = max(by_node, key=lambda node: (load[node], by_node[node][-1]))
        order.append(by_node[fullest].pop())
        load[fullest] -= 1
        if not by_node[fullest]:
            del by_node[fullest]
    return order


def _everywhere(draft: Draft) -> None:
    """One on every node that may have it."""
    slots = draft.slots()
    for node in draft.nodes.values():
        if node.takes_tasks and allowed(node, draft.service.spec.task_template):
            tasks = slots.get(node.id, [])
            if not tasks or not _fills_node(draft, tasks):
                draft.create(node.id)


def _fills_node(draft: Draft, tasks: Sequence[Task]) -> bool:
    """A task that ended there by itself had its run; one that was shut down because the node was drained had not."""
    return _fills(draft, tasks) and (any(task.wanted for task in tasks) or tasks[-1].status.state != State.SHUTDOWN)


# -- jobs ------------------------------------------------------------------------------------------------------------


def _job(draft: Draft) -> None:
    """Tasks of this run of the job until enough of them completed; those of earlier runs go."""
    iteration = draft.service.job.iteration if draft.service.job else 0
    for task in list(draft.tasks.values()):
        if task.iteration != iteration:
            draft.desire(task, State.REMOVE)
    slots = {place: [t for t in tasks if t.iteration == iteration] for place, tasks in draft.slots().items()}
    slots = {place: tasks for place, tasks in slots.items() if tasks}
    for place, tasks in slots.items():
        last = tasks[-1]
        if _still_waits(draft, last):
            continue
        if last.desired <= State.RUNNING and last.status.state.ended:
            draft.desire(last, State.SHUTDOWN)
            if last.status.state != State.COMPLETE:
                _follow(draft, place, last)
        elif last.wanted and not draft.may_stay(last):
            draft.desire(last, State.SHUTDOWN)
            if not draft.service.mode.is_global:
                _follow(draft, place, last, displaced=True)
    if draft.service.mode.is_global:
        for node in draft.nodes.values():
            if node.id not in slots and node.takes_tasks and allowed(node, draft.service.spec.task_template):
                draft.create(node.id)
        return
    open_slots = sum(1 for tasks in slots.values() if tasks[-1].status.state != State.COMPLETE)
    missing = service.replicas(draft.service.spec) - len(slots)
    for number in range(min(missing, service.concurrent(draft.service.spec) - open_slots)):
        draft.create(len(slots) + 1 + number)


# -- history ---------------------------------------------------------------------------------------------------------


def _orphan(draft: Draft) -> None:
    """Of tasks whose node was removed nobody will tell that they ended. (Without the node a global service has no place
    in whose history they could be.)"""
    for task in [task for slot in draft.stirred().values() for task in slot]:
        if not task.node or task.node in draft.nodes or task.desired <= State.RUNNING:
            continue
        if isinstance(task.place, str):
            draft.forget(task.id)
        elif not task.status.state.ended:
            status = TaskStatus(State.ORPHANED, draft.now, NODE_GONE, container_id=task.status.container_id)
            draft.put(replace(task, status=status, updated=draft.now))


def _forget(draft: Draft, history: int) -> None:
    """Tasks that nobody will look for again. (Of one that no node was given none tells that it ended; in a global
    service it has its node from the first.)"""
    for slot in draft.stirred().values():
        kept = len(slot)
        for task in slot:
            over = task.status.state.ended or not task.node or task.node not in draft.nodes
            never_ran = (not task.node or task.status.state < State.ASSIGNED) and task.desired > State.RUNNING
            if (task.desired == State.REMOVE and over) or never_ran:
                pass
            elif not (kept > history and task.desired > State.RUNNING and task.status.state.ended):
                continue
            draft.forget(task.id)
            kept -= 1
