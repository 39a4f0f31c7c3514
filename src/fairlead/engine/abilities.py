"""Abilities: which limits the control groups of this machine can keep, and what becomes of wishes that they cannot.

    look()                     version 2, or 1 (also beside an empty 2)
    supported(wishes, …)       the wishes without those, and what to warn about, in dockerd's words

Version 2 has nothing that keeps a container from being killed for its memory, no swappiness of its own, and weights
for disks only where the kernel or the disk's scheduler shares by weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.container import HostConfig

ROOT = Path("/sys/fs/cgroup")
_NO = "Your kernel does not support"
_MOUNTED = "or the cgroup is not mounted."


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` of the hierarchy with the controllers; the rest: whether there is such a limit."""

    version: int
    memory: bool
    swap: bool
    swappiness: bool
    oom_kill_disable: bool
    cpu: bool
    cpuset: bool
    pids: bool
    weights: bool


def version(root: Path = ROOT) -> int:
    return 2 if (root / "cgroup.controllers").exists() else 1


def look(root: Path = ROOT) -> Abilities:
    """As the kernel shows it now."""
    if version(root) == 2:
        have = set((root / "cgroup.controllers").read_text().split())
        memory, swap, weights = "memory" in have, "memory" in have, _weights2(root)
        old = False
    else:
        have = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
        memory = old = "memory" in have
        swap = (root / "memory/memory.memsw.limit_in_bytes").exists()
        weights = (root / "blkio/blkio.weight").exists()
    return Abilities(
        version=version(root),
        memory=memory,
        swap=swap,
        swappiness=old,
        oom_kill_disable=old,
        cpu="cpu" in have,
        cpuset="cpuset" in have,
        pids="pids" in have,
        weights=weights,
    )


def _weights2(root: Path) -> bool:
    """The top has no weight itself: what it has is the cost model, or groups below it with a file of the scheduler."""
    return (root / "io.cost.qos").exists() or any(root.glob("*/io*.weight"))


def supported(host: HostConfig, able: Abilities) -> tuple[HostConfig, list[str]]:
    """The wishes that can come true, and warnings for the others."""
    warnings: list[str] = []
    without: dict[str, Any] = {}
    if host.memory > 0 and host.memory_swap != -1 and not able.swap:
        warnings.append(f"{_NO} swap limit capabilities {_MOUNTED} Memory limited without swap.")
        without["memory_swap"] = -1
    if host.memory_swappiness not in (None, -1) and not able.swappiness:
        warnings.append(f"{_NO} memory swappiness capabilities {_MOUNTED} Memory swappiness discarded.")
        without["memory_swappiness"] = None
    if host.oom_kill_disable is not None and not able.oom_kill_disable:
        if host.oom_kill_disable:
            warnings.append(f"{_NO} OomKillDisable. OomKillDisable discarded.")
        without["oom_kill_disable"] = None
    if not able.weights:
        warnings += [f"{_NO} Block I/O weight {_MOUNTED} Weight discarded."] if host.blkio_weight else []
        devices = host.blkio_weight_device
        warnings += [f"{_NO} Block I/O weight_device {_MOUNTED} Weight-device discarded."] if devices else []
        without |= {"blkio_weight": 0, "blkio_weight_device": devices and ()}
    return replace(host, **without), warnings
