"""Which containers ``GET /containers/json`` and the prune call mean: Docker's filters.

All names must agree, any value of one name will do (every one for ``label``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fairlead.api import http
from fairlead.core.container import NEVER, Container
from fairlead.errors import FairleadError, Invalid

ACCEPTED = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name"),
    *("network", "publish", "since", "status", "volume"),
)
STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTHS = ("none", "starting", "healthy", "unhealthy")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(\w+))?")


class Facts(NamedTuple):
    """What the filters ask about a container that its record does not hold."""

    ports: Callable[[Container], Sequence[Mapping[str, Any]]]
    """as the list shows them"""
    network_ids: Mapping[str, str]
    """name or id as asked -> id"""
    images: Callable[[str], str]
    """image reference -> id, "" for none"""
    find: Callable[[str], Container]
    parent: Callable[[str], str]
    """image id -> the id of the image it was built on, "" for none"""


Test = Callable[[Container], bool]


def matcher(wanted: http.Filters, facts: Facts) -> Test:
    """One test of all the filters; ``Invalid`` (or what dockerd answers) for values that make no sense."""
    tests = [make(wanted[name], facts) for name, make in _MAKERS.items() if wanted.get(name)]
    tests += _open(wanted, facts)
    return lambda container: all(test(container) for test in tests)


def asks_for_stopped(wanted: http.Filters) -> bool:
    """Filters that make the list look beyond what runs."""
    return bool(wanted.get("status"))


# -- one maker for each name ---------------------------------------------------------------


def _name(values: Sequence[str], facts: Facts) -> Test:
    return lambda c: any(http.matches(value, c.name) or http.matches(value, "/" + c.name) for value in values)


def _id(values: Sequence[str], facts: Facts) -> Test:
    return lambda c: any(http.matches(value, c.id) for value in values)


def _label(values: Sequence[str], facts: Facts) -> Test:
    return lambda c: http.labels_match(values, c.config.labels)


def _status(values: Sequence[str], facts: Facts) -> Test:
    for value in values:
        if value not in STATES:
            words = f"invalid value for state ({value}): must be one of {', '.join(STATES)}"
            raise Invalid(f"invalid filter 'status={value}': {words}")
    return lambda c: c.state.status in values


def _health(values: Sequence[str], facts: Facts) -> Test:
    for value in values:
        if value not in HEALTHS:
            words = f"invalid value for health ({value}): must be one of {', '.join(HEALTHS)}"
            raise Invalid(f"invalid filter 'health={value}': {words}")
    return lambda c: (c.state.health.status if c.state.health else "none") in values


def _exited(values: Sequence[str], facts: Facts) -> Test:
    codes = set()
    for value in values:
        try:
            codes.add(http.parse_int(value, "Atoi"))
        except Invalid as error:
            raise Invalid(f"invalid filter 'exited={value}': {error.message}") from error
    return lambda c: c.state.exit_code in codes and not c.state.running and c.state.started_at != NEVER


def _network(values: Sequence[str], facts: Facts) -> Test:
    def test(container: Container) -> bool:
        ids = {facts.network_ids.get(asked, "") for asked in container.networks}
        return any(v in container.networks or any(id and id.startswith(v) for id in ids) for v in values)

    return test


def _volume(values: Sequence[str], facts: Facts) -> Test:
    return lambda c: any(value in (m.name or m.source, m.destination) for m in c.mounts for value in values)


def _ancestor(values: Sequence[str], facts: Facts) -> Test:
    ids = {facts.images(value) for value in values} - {""}

    def descends(image: str) -> bool:
        seen: set[str] = set()
        while image and image not in ids and image not in seen:
            seen.add(image)
            image = facts.parent(image)
        return image in ids

    return lambda c: descends(c.image) or c.config.image in values


def _before(values: Sequence[str], facts: Facts) -> Test:
    limits = [facts.find(value).created for value in values]
    return lambda c: all(c.created < limit for limit in limits)


def _since(values: Sequence[str], facts: Facts) -> Test:
    limits = [facts.find(value).created for value in values]
    return lambda c: all(c.created > limit for limit in limits)


def _open(wanted: http.Filters, facts: Facts) -> list[Test]:
    """``publish`` and ``expose``: one port of the list's column will do, by either. Outside, 0 is none."""
    outside, inside = (
        set[tuple[int, str]]().union(*(_ports(name, value) for value in wanted.get(name, ())))
        for name in ("publish", "expose")
    )

    def test(container: Container) -> bool:
        return any(
            (port.get("PublicPort", 0), port["Type"]) in outside or (port["PrivatePort"], port["Type"]) in inside
            for port in facts.ports(container)
        )

    return [test] if outside or inside else []


def _ports(name: str, value: str) -> set[tuple[int, str]]:
    found = _PORTS.fullmatch(value)
    if not found:
        number = value.partition("/")[0]
        raise FairleadError(
            f"error while looking up for {name} {value}: "
            f"strconv.ParseUint: parsing {http.quoted(number)}: invalid syntax"
        )
    first, last, protocol = int(found[1]), int(found[2] or found[1]), found[3] or "tcp"
    if not 0 <= first <= last <= 65535:
        raise FairleadError(f"error while looking up for {name} {value}: invalid range specified for port")
    return {(port, protocol) for port in range(first, last + 1)}


def _is_task(values: Sequence[str], facts: Facts) -> Test:
    truth = {"true": True, "1": True, "false": False, "0": False}
    if len(set(values)) != 1 or values[0] not in truth:
        raise Invalid(f"invalid filter 'is-task=[{' '.join(values)}]'")
    wanted = truth[values[0]]
    return lambda c: ("com.docker.swarm.task.id" in (c.config.labels or {})) == wanted


_MAKERS: dict[str, Callable[[Sequence[str], Facts], Test]] = {
    "name": _name,
    "id": _id,
    "label": _label,
    "status": _status,
    "health": _health,
    "exited": _exited,
    "network": _network,
    "volume": _volume,
    "ancestor": _ancestor,
    "before": _before,
    "since": _since,
    "is-task": _is_task,
}
