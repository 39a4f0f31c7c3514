"""What makes no sense in a request about a container, said before anything exists, in dockerd's words.

    create(config, host)            options that contradict each other, values out of range  -> warnings
    updated(container, changes)     the new host half after ``docker update``
    container_name(name)            the alphabet of names
    mac_address(text)               a hardware address

Pure: whatever depends on the machine (how many processors) is an argument; what
depends on other containers or images is the engine's business. Ports are
``core.ports``, mounts ``core.mounts``, wishes of one network ``core.addresses``.

Most refusals are ``Invalid`` (400). The few that dockerd answers with 500 are
plain ``FairleadError``, so that the status agrees too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from fairlead.core import capabilities, logoptions, signals
from fairlead.core.container import Config, Container, Healthcheck, HostConfig, RestartPolicy
from fairlead.core.switches import SECURITY, parse_bool
from fairlead.errors import Conflict, FairleadError, Invalid

LEAST_MEMORY = 6 << 20
MILLISECOND = 1_000_000
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
POLICIES = ("no", "always", "on-failure", "unless-stopped")
MAC = re.compile(
    r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}|([0-9a-fA-F]{2}-){5}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"
)
LINKS_AND_CONTAINER = "container type network can't be used with links. This would result in undefined behavior"
LINKS_AND_HOST = "host type networking can't be used with links. This would result in undefined behavior"


def container_name(name: str) -> None:
    if not NAME.fullmatch(name.removeprefix("/")):
        raise Invalid(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


# -- create ---------------------------------------------------------------------------------


def create(config: Config, host: HostConfig, *, cpus: int = 0, nodes: int = 0) -> list[str]:
    """Refuse what can never be; returns warnings.

    ``cpus`` and ``nodes``: processors and memory nodes of this machine, 0: not checked."""
    network_mode(config, host)
    portable(config)
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise Invalid("can't create 'AutoRemove' container with restart policy")
    for entry in host.extra_hosts or ():
        extra_host(entry)
    for entry in host.links or ():
        link(entry)
    restart_policy(host.restart_policy)
    capabilities.check(host.cap_add, host.cap_drop)
    if "" in (host.annotations or {}):
        raise Invalid("invalid Annotations: the empty string is not permitted as an annotation key")
    if host.isolation not in ("", "default"):
        raise Invalid(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    resources(host, cpus=cpus, nodes=nodes)
    modes(host)
    logoptions.check(host.log_config)
    security_options(host.security_opt or ())
    for name in host.storage_opt or {}:
        if name != "size":
            raise FairleadError(f"Unknown option {name}")
        raise FairleadError("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    return _warnings(host)


def _warnings(host: HostConfig) -> list[str]:
    found = []
    if host.oom_kill_disable and not host.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system"
            " running out of resources."
        )
    if any(mount.get("Type") == "image" for mount in host.mounts or ()):
        found.append("Image mount is an experimental feature")
    if host.network_mode == "host" and host.port_bindings:
        found.append("Published ports are discarded when using host network mode")
    return found


def network_mode(config: Config, host: HostConfig) -> None:
    """Options that contradict the network mode."""
    kind, colon, target = host.network_mode.partition(":")
    shared = kind == "container"
    if shared and not (colon and target):
        raise Invalid("invalid network mode: invalid container format container:<name|id>")
    conflicts = (
        (shared and config.hostname, "hostname and the network mode"),
        (shared and host.links, LINKS_AND_CONTAINER),
        (shared and host.dns, "dns and the network mode"),
        (shared and host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (
            shared and (host.port_bindings or host.publish_all_ports),
            "port publishing and the container type network mode",
        ),
        (shared and config.exposed_ports, "port exposing and the container type network mode"),
        (host.uts_mode == "host" and config.hostname, "hostname and the UTS mode"),
        (host.network_mode == "host" and host.links, LINKS_AND_HOST),
    )
    for is_so, words in conflicts:
        if is_so:
            raise Invalid(f"conflicting options: {words}")


def portable(config: Config) -> None:
    """The half of a container that travels with the image."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise Invalid(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    for variable in config.env or ():
        if not variable or variable.startswith("="):
            raise Invalid(f"invalid environment variable: {variable}")
    words = (*(config.cmd or ()), *(config.entrypoint or ()), *(config.env or ()), config.working_dir, config.user)
    if any("\0" in word for word in (*words, config.hostname, config.domainname)):
        raise Invalid("invalid config: a NUL character cannot be passed to a process")
    if config.stop_signal:
        signals.parse(config.stop_signal)
    if config.healthcheck is not None:
        healthcheck(config.healthcheck)


