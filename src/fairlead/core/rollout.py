"""Rolling updates and rollbacks: how a service comes from tasks of its old spec to tasks of its new one.

    out of date --(at most ``parallelism`` at once)--> in hand --> running --(delay)--> next
                                                          |
                                                          '-- too many failed: pause, go on, or roll back

    stop-first    the old one stops, then the new one, which was made ready meanwhile, starts
    start-first   the new one runs, then the old one stops

The state is the service's ``update`` and the tasks themselves: who is up to date, since when it runs, what failed. A
failure counts when the task fell before it ran for ``monitor``; the ratio is of slots.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fairlead.core import service
from fairlead.core.cluster import Service, State, Task, UpdateStatus
from fairlead.core.draft import Draft
from fairlead.core.service import UpdateConfig

FELL = (State.COMPLETE, State.FAILED, State.REJECTED)
"""how a task ends that nobody asked to"""


def judge(draft: Draft) -> Service:
    """The service after what failed so far was weighed: still updating, paused, or with its previous spec again."""
    of, update = draft.service, draft.service.update
    if update is None or update.state not in ("updating", "rollback_started"):
        return of
    how, back = _config(of), update.state == "rollback_started"
    slots = draft.slots()
    failed = [fell for tasks in slots.values() if (fell := _failure(draft, tasks, how)) is not None]
    if how.failure_action == "continue" or len(failed) <= how.max_failure_ratio * len(slots):
        return of
    because = f"due to failure or early termination of task {failed[-1].id}"
    if how.failure_action == "rollback" and not back and of.previous is not None:
        status = UpdateStatus("rollback_started", started=draft.now, message=f"update rolled back {because}")
        return replace(of, spec=of.previous, previous=None, update=status, updated=draft.now)
    state, what = ("rollback_paused", "rollback") if back else ("paused", "update")
    return replace(of, update=replace(update, state=state, message=f"{what} paused {because}"), updated=draft.now)


def advance(draft: Draft) -> Service:
    """Puts as many new tasks in hand as may be; answers the service with the state of its update."""
    _retire(draft)
    of, slots = draft.service, draft.slots()
    stale = [place for place, tasks in draft.stirred().items() if _stale(draft, tasks)]
    update = of.update
    if update is None or update.state.endswith("completed"):
        if not stale:
            return of
        update = UpdateStatus("updating", started=draft.now, message="update in progress")
    if update.state.endswith("paused"):
        return of
    how = _config(replace(of, update=update))
    progress = [_progress(draft, tasks, update.started, how) for tasks in slots.values()]
    room = how.parallelism - sum(in_hand for in_hand, _ in progress) if how.parallelism else len(stale)
    for place in _order(slots, [place for place in stale if _takes(draft, place)])[: max(0, room)]:
        _renew(draft, place, slots[place], how, update.started)
    if not stale and not any(watched for _, watched in progress):
        done, what = (
            ("rollback_completed", "rollback") if update.state.startswith("rollback") else ("completed", "update")
        )
        update = replace(update, state=done, completed=draft.now, message=f"{what} completed")
    return of if update == of.update else replace(of, update=update, updated=draft.now)


def _config(of: Service) -> UpdateConfig:
    back = of.update is not None and of.update.state.startswith("rollback")
    return service.config(of.spec.rollback_config if back else of.spec.update_config)


def _stale(draft: Draft, tasks: Sequence[Task]) -> bool:
    """Somebody runs there, but nobody up to date does, nor is about to."""
    wanted = [task for task in tasks if task.wanted]
    return bool(wanted) and not any(draft.up_to_date(task) for task in wanted)


def _takes(draft: Draft, place: int | str) -> bool:
    """Whether a new task could go there: not on a paused node, whose old one had better stay."""
    return isinstance(place, int) or (place in draft.nodes and draft.nodes[place].takes_tasks)


def _retire(draft: Draft) -> None:
    """Old tasks beside which a new one runs already."""
    for tasks in draft.stirred().values():
        if any(task.wanted and task.running and draft.up_to_date(task) for task in tasks):
            for old in tasks:
                if old.wanted and not draft.up_to_date(old):
                    draft.desire(old, State.SHUTDOWN)


def _order(slots: dict[int | str, list[Task]], stale: list[int | str]) -> list[int | str]:
    """Those first in which nothing runs anyway, then by number."""
    return sorted(stale, key=lambda place: (any(task.running for task in slots[place]), str(place).zfill(9)))


def _failure(draft: Draft, tasks: Sequence[Task], how: UpdateConfig, started: int | None = None) -> Task | None:
    """The last task of this rollout in the slot that fell before it had proved itself."""
    since = draft.service.update.started if started is None and draft.service.update else started or 0
    for task in reversed(tasks):
        new = task.created >= since and draft.up_to_date(task)
        if new and task.status.state in FELL and (not task.ran or task.status.at - task.ran < how.monitor):
            return task
    return None


def _progress(draft: Draft, tasks: Sequence[Task], started: int, how: UpdateConfig) -> tuple[bool, bool]:
    """(it takes one of the parallel places, it is still watched)."""
    fresh = next((task for task in reversed(tasks) if task.wanted and draft.up_to_date(task)), None)
    if fresh is None:
        return False, False
    if not fresh.running:
        return fresh.created >= started, fresh.created >= started
    return draft.wake(fresh.ran, how.delay), draft.wake(fresh.ran, how.monitor)


def _renew(draft: Draft, place: int | str, tasks: Sequence[Task], how: UpdateConfig, started: int) -> None:
    """A task of the new spec; where one fell already, after as long as a restart would take."""
    fell = _failure(draft, tasks, how, started)
    delay = service.restart(draft.service.spec.task_template).delay or 0
    not_before = fell.status.at + delay if fell is not None else 0
    start_first = how.order == "start-first"
    if not start_first:
        for old in tasks:
            draft.desire(old, State.SHUTDOWN)
    at_once = start_first and not not_before
    draft.create(place, desired=State.RUNNING if at_once else State.READY, not_before=not_before)
