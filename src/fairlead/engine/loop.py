"""A small event loop over epoll: for the two processes that must be lean and quick, resolver and relay.

    watch(socket, handler)   handler() whenever the socket is ready
    later(seconds, call)     call() once, unless cancelled
    run()                    until stop(), SIGTERM or SIGINT

Why not asyncio? A datagram costs a selector loop half of its time in its own
bookkeeping (66,000 answers a second against 120,000, measured), and importing
it costs half of the memory these processes use.

Rules
    1. Level-triggered: a handler may leave work undone, it is called again.
    2. A handler's exception is a bug: it is told on stderr once per kind and the
       loop goes on, because every container of the machine depends on it.
    3. Nothing to do means no wake-up at all.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
import signal
import socket
import sys
import time
import traceback
from _socket import socket as Bare
from collections.abc import Callable
from contextlib import suppress

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

_BATCH = 128
"""Sockets served per poll; every one gets its turn before any gets a second."""


class Timer:
    """Something to be done later; ``cancel`` it when it is not needed any more."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Sockets, timers and one thread."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._serial = 0
        self._running = False
        self._told: set[str] = set()

    def now(self) -> float:
        return time.monotonic()

    def watch(self, sock: Bare, handler: Callable[[], None], mask: int = READ) -> None:
        """Call ``handler`` whenever ``sock`` is ready for ``mask`` (errors count as ready)."""
        number = sock.fileno()
        (self._poll.modify if number in self._handlers else self._poll.register)(number, mask)
        self._handlers[number] = handler

    def unwatch(self, sock: Bare) -> None:
        """Before closing it; unwatching what is not watched is fine."""
        if self._handlers.pop(sock.fileno(), None) is not None:
            self._poll.unregister(sock.fileno())

    def close(self, sock: Bare) -> None:
        """Close a socket of this process alone, watched or not: the kernel watches none that is closed."""
        self._handlers.pop(sock.fileno(), None)
        sock.close()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        self._serial += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._serial, timer))
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Serve until stopped. Signals arrive through a socket, so that a waiting poll wakes up for them."""
        wake, self._wake = socket.socketpair()
        for side in (wake, self._wake):
            side.setblocking(False)
        self.watch(wake, lambda: _drain(wake))
        signal.set_wakeup_fd(self._wake.fileno())
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: self.stop())
        gc.freeze()
        self._running = True
        handlers = self._handlers
        while self._running:
            for number, _ in self._poll.poll(self._due(), _BATCH):
                handler = handlers.get(number)
                if handler is not None:
                    try:
                        handler()
                    except Exception:
                        self._complain()

    def _due(self) -> float:
        """Do what is due; seconds until the next timer, -1 for none."""
        while self._timers:
            when, _, timer = self._timers[0]
            if timer.call is not None:
                wait = when - time.monotonic()
                if wait > 0:
                    return wait
            heapq.heappop(self._timers)
            call, timer.call = timer.call, None
            if call is not None:
                try:
                    call()
                except Exception:
                    self._complain()
        return -1 if self._running else 0

    def _complain(self) -> None:
        text = traceback.format_exc()
        kind = text.rstrip().rpartition("\n")[0]
        if kind not in self._told and len(self._told) < 100:
            self._told.add(kind)
            print(text, file=sys.stderr, flush=True)


def _drain(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        sock.recv(64)


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reason(error: OSError) -> str:
    """The kernel's words as Docker spells them: lower case."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
