"""HTTP itself, byte by byte: heads, bodies, and what goes on with a connection afterwards."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from fairlead.api import connection, heads, http, routes, server, web
from fairlead.api.bodies import HIGH, Body
from fairlead.errors import Invalid
from fairlead.settings import Settings

from .fake_engine import fake_engine


async def echo(request: web.Request) -> web.Answer:
    return web.Response(await http.read(request))


async def pieces(request: web.Request) -> web.Answer:
    async with http.streaming(request, http.JSON) as out:
        for word in (b"one", b"", b"two"):
            await out.write(word)
        return out


async def broken(request: web.Request) -> web.Answer:
    async with http.streaming(request, http.JSON) as out:
        await out.write(b"first")
        raise Invalid("too late")


async def refuse(request: web.Request) -> web.Answer:
    raise Invalid("not now")


async def path(request: web.Request) -> web.Answer:
    return web.Response(text=f"{request.path} {dict(sorted(request.query.items()))} {request.query.getall('a')}")


async def header(request: web.Request) -> web.Answer:
    return web.Response(headers={"X": http.text(request, "value")})


@pytest.fixture
async def socket() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        app = server.create_app(fake_engine(), Settings(data_root=folder))
        app.table = routes.Table(
            [
                web.post("/echo", echo),
                web.get("/pieces", pieces),
                web.get("/broken", broken),
                web.post("/refuse", refuse),
                web.get("/path/{rest:.*}", path),
                web.get("/header", header),
            ]
        )
        where = str(Path(folder) / "s")
        async with server.serve(app, [server.Listener(f"unix://{where}")]):
            yield where


async def say(socket: str, *data: bytes, end: bool = True) -> bytes:
    """Send that, piece by piece; everything that is answered until the server closes."""
    reader, writer = await asyncio.open_unix_connection(socket)
    for piece in data:
        writer.write(piece)
        await asyncio.sleep(0.002)
    if end:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


STANDING = b"Api-Version: 1.51\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Fairlead/0.1.0 (linux)\r\n"


async def test_an_answer_is_these_bytes(socket: str) -> None:
    answer = await say(socket, b"POST /echo HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
    assert answer == b"HTTP/1.1 200 OK\r\n%bContent-Length: 5\r\nConnection: close\r\n\r\nhello" % STANDING


async def test_a_stream_is_these_bytes(socket: str) -> None:
    answer = await say(socket, b"GET /pieces HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", end=False)
    head = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert answer == b"HTTP/1.1 200 OK\r\n" + STANDING + head + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    answer = await say(socket, b"GET /pieces HTTP/1.0\r\n\r\n", end=False)
    assert answer.startswith(b"HTTP/1.0 200 OK") and answer.endswith(b"\r\n\r\nonetwo") and b"chunked" not in answer


async def test_a_stream_that_fails_is_cut_off(socket: str) -> None:
    answer = await say(socket, b"GET /broken HTTP/1.1\r\nHost: d\r\n\r\n", end=False)
    assert answer.endswith(b"\r\n\r\n5\r\nfirst\r\n")


@pytest.mark.parametrize("cut", range(1, 100, 7))
async def test_chunks_however_they_arrive(socket: str, cut: int) -> None:
    whole = (
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    )
    assert (await say(socket, whole[:cut], whole[cut:], end=False)).endswith(b"\r\n\r\nabc0123456789")


@pytest.mark.parametrize("chunks", [b"x\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"+3\r\nabc\r\n", b"1" * 5000])
async def test_chunks_that_are_none(socket: str, chunks: bytes) -> None:
    answer = await say(socket, b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, end=False)
    assert answer.startswith(b"HTTP/1.1 400") and b"malformed chunked encoding" in answer


async def test_requests_one_after_the_other_and_all_at_once(socket: str) -> None:
    one = b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\n%b"
    last = b"GET /path/x HTTP/1.1\r\nConnection: close\r\n\r\n"
    for data in ([one % b"abc", one % b"def", last], [one % b"abc" + one % b"def" + last]):
        answer = await say(socket, *data, end=False)
        assert re.findall(rb"\r\n\r\n(abc|def|/path/x {} \[\])", answer) == [b"abc", b"def", b"/path/x {} []"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET / HTTP/1.1\r\nA : x", 400),
        (b"GET / HTTP/1.1\r\nA: x\ny", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +5", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"POST / HTTP/1.1\r\nExpect: more", 417),
        (b"GET /%b HTTP/1.1" % (b"x" * heads.LARGEST), 431),
    ],
)
async def test_what_is_no_request_is_refused_and_closed(socket: str, head: bytes, status: int) -> None:
    answer = await say(socket, head + b"\r\n\r\nGET /path/x HTTP/1.1\r\n\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and answer.count(b"HTTP/1.1") == 1, answer


async def test_a_head_without_end_is_refused(socket: str) -> None:
    answer = await say(socket, b"GET /path/x HTTP/1.1\r\nX: ", b"x" * heads.LARGEST, end=False)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_what_a_request_says_of_its_path(socket: str) -> None:
    target = b"http://d/path/a%2Fb%20c?a=1&a=%C3%A9+x&b=%zz"
    answer = await say(socket, b"GET %b HTTP/1.1\r\nConnection: close\r\n\r\n" % target)
    assert answer.partition(b"\r\n\r\n")[2].decode() == "/path/a/b c {'a': '1', 'b': '%zz'} ['1', 'é x']"


async def test_a_line_end_cannot_leave_a_header(socket: str) -> None:
    answer = await say(socket, b"GET /header?value=a%0D%0AB:c HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"B:c" not in answer


async def test_a_client_that_waits_is_told_to_go_on(socket: str) -> None:
    head = b"POST %b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    answer = await say(socket, head % b"/echo", b"hello", end=False)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") and answer.endswith(b"hello")
    refused = await say(socket, head % b"/refuse", end=False)
    assert refused.startswith(b"HTTP/1.1 400 ") and refused.endswith(b'{"message":"not now"}\n')


async def test_a_refused_body_is_read_on_for_a_while(socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"POST /refuse HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n"
    last = b"GET /path/x HTTP/1.1\r\nConnection: close\r\n\r\n"
    answer = await say(socket, head + b"x" * 1000, b"x" * 2_999_000 + last, end=False)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"/path/x {} []")
    monkeypatch.setattr(connection, "LINGER", 0.01)
    assert (await say(socket, head + b"x" * 1000, end=False)).endswith(b'{"message":"not now"}\n')


async def test_an_idle_connection_is_closed(socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.02)
    for data in ((), (b"GET /path/x HTTP/1.1\r\n\r\n",)):
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.writelines(data)
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_body_is_read_no_faster_than_it_is_taken() -> None:
    flows: list[bool] = []
    body = Body(3 * HIGH, flows.append)
    for _ in range(2):
        body.feed(b"x" * (HIGH // 2))
    assert flows == [False]
    taken = body.pieces()
    await anext(taken)
    assert flows == [False]
    await anext(taken)
    assert flows == [False, True]
    body.fail(Invalid("unexpected EOF"))
    with pytest.raises(Invalid, match="unexpected EOF"):
        await anext(taken)
