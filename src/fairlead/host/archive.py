"""Files in and out of a container: ``docker cp``, ``docker export``.

    Place(root, pid, mounts) ----> a thread of its own ----> the container's / as it sees it ----> tar
                                   (own root, own mounts)

A container's files are hostile: a name may be a link to the machine's
``/etc``, and may become one while we work. So nothing is looked up from
outside. One thread per operation puts on the container's shoes and does it there:

    running    its root is the root of the container's process, mounts and all
    stopped    a mount namespace of the thread's own, with the container's
               volumes and binds mounted over its root file system

Reading needs only a descriptor that the kernel resolved inside that root
(``host.rooted``); GNU tar reads relative to it. Writing resolves names over and over,
so the thread changes its root first (the root of the *thread*: ``CLONE_FS``).

Rules
    1. The thread ends with the operation: whatever it put on dies with it.
    2. What goes to the caller goes through a pipe; when the reader leaves, tar ends.
    3. Archives that come from the caller are unpacked by the standard library,
       owners by number, devices and links and all, as root inside that root.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import grp
import os
import posixpath
import pwd
import signal
import stat
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from fairlead.core import users
from fairlead.core.container import Mount
from fairlead.core.files import PathStat, Place
from fairlead.errors import FairleadError, Internal, Invalid, NotFound
from fairlead.host import layers, rooted
from fairlead.host.programs import readable

_PRELOADED = (grp, pwd)
"""tarfile looks names up with these; they must be there before a thread changes its root."""

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
CHUNK = 1 << 16
VIRTUAL = ("proc", "sys")

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


# -- the thread -----------------------------------------------------------------------------


async def inside(place: Place, work: Callable[[int], T]) -> T:
    """``work(top)`` in a thread that stands in the container; ``top`` is the descriptor of its root."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def main() -> None:
        result, failure = None, None
        try:
            result = _standing(place, work)
        except FairleadError as error:
            failure = error
        except (OSError, tarfile.TarError) as error:
            failure = Internal(str(error))
        except BaseException as error:
            failure = Internal(f"{type(error).__name__}: {error}")
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=main, name="archive", daemon=True).start()
    return await future


def _standing(place: Place, work: Callable[[int], T]) -> T:
    root = f"/proc/{place.pid}/root" if place.pid else place.root
    _unshare(CLONE_FS | (0 if place.pid else CLONE_NEWNS))
    if not place.pid:
        layers.mount("none", "/", "", MS_REC | MS_PRIVATE)
        _dress(place)
    try:
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"container {place.name} has no root file system now") from None
    try:
        return work(top)
    finally:
        os.close(top)


def _dress(place: Place) -> None:
    """The container's volumes and binds over its root, in this thread's namespace alone."""
    with rooted.root(place.root) as top:
        for item in place.mounts:
            if item.type == "tmpfs" or not os.path.exists(item.source):
                continue
            with suppress(OSError):
                _make_target(top, item)
                with rooted.opened(top, item.destination, os.O_PATH) as target:
                    layers.mount(item.source, f"/proc/self/fd/{target}", "", MS_BIND | MS_REC)
                if not item.rw:
                    with rooted.opened(top, item.destination, os.O_PATH) as target:
                        layers.mount("none", f"/proc/self/fd/{target}", "", MS_BIND | 0x20 | 1)


def _make_target(top: int, item: Mount) -> None:
    maker = rooted.make_directories if os.path.isdir(item.source) else rooted.make_file
    maker(top, item.destination)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# -- asking ---------------------------------------------------------------------------------


async def info(place: Place, path: str) -> PathStat:
    """What is at ``path``; the last part is not followed, unless a slash or a dot says that it must be a directory."""
    return await inside(place, lambda top: _stat(top, path, place.name))


def _stat(top: int, path: str, container: str) -> PathStat:
    parent, name = _open_parent(top, path, container)
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if _must_be_directory(path) and not stat.S_ISDIR(found.st_mode):
            with rooted.opened(top, path, os.O_PATH) as fd:
                found = os.fstat(fd)
        _refuse_virtual(top, found, path, container)
        target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(found.st_mode) else ""
    except OSError as error:
        raise _missing(error, path, container) from None
    finally:
        os.close(parent)
    target = posixpath.normpath(posixpath.join("/", posixpath.dirname(clean(path)), target)) if target else ""
    shown = posixpath.basename(clean(path)) or "/"
    return PathStat(shown, found.st_size, go_mode(found.st_mode), found.st_mtime_ns, target)


