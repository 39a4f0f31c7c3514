"""Watched: settings that somebody writes to, told by inotify; the kernel sends no other message about most of them.

    only(paths)   watch exactly these         also(paths)   and these         forget(paths)   not these any more

Who writes through another mount of /proc (in a container with its own, say) is not heard; the periodic look finds it.

Rules
    1. A watch keeps the kernel's file alive, also when its device is gone: what is no longer wanted is forgotten.
    2. Our own writes are told, too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

_MODIFY = 0x2
libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """The kernel's ear, open until ``close``; what it hears is for others to say."""

    def __init__(self) -> None:
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def fileno(self) -> int:
        return int(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Watched(Inotify):
    """Where the kernel has no more watches to give, it hears less, and works. ``near(path)``: a shorter way there."""

    def __init__(self, near: Callable[[str], str]) -> None:
        super().__init__()
        self._near = near
        self._watches: dict[str, int] = {}

    def only(self, paths: Iterable[str]) -> None:
        wanted = set(paths)
        self.forget(self._watches.keys() - wanted)
        self.also(wanted)

    def also(self, paths: Iterable[str]) -> None:
        for path in paths:
            watch = libc.inotify_add_watch(self._fd, self._near(path).encode(), _MODIFY)
            if watch != self._watches.get(path):  # a device of the same name as one that is gone: other files
                self.forget([path])
            if watch >= 0:
                self._watches[path] = watch

    def forget(self, paths: Iterable[str]) -> None:
        for path in [path for path in paths if path in self._watches]:
            libc.inotify_rm_watch(self._fd, self._watches.pop(path))

    def heard(self) -> bool:
        """Whether something was written since the last call."""
        found = False
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 1 << 14):
                found |= any(
                    int.from_bytes(data[at + 4 : at + 8], "little") & _MODIFY for at in range(0, len(data), 16)
                )
        return found
