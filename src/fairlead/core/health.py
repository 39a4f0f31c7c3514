"""Health: what the outcome of a probe makes of a container's health.

    starting --0--> healthy            the first success
    starting --n failures--> unhealthy failures within the start period do not count
    healthy <--> unhealthy             a success; ``retries`` failures in a row

Durations are nanoseconds, as in the API; 0 means Docker's default.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fairlead.core.container import Health, Healthcheck, HealthProbe

SECOND = 1_000_000_000
INTERVAL, TIMEOUT, START_INTERVAL, RETRIES = 30 * SECOND, 30 * SECOND, 5 * SECOND, 3
KEPT = 5
LARGEST = 4096
"""Bytes of a probe's output that are kept."""
TIMED_OUT = -1


def command(check: Healthcheck | None, shell: Sequence[str] | None) -> tuple[str, ...] | None:
    """What to run; None: there is no health check."""
    test = check.test if check is not None else None
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD-SHELL":
        return (*(shell or ("/bin/sh", "-c")), *test[1:])
    return tuple(test[1:]) or None


def wait(check: Healthcheck, health: Health, age: int) -> int:
    """Nanoseconds until the next probe; ``age`` since the container started."""
    interval = check.interval or INTERVAL
    if health.status == "starting" and age < check.start_period:
        return min(interval, check.start_interval or START_INTERVAL)
    return interval


def step(check: Healthcheck, health: Health, probe: HealthProbe, age: int) -> Health:
    """Health after ``probe``, which began when the container was ``age`` old."""
    log = (*health.log, probe)[-KEPT:]
    if probe.exit_code == 0:
        return Health("healthy", 0, log)
    if health.status == "starting" and age < check.start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= (check.retries or RETRIES) else health.status
    return Health(status, streak, log)