def clean(path: str) -> str:
    """Absolute, without dots and doubled slashes (the kernel follows links, not we)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _must_be_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."


def _open_parent(top: int, path: str, container: str) -> tuple[int, str]:
    head, name = posixpath.split(clean(path))
    try:
        return rooted.open_in(top, head, os.O_PATH | os.O_DIRECTORY), name or "."
    except OSError as error:
        raise _missing(error, path, container) from None


def _missing(error: OSError, path: str, name: str) -> FairleadError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return NotFound(f"Could not find the file {path} in container {name}")
    return Internal(f"{path}: {error.strerror}")


def _refuse_virtual(top: int, found: os.stat_result, path: str, container: str) -> None:
    """What is in /proc or /sys of a running container is no file of its: dockerd never sees it, and tar reads none of
    it. The directories themselves are empty ones."""
    for name in VIRTUAL:
        with suppress(OSError):
            there = os.stat(name, dir_fd=top, follow_symlinks=False)
            mounted = there.st_dev != os.fstat(top).st_dev
            if mounted and found.st_dev == there.st_dev and not os.path.samestat(there, found):
                raise NotFound(f"Could not find the file {path} in container {container}")


def go_mode(mode: int) -> int:
    """A file's mode in the bits of Go's ``os.FileMode``."""
    bits = mode & 0o777
    kinds = {
        stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
        stat.S_IFBLK: 1 << 26, stat.S_IFCHR: (1 << 26) | (1 << 21),
    }  # fmt: skip
    bits |= kinds.get(stat.S_IFMT(mode), 0)
    for flag, go in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        bits |= go if mode & flag else 0
    return bits


# -- out ------------------------------------------------------------------------------------


async def get(place: Place, path: str) -> AsyncIterator[bytes]:
    """A tar of the file or directory at ``path``, under its own name; ``x/.`` gives what is in ``x``."""

    def work(top: int, out: int) -> None:
        if clean(path) == "/" or path.endswith("/.") or path == ".":
            with rooted.opened(top, clean(path), os.O_PATH | os.O_DIRECTORY) as folder:
                _tar(folder, ["."], out, bare=clean(path) == "/", rooted_names=not path.endswith("/.") and path != ".")
            return
        parent, name = _open_parent(top, path, place.name)
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            _refuse_virtual(top, found, path, place.name)
            _tar(parent, [name], out, bare=os.path.samestat(os.fstat(parent), os.fstat(top)))
        except OSError as error:
            raise _missing(error, path, place.name) from None
        finally:
            os.close(parent)

    async for piece in _piped(place, work):
        yield piece


async def export(place: Place) -> AsyncIterator[bytes]:
    """A tar of the container's root file system alone, without what is mounted on it."""

    def work(top: int, out: int) -> None:
        _tar(top, sorted(os.listdir(f"/proc/self/fd/{top}")) or ["."], out)

    async for piece in _piped(replace(place, pid=0, mounts=()), work):
        yield piece


def _tar(folder: int, names: list[str], out: int, bare: bool = False, rooted_names: bool = False) -> None:
    """GNU tar of names below a directory descriptor, into a pipe. ``bare``: it is a root, with mounts and all;
    ``rooted_names``: ``/etc`` for ``./etc``."""
    words = ["tar", "-C", f"/proc/self/fd/{folder}", "--create", "--file=-", "--format=posix", "--numeric-owner"]
    words += ["--sort=name"]
    words += ["--pax-option=delete=atime,delete=ctime", "--xattrs", f"--xattrs-include={layers.CAPABILITY}"]
    for name in VIRTUAL if bare else ():
        words += ["--anchored", f"--exclude={name}/*", f"--exclude=./{name}/*"]
    words += ["--absolute-names", "--transform=flags=rSH;s,^\\./\\?,/,"] if rooted_names else []
    done = subprocess.run(
        [*words, "--", *names],
        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, pass_fds=(folder,), check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1, -signal.SIGPIPE):
        raise Internal(f"cannot read {names[0]}: {done.stderr.decode(errors='replace').strip()}")


