"""The numbers of ``service ls``."""

import pytest
from msgspec.structs import replace

from fairlead.core.cluster import JobStatus, Service, State, Task, TaskStatus
from fairlead.core.service import Global, Mode, Replicated, ReplicatedJob, ServiceSpec, TaskSpec
from fairlead.core.tally import tally

TASK = Task("t", TaskSpec(), "s", 1)
RUNNING = replace(TASK, status=TaskStatus(State.RUNNING))
DONE = replace(TASK, iteration=1, desired=State.SHUTDOWN, status=TaskStatus(State.COMPLETE))
FALLEN = replace(TASK, desired=State.SHUTDOWN, status=TaskStatus(State.FAILED))


def service(job: JobStatus | None = None, **mode: object) -> Service:
    return Service("s", ServiceSpec(mode=Mode(**mode)), job=job)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "tasks", "running", "desired", "completed"),
    [
        (service(replicated=Replicated(3)), [RUNNING, TASK, FALLEN], 1, 3, 0),
        (service(everywhere=Global()), [RUNNING, TASK, FALLEN], 1, 2, 0),
        (service(replicated=Replicated(1)), [replace(DONE, iteration=None)], 0, 1, 0),
        (service(JobStatus(1), replicated_job=ReplicatedJob(2, 5)), [DONE, replace(RUNNING, iteration=1)], 1, 2, 1),
        (service(JobStatus(2), replicated_job=ReplicatedJob(2, 5)), [DONE, replace(RUNNING, iteration=1)], 0, 2, 0),
        (service(JobStatus(1), everywhere_job=Global()), [DONE, replace(TASK, iteration=1)], 0, 1, 1),
    ],
    ids=["replicated", "global", "one that ended by itself", "a job", "a job's run before", "a job everywhere"],
)
def test_running_of_desired(of: Service, tasks: list[Task], running: int, desired: int, completed: int) -> None:
    others = [replace(RUNNING, service="another")]
    assert tally([of], [*tasks, *others]) == {
        "s": {"RunningTasks": running, "DesiredTasks": desired, "CompletedTasks": completed}
    }
