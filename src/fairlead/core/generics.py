"""Generic resources: what nodes have of things that Docker knows by name alone (gpu, FPGA), and who has which of it.

    --node-generic-resource gpu=2 FPGA=a FPGA=b  -->  two that are counted, two that have names of their own
    service create --generic-resource gpu=1      -->  one of them, for each task: DOCKER_RESOURCE_GPU=1
                                    FPGA=1                                        DOCKER_RESOURCE_FPGA=a

As in the API each is ``{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}`` or ``{"NamedResourceSpec": …}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Generic = Mapping[str, Any]
COUNTED, NAMED = "DiscreteResourceSpec", "NamedResourceSpec"
VARIABLE = "DOCKER_RESOURCE_"


def parse(texts: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """``gpu=2`` (so many) and ``gpu=UUID1`` (this one) of a node, as its settings have them."""
    pairs = (text.partition("=")[::2] for text in texts)
    return tuple(
        _one(COUNTED, kind, int(value)) if value.isdecimal() else _one(NAMED, kind, value) for kind, value in pairs
    )


def claim(
    asked: Iterable[Generic], has: Iterable[Generic], taken: Iterable[Generic]
) -> tuple[dict[str, Any], ...] | None:
    """What a task gets of what is left; None: there is not enough."""
    left, used, wishes = _counts(has), set(_names(taken)), _names(asked)
    left.subtract(_counts(taken))
    free = [name for name in _names(has) if name not in used]
    if not set(wishes) <= set(free):
        return None
    given = [_one(NAMED, *name) for name in wishes]
    for kind, amount in _counts(asked).items():
        names = [name for name in free if name[0] == kind and name not in wishes]
        if left[kind] >= amount > 0:
            given.append(_one(COUNTED, kind, amount))
        elif len(names) >= amount:
            given += [_one(NAMED, *name) for name in names[:amount]]
        else:
            return None
    return tuple(given)


def variables(given: Iterable[Generic]) -> tuple[str, ...]:
    """How a container is told what is its own."""
    told: dict[str, list[str]] = {}
    for one in given:
        for spec in one.values():
            told.setdefault(spec["Kind"], []).append(str(spec["Value"]))
    return tuple(f"{VARIABLE}{kind.upper()}={','.join(values)}" for kind, values in told.items())


def _one(form: str, kind: str, value: int | str) -> dict[str, Any]:
    return {form: {"Kind": kind, "Value": value}}


def _counts(some: Iterable[Generic]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in some:
        if COUNTED in one:
            found[one[COUNTED].get("Kind", "")] += int(one[COUNTED].get("Value", 0))
    return found


def _names(some: Iterable[Generic]) -> list[tuple[str, str]]:
    return [(one[NAMED].get("Kind", ""), str(one[NAMED].get("Value", ""))) for one in some if NAMED in one]
