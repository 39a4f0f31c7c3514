"""Services as dockerd 28 showed them, from what it was asked: tests/data/swarm_services.jsonl."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.api import wire_services
from fairlead.core import servicecheck
from fairlead.core.cluster import Attachment, JobStatus, PortStatus, Service, State, Task, TaskStatus, UpdateStatus
from fairlead.core.imagespec import Credentials
from fairlead.core.service import ServicePort, ServiceSpec
from fairlead.errors import Invalid

RECORDED = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "swarm_services.jsonl").read_text().splitlines()
]
NOW = 1_795_278_993_239_213_076


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["asked"]["Name"])
def test_a_spec_is_given_back_as_it_was_asked(recorded: dict[str, Any]) -> None:
    spec = wire_services.service_spec(recorded["asked"])
    if recorded["query"] == "insertDefaults=true":
        spec = wire_services.with_defaults(spec)
    assert wire_services.spec(spec) == recorded["shown"]["Spec"]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["asked"]["Name"])
def test_what_was_shown_and_is_sent_back_is_no_change(recorded: dict[str, Any]) -> None:
    """As ``docker service scale`` does: no task is out of date by it."""
    spec = wire_services.service_spec(recorded["asked"])
    assert wire_services.service_spec(wire_services.spec(spec)) == spec


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["asked"]["Name"])
def test_the_whole_of_a_service(recorded: dict[str, Any]) -> None:
    shown = recorded["shown"]
    told = shown["Endpoint"]
    held = tuple(Attachment(one["NetworkID"], (one["Addr"],)) for one in told.get("VirtualIPs", ()))
    ports = tuple(
        ServicePort("", p["Protocol"], p["TargetPort"], p["PublishedPort"], p["PublishMode"])
        for p in told.get("Ports", ())
    )
    job = JobStatus(0, NOW) if "JobStatus" in shown else None
    spec = wire_services.service_spec(recorded["asked"])
    made = wire_services.service(
        Service("id", spec, NOW, NOW, 7, addresses=held, ports=ports, job=job),
        defaults=recorded["query"] == "insertDefaults=true",
    )
    assert made.keys() == shown.keys()
    assert made["Endpoint"] == told
    assert made["Version"] == {"Index": 7}
    assert made["CreatedAt"] == "2026-11-21T16:36:33.239213076Z"


def test_who_asks_a_registry_is_never_shown() -> None:
    spec = wire_services.service_spec(RECORDED[0]["asked"])
    asking = replace(spec, task_template=replace(spec.task_template, registry=Credentials("me", "hush")))
    assert wire_services.spec(asking) == wire_services.spec(spec)
    task = Task("t", asking.task_template, "s", 1, "n")
    assert "hush" not in json.dumps(wire_services.task(task, {})) + repr(asking)


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(Invalid, match=r"cannot unmarshal string .*TaskTemplate\.Resources\.Limits\.NanoCPUs"):
        wire_services.service_spec({"TaskTemplate": {"Resources": {"Limits": {"NanoCPUs": "many"}}}})
    with pytest.raises(Invalid, match="float32"):
        wire_services.service_spec({"UpdateConfig": {"MaxFailureRatio": "half"}})


def test_a_task_that_was_rejected() -> None:
    status = TaskStatus(State.REJECTED, NOW, "preparing", "No such image: busybox:latest")
    spec = wire_services.service_spec(RECORDED[1]["asked"]).task_template
    held = (Attachment("net", ("10.40.0.71/26",)),)
    shown = wire_services.task(Task("t", spec, "s", 1, "n", State.SHUTDOWN, status, NOW, NOW, 76, held), {})
    assert shown["Status"] == {
        "Timestamp": "2026-11-21T16:36:33.239213076Z",
        "State": "rejected",
        "Message": "preparing",
        "Err": "No such image: busybox:latest",
        "ContainerStatus": {"ContainerID": "", "PID": 0, "ExitCode": 0},
        "PortStatus": {},
    }
    assert (shown["DesiredState"], shown["Slot"], shown["Volumes"]) == ("shutdown", 1, None)
    assert shown["NetworksAttachments"][0]["Addresses"] == ["10.40.0.71/26"]


def test_slots_of_a_job_are_counted_from_0() -> None:
    spec = wire_services.service_spec(RECORDED[1]["asked"]).task_template
    shown = [
        wire_services.task(Task("t", spec, "s", slot, "n", State.COMPLETE, TaskStatus(State.COMPLETE), iteration=0), {})
        for slot in (1, 2)
    ]
    assert ["Slot" in shown[0], shown[1]["Slot"], shown[0]["JobIteration"]] == [False, 1, {}]


def test_ports_on_the_node() -> None:
    status = TaskStatus(State.RUNNING, NOW, "started", container_id="c", pid=5, ports=(PortStatus("tcp", 90, 9090),))
    assert wire_services.status(status)["PortStatus"] == {
        "Ports": [{"Protocol": "tcp", "TargetPort": 90, "PublishedPort": 9090, "PublishMode": "host"}]
    }


def test_the_state_of_an_update() -> None:
    status = UpdateStatus("rollback_started", started=NOW, message="manually requested rollback")
    assert wire_services.update_status(status) == {
        "State": "rollback_started",
        "StartedAt": "2026-11-21T16:36:33.239213076Z",
        "Message": "manually requested rollback",
    }


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (NOW - NOW % 10**9, "2026-11-21T16:36:33Z"),
        (10**9 + 10**8, "1970-01-01T00:00:01.1Z"),
    ],
)
def test_times(at: int, text: str) -> None:
    assert wire_services.stamp(at) == text


def test_what_is_null_was_not_given() -> None:
    """Compose's deployer says so of everything that it has nothing to say about."""
    container = {"Image": "busybox", "Privileges": {"CredentialSpec": None}, "Mounts": [{"Type": "bind", "A": None}]}
    spec = wire_services.service_spec({"Name": "web", "TaskTemplate": {"ContainerSpec": container}})
    assert spec.task_template.container_spec is not None
    assert spec.task_template.container_spec.privileges == {"CredentialSpec": None}
    servicecheck.check(spec)


def test_words_of_ports_that_nobody_knows_mean_the_usual() -> None:
    ports = [{"TargetPort": 80, "Protocol": "X", "PublishMode": ""}, {"TargetPort": 81, "Protocol": "UDP"}]
    spec = wire_services.service_spec({"EndpointSpec": {"Ports": ports}})
    assert [(port.protocol, port.publish_mode) for port in spec.ports] == [("tcp", "ingress"), ("udp", "ingress")]
    assert spec.endpoint_spec is not None and spec.endpoint_spec.mode == "vip"


def test_a_job_s_task_is_to_complete() -> None:
    task = Task("t", ServiceSpec().task_template, iteration=0)
    assert wire_services.desired(task) == "complete"
    ended = replace(task, desired=State.SHUTDOWN, status=TaskStatus(State.COMPLETE))
    assert wire_services.desired(ended) == "complete"
    assert wire_services.desired(replace(ended, status=TaskStatus(State.FAILED))) == "shutdown"
    assert wire_services.desired(replace(task, iteration=None)) == "running"


def test_privileges_are_objects() -> None:
    for name in ("CredentialSpec", "Seccomp"):
        container = {"Image": "busybox", "Privileges": {name: "x"}}
        with pytest.raises(Invalid, match=rf"cannot unmarshal string into .*Privileges\.{name} of type swarm"):
            wire_services.service_spec({"TaskTemplate": {"ContainerSpec": container}})
