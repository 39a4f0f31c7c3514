"""Children: programs that must always run (the resolver, the relay), started again when they end.

    run() ──> one from before still runs? adopt it : start it ──> wait for its end ──> wait a little ──> again

    <directory>/<name>.pid   which process (pid and when it began, so that a later one of the same number is not it)
    <directory>/<name>.log   what it said

Rules
    1. At most one runs. One that outlives us (``outlives``) is found again by the next engine.
    2. The wait before a new start doubles from 0.1 s to 10 s, and begins anew after a minute of good service. What we
       ended ourselves to start it again (``restart``) is not waited for.
    3. ``stop`` ends it: TERM, then KILL after ``PATIENCE`` seconds; its pid file goes.
       Cancelling ``run`` ends it too, unless it outlives us.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fairlead.errors import FairleadError
from fairlead.host.programs import readable, spawn, started_at

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT, GOOD_SERVICE, PATIENCE = 0.1, 10.0, 60.0, 5.0
LARGEST_LOG = 4 << 20


class Child:
    """One program. ``argv`` may be a function: asked anew before each start."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str] | Callable[[], Sequence[str]],
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        outlives: bool = False,
    ) -> None:
        self.name = name
        self._argv = argv
        self._directory = directory
        self._env = env
        self._outlives = outlives
        self._pid = 0
        self._pidfd = -1
        self._stopping = self._restarting = False
        self.starts = 0
        """How often it was started by us."""

    @property
    def pid(self) -> int:
        """Its process id, 0 while it does not run."""
        return self._pid

    async def run(self) -> None:
        """Keep it running until ``stop``."""
        pause = FIRST_WAIT
        while not self._stopping:
            since = time.monotonic()
            try:
                await self._serve()
            except (FairleadError, OSError) as error:
                log.error("cannot start %s: %s", self.name, error)
            if self._stopping:
                return
            if self._restarting:
                self._restarting, pause = False, FIRST_WAIT
                continue
            pause = FIRST_WAIT if time.monotonic() - since >= GOOD_SERVICE else min(pause * 2, LONGEST_WAIT)
            log.warning("%s ended; starting it again in %.1f s", self.name, pause)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """End it and ``run``; one from before that nobody watches, too."""
        self._stopping = True
        if self._pidfd < 0 and (left := self._adopted()):
            with suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(left)
                await self._end()
                os.close(self._pidfd)
            self._pidfd = -1
        await self._end()
        self._file("pid").unlink(missing_ok=True)

    async def restart(self) -> None:
        """End it; ``run`` starts it again, at once."""
        self._restarting = self._pidfd >= 0
        await self._end()

    async def _serve(self) -> None:
        """One life of it."""
        self._pid = self._adopted() or self._started()
        try:
            self._pidfd = os.pidfd_open(self._pid)
            await readable(self._pidfd)
        except ProcessLookupError:
            pass
        except asyncio.CancelledError:
            if not self._outlives:
                await self._end()
            raise
        finally:
            _reap(self._pid)
            if self._pidfd >= 0:
                os.close(self._pidfd)
            self._pid, self._pidfd = 0, -1

    def _adopted(self) -> int:
        """One from before that still runs; 0: none."""
        try:
            pid, start = (int(word) for word in self._file("pid").read_text().split())
        except (OSError, ValueError):
            return 0
        return pid if start and started_at(pid) == start else 0

    def _started(self) -> int:
        self._directory.mkdir(parents=True, exist_ok=True)
        place = self._file("log")
        with suppress(OSError):
            if place.stat().st_size > LARGEST_LOG:
                place.rename(place.with_suffix(".log.old"))
        output = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            argv = self._argv() if callable(self._argv) else self._argv
            child = spawn(argv, env=self._env, out=output, error=output)
        finally:
            os.close(output)
        self.starts += 1
        self._file("pid").write_text(f"{child.pid} {started_at(child.pid)}\n")
        # We reap it ourselves (in _serve): the interpreter must not wait for it when the object goes.
        child.returncode = 0
        return child.pid

    def _file(self, kind: str) -> Path:
        return self._directory / f"{self.name}.{kind}"

    async def _end(self) -> None:
        if self._pidfd < 0:
            return
        fd = os.dup(self._pidfd)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await readable(fd)
                        return
        finally:
            os.close(fd)


def _reap(pid: int) -> None:
    """Take notice of its end, if it was our child (an adopted one is not)."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