def platform(text: str) -> None:
    """``os[/arch[/variant]]``; "" for this machine's."""
    parts = text.split("/")
    if text and (len(parts) > 3 or not all(re.fullmatch(r"[A-Za-z0-9_.-]+", part) for part in parts)):
        raise Invalid(f'"{text}": cannot parse platform specifier: invalid argument')


def link(entry: str) -> None:
    """``name[:alias]`` of ``--link``."""
    if not entry:
        raise FairleadError("empty string specified for links")
    if entry.count(":") > 1:
        raise FairleadError(f"bad format for links: {entry}")


def healthcheck(check: Healthcheck) -> None:
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if getattr(check, name) != 0 and getattr(check, name) < MILLISECOND:
            spelt = "".join(part.capitalize() for part in name.split("_"))
            raise Invalid(f"{spelt} in Healthcheck cannot be less than 1ms")
        if name == "timeout" and check.retries < 0:
            raise Invalid("Retries in Healthcheck cannot be negative")


def extra_host(entry: str) -> None:
    """``name:address`` of ``--add-host``; the address may be ``host-gateway``."""
    name, colon, address = entry.partition(":")
    if not colon or not name:
        raise Invalid(f'bad format for add-host: "{entry}"')
    if address != "host-gateway" and not _is_address(address.removeprefix("[").removesuffix("]")):
        raise Invalid(f'invalid IP address in add-host: "{address}"')


def restart_policy(policy: RestartPolicy) -> None:
    if policy.name and policy.name not in POLICIES:
        raise Invalid(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure',"
            " or 'unless-stopped'"
        )
    if policy.name != "on-failure" and policy.maximum_retry_count != 0:
        words = "maximum retry count can only be used with 'on-failure'"
        if policy.maximum_retry_count < 0:
            words += " and cannot be negative"
        raise Invalid(f"invalid restart policy: {words}")
    if policy.maximum_retry_count < 0:
        raise Invalid("invalid restart policy: maximum retry count cannot be negative")


def modes(host: HostConfig) -> None:
    """Which namespaces are shared with whom."""
    allowed: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("IPC mode", host.ipc_mode, ("", "none", "private", "shareable", "host")),
        ("PID mode", host.pid_mode, ("", "private", "host")),
        ("UTS mode", host.uts_mode, ("", "host")),
        ("cgroup namespace mode", host.cgroupns_mode, ("", "private", "host")),
    )
    for what, mode, known in allowed:
        joins = what[:3] in ("IPC", "PID") and mode.startswith("container:") and len(mode) > len("container:")
        if mode not in known and not joins:
            raise Invalid(f"invalid {what}: {mode}")
    if host.runtime not in ("", "runc", "crun", "io.containerd.runc.v2"):
        raise Invalid(f"unknown or invalid runtime name: {host.runtime}")
    for path in host.tmpfs or {}:
        if not path.startswith("/"):
            raise Invalid(f"invalid mount path: '{path}' mount path must be absolute")


def security_options(options: Iterable[str]) -> None:
    """What dockerd lets nobody ask for; the words before ``=`` that it knows take what is behind it as it comes."""
    for option in options:
        if option in ("no-new-privileges", "writable-cgroups") or option.startswith("systempaths="):
            continue
        name, separator, value = option.partition("=") if "=" in option else option.partition(":")
        if not separator:
            raise FairleadError(f'invalid --security-opt 1: "{option}"')
        known = name in ("label", "apparmor", "seccomp")
        if not known and not (name in SECURITY and parse_bool(value) is not None):
            raise FairleadError(f'invalid --security-opt 2: "{option}"')


# -- resources --------------------------------------------------------------------------------


