"""On the way out: streams are ended, changes are finished."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import pytest

from fairlead.api import hijack, http, routes, server, web
from fairlead.settings import Settings

from .fake_engine import fake_engine


async def follow(request: web.Request) -> web.Answer:
    async with http.streaming(request, http.JSON) as out:
        await out.write(b"first")
        await asyncio.Event().wait()
        return out


async def attach(request: web.Request) -> web.Answer:
    async with hijack.hijacked(request, {}, http.RAW_STREAM) as stream:
        await stream.write(b"first")
        await asyncio.Event().wait()
    return web.Taken()


async def change(request: web.Request) -> web.Answer:
    """Takes until the server is closing, and a little longer."""
    while not request.connection.closing:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return web.Response(text="done")


@pytest.mark.parametrize("line", [b"GET /events", b"POST /containers/x/attach", b"POST /wait"])
async def test_a_stream_does_not_hold_the_engine(line: bytes) -> None:
    async with serving() as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line + b" HTTP/1.1\r\nHost: d\r\n\r\n")
        await reader.readuntil(b"first")
        began = time.monotonic()
    assert time.monotonic() - began < 2
    writer.close()


async def test_a_change_is_finished() -> None:
    async with serving() as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /change HTTP/1.1\r\nHost: d\r\n\r\n")
        await asyncio.sleep(0.05)
    assert (await reader.read()).endswith(b"done")
    writer.close()


class serving:
    """A server over the handlers above; a path to its socket."""

    async def __aenter__(self) -> str:
        self._folder = tempfile.TemporaryDirectory()
        app = server.create_app(fake_engine(), Settings(data_root=self._folder.name))
        app.table = routes.Table(
            [
                web.get("/events", follow),
                web.post("/wait", http.abandonable(follow)),
                web.post("/containers/x/attach", attach),
                web.post("/change", change),
            ]
        )
        path = str(Path(self._folder.name) / "s")
        self._server = server.serve(app, [server.Listener(f"unix://{path}")])
        await self._server.__aenter__()
        return path

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(None, None, None)
        self._folder.cleanup()
