"""inotify: wait until something changes in a directory, without asking again and again.

    with Changes(directory) as changes:
        while looking():
            await changes.next()

Rules
    1. Look *after* making it and after each ``next``: a change in between is not lost.
    2. ``next`` tells that something happened, not what; many changes may be one.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Self

from fairlead.host.programs import readable
from fairlead.host.watched import Inotify, libc

_MODIFY, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x2, 0x8, 0xC0, 0x100, 0x200


class Changes(Inotify):
    """Changes of the files in one directory."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        events = _MODIFY | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE
        if libc.inotify_add_watch(self._fd, os.fsencode(directory), events) < 0:
            code = ctypes.get_errno()
            self.close()
            raise OSError(code, os.strerror(code), directory)

    async def next(self) -> None:
        """Return when something has changed since the last time."""
        while not self._drain():
            await readable(self._fd)

    def _drain(self) -> bool:
        seen = False
        with suppress(BlockingIOError):
            while os.read(self._fd, 65536):
                seen = True
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
