"""The daemon: from the first signal to the last words. One TaskGroup; nothing outlives it but the containers.

    settings --> store, host, runtime --> kernel --> networks, sandboxes, ports, names --> containers --> API
                                             |
                      restore: the world as it should be      healing, exits, health: for as long as we run

Rules
    1. The API answers when everything was restored, not before.
    2. TERM and INT end it gracefully: listeners close, requests under way are
       finished, containers and their names go on without us; without
       ``--live-restore`` they are stopped first. A second signal is the same signal.
    3. What it leaves behind: the pid file is removed; sockets are removed;
       everything else is found again by the next start.

What it does not do: build the parts (``wiring``).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from fairlead.api import server
from fairlead.engine import farewell
from fairlead.errors import FairleadError
from fairlead.host import arenas, orphans
from fairlead.settings import Settings
from fairlead.wiring import Build

log = logging.getLogger("fairlead")

GARBAGE = 5000
"""Objects that come before Python looks for circles among them; a thousand ports are that many, and none is in one."""
SHORT_TURN = 0.0005
"""Seconds a thread may keep the interpreter while another wants it. Looking at hundreds of devices is done in a thread;
at Python's 5 ms, whoever answers a request meanwhile would wait that long after every call to the kernel."""


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    _log_to_stderr(settings)
    arenas.one()
    sys.setswitchinterval(SHORT_TURN)
    for warning in settings.warnings:
        log.warning("%s", warning)
    code = 0
    stop = _Signals()
    try:
        asyncio.run(_run(settings, stop))
    except* FairleadError as group:
        code = 1
        for error in _leaves(group):
            print(f"failed to start daemon: {error}", file=sys.stderr)
    return code


class _Signals:
    """TERM and INT, from the first moment on: one that comes while we restore is heard when we have."""

    def __init__(self) -> None:
        self._heard = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        # asyncio's own way would have ``inspect`` look at what is called, and so would taking INT from it later.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    async def heard(self) -> None:
        """Return when one came."""
        self._loop = asyncio.get_running_loop()
        if not self._heard:
            await self._event.wait()

    def _hear(self, number: int, frame: object) -> None:
        self._heard = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)


class _Stop(Exception):
    """Thrown into the TaskGroup when we are told to stop: it cancels everything that was running for ever."""


async def _run(settings: Settings, stop: _Signals) -> None:
    async with AsyncExitStack() as undo:
        _claim_pidfile(settings, undo)
        listeners = server.listeners(settings)
        try:
            async with asyncio.TaskGroup() as tasks:
                if os.getpid() == 1:
                    tasks.create_task(orphans.bury())
                tasks.create_task(arenas.keep_tidy())
                going_on = await _serve(Build(settings, Clock(), undo, tasks), listeners, stop)
                raise _Stop
        except* _Stop:
            pass
    log.info("stopped%s", "; containers go on" if going_on else "")


async def _serve(build: Build, listeners: list[server.Listener], stop: _Signals) -> bool:
    """Restore, then answer until a signal comes; whether containers go on without us."""
    began = time.monotonic()
    await build.start()
    async with server.serve(server.create_app(build.engine, build.settings), listeners) as addresses:
        took = 1000 * (time.monotonic() - began)
        log.info("API listens on %s (restored in %.0f ms)", ", ".join(addresses), took)
        gc.freeze()
        gc.set_threshold(GARBAGE)
        gc.enable()
        _tell_systemd("READY=1")
        await stop.heard()
        _tell_systemd("STOPPING=1")
        if not build.settings.live_restore:
            await farewell.stop_all(build.containers)
    return await build.leave()


def _tell_systemd(state: str) -> None:
    """For units with ``Type=notify``, such as ours and Docker's own. ``@``: an abstract socket."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(OSError):
            out.sendto(state.encode(), where.replace("@", "\0", 1) if where.startswith("@") else where)


class Clock:
    """The time of day, once as nanoseconds and once as text; the core gets both as arguments."""

    def nanoseconds(self) -> int:
        return time.time_ns()

    def text(self) -> str:
        """RFC 3339 in UTC with nanoseconds: ``2026-01-02T03:04:05.678901234Z``."""
        now = time.time_ns()
        seconds = datetime.fromtimestamp(now // 1_000_000_000, UTC)
        return f"{seconds:%Y-%m-%dT%H:%M:%S}.{now % 1_000_000_000:09d}Z"


def _claim_pidfile(settings: Settings, stack: AsyncExitStack) -> None:
    if not settings.pidfile:
        return
    path = Path(settings.pidfile)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(os.getpid()))
    stack.callback(path.unlink, missing_ok=True)


def _log_to_stderr(settings: Settings) -> None:
    level = logging.DEBUG if settings.debug else getattr(logging, settings.log_level.upper(), logging.INFO)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _leaves(group: BaseExceptionGroup[FairleadError]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
