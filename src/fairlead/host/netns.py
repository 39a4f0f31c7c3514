"""Network namespaces: the only place that changes which one a thread is in.

    create(name)     this thread unshares, bind-mounts its new namespace to <root>/<name>, and is back
    destroy(name)    unmount, unlink; the kernel takes the rest down behind our back
    inside(path)     this thread visits, and is back at the end of the block
    socket_in(path)  a socket of that namespace for somebody who stays here

Rules
    1. A thread never ends a block in a namespace other than the one it began in.
       If the way back were refused the process ends: going on in a container's
       namespace would be far worse.
    2. Nothing may be awaited inside a visit: another task would visit too.
    3. A namespace lives by its bind mount. It is there after a restart of the
       engine, and for everybody in our mount namespace.
    4. What is below the root and is no namespace (left by a reboot) is not ours
       to report, and is mounted over.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from fairlead.errors import Internal

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 1 << 20, 2
HERE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextmanager
def inside(path: str | int) -> Iterator[None]:
    """Visit the namespace at ``path`` (or an open file of it) with this thread."""
    here = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = path if isinstance(path, int) else _open(path)
        try:
            _call("setns", there, CLONE_NEWNET)
        finally:
            if not isinstance(path, int):
                os.close(there)
        try:
            yield
        finally:
            _return(here)
    finally:
        os.close(here)


def socket_in(path: str, family: int, type: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to the namespace at ``path``; this thread stays where it is."""
    with inside(path):
        return socket.socket(family, type, protocol)


def in_new(work: Callable[[], T]) -> T:
    """``work()`` by this thread in a fresh namespace, which lives on in what ``work`` opened."""
    here = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            return work()
        finally:
            _return(here)
    finally:
        os.close(here)


class Namespaces:
    """The bind mounts below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)
        """the same: a bell that rings for mounts has all of them looked at"""
        self._kind = os.stat(HERE).st_dev
        self._prepared = False
        self._sweep()

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self) -> list[str]:
        """What is a namespace there, in order of name."""
        try:
            entries = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []
        return [name for name in entries if self.exists(name)]

    def exists(self, name: str) -> bool:
        try:
            return os.stat(self.path(name)).st_dev == self._kind
        except FileNotFoundError:
            return False

    def create(self, name: str, visit: Callable[[], T]) -> T:
        """Make it and return ``visit()``, called inside; nothing is left if either fails."""
        if not name or "/" in name or name.startswith("."):
            raise Internal(f"{name!r} is no name for a namespace")
        path = self.root / name
        if not (self._prepared and self.root.is_dir()):
            self._prepare()
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))

        def work() -> T:
            _call("mount", HERE.encode(), str(path).encode(), b"none", MS_BIND, None)
            return visit()

        try:
            return in_new(work)
        except BaseException:
            self.destroy(name)
            raise

    def keep(self, name: str, pid: int) -> None:
        """The mount is gone, but a process lives in the namespace: mount it again from there."""
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(HERE).st_ino:
            raise Internal(f"process {pid} lives in the host's own network, not in {name}")
        path = self.root / name
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        _call("mount", f"/proc/{pid}/ns/net".encode(), str(path).encode(), b"none", MS_BIND, None)

    def destroy(self, name: str) -> None:
        """Gone already is fine."""
        path = self.root / name
        with suppress(OSError):
            _call("umount2", str(path).encode(), MNT_DETACH)
        with suppress(FileNotFoundError):
            path.unlink()

    def close(self) -> None:
        """If no namespace is left, the directory is an ordinary one again."""
        if self.root.is_dir() and not self.names() and _mount_of(self.root)[0] == os.path.realpath(self.root):
            with suppress(OSError):
                _call("umount2", str(self.root).encode(), MNT_DETACH)

    def _sweep(self) -> None:
        """Remove files that are no namespaces (any more): of an engine that was killed while it made or removed one."""
        if self.root.is_dir():
            for name in set(os.listdir(self.root)) - set(self.names()):
                with suppress(OSError):
                    (self.root / name).unlink()

    def _prepare(self) -> None:
        """The directory must be a shared mount: else copies of our mounts in other mount
        namespaces (containers, services) would not see the unmounting, and keep the namespace alive."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not _mount_of(self.root)[1]:
            path = str(self.root).encode()
            _call("mount", path, path, b"none", MS_BIND | MS_REC, None)
            _call("mount", b"none", path, b"none", MS_SHARED | MS_REC, None)
        self._prepared = True


def _mount_of(path: Path) -> tuple[str, bool]:
    """Where the mount that ``path`` lies on begins, and whether it passes unmounts on to its copies."""
    real = os.path.realpath(path)
    best, shared = "", False
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            words = line.split()
            point = words[4].replace("\\040", " ")
            within = real == point or real.startswith(point.rstrip("/") + "/")
            if within and len(point) >= len(best):
                best, shared = point, any(word.startswith("shared:") for word in words[6 : words.index("-")])
    return best, shared


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Internal(f"there is no network namespace at {path}") from None


def _return(here: int) -> None:
    try:
        _call("setns", here, CLONE_NEWNET)
    except OSError as error:  # pragma: no cover - the kernel refuses this only to those without privileges
        os.write(2, f"fairlead: cannot return to the host's network namespace: {error}\n".encode())
        os.abort()
