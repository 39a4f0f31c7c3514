"""Paths inside somebody else's root: looked up by the kernel, never by us.

A container's files belong to whoever made the image. A name in them may be a
symbolic link to ``/etc`` or ``../../..``, and may change while we look. So every
path inside a container is resolved by ``openat2(2)`` with ``RESOLVE_IN_ROOT``:
links are followed as the container would follow them, and ``/`` is its root.

    with root(path) as top:          # a directory descriptor: the container's /
        fd = open_in(top, "/etc/passwd", os.O_RDONLY)

Rules
    1. Nobody joins a container's path to a host path with string functions.
    2. A descriptor that came from here is a place, and stays it whatever the
       container renames meanwhile: work goes on relative to it.

What it does not do: guard against a hostile *content* (that is the caller's).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open_in(top: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a container's path below its root; a file descriptor, ``OSError`` as open(2) would."""
    how = _How(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path) or b"."
    while True:
        fd = _libc.syscall(SYS_OPENAT2, top, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            raise OSError(code, os.strerror(code), path)


@contextmanager
def root(path: str) -> Iterator[int]:
    """The directory that is somebody's ``/``, as a descriptor."""
    top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


@contextmanager
def opened(top: int, path: str, flags: int, mode: int = 0) -> Iterator[int]:
    """``open_in`` for the length of a ``with`` block."""
    fd = open_in(top, path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def read_in(top: int, path: str, limit: int = 1 << 20) -> bytes:
    """At most ``limit`` bytes of a regular file inside a root (devices and pipes are not opened for reading)."""
    with opened(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as fd, os.fdopen(os.dup(fd), "rb") as file:
        return file.read(limit)


def make_directories(top: int, path: str, mode: int = 0o755) -> None:
    """``mkdir -p`` as the container would do it; what is there stays as it is."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for length in range(1, len(parts) + 1):
        parent, name = "/" + "/".join(parts[: length - 1]), parts[length - 1]
        try:
            os.close(open_in(top, "/" + "/".join(parts[:length]), os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            with opened(top, parent, os.O_PATH | os.O_DIRECTORY) as fd:
                os.mkdir(name, mode, dir_fd=fd)


def make_file(top: int, path: str, mode: int = 0o644) -> None:
    """An empty file, with the directories above it, if nothing of that name is there."""
    head, _, name = path.rpartition("/")
    make_directories(top, head or "/")
    with opened(top, head or "/", os.O_PATH | os.O_DIRECTORY) as fd:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, mode, dir_fd=fd))
        except FileExistsError:
            return
