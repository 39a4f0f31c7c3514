"""The body of a request: bytes come in from the connection, pieces go out to a handler, at the handler's speed.

    connection --- feed --->  Body  --- pieces ---> handler

Rules
    1. ``feed`` gives back what does not belong to the body: the next request, or a hijacked stream's first bytes.
    2. When ``HIGH`` bytes wait for a handler, the connection is asked to stop reading; at ``LOW``, to go on.
    3. A body that ended too early, or is no chunks, raises where it is read, once what came before is read.
    4. A client that waits for ``100 Continue`` is told when somebody reads, not before.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable

from fairlead.api.heads import CHUNKED, Malformed
from fairlead.core.patterns import pattern

HIGH = 1 << 20
LOW = 256 << 10
LONGEST_LINE = 4096
"""Bytes of the line before a chunk, or of a trailer."""

_SIZE = pattern(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?", re.DOTALL)


class Body:
    """One request's. ``flow(False)`` asks its connection to stop reading; ``invite`` sends ``100 Continue``."""

    def __init__(self, length: int, flow: Callable[[bool], None], invite: Callable[[], None] | None = None) -> None:
        self.length = length
        self.complete = length == 0
        """Everything has come (or never will: then reading raises)."""
        self.invite = invite
        self._flow = flow
        self._left = max(length, 0)
        """of the body, or of the chunk that is being read"""
        self._line = b""
        """the start of a line between chunks"""
        self._within = self._trailer = False
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._full = self._unwanted = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    # -- from the connection --------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Take what is the body's; returns the rest. ``Malformed`` when chunks are none."""
        data = self._chunks(data) if self.length == CHUNKED else self._take(data)
        self.complete = self.complete or (self.length != CHUNKED and not self._left)
        self._news.set()
        return data

    def fail(self, error: Exception) -> None:
        """No more will come."""
        if not self.complete:
            self.complete, self._error = True, error
            self._news.set()

    def unwanted(self) -> None:
        """Nobody will read the rest: it is thrown away as it comes."""
        self._unwanted = True
        self._pieces.clear()
        self._count(-self._size)

    async def finished(self) -> None:
        """Until everything has come."""
        while not self.complete:
            self._news.clear()
            await self._news.wait()

    def _take(self, data: bytes) -> bytes:
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        if piece and not self._unwanted:
            self._pieces.append(piece)
            self._count(len(piece))
        return rest

    def _chunks(self, data: bytes) -> bytes:
        data, self._line = self._line + data, b""
        while not self.complete:
            if self._left:
                if not data:
                    return b""
                data = self._take(data)
                continue
            line, ended, rest = data.partition(b"\r\n")
            if len(line) > LONGEST_LINE:
                raise Malformed("malformed chunked encoding")
            if not ended:
                self._line = data
                return b""
            data = rest
            self._read_line(line)
        return data

    def _read_line(self, line: bytes) -> None:
        """The line behind a chunk (empty), before one (its size), or behind all (trailers, which nobody wants)."""
        if self._trailer:
            self.complete = not line
            return
        if self._within:
            if line:
                raise Malformed("malformed chunked encoding")
            self._within = False
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Malformed("malformed chunked encoding")
        self._left = int(size[1], 16)
        self._within = self._left > 0
        self._trailer = not self._within

    # -- to the handler -------------------------------------------------------------------------

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything that was not read yet, as it comes; raises what was told to ``fail``."""
        if self.invite is not None and not self.complete:
            self.invite()
        self.invite = None
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._count(-len(piece))
                yield piece
            if self._error is not None:
                raise self._error
            if self.complete:
                return
            self._news.clear()
            await self._news.wait()

    def _count(self, change: int) -> None:
        self._size += change
        if self._full != (self._size > LOW if self._full else self._size >= HIGH):
            self._full = not self._full
            self._flow(not self._full)
