"""Lives: what begins and ends when a container runs, as values between the engine and whoever runs it."""

from __future__ import annotations

import msgspec

UNKNOWN = 255
"""Exit code of a process whose keeper was lost together with the real one."""


class Ended(msgspec.Struct, frozen=True):
    """The end of a container's process 1. ``at`` is nanoseconds since the epoch, 0: just now."""

    id: str
    code: int
    oom: bool = False
    at: int = 0


class Recovered(msgspec.Struct, frozen=True):
    """What a returning engine finds: running ids with their process ids, and the ends it missed."""

    running: dict[str, int] = msgspec.field(default_factory=dict)
    ended: dict[str, Ended] = msgspec.field(default_factory=dict)

    def end_of(self, id: str) -> Ended:
        return self.ended.get(id) or Ended(id, UNKNOWN)


class Belonging(msgspec.Struct, frozen=True):
    """Something on this machine that bears a container's id. ``running``: it is there only while that runs, else while
    there is such a container."""

    kind: str
    """``folder``, ``mount``, ``control group`` or ``process``"""
    id: str
    place: str
    running: bool


class ExecSpec(msgspec.Struct, frozen=True):
    """A further process of a running container, everything decided. ``user`` as in Docker: name, uid, ``u:g``."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    size: tuple[int, int] = (0, 0)
    """rows and columns of the terminal; 0: as it comes"""
