"""Mounts as Docker's API has them, held to their shape: what is asked is kept as it was asked, but not unread.

A mount is kept in Docker's own keys and understood where it is made (``core.mounts``), for a service's task on another
machine, later. Whoever wrote a number where a path belongs is to hear of it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from fairlead.api import wire


class DriverConfig(msgspec.Struct):
    name: str = ""
    options: dict[str, str] = {}


class BindOptions(msgspec.Struct):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeOptions(msgspec.Struct):
    no_copy: bool = False
    labels: dict[str, str] = {}
    subpath: str = ""
    driver_config: DriverConfig | None = None


class TmpfsOptions(msgspec.Struct):
    size_bytes: int = 0
    mode: int = 0
    options: tuple[tuple[str, ...], ...] = ()


class ImageOptions(msgspec.Struct):
    subpath: str = ""


class Mount(msgspec.Struct):
    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None


def check(mounts: Iterable[Any] | None, where: str) -> None:
    """Raises ``Invalid`` in Go's words. ``where``: the path to the list in the body."""
    for at, mount in enumerate(mounts or ()):
        wire.read(Mount, mount, f"{where}.{at}")
