"""Volumes on disk: a directory each, filled once from the image, mounted when it has a device of its own.

    <data root>/volumes/<name>/_data      what containers see

Rules
    1. A volume is filled through a copy beside it: an interrupted copy is thrown away
       at the next try, a complete one moved in; a volume with something in it is left alone.
    2. ``type``, ``device`` and ``o`` are mount(8)'s words; mounting is mount(8)'s work.
    3. A path within a volume is looked up by the kernel inside it: no link leads out.

What it does not do: know who uses a volume (``engine.volumes``).
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import Internal, Invalid, NotFound
from fairlead.host import layers, rooted

DATA = "_data"


class VolumeFolders:
    """All volumes below one folder. Blocking calls; only ``fill``, ``remove`` and ``size`` may take long."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o711)

    def path(self, name: str) -> str:
        return str(self.folder / name / DATA)

    def known(self) -> list[str]:
        return sorted(place.name for place in self.folder.iterdir() if place.is_dir())

    def create(self, name: str) -> None:
        (self.folder / name / DATA).mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder / name, 0o711)

    def remove(self, name: str) -> None:
        """Gone already is fine; what is mounted there is not touched."""
        place = self.folder / name
        self.umount(name)
        if layers.is_mounted(str(place / DATA)):
            raise Internal(f"unable to remove volume {name}: {place / DATA} is still mounted")
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            raise Internal(f"unable to remove volume {name}: {place} cannot be removed")

    # -- first use --------------------------------------------------------------------------

    def fill(self, target: str, rootfs: str, path: str) -> None:
        """Copy what the image has at ``path`` into an empty volume: files, owners, modes and all."""
        ready = Path(target).parent / ".ready"
        if ready.exists():
            _move(ready, Path(target))
        if os.listdir(target):
            return
        with rooted.root(rootfs) as top:
            try:
                source = rooted.open_in(top, path, os.O_PATH)
            except OSError:
                return
        try:
            if stat.S_ISDIR(os.fstat(source).st_mode):
                _copy_directory(source, Path(target))
        finally:
            os.close(source)

    # -- devices of their own -----------------------------------------------------------------

    def mount(self, name: str, options: Mapping[str, str]) -> None:
        """Mount what ``type``, ``device`` and ``o`` describe over the volume; mounted already is fine."""
        target = self.path(name)
        if layers.is_mounted(target):
            return
        kind, more = options.get("type", ""), _addressed(options.get("o", ""))
        words = ["mount", *(["-t", kind] if kind else []), *(["-o", more] if more else [])]
        words += ["--", options.get("device", ""), target]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[:1] or ["no reason given"]
            raise Internal(
                f"failed to mount local volume: mount {options.get('device', '')}:{target}, "
                f"data: {options.get('o', '')}: {reason[0].rpartition(': ')[2].rstrip('.')}"
            )

    def umount(self, name: str) -> None:
        layers.umount(self.path(name))

    # -- looking ----------------------------------------------------------------------------

    def size(self, name: str) -> int:
        """Bytes of all files in it."""
        total = 0
        for folder, _, names in os.walk(self.path(name)):
            for file in names:
                try:
                    total += os.lstat(os.path.join(folder, file)).st_size
                except FileNotFoundError:
                    continue
        return total

    def spread(self, path: str) -> tuple[str, set[str]]:
        """The mount point that a path is below, and whether mounts there are ``shared`` or have a ``master``."""
        best, kinds, real = "/", set[str](), os.path.realpath(path)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            words = line.split(" ")
            place = words[4].encode().decode("unicode_escape")
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kinds = place, {word.partition(":")[0] for word in words[6 : words.index("-")]}
        return best, kinds

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def make_directory(self, path: str) -> None:
        """The source of a bind that nobody made."""
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise Internal(f"error while creating mount source path '{path}': mkdir {path}: {error.strerror}") from None

    def inside(self, top: str, subpath: str) -> str:
        """The host path of something below ``top``."""
        with rooted.root(top) as root:
            try:
                with rooted.opened(root, subpath, os.O_PATH) as fd:
                    return os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                raise NotFound(f"cannot access path {top}/{subpath}: no such file or directory") from None


def _copy_directory(source: int, target: Path) -> None:
    """``cp -a`` into a sibling, then entry by entry into the volume, whose inode others may have mounted."""
    fresh, ready = target.parent / ".fresh", target.parent / ".ready"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    words = ["cp", "-a", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", str(fresh)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(source,), check=False)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Internal(f"cannot copy the image's files into the volume: {done.stderr.decode(errors='replace').strip()}")
    fresh.rename(ready)
    _move(ready, target)


def _move(ready: Path, target: Path) -> None:
    """Finish a copy that is complete beside the volume; doing it twice is fine."""
    for entry in list(ready.iterdir()):
        shutil.move(entry, target / entry.name)
    like = ready.stat()
    os.chown(target, like.st_uid, like.st_gid)
    os.chmod(target, stat.S_IMODE(like.st_mode))
    ready.rmdir()


def _addressed(words: str) -> str:
    """NFS wants an address where people write a name: ``addr=server`` is looked up, as Docker's local driver does."""
    parts = []
    for word in words.split(","):
        name, _, value = word.partition("=")
        if name == "addr" and value:
            try:
                value = socket.getaddrinfo(value, None)[0][4][0]  # type: ignore[assignment]
            except OSError as error:
                raise Invalid(f"error resolving passed in network volume address: {error}") from None
            word = f"addr={value}"
        parts.append(word)
    return ",".join(parts)
