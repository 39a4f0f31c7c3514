"""Restart policies: whether a container that ended starts again, and after how long.

    always, unless-stopped   whenever it ended by itself
    on-failure[:n]           when it ended with a code other than 0, at most n times
    no                       never

A start that fails for something that is away (the cluster's store, a helper) is tried
again, every three seconds in the end.

A container the user stopped stays stopped. The wait doubles from 0.1 s with
every restart up to a minute; a run of ten seconds or more was a good one and
starts the count of waits anew.

Times are the RFC 3339 texts of the container's state (UTC); no clock is read.
"""

import msgspec

from fairlead.core.container import NEVER, Container

FIRST = 0.1
LONGEST = 60.0
GOOD_RUN = 10.0
AWAY = 3.0
"""The longest wait for something that is away: one start costs little, and people wait for it."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows the end of a process."""

    again: bool


def decide(container: Container, code: int, leaving: bool = False) -> Verdict:
    """Whether the policy brings it back after it ended with ``code`` (``state`` as it was while running).

    ``leaving``: the engine is ending; what comes back comes back with the next one (``at_start``)."""
    policy = container.host.restart_policy
    if container.state.stopped_by_user or leaving:
        return Verdict(False)
    if policy.name in ("always", "unless-stopped"):
        return Verdict(True)
    if policy.name == "on-failure" and code != 0:
        most = policy.maximum_retry_count
        return Verdict(most == 0 or container.state.restart_count < most)
    return Verdict(False)


def at_start(container: Container) -> bool:
    """Whether an engine that comes back starts a container that has ended: Docker's rules.

    ``always`` means whoever stopped it; ``on-failure`` asks only how it ended, and a killed one has failed."""
    policy, state = container.host.restart_policy, container.state
    if policy.name == "on-failure":
        most = policy.maximum_retry_count
        return state.exit_code != 0 and (most == 0 or state.restart_count < most)
    return policy.name == "always" or (policy.name == "unless-stopped" and not state.stopped_by_user)


def delay(container: Container) -> float:
    """Seconds to wait before the start that ``decide`` granted; ``restart_count`` already counts it."""
    if seconds(container) >= GOOD_RUN:
        return FIRST
    doublings = min(max(container.state.restart_count - 1, 0), 20)
    return min(FIRST * (1 << doublings), LONGEST)


def duration(container: Container) -> int:
    """Whole seconds of the last run, as the ``die`` event tells them."""
    return int(seconds(container))


def seconds(container: Container) -> float:
    """Seconds from the last start to the last end; 0 while either is unknown."""
    state = container.state
    if NEVER in (state.started_at, state.finished_at):
        return 0.0
    return max(0.0, (nanoseconds(state.finished_at) - nanoseconds(state.started_at)) / 1e9)


def nanoseconds(text: str) -> int:
    """Nanoseconds since the epoch of ``2024-05-06T07:08:09.123456789Z`` or with an offset ``+02:00``."""
    date, _, clock = text.partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    offset = 0
    if clock.endswith("Z"):
        clock = clock[:-1]
    elif "+" in clock or "-" in clock:
        sign = 1 if "+" in clock else -1
        clock, _, zone = clock.partition("+" if sign == 1 else "-")
        offset = sign * (int(zone[:2]) * 60 + int(zone[3:5])) * 60
    whole, _, fraction = clock.partition(".")
    hour, minute, second = (int(part) for part in whole.split(":"))
    total = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return total * 1_000_000_000 + int((fraction + "000000000")[:9])


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of our calendar; years counted from March, so that leap days come last."""
    year -= month <= 2
    era, in_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + in_era * 365 + in_era // 4 - in_era // 100 + day_of_year - 719468
