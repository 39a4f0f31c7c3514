"""Services and tasks in Docker's spelling.

What was asked is given back as it was asked: fields that were not given are left out, but for those in ``ALWAYS``. With
``insertDefaults`` the ones that hold where nothing was said are filled in.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.api import times, wire, wire_mounts
from fairlead.core import service as asked
from fairlead.core.cluster import Attachment, Service, State, Task, TaskStatus, UpdateStatus
from fairlead.core.container import NEVER
from fairlead.core.imagespec import Credentials
from fairlead.core.service import (
    ContainerSpec,
    DnsConfig,
    EndpointSpec,
    Mode,
    Placement,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    RestartRule,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
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

PRIVILEGES = {
    "CredentialSpec": "CredentialSpec",
    "SELinuxContext": "SELinuxContext",
    "Seccomp": "SeccompOpts",
    "AppArmor": "AppArmorOpts",
}
"""Member -> what Go calls its type."""


def service_spec(body: Any) -> ServiceSpec:
    """The body of ``services/create`` and ``services/…/update``; where no number is given, one task is meant."""
    if body is not None and not isinstance(body, dict):
        raise wire.wrong(body, "", "swarm.ServiceSpec")
    read = wire.read(ServiceSpec, body or {}, "ServiceSpec")
    container = read.task_template.container_spec
    wire_mounts.check(container.mounts if container else None, "ServiceSpec.TaskTemplate.ContainerSpec.Mounts")
    _privileges((container and container.privileges) or {}, "ServiceSpec.TaskTemplate.ContainerSpec.Privileges")
    endpoint = read.endpoint_spec
    if endpoint is not None:
        ports = endpoint.ports and tuple(_known(port) for port in endpoint.ports)
        endpoint = replace(endpoint, mode=endpoint.mode or "vip", ports=ports)
    return replace(read, mode=_counted(read), endpoint_spec=endpoint, task_template=_plain(read.task_template))


def _privileges(given: Mapping[str, Any], where: str) -> None:
    """Each of them is an object."""
    for name, item in given.items():
        if name in PRIVILEGES and item is not None and not isinstance(item, dict):
            raise wire.wrong(item, f"{where}.{name}", f"swarm.{PRIVILEGES[name]}")


def _plain(template: TaskSpec) -> TaskSpec:
    """Without the words that ``inspect`` puts where nothing was said: who sends them back changes nothing."""
    container = template.container_spec
    if container is not None and container.isolation == "default":
        container = replace(container, isolation="")
    runtime = template.runtime.removeprefix("container")
    return replace(template, container_spec=container, runtime=runtime, registry=None)


def _counted(of: ServiceSpec) -> Mode:
    """With the numbers that were left out."""
    mode = of.mode
    if mode == Mode() or mode.replicated is not None:
        return replace(mode, replicated=Replicated(asked.replicas(of)))
    if mode.replicated_job is not None:
        at_once = asked.concurrent(of)
        return replace(mode, replicated_job=ReplicatedJob(at_once, asked.replicas(of)))
    return mode


def _known(of: ServicePort) -> ServicePort:
    """As dockerd reads it: a word that it does not know is the usual one."""
    return replace(
        of,
        protocol=of.protocol.lower() if of.protocol.lower() in ("udp", "sctp") else "tcp",
        publish_mode="host" if of.publish_mode.lower() == "host" else "ingress",
    )


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
    container = replace(container, dns_config=container.dns_config or DnsConfig())
    rule = asked.restart(template)
    rule = RestartRule(rule.condition, rule.delay, rule.max_attempts, rule.window or None)
    return replace(
        of,
        task_template=replace(
            template,
            container_spec=container,
            restart_policy=rule,
            resources=template.resources or ResourceRequirements(),
            placement=template.placement or Placement(),
        ),
        update_config=asked.config(of.update_config),
        rollback_config=asked.config(of.rollback_config),
        endpoint_spec=replace(
            of.endpoint_spec or EndpointSpec(), mode=(of.endpoint_spec or EndpointSpec()).mode or "vip"
        ),
    )


def service(
    of: Service,
    networks: Iterable[SharedNetwork] = (),
    *,
    defaults: bool = False,
    counts: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """``counts``: of ``ServiceStatus``, where it was asked for."""
    shown: dict[str, Any] = {
        **head(of),
        "Spec": spec(with_defaults(of.spec) if defaults else of.spec),
        **({"PreviousSpec": spec(of.previous)} if of.previous else {}),
        "Endpoint": endpoint(of, {network.id for network in networks if network.spec.ingress}),
    }
    if of.update is not None:
        shown["UpdateStatus"] = update_status(of.update)
    if counts is not None:
        shown["ServiceStatus"] = counts
    if of.job is not None:
        iteration = {"Index": of.job.iteration} if of.job.iteration else {}
        shown["JobStatus"] = {"JobIteration": iteration, "LastExecution": stamp(of.job.last_execution)}
    return shown


def endpoint(of: Service, ingress: Container[str] = ()) -> dict[str, Any]:
    """How it is reached now; nothing until it has an address or a port. On ingress dockerd's have IPv4 alone."""
    given = of.spec.endpoint_spec or EndpointSpec()
    if not of.addresses and not of.ports and given.mode != "dnsrr":
        return {"Spec": {}}
    shown: dict[str, Any] = {"Spec": {"Mode": given.mode or "vip", **ports("Ports", given.ports or ())}}
    shown.update(ports("Ports", of.ports))
    if of.addresses:
        shown["VirtualIPs"] = [
            {"NetworkID": held.network, "Addr": address}
            for held in of.addresses
            for address in held.addresses
            if ":" not in address or held.network not in ingress
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
        **({"Slot": slot} if (slot := _slot(of)) else {}),
        **({"NodeID": of.node} if of.node else {}),
        "Status": status(of.status),
        "DesiredState": desired(of),
    }
    if of.generic:
        shown["GenericResources"] = list(of.generic)
    if of.networks:
        shown["NetworksAttachments"] = [attachment(one, networks.get(one.network)) for one in of.networks]
    if of.iteration is not None:
        shown["JobIteration"] = {"Index": of.iteration} if of.iteration else {}
    return {**shown, "Volumes": None}


