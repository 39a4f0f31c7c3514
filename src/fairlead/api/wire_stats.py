"""Stats and processes of a container in Docker's spelling (all small letters, for once)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.api import times
from fairlead.core.container import NEVER, Container
from fairlead.core.usage import DiskUse, Usage
from fairlead.engine.stats import Reading, Sample

WAITS = ("io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time")


def stats(container: Container, sample: Sample) -> dict[str, Any]:
    """One sample with the one before it."""
    usage = sample.now.usage
    shown: dict[str, Any] = {
        "name": "/" + container.name,
        "id": container.id,
        "read": _time(sample.now),
        "preread": _time(sample.before),
        "pids_stats": _present(current=usage.pids, limit=usage.pids_limit),
        "blkio_stats": _disks(usage),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(sample.now),
        "precpu_stats": _cpu(sample.before),
        "memory_stats": _memory(usage, sample.now.machine.memory),
    }
    if sample.now.networks:
        shown["networks"] = {name: msgspec.structs.asdict(counters) for name, counters in sample.now.networks.items()}
    return shown


def _time(reading: Reading) -> str:
    return times.text(reading.time) if reading.time else NEVER


def _present(**values: int) -> dict[str, int]:
    return {name: value for name, value in values.items() if value}


def _disks(usage: Usage) -> dict[str, Any]:
    empty: Any = [] if usage.version == 1 else None
    return {
        "io_service_bytes_recursive": _lines(usage.disk_bytes) or empty,
        "io_serviced_recursive": _lines(usage.disk_operations) or empty,
        **{f"{name}_recursive": empty for name in WAITS},
        "sectors_recursive": empty,
    }


def _lines(uses: Sequence[DiskUse]) -> list[dict[str, Any]]:
    return [{"major": use.major, "minor": use.minor, "op": use.what, "value": use.value} for use in uses]


def _cpu(reading: Reading) -> dict[str, Any]:
    usage = reading.usage
    spent: dict[str, Any] = {"total_usage": usage.cpu}
    if usage.per_cpu:
        spent["percpu_usage"] = list(usage.per_cpu)
    spent |= {"usage_in_kernelmode": usage.cpu_kernel, "usage_in_usermode": usage.cpu_user}
    whole = {"system_cpu_usage": reading.machine.cpu, "online_cpus": reading.machine.online} if reading.time else {}
    return {
        "cpu_usage": spent,
        **whole,
        "throttling_data": {
            "periods": usage.periods,
            "throttled_periods": usage.throttled_periods,
            "throttled_time": usage.throttled_time,
        },
    }


def _memory(usage: Usage, machine: int) -> dict[str, Any]:
    if not usage.version:
        return {}
    limit = usage.memory_limit or machine
    return {
        **_present(usage=usage.memory, max_usage=usage.memory_peak if usage.version == 1 else 0),
        "stats": usage.memory_detail,
        **_present(failcnt=usage.memory_failures, limit=min(limit, machine) if machine else limit),
    }


def top(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"Processes": [list(row) for row in rows], "Titles": list(titles)}
