"""Mounts of a runtime configuration: the kernel's file systems, our three files, and what the user mounted.

    defaults (/proc /dev /sys …)  <  hosts, hostname, resolv.conf  <  the user's

A user's mount at a default's place replaces it; otherwise outer places come
before those inside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.core.container import Container, Mount

SHM_SIZE = 64 << 20

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def mounts(
    container: Container, user: Sequence[Mount], files: Mapping[str, str], shm: str = "", cgroups: bool = False
) -> list[dict[str, Any]]:
    """The list in the order of mounting. ``files``: place -> host path; ``shm``: host path of a shared /dev/shm;
    ``cgroups``: its control groups can be written."""
    host = container.host
    made = {item["destination"]: item for item in _defaults(host.privileged, cgroups)}
    made.update(_shared_memory(host.ipc_mode, host.shm_size or SHM_SIZE, shm))
    for place, source in files.items():
        made[place] = _mount(place, "bind", source, "rbind", "rprivate")
    for mount in sorted(user, key=lambda mount: mount.destination.count("/")):
        made.pop(mount.destination, None)
        made[mount.destination] = _users(mount)
    return [item for item in made.values() if item]


def _defaults(privileged: bool, cgroups: bool) -> list[dict[str, Any]]:
    access = "rw" if privileged else "ro"
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw" if cgroups else access),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ]


def _shared_memory(mode: str, size: int, other: str) -> dict[str, dict[str, Any]]:
    """/dev/shm by ipc mode: our own, nobody's, the host's, or one that containers share."""
    place = "/dev/shm"
    if mode == "none":
        return {}
    if mode == "host":
        return {place: _mount(place, "bind", place, "rbind")}
    if other:
        return {place: _mount(place, "bind", other, "rbind", "nosuid", "noexec", "nodev")}
    return {place: _mount(place, "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={size}")}


def _users(mount: Mount) -> dict[str, Any]:
    if mount.type == "tmpfs":
        options = mount.options or ("nosuid", "nodev", "noexec")
        return _mount(mount.destination, "tmpfs", "tmpfs", *options, *(() if mount.rw else ("ro",)))
    spread = mount.propagation or "rprivate"
    recursion = () if {"bind", "rbind"} & set(mount.options) else ("rbind",)
    access = "rw" if mount.rw else "ro"
    return _mount(mount.destination, "bind", mount.source, *recursion, *mount.options, access, spread)


def propagation(user: Sequence[Mount]) -> str:
    """How the root itself must spread for these mounts to do so; "" for the runtime's default."""
    asked = {mount.propagation.removeprefix("r") for mount in user}
    return "rshared" if "shared" in asked else "rslave" if "slave" in asked else ""


def _mount(place: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source, "options": list(options)}
