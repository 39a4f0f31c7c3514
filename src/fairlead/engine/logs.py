"""Logs: what containers said, read from the files their keepers write; and those files kept small.

    <data root>/containers/<id>/<id>-json.log        conmon writes here, also while we are away
                                <id>-json.log.1 …    older ones, when there is a limit

    read(container, …)   ->  lines, oldest first; with ``follow`` also those to come, until the container ends

Rules
    1. Each line once and in order, also when the file is rotated while it is read.
    2. Reading never holds more than a block and a line in memory; ``tail`` looks
       from the end.
    3. Rotation renames, then asks the keeper for a new file: nothing is cut off.
       While the engine is away a file may grow past its limit. With ``max-file``
       1 conmon itself starts over and the engine has nothing to do.

What it does not do: put a frame around lines (``api``), or watch files
(``Changes`` is given: inotify on a real machine).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from fairlead.core.container import Container
from fairlead.core.loglines import Assembler, LogLine, LogSettings
from fairlead.core.logoptions import settings
from fairlead.core.protocol import Protocol
from fairlead.errors import FairleadError, Unsupported

if TYPE_CHECKING:
    from fairlead.engine.runtime import Runtime

BLOCK = 64 << 10
CALM = 1.0
"""Seconds between two looks at the size of a growing file."""


class Changes(Protocol):
    """Tells that files of a directory changed (``host.inotify``)."""

    async def next(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class LogWishes(msgspec.Struct, frozen=True):
    """What of a log is wanted. Times are nanoseconds since the epoch (0: no bound); ``tail`` -1: all."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    tail: int = -1
    follow: bool = False


