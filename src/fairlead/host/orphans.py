"""Orphans: as process 1 of a container, the engine is the parent of every process that lost its own.

    conmon ends --> the kernel makes it our child, dead --> nobody asks how it ended --> it is buried here

What we started ourselves is waited for where it was started (``host.programs``, ``host.child``), within moments. So a
child of ours that has been dead at two looks in a row is nobody's. Everywhere else some init does this; then nobody
need call ``bury``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SECONDS = 10.0
"""Between two looks."""


async def bury(seconds: float = SECONDS) -> None:
    """Until cancelled: bury dead children that nobody asks for."""
    before: set[tuple[int, str]] = set()
    while True:
        dead = set(_dead())
        for pid, _ in dead & before:
            _bury(pid)
        before = dead
        await asyncio.sleep(seconds)


def _bury(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _dead() -> Iterator[tuple[int, str]]:
    """Dead children of ours: process id, and when it began, so that a later one of the same number is not it."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError):
                # pid (name) state parent … began: the name may hold anything, even ")"
                words = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if words[0] == "Z" and int(words[1]) == os.getpid():
                    yield int(name), words[19]
