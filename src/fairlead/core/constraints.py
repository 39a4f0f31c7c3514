"""Placement constraints: ``node.role==manager``, ``node.labels.zone!=east``.

    node.id  node.hostname  node.role  node.ip (address or prefix)  node.platform.os  node.platform.arch
    node.labels.NAME        engine.labels.NAME

Values are compared without regard to case, as Docker does; a label that a node lacks is empty.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from fairlead.core.cluster import Node
from fairlead.errors import Invalid

_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+\Z", re.IGNORECASE)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+\Z", re.IGNORECASE)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KEYS = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")
_LABELS = ("node.labels.", "engine.labels.")


class Constraint(NamedTuple):
    key: str
    equal: bool
    """``==``; else ``!=``"""
    value: str

    def holds(self, node: Node) -> bool:
        if self.key == "node.ip":
            return _within(node.address, self.value) == self.equal
        return (value_of(node, self.key).casefold() == self.value.casefold()) == self.equal


@cache
def parse(text: str) -> Constraint:
    """Raises ``Invalid`` with what is wrong in it."""
    for operator in ("==", "!="):
        key, found, value = (part.strip() for part in text.partition(operator))
        if not found:
            continue
        if not _KEY.match(key):
            raise Invalid(f"key '{key}' is invalid")
        if not _VALUE.match(value):
            raise Invalid(f"value '{value}' is invalid")
        known = key.lower() in _KEYS or key.lower().startswith(_LABELS)
        if not known:
            raise Invalid(
                f"invalid placement constraint {text}: there is no '{key}'; there are {', '.join(_KEYS)}, labels"
            )
        return Constraint(key.lower() if key.lower() in _KEYS else key, operator == "==", value)
    raise Invalid("constraint expected one operator from ==, !=")


def hold(node: Node, constraints: Iterable[str]) -> bool:
    return all(parse(text).holds(node) for text in constraints)


def value_of(node: Node, key: str) -> str:
    """What a node has there; "" where it has nothing."""
    if key.lower().startswith("node.labels."):
        return node.spec.labels.get(key[len("node.labels.") :], "")
    if key.lower().startswith("engine.labels."):
        return node.description.engine_labels.get(key[len("engine.labels.") :], "")
    platform = node.description.platform
    facts = {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": node.spec.role,
        "node.platform.os": platform.os,
        "node.platform.arch": platform.architecture,
    }
    return facts.get(key, "")


def architecture(name: str) -> str:
    """One name for each: the kernel says ``x86_64`` where images say ``amd64``."""
    return _ARCHITECTURES.get(name.lower(), name.lower())


def _within(address: str, prefix: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(prefix)
    except ValueError:
        return False
