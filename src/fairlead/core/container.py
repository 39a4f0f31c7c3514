"""A container as a value: what was asked, and what became of it.

``Config`` travels with the image and can be committed; ``HostConfig`` is about
this machine. Both hold the fields of Docker's create call one for one, in our
spelling (``api.wire`` knows the other one), so that what was asked can be
given back exactly. ``State`` is the life: a table of what may follow what.

    created --> running <--> paused
       |          |  ^
       |          v  | (restart policy)
       +------> exited / restarting --> dead --> (removed)

Sizes are bytes, durations nanoseconds (as in the API), times RFC 3339 text.
"""

from typing import Any

import msgspec

from fairlead.core.model import EndpointSettings, PortRequest

NEVER = "0001-01-01T00:00:00Z"
"""Docker's way to write a time that has not come."""


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """``test`` is Docker's list (``["CMD-SHELL", "…"]``, ``["NONE"]``); durations in nanoseconds, 0: default."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    """The portable half of a container (also the ``config`` of an image)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: tuple[str, ...] | None = None


class RestartPolicy(msgspec.Struct, frozen=True):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(msgspec.Struct, frozen=True):
    type: str = ""
    config: dict[str, str] | None = None


class Device(msgspec.Struct, frozen=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class Ulimit(msgspec.Struct, frozen=True):
    name: str
    hard: int = 0
    soft: int = 0


class WeightDevice(msgspec.Struct, frozen=True):
    path: str
    weight: int = 0


class ThrottleDevice(msgspec.Struct, frozen=True):
    path: str
    rate: int = 0


class HostConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The half that is about this machine. Structures we only echo stay plain JSON (``Any``)."""

    binds: tuple[str, ...] | None = None
    container_id_file: str = ""
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, tuple[dict[str, str], ...] | None] | None = None
    """as asked, for the echo; ``Container.ports`` is the parsed form"""
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] | None = None
    console_size: tuple[int, int] = (0, 0)
    annotations: dict[str, str] | None = None
    cap_add: tuple[str, ...] | None = None
    cap_drop: tuple[str, ...] | None = None
    cgroupns_mode: str = ""
    dns: tuple[str, ...] | None = None
    dns_options: tuple[str, ...] | None = None
    dns_search: tuple[str, ...] | None = None
    extra_hosts: tuple[str, ...] | None = None
    group_add: tuple[str, ...] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] | None = None
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = None
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[Device, ...] | None = None
    device_cgroup_rules: tuple[str, ...] | None = None
    device_requests: Any = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    mounts: tuple[dict[str, Any], ...] | None = None
    """``--mount`` as asked, in Docker's own keys (parsed by ``core.mounts``)"""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    init: bool | None = None


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount as it is: ``bind``, ``volume``, ``tmpfs`` or ``image``. ``source`` is a host path."""

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    options: tuple[str, ...] = ()
    """further mount options (tmpfs size, mode)"""
    anonymous: bool = False
    no_copy: bool = False


class HealthProbe(msgspec.Struct, frozen=True):
    start: str
    end: str
    exit_code: int
    output: str


class Health(msgspec.Struct, frozen=True):
    """``status``: ``starting``, ``healthy`` or ``unhealthy``; ``log`` holds the last five probes."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthProbe, ...] = ()


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a container is in its life."""

    status: str = "created"
    """created, running, paused, restarting, removing, exited, dead"""
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = NEVER
    finished_at: str = NEVER
    restart_count: int = 0
    stopped_by_user: bool = False
    """``docker stop`` was the reason: restart policies leave it alone"""
    health: Health | None = None

    @property
    def running(self) -> bool:
        """Has a process: running, paused (Docker counts that as running too)."""
        return self.status in ("running", "paused")


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    """One container: identity, what was asked, where it is attached, where it stands."""

    id: str
    name: str
    """without the leading slash"""
    created: str
    image: str = ""
    """id of the image: ``sha256:…``"""
    path: str = ""
    args: tuple[str, ...] = ()
    """entrypoint and command put together: what is executed"""
    config: Config = Config()
    host: HostConfig = HostConfig()
    networks: dict[str, EndpointSettings] = {}
    """by network *name or id as asked*, in order of attachment; resolved at start"""
    ports: tuple[PortRequest, ...] = ()
    mounts: tuple[Mount, ...] = ()
    state: State = State()
    sandbox: str = ""
    """id of the sandbox while running"""
    platform: str = "linux"

    @property
    def short(self) -> str:
        return self.id[:12]
