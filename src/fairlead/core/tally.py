"""How a service is doing, in three numbers, as ``service ls`` shows them: running of desired, and completed.

What is desired follows from the spec where it says a number; of global ones it is what the leader decided so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fairlead.core import service
from fairlead.core.cluster import Service, State, Task


def tally(services: Iterable[Service], tasks: Iterable[Task]) -> dict[str, dict[str, int]]:
    """Service -> ``RunningTasks``, ``DesiredTasks``, ``CompletedTasks``; of a job only its last run counts."""
    known = {one.id: one for one in services}
    running: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    for task in tasks:
        of = known.get(task.service)
        if of is None or (of.job is not None and task.iteration != of.job.iteration):
            continue
        running[of.id] += task.status.state == State.RUNNING
        wanted[of.id] += task.desired == State.RUNNING
        completed[of.id] += task.status.state == State.COMPLETE
    return {
        one.id: {
            "RunningTasks": running[one.id],
            "DesiredTasks": wanted[one.id] if one.mode.is_global else _asked(one),
            "CompletedTasks": completed[one.id] if one.mode.is_job else 0,
        }
        for one in known.values()
    }


def _asked(of: Service) -> int:
    return service.concurrent(of.spec) if of.mode.replicated_job is not None else service.replicas(of.spec)
