"""Whether a service makes sense: all that can be said of its spec alone, in Docker's words.

    check(spec)             raises for the first thing that is wrong
    check_ports(spec, …)    against the other services: a published port belongs to one

What Docker takes and then never runs (a port beyond 65535, a constraint on what no node has) is refused here.

What it does not do: look up networks, secrets and configs (``swarm.control_services``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from fairlead.core import constraints, ownlabels, ownoptions, reference, webmesh
from fairlead.core.cluster import Service
from fairlead.core.refusals import invalid, unknown
from fairlead.core.service import (
    ConfigReference,
    ContainerSpec,
    EndpointSpec,
    Mode,
    Placement,
    Resources,
    SecretReference,
    ServicePort,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from fairlead.errors import FairleadError, Invalid

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?")
LONGEST_NAME = 63
LEAST_CPU, LEAST_MEMORY, LEAST_TIME = 1_000_000, 4 << 20, 1_000_000
"""billionths of a processor, bytes, nanoseconds"""
CONDITIONS = ("", "none", "on-failure", "any")
ACTIONS, ORDERS = ("", "pause", "continue", "rollback"), ("", "stop-first", "start-first")
MOUNTS = ("", "bind", "volume", "tmpfs", "npipe", "cluster")
TIMES = ("interval", "timeout", "start_period", "start_interval")


def check(spec: ServiceSpec) -> None:
    """Raises ``Invalid`` (or Docker's 500 for a constraint that cannot be read)."""
    _spelling(spec)
    name(spec.name)
    template = spec.task_template
    _resources(template)
    _restart(template)
    _placement(template.placement or Placement())
    _container(template.container_spec or ContainerSpec())
    _update(spec.update_config or UpdateConfig())
    _endpoint(spec.endpoint_spec or EndpointSpec())
    webmesh.routes(spec.labels or {}, spec.ports)
    ownlabels.service(spec.labels or {})
    ownlabels.container((template.container_spec or ContainerSpec()).labels or {})
    for one in spec.attachments:
        for complaint in ownoptions.of_endpoint(one.driver_opts or {}):
            raise invalid(complaint)
    if spec.mode.is_job and (spec.update_config or spec.rollback_config):
        raise invalid("Jobs may not have an update config")


def name(given: str) -> None:
    """Of a service or a network: it is a name in DNS, too."""
    if not given:
        raise invalid("name must be provided")
    if not _NAME.fullmatch(given):
        raise invalid("name must be valid as a DNS name component")
    if len(given) > LONGEST_NAME:
        raise invalid(f"name must be {LONGEST_NAME} characters or fewer")


# -- words that must be one of a few ---------------------------------------------------------------------------------


def _spelling(spec: ServiceSpec) -> None:
    template = spec.task_template
    if template.runtime not in ("", "container", "plugin"):
        raise Invalid("unsupported runtime")
    if template.container_spec is None or template.runtime == "plugin":
        raise Invalid("mismatched Runtime and *Spec fields")
    _one_of(template.container_spec)
    condition = template.restart_policy.condition if template.restart_policy else ""
    if condition not in CONDITIONS:
        raise Invalid(f'invalid RestartCondition: "{condition}"')
    for config in filter(None, (spec.update_config, spec.rollback_config)):
        if config.failure_action not in ACTIONS:
            raise Invalid(f"unrecognized update failure action {config.failure_action}")
        if config.order not in ORDERS:
            raise Invalid(f"unrecognized update order {config.order}")
    mode = spec.endpoint_spec.mode if spec.endpoint_spec else ""
    if mode not in ("", "vip", "dnsrr"):
        raise Invalid(f'invalid resolution mode: "{mode}"')
    if sum(getattr(spec.mode, one) is not None for one in Mode.__struct_fields__) > 1:
        raise Invalid("must specify only one service mode")


def _one_of(container: ContainerSpec) -> None:
    for mount in container.mounts or ():
        if mount.get("Type", "") not in MOUNTS:
            raise Invalid(f'invalid MountType: "{mount["Type"]}"')
    for config in container.configs or ():
        if config.file is None and config.runtime is None:
            raise Invalid("invalid Config: either File or Runtime should be set")
        if config.file is not None and config.runtime is not None:
            raise Invalid("invalid Config: cannot specify both File and Runtime")
    credentials = (container.privileges or {}).get("CredentialSpec")
    if credentials is not None and not any(credentials.get(one) for one in ("Config", "File", "Registry")):
        raise Invalid('invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec')


# -- the task ---------------------------------------------------------------------------------------------------------


def _resources(template: TaskSpec) -> None:
    given = template.resources
    for one in (given.limits, given.reservations) if given else ():
        asked = one or Resources()
        if asked.cpus and asked.cpus < LEAST_CPU:
            raise invalid(f"invalid cpu value {asked.cpus / 1e9:g}: Must be at least {LEAST_CPU / 1e9:g}")
        if asked.memory_bytes and asked.memory_bytes < LEAST_MEMORY:
            raise invalid(f"invalid memory value {asked.memory_bytes}: Must be at least 4MiB")


def _restart(template: TaskSpec) -> None:
    rule = template.restart_policy
    for what, value in (("delay", rule.delay), ("window", rule.window)) if rule else ():
        if value is not None and value < 0:
            raise invalid(f"TaskSpec: restart-{what} cannot be negative")


def _placement(placement: Placement) -> None:
    for text in placement.constraints or ():
        try:
            constraints.parse(text)
        except Invalid as error:
            raise error if error.message.startswith("invalid placement") else unknown(error.message) from None


def _container(container: ContainerSpec) -> None:
    if not container.image:
        raise invalid("ContainerSpec: image reference must be provided")
    try:
        reference.parse(container.image)
    except FairleadError:
        raise invalid(f'ContainerSpec: "{container.image}" is not a valid repository/tag') from None
    targets: set[str] = set()
    for mount in container.mounts or ():
        target = mount.get("Target", "")
        if target in targets:
            raise invalid(f"ContainerSpec: duplicate mount point: {target}")
        targets.add(target)
    _health(container)
    _secrets(container.secrets or ())
    _configs(container)


def _health(container: ContainerSpec) -> None:
    given = container.health_check
    if given is None:
        return
    for field in TIMES:
        value = getattr(given, field)
        if value and value < LEAST_TIME:
            what = "".join(part.capitalize() for part in field.split("_"))
            raise invalid(f"ContainerSpec: {what} in HealthConfig cannot be less than 1ms")
    if given.retries < 0:
        raise invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _secrets(given: Sequence[SecretReference]) -> None:
    for one in given:
        if not one.secret_id or not one.secret_name:
            raise invalid("malformed secret reference")
        if one.file is None:
            raise invalid("malformed secret reference, no target provided")
        if not one.file.name:
            raise invalid("malformed file secret reference, invalid target file name provided")
    _targets("secret", [(one.secret_name, one.file.name) for one in given if one.file])


def _configs(container: ContainerSpec) -> None:
    given: Sequence[ConfigReference] = container.configs or ()
    for one in given:
        if not one.config_id or not one.config_name:
            raise invalid("malformed config reference")
        if one.file is not None and not one.file.name:
            raise invalid("malformed file config reference, invalid target file name provided")
    _targets("config", [(one.config_name, one.file.name) for one in given if one.file])
    credentials: dict[str, Any] = (container.privileges or {}).get("CredentialSpec") or {}
    config = credentials.get("Config")
    if config and not any(one.config_id == config and one.runtime is not None for one in given):
        raise invalid(
            f"CredentialSpec references config '{config}', but that config isn't in config references with"
            " RuntimeTarget"
        )


def _targets(what: str, given: Iterable[tuple[str, str]]) -> None:
    """(name, target) of files in a container: no two in one place."""
    seen: dict[str, str] = {}
    for who, target in given:
        if target in seen:
            raise invalid(f"{what} references '{seen[target]}' and '{who}' have a conflicting target: '{target}'")
        seen[target] = who


# -- updates, and how it is reached ------------------------------------------------------------------------------------


def _update(config: UpdateConfig) -> None:
    for what, value in (("delay", config.delay), ("monitor", config.monitor)):
        if value < 0:
            raise invalid(f"TaskSpec: update-{what} cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")


def _endpoint(spec: EndpointSpec) -> None:
    ports = spec.ports or ()
    if spec.mode == "dnsrr" and any(port.publish_mode == "ingress" for port in ports):
        raise invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
    published = [(port.protocol, port.published_port) for port in ports if port.published_port]
    if len(published) != len(set(published)):
        raise invalid("EndpointSpec: duplicate published ports provided")
    for port in ports:
        if not 0 < port.target_port < 1 << 16 or not 0 <= port.published_port < 1 << 16:
            raise invalid(f"EndpointSpec: there is no port {port.published_port}:{port.target_port}")


def check_ports(spec: ServiceSpec, others: Iterable[Service]) -> None:
    """No other service may have one of its published ports: on ingress they are every node's."""
    asked = {
        mode: {(port.protocol, port.published_port) for port in spec.ports if port.publish_mode == mode}
        for mode in ("ingress", "host")
    }
    for other in others:
        for port in (*other.spec.ports, *other.ports):
            key = (port.protocol, port.published_port)
            clashes = key in asked["ingress"] or (port.publish_mode == "ingress" and key in asked["host"])
            if port.published_port and clashes:
                raise _taken(port, other)


def _taken(port: ServicePort, by: Service) -> Invalid:
    how = "an ingress port" if port.publish_mode == "ingress" else "a host-published port"
    return invalid(f"port '{port.published_port}' is already in use by service '{by.spec.name}' ({by.id}) as {how}")