def _slot(of: Task) -> int:
    """A job's slots are counted from 0: Docker's client waits for the one it then does not see."""
    return of.slot - 1 if of.iteration is not None and of.slot else of.slot


def desired(of: Task) -> str:
    """A job's task should not run but complete."""
    completes = of.desired == State.RUNNING or (of.desired == State.SHUTDOWN and of.status.state == State.COMPLETE)
    return "complete" if of.iteration is not None and completes else of.desired.text


def status(of: TaskStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"Timestamp": stamp(of.at), "State": of.state.text, "Message": of.message}
    if of.error:
        shown["Err"] = of.error
    if of.container_id or of.state.ended:
        shown["ContainerStatus"] = {"ContainerID": of.container_id, "PID": of.pid, "ExitCode": of.exit_code}
    published = [ServicePort("", one.protocol, one.target_port, one.published_port, "host") for one in of.ports]
    return {**shown, "PortStatus": ports("Ports", published)}


def attachment(of: Attachment, on: SharedNetwork | None) -> dict[str, Any]:
    return {"Network": network(on) if on else {"ID": of.network}, "Addresses": list(of.addresses)}


def network(of: SharedNetwork) -> dict[str, Any]:
    """A network as tasks show it: what was asked, and what was settled."""
    spec, ipam = of.spec, {"Driver": {"Name": of.spec.ipam.driver}}
    flags = {"Internal": spec.internal, "Attachable": spec.attachable, "Ingress": spec.ingress}
    pools = [{"Subnet": p.subnet, "Range": p.ip_range, "Gateway": p.gateway} for p in spec.ipam.config]
    return {
        "ID": of.id,
        "Version": {"Index": of.version},
        "CreatedAt": spec.created,
        "UpdatedAt": spec.created,
        "Spec": {
            "Name": spec.name,
            "Labels": spec.labels,
            "DriverConfiguration": {} if spec.ingress else {"Name": spec.driver},
            **{key: value for key, value in flags.items() if value},
            "IPAMOptions": {"Driver": {}} if spec.ingress else ipam,
            "Scope": "swarm",
        },
        "DriverState": {"Name": spec.driver, "Options": spec.options},
        "IPAMOptions": {
            **ipam,
            "Configs": [{key: value for key, value in pool.items() if value} for pool in pools],
        },
    }


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


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, spelling and default. Once for each kind: msgspec evaluates all annotations anew whenever it is asked."""
    return tuple((field.name, wire.spell(field.name), field.default) for field in msgspec.structs.fields(kind))


def sparse(value: Any) -> Any:
    """A struct as JSON without what was not given, and without what nobody is to see."""
    if isinstance(value, msgspec.Struct):
        shown = {}
        for name, spelled, default in _fields(type(value)):
            item = getattr(value, name)
            if item is None or isinstance(item, Credentials) or (name not in ALWAYS and item == default):
                continue
            shown[spelled] = sparse(item)
        return shown
    if isinstance(value, tuple):
        return [sparse(item) for item in value]
    return value
