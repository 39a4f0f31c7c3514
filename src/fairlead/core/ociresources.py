"""Limits of a runtime configuration: memory, processor, processes, disks, devices.

    HostConfig -> the ``resources`` part (OCI); the same for a running container (``update``)

Sizes are bytes, times microseconds. 0 means "not asked" and is left out.
Whether a limit makes sense was checked when the container was created.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.core.container import HostConfig, ThrottleDevice
from fairlead.errors import Invalid

PERIOD = 100_000
"""Microseconds over which ``--cpus`` is measured."""

DEVICES = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, None, "rwm"),
)
"""null zero full random urandom tty console ptmx and pseudo terminals; others may be made but not opened."""


class DeviceNode(msgspec.Struct, frozen=True):
    """A device of the host that goes into the container."""

    path: str
    kind: str
    """c or b"""
    major: int
    minor: int
    access: str = "rwm"
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


def resources(host: HostConfig, devices: Sequence[DeviceNode], numbers: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """``numbers``: path of a disk -> (major, minor), for the limits per disk."""
    made = {**limits(host, numbers), "devices": _devices(host, devices)}
    return made


def limits(host: HostConfig, numbers: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Everything but devices: what can change while it runs."""
    parts = {
        "memory": _memory(host),
        "cpu": _cpu(host),
        "pids": {"limit": host.pids_limit} if host.pids_limit and host.pids_limit > 0 else {},
        "blockIO": _disks(host, numbers),
    }
    return {name: part for name, part in parts.items() if part}


def _memory(host: HostConfig) -> dict[str, Any]:
    swap = host.memory_swap or (2 * host.memory if host.memory > 0 else 0)
    made: dict[str, Any] = {"limit": host.memory, "reservation": host.memory_reservation, "swap": swap}
    made = {key: value for key, value in made.items() if value}
    if host.memory_swappiness is not None and host.memory_swappiness >= 0:
        made["swappiness"] = host.memory_swappiness
    if host.oom_kill_disable:
        made["disableOOMKiller"] = True
    return made


def _cpu(host: HostConfig) -> dict[str, Any]:
    period, quota = host.cpu_period, host.cpu_quota
    if host.nano_cpus:
        period, quota = PERIOD, host.nano_cpus * PERIOD // 1_000_000_000
    made = {
        "shares": host.cpu_shares,
        "period": period,
        "quota": quota,
        "realtimePeriod": host.cpu_realtime_period,
        "realtimeRuntime": host.cpu_realtime_runtime,
        "cpus": host.cpuset_cpus,
        "mems": host.cpuset_mems,
    }
    return {key: value for key, value in made.items() if value}


def _disks(host: HostConfig, numbers: dict[str, tuple[int, int]]) -> dict[str, Any]:
    def throttled(items: Sequence[ThrottleDevice] | None) -> list[dict[str, int]]:
        return [{**_numbers(item.path, numbers), "rate": item.rate} for item in items or ()]

    made: dict[str, Any] = {
        "weight": host.blkio_weight,
        "weightDevice": [
            {**_numbers(item.path, numbers), "weight": item.weight} for item in host.blkio_weight_device or ()
        ],
        "throttleReadBpsDevice": throttled(host.blkio_device_read_bps),
        "throttleWriteBpsDevice": throttled(host.blkio_device_write_bps),
        "throttleReadIOPSDevice": throttled(host.blkio_device_read_iops),
        "throttleWriteIOPSDevice": throttled(host.blkio_device_write_iops),
    }
    return {key: value for key, value in made.items() if value}


def _numbers(path: str, numbers: dict[str, tuple[int, int]]) -> dict[str, int]:
    major, minor = numbers[path]
    return {"major": major, "minor": minor}


def disk_paths(host: HostConfig) -> set[str]:
    """The disks that ``limits`` needs the numbers of."""
    lists: tuple[Sequence[Any] | None, ...] = (
        host.blkio_weight_device,
        host.blkio_device_read_bps,
        host.blkio_device_write_bps,
        host.blkio_device_read_iops,
        host.blkio_device_write_iops,
    )
    return {item.path for items in lists for item in items or ()}


def _devices(host: HostConfig, devices: Sequence[DeviceNode]) -> list[dict[str, Any]]:
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    allowed = [_allow(kind, major, minor, access) for kind, major, minor, access in DEVICES]
    allowed += [_allow(node.kind, node.major, node.minor, node.access) for node in devices]
    allowed += [parse_rule(rule) for rule in host.device_cgroup_rules or ()]
    return [{"allow": False, "access": "rwm"}, *allowed]


def parse_rule(rule: str) -> dict[str, Any]:
    """``c 1:* rwm``; ``Invalid`` when it is not one."""
    parts = rule.split()
    if len(parts) == 3 and parts[0] in ("a", "b", "c") and parts[2] and not set(parts[2]) - set("rwm"):
        major, colon, minor = parts[1].partition(":")
        if colon and all(part == "*" or (part.isascii() and part.isdigit()) for part in (major, minor)):
            numbers = [None if part == "*" else int(part) for part in (major, minor)]
            return _allow(parts[0], numbers[0], numbers[1], parts[2])
    raise Invalid(f"invalid device cgroup rule format: '{rule}'")


def _allow(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    numbers = {"major": major, "minor": minor}
    return {
        "allow": True,
        "type": kind,
        **{key: number for key, number in numbers.items() if number is not None},
        "access": access,
    }
