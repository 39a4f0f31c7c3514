"""Tar archives as they are sent and received: made piece by piece, unpacked without being led astray.

    pack(pairs)            (name in the archive, path here) -> pieces of bytes
    unpack(file, folder)   every entry, put below the folder; whoever packed it has no say about other places

Nothing is held in memory but a piece of a file, and nothing is written elsewhere first.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from fairlead.errors import Invalid

PIECE = 1 << 20


def pack(pairs: Iterable[tuple[str, str]], change: Callable[[tarfile.TarInfo], None] | None = None) -> Iterator[bytes]:
    """The archive of these files. ``change`` may alter an entry's header."""
    book = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")  # only to ask it for headers; it knows hard links
    for name, path in pairs:
        try:
            entry = book.gettarinfo(path, name)
        except OSError as problem:
            raise Invalid(f"{path}: {(problem.strerror or '').lower()}") from None
        if entry is None:  # a socket: nothing to pack
            continue
        entry.mtime = int(entry.mtime)  # a fraction would cost a header of its own for every file
        if change:
            change(entry)
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.isreg():
            yield from _content(path, entry.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def plain(name: str, content: bytes) -> bytes:
    """One small file as a piece of an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    head = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _content(path: str, size: int) -> Iterator[bytes]:
    """As many bytes as the header promises, whatever happens to the file meanwhile."""
    left = size
    try:
        with open(path, "rb") as file:
            while left and (data := file.read(min(PIECE, left))):
                left -= len(data)
                yield data
    except OSError as problem:
        raise Invalid(f"open {path}: {(problem.strerror or '').lower()}") from None
    while left:
        yield bytes(min(PIECE, left))
        left -= min(PIECE, left)
    yield bytes(-size % tarfile.BLOCKSIZE)


def walk(root: str, name: str) -> Iterator[tuple[str, str]]:
    """(name in the archive, path) of a file or of a folder and all below it, folders before their contents."""
    yield name, root
    if os.path.islink(root) or not os.path.isdir(root):
        return
    for entry in sorted(os.listdir(root)):
        yield from walk(os.path.join(root, entry), f"{name}/{entry}")


def unpack(file: BinaryIO, folder: str, rename: Callable[[str], str], *, owners: bool) -> int:
    """Put every entry below ``folder``; returns the bytes of content. ``owners``: also their uid and gid."""
    home = os.path.realpath(folder)
    total = 0
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for entry in archive:
            entry.name = rename(entry.name)
            if entry.islnk():
                entry.linkname = rename(entry.linkname)
                _inside(home, entry.linkname)
            _inside(home, entry.name)
            if not owners:
                entry.uid, entry.gid, entry.uname, entry.gname = os.getuid(), os.getgid(), "", ""
            _make_way(os.path.join(home, entry.name), entry)
            archive.extract(entry, home, numeric_owner=True)
            total += entry.size
    return total


def _inside(home: str, name: str) -> None:
    """See that the entry's folder, links followed, lies in ours."""
    parent = os.path.realpath(os.path.dirname(os.path.join(home, name.rstrip("/"))))
    if ".." in name.split("/") or os.path.commonpath([home, parent]) != home:
        raise Invalid(f"the archive wants to write outside of {home}: {name}")


def _make_way(path: str, entry: tarfile.TarInfo) -> None:
    """A link or file in the way is replaced, never written through; a folder never becomes a file."""
    if not os.path.lexists(path):
        return
    folder = os.path.isdir(path) and not os.path.islink(path)
    if folder and not entry.isdir():
        raise Invalid(f'cannot overwrite directory "{path}" with non-directory "{entry.name}"')
    if not folder:
        os.unlink(path)