async def _piped(place: Place, work: Callable[[int, int], None]) -> AsyncIterator[bytes]:
    """What ``work`` writes into a pipe, as it comes; its error at the end.

    Read by hand: the descriptor is ours to close, whoever stops reading."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    task = asyncio.ensure_future(inside(place, lambda top: work(top, write)))
    task.add_done_callback(lambda done: os.close(write))
    try:
        while piece := await _next(read):
            yield piece
        await task
    finally:
        os.close(read)
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


async def _next(read: int) -> bytes:
    """What has come through a pipe, at least a byte; nothing at its end."""
    while True:
        try:
            return os.read(read, CHUNK)
        except BlockingIOError:
            await readable(read)


# -- in -------------------------------------------------------------------------------------


async def put(
    place: Place,
    path: str,
    stream: AsyncIterable[bytes],
    no_overwrite: bool = False,
    user: str = "",
) -> None:
    """Unpack a tar (plain or compressed) into the directory ``path``; with ``user`` everything becomes theirs.

    ``user`` is a name or number as in ``--user``, looked up in the container's own files.
    """
    read, write = os.pipe()
    source = os.fdopen(read, "rb")

    def work(top: int) -> None:
        owner = _owner(top, user) if user else None
        _enter(top, path, place.name)
        _unpack(source, no_overwrite, owner)
        while source.read(CHUNK):
            pass

    task = asyncio.ensure_future(inside(place, work))
    task.add_done_callback(lambda done: source.close())
    try:
        await _feed(stream, write, task)
    finally:
        os.close(write)
        await asyncio.wait([task])
    await task


def _owner(top: int, user: str) -> tuple[int, int]:
    files = []
    for path in ("/etc/passwd", "/etc/group"):
        try:
            files.append(rooted.read_in(top, path).decode(errors="replace"))
        except OSError:
            files.append("")
    found = users.resolve(user, None, files[0], files[1])
    return found.uid, found.gid


async def _feed(stream: AsyncIterable[bytes], write: int, task: asyncio.Future[None]) -> None:
    """Bytes from the caller into the pipe, off the loop's back; stops when the other end has gone."""
    async for piece in stream:
        if task.done():
            return
        try:
            await asyncio.to_thread(_write_all, write, piece)
        except BrokenPipeError:
            return


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _enter(top: int, path: str, container: str) -> None:
    """Make the container's root this thread's root, and ``path`` where it stands."""
    try:
        with rooted.opened(top, path, os.O_PATH) as fd:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise Invalid("extraction point is not a directory")
            if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
                raise _ReadOnly("container rootfs is marked read-only")
            os.fchdir(top)
            os.chroot(".")
            os.fchdir(fd)
    except OSError as error:
        raise _missing(error, path, container) from None


class _ReadOnly(FairleadError):
    """The directory is on a mount that is read-only. Nothing was changed."""

    status = 403


class _Tar(tarfile.TarFile):
    """The standard library's, unpacking everything as it is: the guard is the root we stand in."""

    extraction_filter = staticmethod(lambda member, path: member)

    def chown(self, tarinfo: tarfile.TarInfo, targetpath: Any, numeric_owner: bool = True) -> None:
        """Owners are numbers of the container's, always."""
        super().chown(tarinfo, targetpath, True)


class _Ending:
    """A stream that really ends: tarfile skips by reading block after block, also beyond the end, and a header may say
    that 2⁸⁰ of them follow."""

    def __init__(self, source: Any) -> None:
        self._source, self._empty = source, 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._source.read(size)
        self._empty += not data
        if self._empty > 16:
            raise tarfile.ReadError("unexpected end of data")
        return data


def _unpack(source: Any, no_overwrite: bool, owner: tuple[int, int] | None) -> None:
    try:
        ending: Any = _Ending(source)
        with _Tar.open(fileobj=ending, mode="r|*", errorlevel=1) as tar:
            for member in tar:
                member.name = _clean_name(member)
                if not member.name:
                    continue
                if owner is not None:
                    member.uid, member.gid = owner
                _make_way(member, no_overwrite)
                tar.extract(member, path=".", numeric_owner=True)
                _capability(member)
    except tarfile.ReadError as error:
        if "empty file" not in str(error):
            short = "truncated" in str(error) or "unexpected end" in str(error)
            raise Invalid("unexpected EOF" if short else f"archive/tar: invalid tar header: {error}") from None
    except (
        ValueError,
        OverflowError,
        KeyError,
        RecursionError,
    ) as error:  # owners, times, names and targets that no file can have
        raise Invalid(f"archive/tar: invalid tar header: {error}") from None


def _clean_name(member: tarfile.TarInfo) -> str:
    """One spelling of the place, or "" for none: by another one (``pipe/``, ``new/../pipe``) we would miss what is in
    the way, and writing to a pipe waits for ever."""
    plain = member.name.lstrip("/")
    name = posixpath.normpath(f"/{plain}")[1:]
    return name or ("." if plain and member.isdir() else "")


def _make_way(member: tarfile.TarInfo, no_overwrite: bool) -> None:
    """What is in the way of a member is replaced, as tar does; a directory stays when a directory comes."""
    try:
        there = os.lstat(member.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    is_directory = stat.S_ISDIR(there.st_mode)
    if no_overwrite and is_directory != member.isdir():
        kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
        raise Invalid(f"cannot overwrite {kinds[0]} {member.name!r} with {kinds[1]} {member.name!r}".replace("'", '"'))
    if is_directory and not member.isdir():
        with suppress(OSError):
            os.rmdir(member.name)
    elif not is_directory:
        os.unlink(member.name)


def _capability(member: tarfile.TarInfo) -> None:
    value = member.pax_headers.get(f"SCHILY.xattr.{layers.CAPABILITY}")
    if value and member.isreg():
        with suppress(OSError):
            os.setxattr(member.name, layers.CAPABILITY, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
