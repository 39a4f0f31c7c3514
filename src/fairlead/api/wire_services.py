"""Services and tasks in Docker's spelling.

What was asked is given back as it was asked: fields that were not given are left out, but for those in ``ALWAYS``. With
``insertDefaults`` the ones that hold where nothing was said are filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.api import times, wire
from fairlead.core import service as asked
from fairlead.core.cluster import Attachment, Service, Task, TaskStatus, UpdateStatus
from fairlead.core.container import NEVER
from fairlead.core.service import ContainerSpec, EndpointSpec, Mode, Replicated, RestartRule, ServicePort, ServiceSpec
from fairlead.core.swarmspec import SharedNetwork

ALWAYS = {
    "force_update",
    "parallelism",
    "max_failure_ratio",
    "max_attempts",
    "replicas",
    "labels",
    "protocol",
    "publish_mode",
}
"""Fields that Docker shows though they are 0 or empty, where the object they belong to is there."""


def service_spec(body: Any) -> ServiceSpec:
    """The body of ``services/create`` and ``services/…/update``; where no number is given, one task is meant."""
    read = wire.read(ServiceSpec, body)
    if read.mode.replicated is None and read.mode != Mode():
        return read
    return replace(read, mode=Mode(replicated=Replicated(asked.replicas(read))))


def spec(of: ServiceSpec) -> dict[str, Any]:
    """A service's spec as ``inspect`` shows it."""
    shown: dict[str, Any] = sparse(of)
    shown["Labels"] = of.labels or {}
    template = shown.setdefault("TaskTemplate", {})
    template.setdefault("ForceUpdate", 0)
    template["Runtime"] = of.task_template.runtime or "container"
    if "ContainerSpec" in template:
        template["ContainerSpec"].setdefault("Isolation", "default")
    return shown


def with_defaults(of: ServiceSpec) -> ServiceSpec:
    """What holds where nothing was said."""
    template = of.task_template
    container = template.container_spec or ContainerSpec()
    if container.stop_grace_period is None:
        container = replace(container, stop_grace_period=asked.GRACE)
    rule = asked.restart(template)
    rule = RestartRule(rule.condition, rule.delay, rule.max_attempts, rule.window or None)
    return replace(
        of,
        task_template=replace(template, container_spec=container, restart_policy=rule),
        update_config=asked.config(of.update_config),
        rollback_config=asked.config(of.rollback_config),
        endpoint_spec=replace(
            of.endpoint_spec or EndpointSpec(), mode=(of.endpoint_spec or EndpointSpec()).mode or "vip"
        ),
    )


def service(of: Service, *, defaults: bool = False, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """``counts``: of ``ServiceStatus``, where it was asked for."""
    shown = {
        **head(of),
        "Spec": spec(with_defaults(of.spec) if defaults else of.spec),
        **({"PreviousSpec": spec(of.previous)} if of.previous else {}),
        "Endpoint": endpoint(of),
    }
    if of.update is not None:
        shown["UpdateStatus"] = update_status(of.update)
    if counts is not None:
        shown["ServiceStatus"] = counts
    if of.job is not None:
        iteration = {"Index": of.job.iteration} if of.job.iteration else {}
        shown["JobStatus"] = {"JobIteration": iteration, "LastExecution": stamp(of.job.last_execution)}
    return shown


def endpoint(of: Service) -> dict[str, Any]:
    """How it is reached now; nothing until it has an address or a port."""
    if not of.addresses and not of.ports:
        return {"Spec": {}}
    given = of.spec.endpoint_spec or EndpointSpec()
    shown: dict[str, Any] = {"Spec": {"Mode": given.mode or "vip", **ports("Ports", given.ports or ())}}
    shown.update(ports("Ports", of.ports))
    if of.addresses:
        shown["VirtualIPs"] = [
            {"NetworkID": held.network, "Addr": address} for held in of.addresses for address in held.addresses
        ]
    return shown


def ports(name: str, of: Iterable[ServicePort]) -> dict[str, Any]:
    shown = [port(one) for one in of]
    return {name: shown} if shown else {}


def port(of: ServicePort) -> dict[str, Any]:
    shown = {
        "Name": of.name,
        "Protocol": of.protocol,
        "TargetPort": of.target_port,
        "PublishedPort": of.published_port,
        "PublishMode": of.publish_mode,
    }
    return {key: value for key, value in shown.items() if value}


def update_status(of: UpdateStatus) -> dict[str, Any]:
    times = {"StartedAt": of.started, "CompletedAt": of.completed}
    shown = {"State": of.state, **{key: stamp(at) for key, at in times.items() if at}}
    return {**shown, "Message": of.message}


def task(of: Task, networks: Mapping[str, SharedNetwork]) -> dict[str, Any]:
    shown = {
        **head(of),
        "Labels": of.labels,
        "Spec": {**sparse(of.spec), "ForceUpdate": of.spec.force_update},
        **({"ServiceID": of.service} if of.service else {}),
        **({"Slot": of.slot} if of.slot else {}),
        **({"NodeID": of.node} if of.node else {}),
        "Status": status(of.status),
        "DesiredState": of.desired.text,
    }
    if of.networks:
        shown["NetworksAttachments"] = [attachment(one, networks.get(one.network)) for one in of.networks]
    if of.iteration is not None:
        shown["JobIteration"] = {"Index": of.iteration} if of.iteration else {}
    return {**shown, "Volumes": None}


def status(of: TaskStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"Timestamp": stamp(of.at), "State": of.state.text, "Message": of.message}
    if of.error:
        shown["Err"] = of.error
    if of.container_id or of.state.ended:
        shown["ContainerStatus"] = {"ContainerID": of.container_id, "PID": of.pid, "ExitCode": of.exit_code}
    published = [ServicePort("", one.protocol, one.target_port, one.published_port, "host") for one in of.ports]
    return {**shown, "PortStatus": ports("Ports", published)}


def attachment(of: Attachment, network: SharedNetwork | None) -> dict[str, Any]:
    name = network.spec.name if network else ""
    shown: dict[str, Any] = {"Network": {"ID": of.network, "Spec": {"Name": name}}, "Addresses": list(of.addresses)}
    return {**shown, "Aliases": list(of.aliases)} if of.aliases else shown


def head(of: Any) -> dict[str, Any]:
    """Identity, version and times: what every object of a swarm begins with."""
    return {
        "ID": of.id,
        "Version": {"Index": of.version},
        "CreatedAt": stamp(of.created),
        "UpdatedAt": stamp(of.updated or of.created),
    }


def stamp(at: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text; 0: not yet."""
    return times.text(at) if at else NEVER


def sparse(value: Any) -> Any:
    """A struct as JSON without what was not given."""
    if isinstance(value, msgspec.Struct):
        shown = {}
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if item is None or (field.name not in ALWAYS and item == field.default):
                continue
            shown[wire.spell(field.name)] = sparse(item)
        return shown
    if isinstance(value, tuple):
        return [sparse(item) for item in value]
    return value
