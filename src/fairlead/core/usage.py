"""Usage: what a container has used, as its control group counts it; the same shape for both versions.

Times are nanoseconds, sizes bytes. Everything counts from the container's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class DiskUse(NamedTuple):
    """One line of a disk counter. ``what`` is ``read``, ``write``, ``discard``, …"""

    major: int
    minor: int
    what: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading. ``version`` 0: there was nothing to read."""

    version: int = 0
    cpu: int = 0
    cpu_user: int = 0
    cpu_kernel: int = 0
    per_cpu: tuple[int, ...] = ()
    """version 1 only"""
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    memory: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    """0: none of its own"""
    memory_failures: int = 0
    memory_detail: dict[str, int] = field(default_factory=dict)
    """the kernel's own names (``cache``, ``inactive_file`` …)"""
    pids: int = 0
    pids_limit: int = 0
    disk_bytes: tuple[DiskUse, ...] = ()
    disk_operations: tuple[DiskUse, ...] = ()
