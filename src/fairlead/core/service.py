"""A service as a value: what somebody wants to run on a swarm, field for field as Docker's API has it.

    ServiceSpec
      |- task_template ----- what one task is: container, resources, restart policy, placement, networks
      |- mode -------------- how many: replicated, global, or the same as jobs that end
      |- update_config ----- how a change of the template is rolled out; rollback_config: how it is taken back
      '- endpoint_spec ----- how it is reached: virtual address or names, published ports

What was asked is kept as it was asked (``None``: not given), so that it can be given back exactly; the defaults are in
the functions at the end. Durations are nanoseconds, sizes bytes, processors 10^-9 of one, as in the API.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.container import Healthcheck, Ulimit
from fairlead.core.imagespec import Credentials

SECOND = 1_000_000_000


class FileTarget(msgspec.Struct, frozen=True):
    """Where a secret or config appears in the container. ``mode``: Unix permission bits."""

    name: str = ""
    uid: str = ""
    gid: str = ""
    mode: int = 0


class SecretReference(msgspec.Struct, frozen=True):
    file: FileTarget | None = None
    secret_id: str = ""
    secret_name: str = ""


class ConfigReference(msgspec.Struct, frozen=True):
    file: FileTarget | None = None
    runtime: dict[str, Any] | None = None
    config_id: str = ""
    config_name: str = ""


class DnsConfig(msgspec.Struct, frozen=True):
    nameservers: tuple[str, ...] | None = None
    search: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None


class ContainerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The container of a task. ``command`` is the entry point and ``args`` the command, in Docker's service words."""

    image: str = ""
    labels: dict[str, str] | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    hostname: str = ""
    env: tuple[str, ...] | None = None
    dir: str = ""
    user: str = ""
    groups: tuple[str, ...] | None = None
    privileges: dict[str, Any] | None = None
    init: bool | None = None
    stop_signal: str = ""
    terminal: bool = False
    open_stdin: bool = False
    read_only: bool = False
    mounts: tuple[dict[str, Any], ...] | None = None
    stop_grace_period: int | None = None
    health_check: Healthcheck | None = None
    hosts: tuple[str, ...] | None = None
    """lines of a hosts file: address, then names"""
    dns_config: DnsConfig | None = None
    secrets: tuple[SecretReference, ...] | None = None
    configs: tuple[ConfigReference, ...] | None = None
    isolation: str = ""
    sysctls: dict[str, str] | None = None
    capability_add: tuple[str, ...] | None = None
    capability_drop: tuple[str, ...] | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    oom_score_adj: int = 0


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a limit, a reservation, or what a node has."""

    cpus: int = 0
    memory_bytes: int = 0
    pids: int = 0
    generic_resources: tuple[dict[str, Any], ...] | None = None


class ResourceRequirements(msgspec.Struct, frozen=True, omit_defaults=True):
    limits: Resources | None = None
    reservations: Resources | None = None


class RestartRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a task that ended is followed by another: ``condition`` is none, on-failure or any ("": any)."""

    condition: str = ""
    delay: int | None = None
    max_attempts: int | None = None
    window: int | None = None


class Spread(msgspec.Struct, frozen=True):
    spread_descriptor: str = ""
    """``node.labels.zone`` or ``engine.labels.zone``"""


class Preference(msgspec.Struct, frozen=True):
    spread: Spread | None = None


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""


class Placement(msgspec.Struct, frozen=True, omit_defaults=True):
    constraints: tuple[str, ...] | None = None
    preferences: tuple[Preference, ...] | None = None
    max_replicas: int = 0
    """on one node; 0: as many as one likes"""
    platforms: tuple[Platform, ...] | None = None


class NetworkAttachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """``target``: name or id of a network."""

    target: str = ""
    aliases: tuple[str, ...] | None = None
    driver_opts: dict[str, str] | None = None


