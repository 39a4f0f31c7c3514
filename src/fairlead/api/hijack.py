"""Hijacked connections: after the head, the bytes of attach and exec flow both ways on the same socket.

    POST /containers/x/attach          HTTP/1.1 101 UPGRADED           (asked with Upgrade: tcp)
    Connection: Upgrade          -->   Content-Type: …raw-stream
    Upgrade: tcp                       Connection: Upgrade             or 200 OK without those two lines
    <bytes to stdin ...>               <bytes of stdout and stderr ...>

With a terminal the bytes are raw. Without one, each piece of output has a head
of eight bytes: which stream (1 or 2), three zeros, the length in four bytes.

Rules
    1. Bytes sent right behind the request's head belong to the stream.
    2. Either side may end first: a client that half-closes still gets all output;
       output that ends closes the connection.
    3. Nobody is read faster than the other side takes it (``HIGH`` bytes are kept).

What it does not do: run anything. Handlers give and take bytes through ``Stream``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from fairlead.api import http, web

HIGH = 256 << 10
LOW = 64 << 10
CLOSE_SECONDS = 2


def frame(which: int, data: bytes) -> bytes:
    """One piece of multiplexed output: ``which`` is 1 for stdout, 2 for stderr (3: an error of the engine)."""
    return bytes((which, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Stream(asyncio.Protocol):
    """Both directions of a hijacked connection."""

    def __init__(self, connection: web.Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._received: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._when_lost: list[Callable[[], None]] = []

    # -- for handlers -------------------------------------------------------------------------

    async def read(self) -> bytes:
        """What the client sent, b"" when it will send no more."""
        while not self._received:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._received.popleft()
        self._size -= len(data)
        if self._paused and self._size <= LOW and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; returns when the client can take more. ``ConnectionResetError`` when it is gone."""
        await self._writable.wait()
        if self._lost or self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client hung up")
        self._transport.write(data)

    @property
    def lost(self) -> bool:
        """The client is gone altogether."""
        return self._lost

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call it when the client is gone altogether (now, if it is): a silent process would never show it."""
        if self._lost:
            call()
        else:
            self._when_lost.append(call)

    async def close(self) -> None:
        """What was written is sent, then the connection is closed."""
        if self._transport is None or self._lost:
            return
        with suppress(OSError, RuntimeError):
            if self._transport.can_write_eof():
                self._transport.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writable.wait()
        self._transport.close()

    # -- for the loop -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size >= HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._ended = True
        self._readable.set()
        self._writable.set()
        self._connection.connection_lost(exc)
        for call in self._when_lost:
            call()


@asynccontextmanager
async def hijacked(request: web.Request, headers: dict[str, str], content_type: str) -> AsyncIterator[Stream]:
    """Take the connection over: send the head, yield the stream, close it afterwards."""
    upgraded = bool(request.header("Upgrade"))
    lines = [
        "HTTP/1.1 101 UPGRADED" if upgraded else "HTTP/1.1 200 OK",
        f"Content-Type: {content_type if upgraded else http.RAW_STREAM}",
        *(["Connection: Upgrade", "Upgrade: tcp"] if upgraded else []),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    async with taken(request, lines) as stream:
        yield stream


@asynccontextmanager
async def taken(request: web.Request, head: Sequence[str]) -> AsyncIterator[Stream]:
    """The same with any head: its lines."""
    stream = Stream(request.connection)
    request.connection.hand_over(stream)
    try:
        await stream.write(("\r\n".join(head) + "\r\n\r\n").encode())
        yield stream
    finally:
        await stream.close()
