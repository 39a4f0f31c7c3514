"""Programs: run one, wait for it without holding anybody up, and know how it ended.

    await run(["crun", "kill", …])  ->  Finished(code, out, error)

Rules
    1. Never a shell. The environment is what is given here, not ours.
    2. The child has no descriptor of ours but those passed, and a session of its own:
       a signal for our terminal's group does not reach it.
    3. Waiting is on a pidfd: no thread, no polling, no SIGCHLD handler. Cancelling
       the wait ends the program.
    4. Output is bounded: what exceeds ``LARGEST`` is cut off.

Output goes to files in memory rather than pipes: a grandchild that keeps them open keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from fairlead.errors import Unavailable

PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{sys.prefix}/bin"
"""The system's, then what lies beside our own interpreter: servers that were unpacked for us alone."""
LARGEST = 1 << 20


class Finished(msgspec.Struct, frozen=True):
    """How a program ended: its exit code (negative: the signal that ended it) and what it said."""

    code: int
    out: bytes
    error: bytes

    @property
    def words(self) -> str:
        """What it complained of, as text."""
        return self.error.decode(errors="replace").strip()


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    out: int = subprocess.DEVNULL,
    error: int = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program; ``Unavailable`` when it is not installed."""
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=out,
            stderr=error,
            env={"PATH": PATH, **(env or {})},
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Unavailable(f"cannot run {argv[0]}: it is not installed; scripts/setup brings it") from None


async def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Finished:
    """Run a program to its end."""
    out, error = os.memfd_create("out", os.MFD_CLOEXEC), os.memfd_create("error", os.MFD_CLOEXEC)
    try:
        code = await wait(spawn(argv, env=env, cwd=cwd, out=out, error=error))
        return Finished(code, os.pread(out, LARGEST, 0), os.pread(error, LARGEST, 0))
    finally:
        os.close(out)
        os.close(error)


async def wait(child: subprocess.Popen[bytes]) -> int:
    """Its exit code; ends it when we are cancelled."""
    try:
        fd = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return child.wait()
    try:
        await readable(fd)
    except BaseException:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        child.wait()
        raise
    finally:
        os.close(fd)
    return child.wait()


async def readable(fd: int) -> None:
    """Return when the descriptor can be read; a pidfd: when the process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Return when the descriptor can be written."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def started_at(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 when there is none or only a zombie. Tells pids apart."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def parent_of(pid: int) -> int:
    """The process that will be told when it ends; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
