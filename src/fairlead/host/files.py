"""Files: small text files of ours, replaced in place.

A container sees its hosts and resolv.conf through bind mounts of these very
files, so the inode must stay: we write over the old content and cut the rest
off. A reader may see a mixture for some microseconds; Docker's readers do too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fairlead.core.wanted import File
from fairlead.errors import Internal

_WRITING = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def write(item: File) -> Callable[[], None]:
    """Make the file so; returns how to undo it."""
    before = read(item)
    if before == item:
        return lambda: None
    try:
        _write(item)
    except OSError as error:
        raise Internal(f"cannot write {item.path}: {error.strerror}") from None
    if before is None:
        return lambda: remove(item)
    return lambda: _write(before)


def read(item: File) -> File | None:
    try:
        file = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found, content = os.fstat(file), b""
        while piece := os.read(file, found.st_size + 1):
            content += piece
            if len(content) == found.st_size:
                break
    finally:
        os.close(file)
    return File(path=item.path, content=content.decode(errors="replace"), mode=found.st_mode & 0o7777)


def remove(item: File) -> None:
    """Gone already is fine."""
    with suppress(FileNotFoundError):
        os.unlink(item.path)


def _write(item: File) -> None:
    try:
        descriptor = os.open(item.path, _WRITING, 0o600)
    except FileNotFoundError:
        Path(item.path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(item.path, _WRITING, 0o600)
    try:
        content = left = item.content.encode()
        while left:
            left = left[os.write(descriptor, left) :]
        os.ftruncate(descriptor, len(content))
        os.fchmod(descriptor, item.mode)
    finally:
        os.close(descriptor)
