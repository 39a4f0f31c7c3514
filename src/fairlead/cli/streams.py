"""Streams: a person's terminal on one side, a container's on the other.

    keyboard --> [raw, watches for the detach keys] --> wire --> container
    screen   <-- [demultiplexed unless it has a TTY] <-- wire <-- container

Rules
    1. The terminal is put back as it was, whatever happens.
    2. The end of our input closes only our half: the container may go on talking. What the engine does not take yet
       waits, and holds up nothing that comes from there: ``big | run -i busybox cat`` must not wait for itself.
    3. Window changes and, without a TTY, signals are passed on by a request of
       their own (``on_resize``, ``on_signal``); a failure there never ends the stream.

What it does not do: know what runs at the other end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from fairlead.cli.client import Wire
from fairlead.errors import FairleadError, Invalid

DETACH_KEYS = "ctrl-p,ctrl-q"
NEVER_PROXIED = {signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGKILL, signal.SIGSTOP}


def keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b`` as the bytes a terminal sends."""
    found = bytearray()
    for word in (text or DETACH_KEYS).split(","):
        if len(word) == 1:
            found += word.encode()
        elif word.startswith("ctrl-") and len(word) == 6 and (word[5].isalpha() or word[5] in "@[\\]^_"):
            found.append(ord(word[5].upper()) & 0x1F)
        else:
            raise Invalid(f"invalid detach keys ({text}) provided: Unknown character: '{word}'")
    return bytes(found)


class Demultiplexer:
    """Docker's framing undone: feed bytes, get (stream, payload); stream is 1 for output, 2 for errors."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self._buffer += data
        while len(self._buffer) >= 8:
            length = int.from_bytes(self._buffer[4:8], "big")
            if len(self._buffer) < 8 + length:
                return
            yield self._buffer[0], bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]


class DetachWatcher:
    """Finds the detach keys in what is typed. ``feed`` returns what may be sent on, and whether they were pressed."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        out = bytearray()
        for byte in data:
            self._held += bytes([byte])
            if self._held == self._sequence:
                return bytes(out), True
            while self._held and not self._sequence.startswith(self._held):
                out.append(self._held[0])
                self._held = self._held[1:]
        return bytes(out), False


@contextlib.contextmanager
def raw_terminal(file: int) -> Iterator[None]:
    """The terminal passes every key on, as long as the block lasts."""
    import termios
    import tty

    before = termios.tcgetattr(file)
    try:
        tty.setraw(file, termios.TCSADRAIN)  # what was typed before stays
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


@contextlib.contextmanager
def handlers(wanted: dict[signal.Signals, Callable[[int], None]]) -> Iterator[None]:
    """Signal handlers for the block. A failing one is dropped: the stream matters more."""

    def quiet(action: Callable[[int], None]) -> Callable[..., None]:
        def handle(number: int, _frame: object) -> None:
            with contextlib.suppress(FairleadError, OSError):
                action(number)

        return handle

    before = {}
    try:
        for number, action in wanted.items():
            before[number] = signal.signal(number, quiet(action))
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def window() -> tuple[int, int]:
    """(rows, columns) of the terminal we write to."""
    size = os.get_terminal_size(sys.stdout.fileno() if sys.stdout.isatty() else 0)
    return size.lines, size.columns


def console(tty: bool) -> list[int]:
    """``ConsoleSize``: how large a container's terminal is from its first moment on; [0, 0] if nobody looks."""
    return list(window()) if tty and sys.stdout.isatty() else [0, 0]


def all_signals(action: Callable[[int], None]) -> dict[signal.Signals, Callable[[int], None]]:
    """Handlers that pass every signal worth passing to ``action``."""
    return {number: action for number in signal.valid_signals() - NEVER_PROXIED if isinstance(number, signal.Signals)}


class Session(NamedTuple):
    """One attached stream. ``run`` returns True when the person detached, False at the end of the stream."""

    wire: Wire
    tty: bool
    stdin: bool
    detach: bytes = b""
    on_resize: Callable[[int, int], None] | None = None
    on_signal: Callable[[int], None] | None = None

    def run(self) -> bool:
        with contextlib.ExitStack() as stack:
            stack.callback(self.wire.socket.close)
            wanted: dict[signal.Signals, Callable[[int], None]] = {}
            keyboard = self.stdin and sys.stdin.isatty()
            if self.tty and keyboard:
                stack.enter_context(raw_terminal(sys.stdin.fileno()))
            elif self.on_signal and not self.tty:
                wanted |= all_signals(self.on_signal)
            if self.tty and self.on_resize and sys.stdout.isatty():
                resize = self.on_resize
                wanted[signal.SIGWINCH] = lambda _: resize(*window())
                with contextlib.suppress(FairleadError, OSError):
                    resize(*window())
            stack.enter_context(handlers(wanted))
            return self._pump(DetachWatcher(self.detach) if keyboard and self.tty and self.detach else None)

    def _pump(self, watcher: DetachWatcher | None) -> bool:
        link, keyboard, waiting = self.wire.socket, sys.stdin.fileno() if self.stdin else -1, b""
        show = self._shower()
        show(self.wire.early)
        while True:
            sources = [link] if waiting or keyboard < 0 else [link, keyboard]
            ready, free, _ = select.select(sources, [link] if waiting else [], [])
            if link in ready and not self._receive(link, show):
                return False
            gone = False
            if keyboard in ready:
                waiting = os.read(keyboard, 65536)
                if not waiting:
                    keyboard = -1
                    with contextlib.suppress(OSError):
                        link.shutdown(socket.SHUT_WR)
                if watcher:
                    waiting, gone = watcher.feed(waiting)
            if waiting and (free or keyboard in ready):
                waiting = _give(link, waiting)
            if gone:
                return True

    def _receive(self, link: socket.socket, show: Callable[[bytes], None]) -> bool:
        """Read once and show it (TLS may hold more than select sees); False at the end."""
        try:
            data = link.recv(65536)
        except ConnectionResetError:
            return False
        show(data)
        pending = getattr(link, "pending", int)
        while pending():
            show(link.recv(65536))
        return bool(data)

    def _shower(self) -> Callable[[bytes], None]:
        if self.tty:
            return lambda data: write(sys.stdout.buffer, data)
        frames = Demultiplexer()

        def show(data: bytes) -> None:
            for stream, payload in frames.feed(data):
                write(sys.stderr.buffer if stream == 2 else sys.stdout.buffer, payload)

        return show


def _give(link: socket.socket, data: bytes) -> bytes:
    """Send as much as goes at once; returns the rest. Where nobody hears it, what they said last may still come."""
    try:
        return data[link.send(data, socket.MSG_DONTWAIT) :]
    except BlockingIOError:
        return data
    except (BrokenPipeError, ConnectionResetError):
        return b""


def write(out: IO[bytes], data: bytes) -> None:
    """Now, not when a buffer is full."""
    if data:
        out.write(data)
        out.flush()
