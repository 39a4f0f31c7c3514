"""The engine's end of ``engine.control``: a connection that begins by telling everything.

    say(line, …)   lines in one go, their answers; one round trip
    keep()         for the daemon's TaskGroup: notice the death of the other side,
                   have another one started, tell it everything

Whoever owns a client (``resolverclient``, ``relayclient``) remembers what should
be, gives it as the line "state" and hears the answer to it. So a fresh process
on the other side, or a fresh engine on this one, comes to the same state by the
same way.

Rules
    1. A broken connection is made anew once within a call, and the line said
       again: every line of the protocol may be said twice.
    2. ``Unavailable`` when no answer comes within ``PATIENCE`` seconds, or nobody is
       there within ``STARTING``; the state is told later, by ``keep`` or by the next call.
    3. A cancelled call hangs up: its answers must not reach the next caller.
    4. A process that does not know the word which says everything is of another version (it outlived an older
       engine): it is told to end, and another one is started.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fairlead.engine.control import UNKNOWN
from fairlead.errors import FairleadError, Internal, Unavailable

PATIENCE = 15.0
"""Seconds for an answer: a namespace's first programs of the kernel's take that long where a processor is emulated."""
STARTING = 20.0
"""Seconds for a process that was just started: on a small or busy machine it takes its time to begin."""
_AGAIN = 0.02
_LIMIT = 64 << 20

Line = dict[str, Any]
Afterwards = Callable[[], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def command(part: str, path: str) -> list[str]:
    """The command that runs ``resolver`` or ``relay`` with its control socket at ``path``."""
    return [sys.executable, "-m", "fairlead", part, "--socket", path]


class ControlClient:
    """One connection to a process with a control socket.

    ``start`` brings such a process into being (and need not wait for it);
    ``state`` gives the line that says everything; ``told`` hears its answer and
    gives what is to be done about it, which is then done outside, so that it may
    call the client.
    """

    def __init__(
        self,
        path: str,
        state: Callable[[], Line],
        told: Callable[[Line], Sequence[Afterwards]],
        start: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._path, self._state, self._told, self._start = path, state, told, start
        self._streams: Streams | None = None
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()
        self._lost.set()
        self._afterwards: list[Afterwards] = []

    async def connect(self) -> None:
        """Reach the process, starting one if nobody answers, and tell it everything."""
        async with self._turn:
            if self._streams is None:
                await self._connect()
        await self._settle()

    async def keep(self) -> None:
        """Until cancelled: whenever the process is gone, have another one and tell it everything."""
        while True:
            await self._lost.wait()
            try:
                await self.connect()
            except FairleadError as error:
                print(f"fairlead: {error.message}; trying again", file=sys.stderr, flush=True)
                await asyncio.sleep(1)

    async def say(
        self, *lines: Line, meanwhile: Callable[[], object] | None = None, others_first: bool = False
    ) -> list[Line]:
        """Send lines in one go; their answers, also the refusals among them.

        ``meanwhile`` is called when they are sent: what we can do while the other side is at work. It may be twice; it
        waits for nothing and raises nothing. ``others_first``: whoever else waits for his turn has it before.
        """
        if not lines:
            return []
        async with self._turn:
            try:
                answers = await self._connected(lines, meanwhile, others_first)
            except _Nobody:
                raise
            except Unavailable:
                answers = await self._connected(lines, meanwhile, others_first)
        await self._settle()
        return answers

    async def close(self) -> None:
        """Leave; the process goes on."""
        self._hang_up()

    async def _connected(
        self, lines: Sequence[Line], meanwhile: Callable[[], object] | None, others_first: bool
    ) -> list[Line]:
        if self._streams is None:
            await self._connect()
        return await self._exchange(*lines, meanwhile=meanwhile, others_first=others_first)

    async def _settle(self) -> None:
        """Do what followed from a fresh connection, one after the other, by whoever comes first."""
        while self._afterwards:
            await self._afterwards.pop(0)()

    async def _connect(self) -> None:
        deadline = asyncio.get_running_loop().time() + STARTING
        await self._reach(deadline)
        answer = (await self._exchange(self._state()))[0]
        if answer.get("error") == UNKNOWN:
            await self._dismiss(deadline)
            await self._reach(deadline)
            answer = (await self._exchange(self._state()))[0]
        if not answer.get("ok"):
            self._hang_up()
            raise Internal(f"the process at {self._path} refused its state: {answer.get('error')}")
        self._afterwards += self._told(answer)

    async def _reach(self, deadline: float) -> None:
        """A process that listens, one that is started if need be."""
        started = False
        while True:
            try:
                self._streams = await _dial(self._path, self._ended)
                break
            except OSError as error:
                if self._start is not None and not started:
                    started = True
                    await self._start()
                if asyncio.get_running_loop().time() > deadline:
                    raise _Nobody(f"nobody answers at {self._path}: {error}") from error
                await asyncio.sleep(_AGAIN)
        self._lost.clear()

    async def _dismiss(self, deadline: float) -> None:
        """It ends, and has left its socket when this returns."""
        before = _inode(self._path)
        await self._exchange({"do": "exit"})
        self._hang_up()
        while _inode(self._path) == before and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # no event
            await asyncio.sleep(_AGAIN)

    async def _exchange(
        self, *lines: Line, meanwhile: Callable[[], object] | None = None, others_first: bool = False
    ) -> list[Line]:
        assert self._streams is not None
        reader, writer = self._streams
        try:
            writer.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            if others_first:
                await asyncio.sleep(0)
            if meanwhile is not None:
                meanwhile()
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
                return [msgspec.json.decode(await reader.readuntil(b"\n")) for _ in lines]
        except TimeoutError:
            self._hang_up()
            raise Unavailable(f"the process at {self._path} does not answer within {PATIENCE:g} s") from None
        except (OSError, EOFError) as error:
            self._hang_up()
            raise Unavailable(f"the process at {self._path} went away: {error}") from error
        except BaseException:
            self._hang_up()
            raise

    def _ended(self, reader: asyncio.StreamReader) -> None:
        """The other side of a connection is gone; ``keep`` sees to it if it is the one we use."""
        if self._streams is not None and self._streams[0] is reader:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        self._lost.set()


class _Nobody(Unavailable):
    """The process is not there; one that went away in the middle is another matter."""


class _Reader(asyncio.StreamReader):
    """A reader that says when the stream ended, although nobody is reading."""

    def __init__(self, ended: Callable[[asyncio.StreamReader], None]) -> None:
        super().__init__(limit=_LIMIT)
        self._ended = ended

    def feed_eof(self) -> None:
        super().feed_eof()
        self._ended(self)


def _inode(path: str) -> int:
    """0: nothing is there."""
    with suppress(OSError):
        return os.stat(path).st_ino
    return 0


async def _dial(path: str, ended: Callable[[asyncio.StreamReader], None]) -> Streams:
    loop = asyncio.get_running_loop()
    reader = _Reader(ended)
    protocol = asyncio.StreamReaderProtocol(reader)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)  # at once, or not at all; asyncio's own way would first load TLS, to see that it is none
    except BaseException:
        sock.close()
        raise
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
