"""Volumes in Docker's spelling."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairlead.api.wire import get, members
from fairlead.engine.volumes import Volume

STRINGS = dict[str, str]


class Create(NamedTuple):
    """A parsed ``POST /volumes/create``."""

    name: str
    driver: str
    labels: dict[str, str]
    options: dict[str, str]


def create(body: Any) -> Create:
    given = members(body, "", "volume.CreateOptions")
    return Create(
        get(given, "Name", str, "", "CreateOptions"),
        get(given, "Driver", str, "", "CreateOptions"),
        get(given, "Labels", STRINGS, {}, "CreateOptions"),
        get(given, "DriverOpts", STRINGS, {}, "CreateOptions"),
    )


def volume(value: Volume, path: str) -> dict[str, Any]:
    """One volume as every call shows it; times of volumes have no fraction."""
    whole, dot, _ = value.created.partition(".")
    return {
        "CreatedAt": f"{whole}Z" if dot else value.created,
        "Driver": value.driver,
        "Labels": value.labels,
        "Mountpoint": path,
        "Name": value.name,
        "Options": value.options,
        "Scope": "local",
    }