def resources(host: HostConfig, *, cpus: int = 0, nodes: int = 0) -> None:
    """Limits out of range, or at odds with each other."""
    _memory(host)
    if host.nano_cpus:
        for name, value in (("Period", host.cpu_period), ("Quota", host.cpu_quota)):
            if value:
                raise Invalid(f"Conflicting options: Nano CPUs and CPU {name} cannot both be set")
        if cpus and not 0 <= host.nano_cpus <= cpus * 1_000_000_000:
            raise Invalid(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_shares < 0:
        raise Invalid(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    chosen = cpuset(host.cpuset_cpus, "cpus")
    if cpus and any(cpu >= cpus for cpu in chosen):
        raise Invalid(f"Requested CPUs are not available - requested {host.cpuset_cpus}, available: {_span(cpus)}")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise Invalid("cpu real-time runtime cannot be higher than cpu real-time period")
    if nodes and any(node >= nodes for node in cpuset(host.cpuset_mems, "mems")):
        raise Invalid(
            f"Requested memory nodes are not available - requested {host.cpuset_mems}, available: {_span(nodes)}"
        )
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise Invalid("Range of blkio weight is from 10 to 1000")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise Invalid(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.shm_size < 0:
        raise Invalid("SHM size can not be less than 0")


def _memory(host: HostConfig) -> None:
    memory, swap, reservation = host.memory, host.memory_swap, host.memory_reservation
    if memory != 0 and memory < LEAST_MEMORY:
        raise Invalid("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = -1 if host.memory_swappiness is None else host.memory_swappiness
    if not -1 <= swappiness <= 100:
        raise Invalid(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if reservation != 0 and reservation < LEAST_MEMORY:
        raise Invalid("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")


def cpuset(text: str, what: str) -> set[int]:
    """``0-2,7`` as a set; ``Invalid`` when it is no list of numbers (at most 8,192 of them)."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        if not (_is_small(first) and (not dash or _is_small(last))) or int(last or first) < int(first):
            raise Invalid(f"Invalid value {text} for cpuset {what}: invalid format: {part}")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _is_small(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 8192


def _span(cpus: int) -> str:
    return f"0-{cpus - 1}" if cpus > 1 else "0"


# -- update -----------------------------------------------------------------------------------

CHANGEABLE = (
    *("blkio_weight", "cpu_shares", "cpu_period", "cpu_quota", "cpu_realtime_period", "cpu_realtime_runtime"),
    *("cpuset_cpus", "cpuset_mems", "memory", "memory_swap", "memory_reservation", "nano_cpus", "pids_limit"),
)


def changes(wanted: HostConfig, *, cpus: int = 0, nodes: int = 0) -> None:
    """Changes that no container can be given."""
    restart_policy(wanted.restart_policy)
    checked = wanted if wanted.memory or not wanted.memory_swap else replace(wanted, memory_swap=0)
    resources(checked, cpus=cpus, nodes=nodes)


def updated(container: Container, changes: HostConfig) -> HostConfig:
    """``container.host`` with what ``changes`` (they passed) name put in; ``Conflict`` in dockerd's words."""
    old = container.host
    prefix = f"Cannot update container {container.id}: "
    if changes.nano_cpus and (old.cpu_period or old.cpu_quota):
        name = "Period" if old.cpu_period else "Quota"
        raise Conflict(f"{prefix}Conflicting options: Nano CPUs cannot be updated as CPU {name} has already been set")
    for name, value in (("Period", changes.cpu_period), ("Quota", changes.cpu_quota)):
        if value and old.nano_cpus:
            raise Conflict(
                f"{prefix}Conflicting options: CPU {name} cannot be updated as NanoCPUs has already been set"
            )
    if changes.memory > old.memory_swap and not changes.memory_swap:
        raise Conflict(
            f"{prefix}Memory limit should be smaller than already set memoryswap limit,"
            " update the memoryswap at the same time"
        )
    new = {name: getattr(changes, name) for name in CHANGEABLE if getattr(changes, name)}
    if changes.restart_policy.name:
        if old.auto_remove and changes.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        new["restart_policy"] = changes.restart_policy
    if changes.pids_limit is not None:
        new["pids_limit"] = max(changes.pids_limit, 0)
    return replace(old, **new)


# -- addresses ----------------------------------------------------------------------------------


def mac_address(text: str) -> str:
    """A hardware address in any of Go's spellings as six pairs; "" stays ""; ``Invalid`` for anything else."""
    digits = re.sub(r"[:.-]", "", text).lower()
    if text and not MAC.fullmatch(text):
        raise Invalid(f"invalid MAC address {text}")
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
