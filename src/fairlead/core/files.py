"""Files of a container as values: where they are, what one is, what has changed.

No path here is safe to open from outside: they are the container's own.
"""

from __future__ import annotations

import msgspec

from fairlead.core.container import Mount

MODIFIED, ADDED, DELETED = 0, 1, 2
"""Docker's kinds of change."""


class Change(msgspec.Struct, frozen=True):
    """One path that differs from the image; ``kind`` is one of the three above."""

    kind: int
    path: str


class Place(msgspec.Struct, frozen=True):
    """Where a container's files are: merged root, process while it runs, mounts for when it does not."""

    root: str
    pid: int = 0
    mounts: tuple[Mount, ...] = ()
    name: str = ""
    """how errors call the container: its id"""


class PathStat(msgspec.Struct, frozen=True):
    """What ``HEAD …/archive`` tells. ``mode`` has Go's bits, ``mtime`` is nanoseconds since the epoch."""

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str