class LogDriver(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one task is. Two tasks of equal specs are alike; a task whose spec is another is out of date."""

    container_spec: ContainerSpec | None = None
    resources: ResourceRequirements | None = None
    restart_policy: RestartRule | None = None
    placement: Placement | None = None
    networks: tuple[NetworkAttachment, ...] | None = None
    log_driver: LogDriver | None = None
    force_update: int = 0
    runtime: str = ""
    registry: Credentials | None = None
    """who asks for the image; never shown, and of no account when tasks are compared"""


class Replicated(msgspec.Struct, frozen=True):
    replicas: int | None = None


class Global(msgspec.Struct, frozen=True):
    pass


class ReplicatedJob(msgspec.Struct, frozen=True, omit_defaults=True):
    max_concurrent: int | None = None
    total_completions: int | None = None


class Mode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of these; none of them: replicated, once."""

    replicated: Replicated | None = None
    everywhere: Global | None = None
    replicated_job: ReplicatedJob | None = None
    everywhere_job: Global | None = None

    @property
    def name(self) -> str:
        """As ``service ls`` writes it."""
        if self.everywhere is not None:
            return "global"
        if self.replicated_job is not None:
            return "replicated job"
        return "global job" if self.everywhere_job is not None else "replicated"

    @property
    def is_job(self) -> bool:
        return self.replicated_job is not None or self.everywhere_job is not None

    @property
    def is_global(self) -> bool:
        return self.everywhere is not None or self.everywhere_job is not None


class UpdateConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a change is rolled out. ``parallelism`` 0: all at once; ``failure_action``: pause, continue, rollback."""

    parallelism: int = 0
    delay: int = 0
    failure_action: str = ""
    monitor: int = 0
    max_failure_ratio: float = 0.0
    order: str = ""
    """stop-first or start-first"""


class ServicePort(msgspec.Struct, frozen=True, omit_defaults=True):
    """A published port. ``publish_mode``: ingress (every node answers) or host (nodes with a task do)."""

    name: str = ""
    protocol: str = "tcp"
    target_port: int = 0
    published_port: int = 0
    publish_mode: str = "ingress"


class EndpointSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """``mode``: vip or dnsrr."""

    mode: str = ""
    ports: tuple[ServicePort, ...] | None = None


class ServiceSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    labels: dict[str, str] | None = None
    task_template: TaskSpec = TaskSpec()
    mode: Mode = Mode()
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    networks: tuple[NetworkAttachment, ...] | None = None
    """where networks were given before API 1.25; the template's come first"""
    endpoint_spec: EndpointSpec | None = None

    @property
    def attachments(self) -> tuple[NetworkAttachment, ...]:
        return self.task_template.networks or self.networks or ()

    @property
    def ports(self) -> tuple[ServicePort, ...]:
        return (self.endpoint_spec and self.endpoint_spec.ports) or ()


UPDATE = UpdateConfig(parallelism=1, failure_action="pause", monitor=5 * SECOND, order="stop-first")
"""What holds where a service says nothing."""
RESTART_DELAY = 5 * SECOND
GRACE = 10 * SECOND


def replicas(spec: ServiceSpec) -> int:
    """How many tasks should run at once in the long run; for jobs: how many should complete. 0 of a global one."""
    if spec.mode.replicated_job is not None:
        job = spec.mode.replicated_job
        return job.total_completions if job.total_completions is not None else job.max_concurrent or 1
    if spec.mode.is_global:
        return 0
    asked = spec.mode.replicated
    return 1 if asked is None or asked.replicas is None else asked.replicas


def concurrent(spec: ServiceSpec) -> int:
    """How many tasks of a replicated job may run at once."""
    job = spec.mode.replicated_job
    return 1 if job is None or job.max_concurrent is None else job.max_concurrent


def config(given: UpdateConfig | None) -> UpdateConfig:
    """With the defaults where nothing was said: the monitor lasts 5 s, a failure pauses, the old stops first."""
    if given is None:
        return UPDATE
    return replace(
        given,
        failure_action=given.failure_action or UPDATE.failure_action,
        monitor=given.monitor or UPDATE.monitor,
        order=given.order or UPDATE.order,
    )


def restart(template: TaskSpec) -> RestartRule:
    """The restart policy with its defaults: always, after 5 s, as often as it takes."""
    given = template.restart_policy or RestartRule()
    return RestartRule(
        condition=given.condition or "any",
        delay=RESTART_DELAY if given.delay is None else given.delay,
        max_attempts=given.max_attempts or 0,
        window=given.window or 0,
    )
