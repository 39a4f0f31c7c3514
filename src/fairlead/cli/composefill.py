"""Variables in Compose files: ``$NAME``, ``${NAME}``, ``${NAME:-otherwise}``, ``${NAME:?why}``, ``$$`` for a dollar.

A value that was filled in is a text; where a number or a truth belongs (``deploy.replicas: ${N}``), it is made one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.cli.command import NO, YES
from fairlead.errors import Invalid

SECTIONS = ("services", "volumes", "networks", "secrets", "configs")
NAME = "[_a-zA-Z][_a-zA-Z0-9]*"
PATTERN = re.compile(
    rf"\$(?:(?P<dollar>\$)|(?P<plain>{NAME})|\{{(?P<name>{NAME})(?:(?P<sign>:?[-?])(?P<rest>[^}}]*))?\}}|(?P<bad>))"
)
NUMBERS = (
    "services.*.configs.[].mode",
    "services.*.secrets.[].mode",
    "services.*.healthcheck.retries",
    "services.*.deploy.replicas",
    "services.*.deploy.update_config.parallelism",
    "services.*.deploy.rollback_config.parallelism",
    "services.*.deploy.restart_policy.max_attempts",
    "services.*.deploy.placement.max_replicas_per_node",
    "services.*.ports.[].target",
    "services.*.ports.[].published",
    "services.*.ulimits.*",
    "services.*.ulimits.*.hard",
    "services.*.ulimits.*.soft",
    "services.*.volumes.[].tmpfs.size",
)
FRACTIONS = ("services.*.deploy.update_config.max_failure_ratio", "services.*.deploy.rollback_config.max_failure_ratio")
TRUTHS = (
    "services.*.healthcheck.disable",
    "services.*.init",
    "services.*.privileged",
    "services.*.read_only",
    "services.*.stdin_open",
    "services.*.tty",
    "services.*.volumes.[].read_only",
    "services.*.volumes.[].volume.nocopy",
    "networks.*.external",
    "networks.*.internal",
    "networks.*.attachable",
    "volumes.*.external",
    "secrets.*.external",
    "configs.*.external",
)


def _truth(text: str) -> bool:
    if text.lower() not in {*map(str.lower, YES + NO), "y", "yes", "on", "n", "no", "off"}:
        raise ValueError(f"invalid boolean: {text}")
    return text.lower() in ("1", "t", "true", "y", "yes", "on")


CASTS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(NUMBERS, int), **dict.fromkeys(FRACTIONS, float), **dict.fromkeys(TRUTHS, _truth)
}  # fmt: skip


def fill(document: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The document with all variables filled in; raises ``Invalid`` that names the place."""
    return {
        key: _walk(value, (key,), (key,), variables) if key in SECTIONS else value for key, value in document.items()
    }


def _walk(value: Any, place: tuple[str, ...], kind: tuple[str, ...], variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        names = [key if len(kind) not in (1,) and kind[-1] != "ulimits" else "*" for key in value]
        return {
            key: _walk(item, (*place, key), (*kind, name), variables)
            for (key, item), name in zip(value.items(), names, strict=True)
        }
    if isinstance(value, list):
        return [_walk(item, (*place, "[]"), (*kind, "[]"), variables) for item in value]
    if not isinstance(value, str):
        return value
    filled = _text(value, ".".join(place), variables)
    cast = CASTS.get(".".join(kind))
    if filled == value or cast is None:
        return filled
    try:
        return cast(filled)
    except ValueError as problem:
        raise Invalid(f'failed to cast to expected type: "{filled}" in {".".join(place)}: {problem}') from None


def _text(text: str, place: str, variables: Mapping[str, str]) -> str:
    hint = "you may need to escape any $ with another $"

    def one(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["bad"] is not None:
            raise Invalid(f'invalid interpolation format for {place}: "{text}"; {hint}')
        name, sign, rest = match["plain"] or match["name"], match["sign"] or "", match["rest"] or ""
        value = variables.get(name)
        missing = value is None or (sign.startswith(":") and not value)
        if missing and sign.endswith("?"):
            why = f"required variable {name} is missing a value: {rest}"
            raise Invalid(f'invalid interpolation format for {place}: "{why}"; {hint}')
        return _text(rest, place, variables) if missing and sign.endswith("-") else value or ""

    return PATTERN.sub(one, text)
