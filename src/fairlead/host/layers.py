"""The writable layer of a container: overlayfs over the image's files, or a copy where that cannot be.

    <data root>/layers/<id>/upper    what the container wrote        (overlay2)
                            work     overlayfs' own
                            merged   what the container sees: a mount (overlay2), or the copy itself (vfs)

Rules
    1. Which of the two it is, is tried once, at ``open``, with a real mount: a data
       root that is on overlayfs itself cannot hold an upper directory.
    2. Mounting what is mounted and unmounting what is not are fine. A mount that an
       earlier daemon left is found again.
    3. Names come from the container: nothing here follows a symbolic link of its.

What it does not do: images (``host.images``), looking up a container's paths (``host.archive``).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from fairlead.core import files
from fairlead.errors import Internal, Unsupported

MNT_DETACH = 2
CAPABILITY = "security.capability"
_OPAQUE = "trusted.overlay.opaque"
_MOUNTED = ("hosts", "hostname", "resolv.conf")
"""Files in etc that the engine mounts over: whoever else mounted over them left empty ones behind."""
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2); ``OSError``."""
    words = (os.fsencode(source), os.fsencode(target), os.fsencode(kind) or None, flags, os.fsencode(options) or None)
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(words[3]), words[4]):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def umount(target: str) -> None:
    """umount2(2), lazily; not mounted or not there is fine."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH):
        code = ctypes.get_errno()
        if code not in (22, 2):
            raise OSError(code, os.strerror(code), target)


def is_mounted(target: str) -> bool:
    """Whether a directory is the root of another file system than its parent."""
    try:
        return os.lstat(target).st_dev != os.lstat(os.path.dirname(target)).st_dev
    except FileNotFoundError:
        return False


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


class Layers:
    """All writable layers below one folder. Blocking calls; ``mount`` of an overlay takes less than a millisecond."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.driver = ""
        """``overlay2`` or ``vfs``, Docker's names; known after ``open``"""

    def open(self, driver: str = "") -> None:
        """Make the folder and find out what works here; ``driver`` insists."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o710)
        if driver not in ("", "overlay2", "vfs"):
            raise Unsupported(f"driver not supported: {driver}: this engine has overlay2 and vfs")
        proven = any(is_mounted(self.path(id)) for id in self.known())
        reason = "" if driver == "vfs" or proven else self._refusal()
        if driver == "overlay2" and reason:
            raise Unsupported(
                f"overlay2: the data root {self.folder.parent} cannot hold overlay layers ({reason}): "
                "use a data root on another file system, or the storage driver vfs"
            )
        self.driver = "vfs" if driver == "vfs" or reason else "overlay2"

    def _refusal(self) -> str:
        """Why an overlay cannot be mounted here; "" if it can, whiteouts and all."""
        probe = self.folder / ".probe"
        shutil.rmtree(probe, ignore_errors=True)
        (probe / "lower").mkdir(parents=True)
        (probe / "lower" / "file").touch()
        try:
            self._overlay(probe, str(probe / "lower"))
            os.unlink(probe / "merged" / "file")
            return ""
        except OSError as error:
            return error.strerror or str(error)
        finally:
            umount(str(probe / "merged"))
            shutil.rmtree(probe, ignore_errors=True)

    def path(self, id: str) -> str:
        """Where the container's root is, mounted or not."""
        return str(self.folder / id / "merged")

    def known(self) -> list[str]:
        """Containers that have a layer here."""
        return sorted(place.name for place in self.folder.iterdir() if not place.name.startswith("."))

    def mount(self, id: str, lower: str) -> str:
        """The container's root, ready: its own layer over ``lower``. Path of the directory."""
        home = self.folder / id
        try:
            if self.driver == "vfs":
                self._copy(home, lower)
            elif not is_mounted(str(home / "merged")):
                self._overlay(home, lower)
        except OSError as error:
            raise Internal(f"cannot mount the root file system of {id[:12]}: {error.strerror}") from None
        return str(home / "merged")

    def _overlay(self, home: Path, lower: str) -> None:
        for name in ("work", "merged"):
            (home / name).mkdir(parents=True, exist_ok=True)
        if not (home / "upper").exists():
            root = os.stat(lower)
            (home / "upper").mkdir()
            os.chown(home / "upper", root.st_uid, root.st_gid)
            os.chmod(home / "upper", stat.S_IMODE(root.st_mode))
        options = {
            "lowerdir": _escaped(lower), "upperdir": _escaped(str(home / "upper")),
            "workdir": _escaped(str(home / "work")), "index": "off", "redirect_dir": "off", "metacopy": "off",
        }  # fmt: skip
        mount("overlay", str(home / "merged"), "overlay", 0, ",".join("=".join(pair) for pair in options.items()))

    def _copy(self, home: Path, lower: str) -> None:
        if (home / "merged").exists():
            return
        home.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home / "fresh", ignore_errors=True)
        words = ["cp", "-a", "--reflink=auto", "--", lower, str(home / "fresh")]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            shutil.rmtree(home / "fresh", ignore_errors=True)
            raise Internal(f"cannot copy the image's files: {done.stderr.decode(errors='replace').strip()}")
        (home / "fresh").rename(home / "merged")

    def take(self, id: str, files: str) -> None:
        """A directory of an overlay, or a whole copy with vfs, that another made becomes the container's own."""
        home = self.folder / id
        home.mkdir(parents=True, exist_ok=True)
        target = home / ("merged" if self.driver == "vfs" else "upper")
        words = ["cp", "-a", "--reflink=auto", "--", files, str(target)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            shutil.rmtree(home, ignore_errors=True)
            raise Internal(f"cannot take over files of {id[:12]}: {done.stderr.decode(errors='replace').strip()}")
        if self.driver != "vfs" and _is_directory(target / "etc"):
            for name in _MOUNTED:
                _remove_empty(target / "etc" / name)

    def umount(self, id: str) -> None:
        """Take the mount away; what was written stays."""
        if self.driver == "overlay2":
            umount(self.path(id))

    def remove(self, id: str) -> None:
        """Take everything of the container away; gone already is fine."""
        umount(self.path(id))
        if is_mounted(self.path(id)):
            raise Internal(f"the root file system of {id[:12]} is still mounted")
        shutil.rmtree(self.folder / id, ignore_errors=True)

    # -- what is different --------------------------------------------------------------------

    def changes(self, id: str, lower: str) -> list[files.Change]:
        """What the container added, changed and deleted, sorted by path."""
        top = self.source(id)
        if not os.path.isdir(top):
            return []
        return sorted(_compare(top, lower, "", self.driver == "vfs"), key=lambda change: change.path)

    def source(self, id: str) -> str:
        """The directory in which added and changed files are."""
        return str(self.folder / id / ("merged" if self.driver == "vfs" else "upper"))

    def size(self, id: str, lower: str) -> int:
        """Bytes of the files that the container added or changed."""
        top = self.source(id)
        found = (_before(top + change.path) for change in self.changes(id, lower) if change.kind != files.DELETED)
        return sum(info.st_size for info in found if info is not None and not stat.S_ISDIR(info.st_mode))

    def pack(self, id: str, lower: str, out: IO[bytes]) -> bool:
        """The changes as a layer: a tar with OCI whiteouts for what was deleted. False when there are none."""
        top, changes = self.source(id), self.changes(id, lower)
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for change in changes:
                _add(tar, top, change)
        return bool(changes)


def _is_directory(place: Path) -> bool:
    """No link to one either."""
    info = _before(str(place))
    return info is not None and stat.S_ISDIR(info.st_mode)


def _remove_empty(place: Path) -> None:
    info = _before(str(place))
    if info is not None and stat.S_ISREG(info.st_mode) and not info.st_size:
        place.unlink()


def _add(tar: tarfile.TarFile, top: str, change: files.Change) -> None:
    name = change.path.lstrip("/")
    if change.kind == files.DELETED:
        head, _, tail = name.rpartition("/")
        tar.addfile(tarfile.TarInfo(f"{head}/.wh.{tail}" if head else f".wh.{tail}"))
        return
    place = f"{top}/{name}"
    info = tar.gettarinfo(place, name)
    if info is None:
        return
    info.uname = info.gname = ""
    with suppress(OSError):
        value = os.getxattr(place, CAPABILITY, follow_symlinks=False)
        info.pax_headers = {f"SCHILY.xattr.{CAPABILITY}": value.decode("utf-8", "surrogateescape")}
    if not info.isreg():
        tar.addfile(info)
        return
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        tar.addfile(info, file)


def _compare(top: str, lower: str, path: str, whole: bool) -> Iterator[files.Change]:
    """Changes below a directory that both sides have. ``whole``: ``top`` shows everything; what is missing is gone."""
    with os.scandir(top) as found:
        names = {entry.name for entry in found}
    for name in names:
        here, there = f"{top}/{name}", f"{lower}/{name}"
        yield from _one(here, there, f"{path}/{name}", whole)
    if whole:
        for name in set(os.listdir(lower)) - names:
            yield files.Change(files.DELETED, f"{path}/{name}")


def _one(here: str, there: str, path: str, whole: bool) -> Iterator[files.Change]:
    now, before = os.lstat(here), _before(there)
    if stat.S_ISCHR(now.st_mode) and now.st_rdev == 0:
        if before is not None:
            yield files.Change(files.DELETED, path)
        return
    if not stat.S_ISDIR(now.st_mode):
        if before is None or not _same(now, before):
            yield files.Change(files.ADDED if before is None else files.MODIFIED, path)
        return
    if before is None or not stat.S_ISDIR(before.st_mode):
        yield files.Change(files.ADDED if before is None else files.MODIFIED, path)
        yield from _all_new(here, path)
        return
    inner = list(_compare(here, there, path, whole or _is_opaque(here)))
    if inner or not _same(now, before):
        yield files.Change(files.MODIFIED, path)
    yield from inner


def _all_new(folder: str, path: str) -> Iterator[files.Change]:
    with os.scandir(folder) as found:
        for entry in found:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                continue
            yield files.Change(files.ADDED, f"{path}/{entry.name}")
            if entry.is_dir(follow_symlinks=False):
                yield from _all_new(entry.path, f"{path}/{entry.name}")


def _before(place: str) -> os.stat_result | None:
    try:
        return os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _same(now: os.stat_result, before: os.stat_result) -> bool:
    """Docker's measure: kind, mode, owner, device; and of what is no directory also size and time."""
    if (now.st_mode, now.st_uid, now.st_gid, now.st_rdev) != (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_rdev,
    ):
        return False
    return stat.S_ISDIR(now.st_mode) or (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
