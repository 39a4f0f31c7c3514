"""Which tasks, services and nodes a filter means."""

import pytest

from fairlead.api import nodes, services, tasks
from fairlead.core.cluster import Description, Node, NodeSpec, Service, State, Task
from fairlead.core.service import Mode, ReplicatedJob, ServiceSpec, TaskSpec

WEB = ServiceSpec(name="web", labels={"tier": "front"}, task_template=TaskSpec(force_update=1))
TASK = Task("t123", WEB.task_template, "s1", 2, "n1")


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({"id": ["t1"]}, True),
        ({"id": ["123"]}, False),
        ({"service": ["s1", "s2"]}, True),
        ({"node": ["n2"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"name": ["web.2"]}, True),
        ({"name": ["eb.2"]}, False),
        ({"desired-state": ["RUNNING"]}, True),
        ({"desired-state": ["shutdown"]}, False),
        ({"_up-to-date": ["true"]}, True),
        ({"runtime": ["plugin"]}, False),
    ],
    ids=str,
)
def test_tasks(wanted: dict[str, list[str]], meant: bool) -> None:
    assert tasks.passes(TASK, wanted, WEB) is meant


def test_a_task_of_an_older_spec() -> None:
    old = Task("t1", TaskSpec(), "s1", 1, desired=State.SHUTDOWN)
    assert tasks.passes(old, {}, WEB) and not tasks.passes(old, {"_up-to-date": ["true"]}, WEB)
    assert tasks.passes(old, {"name": ["s1.1"]}, ServiceSpec()), "its service is gone"


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({"mode": ["replicated-job"]}, True),
        ({"mode": ["replicated"]}, False),
        ({"name": ["jo"]}, True),
        ({"label": ["tier"]}, False),
        ({"runtime": ["container"]}, True),
    ],
    ids=str,
)
def test_services(wanted: dict[str, list[str]], meant: bool) -> None:
    job = Service("s1", ServiceSpec(name="job", mode=Mode(replicated_job=ReplicatedJob(1, 1))))
    assert services.passes(job, wanted) is meant


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({"name": ["host"]}, True),
        ({"name": ["fred"]}, False),
        ({"role": ["manager"]}, False),
        ({"membership": ["pending"]}, False),
        ({"label": ["disk=ssd"]}, True),
        ({"node.label": ["zone=east"]}, True),
        ({"node.label": ["disk"]}, False),
    ],
    ids=str,
)
def test_nodes(wanted: dict[str, list[str]], meant: bool) -> None:
    spec = NodeSpec("fred", {"zone": "east"})
    node = Node("n1", spec, Description("host1", engine_labels={"disk": "ssd"}))
    assert nodes.passes(node, wanted) is meant
