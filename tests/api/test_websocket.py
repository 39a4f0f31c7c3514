"""Attach by web socket, frame by frame."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.api import routes, server, web, websocket
from fairlead.settings import Settings

from .fake_engine import fake_engine

HEAD = (
    b"GET /v1.51/containers/x/attach/ws HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: x, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ANSWER = (  # to the example of RFC 6455
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
CLOSED = b"\x88\x02\x03\xe8"


async def echo(request: web.Request) -> web.Answer:
    async with websocket.accepted(request, websocket.key_of(request)) as socket:
        while data := await socket.read():
            await socket.write(data)
    return web.Taken()


@pytest.fixture
async def path() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        app = server.create_app(fake_engine(), Settings(data_root=folder))
        app.table = routes.Table([web.get("/containers/{id}/attach/ws", echo)])
        where = str(Path(folder) / "s")
        async with server.serve(app, [server.Listener(f"unix://{where}")]):
            yield where


def masked(opcode: int, data: bytes, fin: int = 0x80) -> bytes:
    size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xff" + len(data).to_bytes(8)
    return bytes((fin | opcode,)) + size + b"\1\2\3\4" + bytes(b ^ (i % 4 + 1) for i, b in enumerate(data))


async def say(path: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(HEAD + data)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(ANSWER)
    return answer.removeprefix(ANSWER)


async def test_pieces_go_both_ways_until_one_closes(path: str) -> None:
    frames = masked(1, b"he", fin=0) + masked(0, b"llo") + masked(2, b"") + masked(9, b"there?") + masked(8, b"")
    assert await say(path, frames) == b"\x82\x02he\x82\x03llo\x8a\x06there?" + CLOSED


@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
async def test_lengths(path: str, size: int) -> None:
    lengths = {125: b"\x7d", 126: b"\x7e\0\x7e", 65535: b"\x7e\xff\xff", 65536: b"\x7f\0\0\0\0\0\1\0\0"}
    answer = await say(path, masked(2, b"x" * size) + masked(8, b""))
    assert answer == b"\x82" + lengths[size] + b"x" * size + CLOSED


async def test_what_is_not_masked_or_too_large_is_closed_upon(path: str) -> None:
    assert await say(path, b"\x82\x01x") == b"\x88\x02\x03\xea"
    assert await say(path, b"\x82\xff" + (1 << 62).to_bytes(8)) == b"\x88\x02\x03\xf1"
