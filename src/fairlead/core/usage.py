"""Usage: what a container has used, as its control group counts it; the same shape for both versions.

Times are nanoseconds, sizes bytes. Everything counts from the container's start.
"""

from __future__ import annotations

import msgspec


class DiskUse(msgspec.Struct, frozen=True):
    """One line of a disk counter. ``what`` is ``read``, ``write``, ``discard``, …"""

    major: int
    minor: int
    what: str
    value: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
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
    memory_detail: dict[str, int] = msgspec.field(default_factory=dict)
    """the kernel's own names (``cache``, ``inactive_file`` …)"""
    pids: int = 0
    pids_limit: int = 0
    disk_bytes: tuple[DiskUse, ...] = ()
    disk_operations: tuple[DiskUse, ...] = ()


class NetworkUse(msgspec.Struct, frozen=True):
    """Counters of one interface inside the container."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


def interfaces(text: str) -> dict[str, NetworkUse]:
    """What /proc/<pid>/net/dev says, without the loopback."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        numbers = [int(word) for word in counters.split()]
        if name.strip() != "lo" and len(numbers) >= 16:
            found[name.strip()] = NetworkUse(*numbers[0:4], *numbers[8:12])
    return found


class Machine(msgspec.Struct, frozen=True):
    """The whole machine: nanoseconds of all its processors, how many there are, bytes of memory."""

    cpu: int = 0
    online: int = 1
    memory: int = 0