class Logs:
    """Logs of all containers. ``ended(id)`` resolves when a container does not run."""

    def __init__(
        self,
        root: Path,
        runtime: Runtime,
        changes: Callable[[str], Changes],
        ended: Callable[[str], Awaitable[object]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._root = root
        self._runtime = runtime
        self._changes = changes
        self._ended = ended
        self._tasks = tasks
        self._rotating: dict[str, asyncio.Task[None]] = {}
        runtime.when_over(self._stop_rotating)

    def path(self, container: Container) -> Path:
        """The file being written; ``LogPath`` of an inspect."""
        return self._root / container.id / f"{container.id}-json.log"

    def read(self, container: Container, wishes: LogWishes) -> AsyncIterator[LogLine]:
        """The lines wanted; ``Unsupported`` at once when nothing is kept."""
        if not settings(container.host.log_config).kept:
            raise Unsupported("configured logging driver does not support reading")
        return self._wanted(container, wishes)

    # -- reading --------------------------------------------------------------------------

    async def _wanted(self, container: Container, wishes: LogWishes) -> AsyncIterator[LogLine]:
        chosen = {stream for stream, wanted in ((1, wishes.stdout), (2, wishes.stderr)) if wanted}
        async with aclosing(self._lines(container, wishes)) as lines:
            async for line in lines:
                if wishes.until and line.time > wishes.until:
                    return
                if line.stream in chosen and line.time >= wishes.since:
                    yield line

    async def _lines(self, container: Container, wishes: LogWishes) -> AsyncGenerator[LogLine, None]:
        """Every line from the one that ``tail`` begins with."""
        path = self.path(container)
        if not wishes.follow:
            for line in _read_all(path, wishes):
                yield line
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._changes(str(path.parent)) as changes:
            over = asyncio.ensure_future(self._ended(container.id))
            try:
                async for line in _follow(path, wishes, changes, over):
                    yield line
            finally:
                over.cancel()

    def forget(self, container: Container) -> None:
        """The container was removed: its directory goes, with all its log files."""
        shutil.rmtree(self.path(container).parent, ignore_errors=True)

    def sweep(self, known: Iterable[str]) -> None:
        """At the start: directories of containers that are gone, by an engine that was killed while they went."""
        if self._root.is_dir():
            for place in {*self._root.iterdir()} - {self._root / id for id in known}:
                shutil.rmtree(place, ignore_errors=True)

    # -- rotation -------------------------------------------------------------------------

    def keep_small(self, container: Container) -> None:
        """Rotate its files while it runs, if it has a limit and more than one file. Call when it started."""
        limit = settings(container.host.log_config)
        if limit.largest and limit.files > 1:
            self._stop_rotating(container.id)
            self._rotating[container.id] = self._tasks.create_task(self._rotate(container, limit))

    def _stop_rotating(self, id: str) -> None:
        task = self._rotating.pop(id, None)
        if task is not None:
            task.cancel()

    async def _rotate(self, container: Container, limit: LogSettings) -> None:
        path = self.path(container)
        with suppress(OSError), self._changes(str(path.parent)) as changes:
            while True:
                if _size(path) >= limit.largest:
                    _shift(path, limit.files)
                    with suppress(FairleadError):
                        await self._runtime.reopen_log(container.id)
                await changes.next()
                await asyncio.sleep(CALM)


def _shift(path: Path, files: int) -> None:
    """``log.1`` becomes ``log.2`` and so on; the oldest goes."""
    for number in range(files - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        with suppress(FileNotFoundError):
            newer.rename(older)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _files(path: Path) -> list[Path]:
    """Oldest first; the one being written last."""
    older = []
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}")).exists():
        older.append(candidate)
        number += 1
    return [*reversed(older), path]


def _read_all(path: Path, wishes: LogWishes) -> Iterator[LogLine]:
    """What is there now, then the beginnings of lines without an end."""
    assembler = Assembler()
    lines = chain(_blocks(_opened(path, wishes.tail), assembler), assembler.finish())
    # The place to begin was found by what is sure; it may be a line early.
    return lines if wishes.tail < 0 else iter(deque(lines, wishes.tail))


def _blocks(files: list[_File], assembler: Assembler) -> Iterator[LogLine]:
    """Every file to its end; closes them."""
    with ExitStack() as stack:
        for file in [stack.enter_context(file) for file in files]:
            while block := file.read(BLOCK):
                yield from assembler.feed(block)


def _opened(path: Path, tail: int) -> list[_File]:
    """The files that hold the last ``tail`` lines, standing at the first of them; all for -1."""
    files = [file for file in map(_File.open, _files(path)) if file is not None]
    if tail < 0 or not files:
        return files
    first, missing = len(files) - 1, tail - files[-1].back(tail)
    while first > 0 and missing > 0:
        first -= 1
        missing -= files[first].back(missing)
    for unwanted in files[:first]:
        unwanted.close()
    return files[first:]


class _File:
    """One log file, open; it stays the same file whatever it is renamed to."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls, path: Path) -> _File | None:
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def is_at(self, path: Path) -> bool:
        """Whether the path names this very file."""
        try:
            there = path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._fd)
        return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)

    def back(self, lines: int) -> int:
        """Stand before the last ``lines`` lines of this file; how many there are (at most so many)."""
        position = os.lseek(self._fd, 0, os.SEEK_END)
        tail, found = b"", 0
        while position > 0 and lines > 0:
            size = min(BLOCK, position)
            position -= size
            tail = os.pread(self._fd, size, position) + tail
            starts = list(_line_starts(tail, whole=position == 0))
            found = len(starts)
            if found >= lines:
                os.lseek(self._fd, position + starts[-lines], os.SEEK_SET)
                return lines
        if lines > 0:
            os.lseek(self._fd, 0, os.SEEK_SET)
        return found

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _line_starts(data: bytes, whole: bool) -> Iterator[int]:
    """Where lines surely begin: at records that follow, in their stream, the end of another line.

    ``whole``: nothing comes before. Else the first record may be cut, and the first of a stream may go on a line.
    """
    finished: dict[bytes, bool] = {}
    offset = 0
    for number, record in enumerate(data.split(b"\n")[:-1]):
        head = record.split(b" ", 3)
        if len(head) >= 3 and (whole or number):
            if finished.get(head[1], whole):
                yield offset
            finished[head[1]] = head[2] == b"F"
        offset += len(record) + 1


def _rest(file: _File | None, assembler: Assembler) -> Iterator[LogLine]:
    """What the file has that was not read yet."""
    while block := file.read(BLOCK) if file is not None else b"":
        yield from assembler.feed(block)


async def _follow(
    path: Path, wishes: LogWishes, changes: Changes, over: asyncio.Future[object]
) -> AsyncIterator[LogLine]:
    """What is there, and what comes, until ``over`` and all is read."""
    assembler = Assembler()
    files = _opened(path, wishes.tail)
    current = files.pop() if files else None
    older = _blocks(files, assembler)
    newest = _rest(current, assembler)
    for line in chain(older, newest) if wishes.tail < 0 else deque(chain(older, newest), wishes.tail):
        yield line
    try:
        while True:
            done = over.done()
            for line in _rest(current, assembler):
                yield line
            following = _after(path, current)
            if following is not None:
                # What was written to the old file before it was renamed comes first.
                for line in _rest(current, assembler):
                    yield line
                if current is not None:
                    current.close()
                current = following
                continue
            if done:
                break
            await _either(changes, over)
        for line in assembler.finish():
            yield line
    finally:
        if current is not None:
            current.close()


def _after(path: Path, current: _File | None) -> _File | None:
    """The file that follows this one: None while it is the newest; the oldest there is when it was thrown away."""
    files = _files(path)
    if current is None:
        return _File.open(path)
    for place, file in enumerate(files):
        if current.is_at(file):
            return _File.open(files[place + 1]) if place + 1 < len(files) else None
    return next(filter(None, map(_File.open, files)), None)


async def _either(changes: Changes, over: asyncio.Future[object]) -> None:
    """Return when the files changed or the container ended."""
    waiting = asyncio.ensure_future(changes.next())
    try:
        await asyncio.wait((waiting, over), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
