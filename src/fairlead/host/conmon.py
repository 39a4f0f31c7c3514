"""conmon: the keeper of one container's process. It holds the streams, writes the log and the exit code.

    launch(…) ──> conmon ──> crun create|exec ──> the process
                   │ sync pipe    {"data": pid} or {"data": -1, "message": why}; of an exec, later its exit code
                   │ attach       a SEQPACKET socket: [stream][bytes] out, bytes in
                   │ ctl          a fifo: "1 ROWS COLUMNS" resizes, "2 0 0" reopens the log
                   └ exit file    <exit dir>/<id>: the exit code; then conmon ends

Rules
    1. conmon is nobody's child for long: it forks, sets up its own session, and
       outlives us. Only the pipes named here are passed on to it.
    2. Paths of sockets may be long: we reach them through a descriptor of their directory.
    3. A half close of the attach socket is the end of standard input, unless
       conmon was told to keep it open (``stdin="keep"``).

What it does not do: know what a container is (``host.oci``).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from subprocess import Popen

import msgspec

from fairlead.errors import Internal
from fairlead.host.programs import readable, spawn, wait, writable

CHUNK = 8192
"""Bytes of input in one packet; conmon's buffer is at least as large."""
PACKET = 1 << 17
STDOUT, STDERR = 1, 2
_STREAMS = {2: STDOUT, 3: STDERR}
"""conmon's numbers for the streams, and everybody else's."""


class Said(msgspec.Struct):
    """One line of the sync pipe."""

    data: int
    message: str = ""


class Pipe:
    """Lines of JSON that conmon writes to a pipe of ours."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        os.set_blocking(fd, False)

    async def next(self) -> Said | None:
        """The next line, None when conmon has closed its end."""
        while b"\n" not in self._rest:
            await readable(self._fd)
            with suppress(BlockingIOError):
                piece = os.read(self._fd, 65536)
                if not piece:
                    return self._parse(self._rest) if self._rest.strip() else None
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return self._parse(line)

    def _parse(self, line: bytes) -> Said:
        # conmon escapes what it must, but passes bytes that are not UTF-8 as they are.
        try:
            return msgspec.json.decode(line.decode(errors="replace"), type=Said)
        except msgspec.MsgspecError:
            raise Internal(f"conmon said {line[:200]!r}") from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Launch(msgspec.Struct):
    """A conmon under way."""

    child: Popen[bytes]
    sync: Pipe
    attached: Pipe | None = None
    """says when the attach socket is there (execs only)"""
    start: int = -1
    """write end of the start pipe (execs only)"""

    async def settled(self) -> None:
        """Reap the conmon we started; the one that stays is its child."""
        await wait(self.child)

    def go(self) -> None:
        """Let an attached exec run."""
        if self.start >= 0:
            with suppress(BrokenPipeError):
                os.write(self.start, b"x")
            os.close(self.start)
            self.start = -1

    def close(self) -> None:
        self.sync.close()
        if self.attached is not None:
            self.attached.close()
        if self.start >= 0:
            os.close(self.start)
            self.start = -1


def launch(argv: Sequence[str], directory: str, temporary: str, attach: bool = False) -> Launch:
    """Start conmon in ``directory``. ``attach``: it waits with the program until ``go``."""
    sync_read, sync_write = os.pipe2(os.O_CLOEXEC)
    env = {"_OCI_SYNCPIPE": str(sync_write), "TMPDIR": temporary}
    theirs, ours = [sync_write], [sync_read]
    if attach:
        attach_read, attach_write = os.pipe2(os.O_CLOEXEC)
        start_read, start_write = os.pipe2(os.O_CLOEXEC)
        env |= {"_OCI_ATTACHPIPE": str(attach_write), "_OCI_STARTPIPE": str(start_read)}
        theirs += [attach_write, start_read]
        ours += [attach_read, start_write]
        os.write(start_write, b"x")
    try:
        child = spawn(argv, env=env, cwd=directory, pass_fds=theirs)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    if not attach:
        return Launch(child, Pipe(sync_read))
    return Launch(child, Pipe(sync_read), Pipe(attach_read), start_write)


class Wire:
    """The attach socket of one conmon: standard streams of its process (``engine.runtime.Wire``).

    Closing wakes who waits, and the last of them closes: a descriptor closed under the loop's eyes would soon be a
    stranger's, watched by us."""

    def __init__(self, directory: str) -> None:
        """Connect; ``FileNotFoundError`` or ``ConnectionRefusedError`` when nobody is there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{fd}/attach")
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(fd)
        self._waiting = 0
        self._closed = False
        self._one_writer = asyncio.Lock()

    async def read(self) -> tuple[int, bytes] | None:
        """(stream, bytes) or None at the end."""
        while True:
            try:
                packet = self._socket.recv(PACKET)
            except BlockingIOError:
                await self._until(readable)
                continue
            except ConnectionResetError:
                continue  # told once, before what is still to be read: the other end left input of ours unread
            except OSError as error:
                if error.errno == errno.EBADF:
                    return None
                raise
            if not packet:
                return None
            stream = _STREAMS.get(packet[0])
            if stream is not None and len(packet) > 1:
                return stream, packet[1:]

    async def write(self, data: bytes) -> None:
        """Standard input; waits while nobody reads. ``BrokenPipeError`` when nobody ever will."""
        view = memoryview(data)
        async with self._one_writer:
            while view:
                try:
                    sent = self._socket.send(view[:CHUNK], socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    await self._until(writable)
                    continue
                except OSError as error:
                    raise BrokenPipeError(error.errno, "the process takes no input") from None
                view = view[sent:]

    def end_input(self) -> None:
        """No more input; output goes on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._closed = True
        if self._waiting:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        else:
            self._socket.close()

    async def _until(self, ready: Callable[[int], Awaitable[None]]) -> None:
        self._waiting += 1
        try:
            await ready(self._socket.fileno())
        finally:
            self._waiting -= 1
            if self._closed and not self._waiting:
                self._socket.close()


def control(directory: str, line: str) -> None:
    """Write a line to conmon's control fifo; ``OSError`` (ENXIO, ENOENT) when conmon is gone."""
    fd = os.open(f"{directory}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode() + b"\n")
    finally:
        os.close(fd)
