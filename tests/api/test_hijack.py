"""Hijacked connections, byte by byte, over bare sockets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.api import connection, hijack, http, routes, server, web
from fairlead.errors import NotFound
from fairlead.settings import Settings

from .fake_engine import fake_engine

HEAD = b"POST /v1.51/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
ANSWER = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


async def echo(request: web.Request) -> web.Answer:
    """Everything back; after the client's end, ``bye``."""
    async with hijack.hijacked(request, {}, http.MULTIPLEXED_STREAM) as stream:
        while data := await stream.read():
            await stream.write(data)
        await stream.write(b"bye")
    return web.Taken()


async def start(request: web.Request) -> web.Answer:
    """The same, after a JSON body; ``{"Detach": true}`` is answered without a hijack."""
    body = await http.body(request, {})
    if body.get("Detach"):
        return http.nothing(200)
    return await echo(request)


async def flood(request: web.Request) -> web.Answer:
    """Output without end, as fast as it is taken; counts what was written."""
    async with hijack.hijacked(request, {}, http.RAW_STREAM) as stream:
        try:
            while True:
                await stream.write(b"x" * 65536)
                COUNTED.append(65536)
        except ConnectionResetError:
            FLOODED.set_result(sum(COUNTED))
    return web.Taken()


async def missing(request: web.Request) -> web.Answer:
    raise NotFound("No such container: x")


COUNTED: list[int] = []
FLOODED: asyncio.Future[int]


@pytest.fixture
async def addresses() -> AsyncIterator[list[str]]:
    global FLOODED
    FLOODED = asyncio.get_running_loop().create_future()
    COUNTED.clear()
    with tempfile.TemporaryDirectory() as folder:
        app = server.create_app(fake_engine(), Settings(data_root=folder))
        app.table = routes.Table(
            [
                web.post("/containers/x/attach", echo),
                web.post("/containers/missing/attach", missing),
                web.post("/containers/flood/attach", flood),
                web.post("/exec/{id}/start", start),
                web.get("/plain", lambda request: asyncio.sleep(0, web.Response(text="the page"))),
            ]
        )
        listeners = [server.Listener(f"unix://{Path(folder) / 's'}"), server.Listener("tcp://127.0.0.1:0")]
        async with server.serve(app, listeners) as opened:
            yield opened


async def reach(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix://"):
        return await asyncio.open_unix_connection(address.removeprefix("unix://"))
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("which", [0, 1], ids=["unix", "tcp"])
async def test_bytes_behind_the_head_are_the_start_of_the_stream(addresses: list[str], which: int) -> None:
    reader, writer = await reach(addresses[which])
    writer.write(HEAD + b"early ")
    assert await reader.readexactly(len(ANSWER)) == ANSWER
    assert await reader.readexactly(6) == b"early "
    writer.write(b"late")
    assert await reader.readexactly(4) == b"late"
    writer.write_eof()
    assert await reader.read() == b"bye"
    writer.close()


@pytest.mark.parametrize("which", [0, 1], ids=["unix", "tcp"])
async def test_everything_and_the_end_in_one_piece(addresses: list[str], which: int) -> None:
    reader, writer = await reach(addresses[which])
    writer.write(HEAD + b"all")
    writer.write_eof()
    assert await reader.read() == ANSWER + b"allbye"
    writer.close()


async def test_without_upgrade_it_is_200(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    writer.write(b"POST /containers/x/attach HTTP/1.1\r\nHost: d\r\n\r\nhello")
    writer.write_eof()
    assert await reader.read() == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nhellobye"
    )
    writer.close()


@pytest.mark.parametrize("cut", [1, 4, 30, 80, 150, 180, 190])
async def test_a_head_in_two_pieces(addresses: list[str], cut: int) -> None:
    body = b'{"Tty":false}'
    whole = (
        b"POST /v1.51/exec/e/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%bstdin" % (len(body), body)
    )
    reader, writer = await reach(addresses[0])
    writer.write(whole[:cut])
    await asyncio.sleep(0.01)
    writer.write(whole[cut:])
    writer.write_eof()
    assert (await reader.read()).partition(b"\r\n\r\n")[2] == b"stdinbye"
    writer.close()


async def test_a_connection_that_served_before_can_be_hijacked(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    for _ in range(2):
        writer.write(b"GET /plain HTTP/1.1\r\nHost: d\r\n\r\n")
        assert (await reader.readuntil(b"the page")).endswith(b"the page")
    writer.write(HEAD + b"data")
    writer.write_eof()
    assert await reader.read() == ANSWER + b"databye"
    writer.close()


async def test_an_answer_without_hijack_closes_the_connection(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    writer.write(HEAD.replace(b"/x/", b"/missing/") + b"GET /plain HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404 Not Found")
    assert b"the page" not in answer.partition(b"\r\n\r\n")[2]
    writer.close()


async def test_detached_start_is_an_ordinary_answer(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    writer.write(
        b"POST /exec/e/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
        b'{"Detach":true}'
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_client_that_does_not_read_is_not_written_to(addresses: list[str]) -> None:
    """Backpressure: what is written for it is bounded, and its leaving is noticed."""
    reader, writer = await reach(addresses[0])
    writer.write(HEAD.replace(b"/x/", b"/flood/"))
    await reader.readexactly(10)
    for _ in range(50):
        before = len(COUNTED)
        await asyncio.sleep(0.01)
        if len(COUNTED) == before:
            break
    assert len(COUNTED) == before
    assert sum(COUNTED) < 4 << 20
    writer.transport.abort()
    await asyncio.wait_for(FLOODED, 5)


async def test_a_client_that_sends_more_than_is_taken_is_not_read(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    writer.write(HEAD + b"y" * (8 << 20))
    await reader.readexactly(len(ANSWER))
    await asyncio.sleep(0.05)
    assert writer.transport.get_write_buffer_size() > 1 << 20
    got = await reader.readexactly(8 << 20)
    assert got == b"y" * (8 << 20)
    writer.close()


@pytest.mark.proves(
    "CVE-2020-7219",
    guard=(
        "api/connection.py",
        "call_later(HEAD_SECONDS, self._give_up)",
        "call_later(HEAD_SECONDS * 1e6, self._give_up)",
    ),
)
async def test_a_head_that_never_ends_is_cut_off(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    for start in (b"GET /plain HTTP/1.1\r\nHost:", b"POST /containers/x/att", b"P"):
        reader, writer = await reach(addresses[0])
        writer.write(start)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()


async def test_half_closing_after_a_plain_request_still_gets_the_answer(addresses: list[str]) -> None:
    reader, writer = await reach(addresses[0])
    writer.write(b"GET /plain HTTP/1.1\r\nHost: d\r\n\r\n")
    writer.write_eof()
    assert (await reader.read()).endswith(b"the page")
    writer.close()


def test_frames() -> None:
    assert hijack.frame(2, b"abc") == b"\x02\x00\x00\x00\x00\x00\x00\x03abc"
