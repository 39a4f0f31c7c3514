"""Web sockets (RFC 6455) on a hijacked connection: only what a stream of bytes needs.

    GET …/attach/ws   Upgrade: websocket   -->   101, then frames

    client's frame   fin/opcode | mask bit, length | 4 bytes of mask | payload XOR mask
    our frame        fin/opcode | length | payload

Each piece of a message is given on as it comes: a stream has no messages. Pings are answered, a *close* is answered
and ends the stream. A client that does not mask, or sends a frame of more than ``LARGEST`` bytes, is closed upon.
Extensions and sub-protocols are not spoken.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fairlead.api import hijack
from fairlead.api.web import Request
from fairlead.errors import Invalid

LARGEST = 4 << 20
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL, TOO_BIG = 1000, 1002, 1009


@asynccontextmanager
async def accepted(request: Request, key: str) -> AsyncIterator[Socket]:
    """Make the connection of ``request`` a web socket; it is closed when the block is left."""
    proof = base64.b64encode(hashlib.sha1(key.encode("utf-8", "replace") + _MAGIC, usedforsecurity=False).digest())
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    async with hijack.taken(request, [*lines, f"Sec-WebSocket-Accept: {proof.decode()}"]) as stream:
        socket = Socket(stream)
        try:
            yield socket
        finally:
            with suppress(ConnectionError):
                await socket.close(NORMAL)


def key_of(request: Request) -> str:
    """The client's key; ``Invalid`` when it did not ask for a web socket."""
    key = request.header("Sec-WebSocket-Key")
    upgrade = "upgrade" in request.header("Connection").lower() and request.header("Upgrade").lower() == "websocket"
    if not (upgrade and key and request.header("Sec-WebSocket-Version") == "13"):
        raise Invalid("not websocket protocol")
    return key


class Socket:
    """Bytes both ways."""

    def __init__(self, stream: hijack.Stream) -> None:
        self._stream = stream
        self.when_lost = stream.when_lost
        self._came = bytearray()
        self._closed = False

    async def read(self) -> bytes:
        """What the client sent, b"" when it will send no more."""
        while not self._closed:
            head = await self._exactly(2)
            if not head:
                return b""
            opcode, size = head[0] & 0x0F, head[1] & 0x7F
            if size > 125:
                size = int.from_bytes(await self._exactly(2 if size == 126 else 8))
            if not head[1] & 0x80 or size > LARGEST:
                await self.close(TOO_BIG if head[1] & 0x80 else PROTOCOL)
                return b""
            mask = await self._exactly(4)
            data = _unmasked(await self._exactly(size), mask)
            if opcode == PING:
                await self._send(PONG, data)
            elif opcode == CLOSE:
                await self.close(NORMAL)
            elif opcode in (CONTINUED, TEXT, BINARY) and data:
                return data
        return b""

    async def write(self, data: bytes) -> None:
        await self._send(BINARY, data)

    async def close(self, code: int) -> None:
        """Say why this is the end, once."""
        if not self._closed:
            await self._send(CLOSE, code.to_bytes(2))
            self._closed = True

    async def _send(self, opcode: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            length = bytes((size,))
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2)
        else:
            length = b"\x7f" + size.to_bytes(8)
        if self._closed:
            raise ConnectionResetError("the web socket is closed")
        await self._stream.write(bytes((0x80 | opcode,)) + length + data)

    async def _exactly(self, size: int) -> bytes:
        """That many bytes, or b"" when they do not come any more."""
        while len(self._came) < size:
            data = await self._stream.read()
            if not data:
                self._closed = True
                return b""
            self._came += data
        data = bytes(self._came[:size])
        del self._came[:size]
        return data


def _unmasked(data: bytes, mask: bytes) -> bytes:
    if len(mask) < 4:
        return b""
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data))
