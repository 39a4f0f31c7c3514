"""What comes out of a running container: attach (also by web socket), logs, stats, processes; its terminal's size.

    client <== hijacked connection ==> engine.streams ==> process        attach
    client <-- chunks of an answer --- engine.logs                        logs

Without a terminal both are multiplexed (``hijack.frame``); since 1.42 the
content type says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from fairlead.api import hijack, http, times, web, websocket, wire_stats
from fairlead.core.container import Container
from fairlead.core.loglines import LogLine, attributes
from fairlead.engine.logs import LogWishes
from fairlead.errors import FairleadError, Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

CONTENT_TYPE_TELLS = (1, 42)


def routes(engine: Engine) -> list[web.Route]:
    here = Streams(engine)
    return [
        web.post("/containers/{id:.*}/attach", here.attach),
        web.get("/containers/{id:.*}/attach/ws", here.attach_by_web_socket),
        web.get("/containers/{id:.*}/logs", here.logs),
        web.post("/containers/{id:.*}/resize", here.resize),
        web.get("/containers/{id:.*}/stats", here.stats),
        web.get("/containers/{id:.*}/top", here.top),
    ]


def content_type(request: web.Request, terminal: bool) -> str:
    """How the bytes of a stream are to be read."""
    multiplexed = not terminal and http.version(request) >= CONTENT_TYPE_TELLS
    return http.MULTIPLEXED_STREAM if multiplexed else http.RAW_STREAM


class Streams:
    """The handlers over ``engine.streams``, ``engine.logs`` and ``engine.stats``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def attach(self, request: web.Request) -> web.Answer:
        ref = request.names["id"]
        wanted = {name: http.flag(request, name) for name in ("stdin", "stdout", "stderr")}
        try:
            container = self._engine.containers.get(ref)
            attached = await self._engine.streams.attach(
                ref,
                **wanted,
                logs=http.flag(request, "logs"),
                stream=http.flag(request, "stream") and any(wanted.values()),
                detach_keys=http.text(request, "detachKeys"),
            )
        except FairleadError as error:
            return _refusal(error)
        try:
            async with hijack.hijacked(request, {}, content_type(request, container.config.tty)) as stream:
                stream.when_lost(attached.close)
                await self._engine.streams.converse(attached, stream, hijack.frame)
        finally:
            attached.close()
        return web.Taken()

    async def attach_by_web_socket(self, request: web.Request) -> web.Answer:
        """The same through a web socket: each message is a piece of the stream, never multiplexed."""
        old = http.version(request) < CONTENT_TYPE_TELLS
        key = websocket.key_of(request)
        attached = await self._engine.streams.attach(
            request.names["id"],
            stdin=old or http.flag(request, "stdin"),
            stdout=old or http.flag(request, "stdout"),
            stderr=old or http.flag(request, "stderr"),
            logs=http.flag(request, "logs"),
            stream=http.flag(request, "stream"),
            detach_keys=http.text(request, "detachKeys"),
        )
        try:
            async with websocket.accepted(request, key) as socket:
                socket.when_lost(attached.close)
                await self._engine.streams.converse(attached, socket, lambda which, data: data)
        finally:
            attached.close()
        return web.Taken()

    async def logs(self, request: web.Request) -> web.Answer:
        wishes = log_wishes(request)
        container = self._engine.containers.get(request.names["id"])
        line_of = _printer(container, http.flag(request, "timestamps"), http.flag(request, "details"))
        async with http.streaming(request, content_type(request, container.config.tty)) as out:
            async with aclosing(self._engine.logs.read(container, wishes)) as lines:  # type: ignore[type-var]
                await out.start()
                async for line in lines:
                    await out.write(line_of(line))
            return out

    async def resize(self, request: web.Request) -> web.Response:
        rows, columns = size(request)
        await self._engine.containers.resize(request.names["id"], rows, columns)
        return http.nothing(200)

    async def stats(self, request: web.Request) -> web.Answer:
        """A line a second, or one: of two looks a second apart, or of one look (``one-shot``)."""
        ref = request.names["id"]
        container = self._engine.containers.get(ref)
        if not http.flag(request, "stream", default=True):
            sample = await self._engine.stats.read(container.id, http.flag(request, "one-shot"))
            return http.answer(wire_stats.stats(container, sample))
        async with http.streaming(request, http.JSON) as out:
            async with aclosing(self._engine.stats.watch(container.id)) as samples:  # type: ignore[type-var]
                async for sample in samples:
                    await out.write_json(wire_stats.stats(container, sample), end=b"\n")
            return out

    async def top(self, request: web.Request) -> web.Response:
        titles, rows = await self._engine.containers.top(request.names["id"], http.text(request, "ps_args"))
        return http.answer(wire_stats.top(titles, rows))


def size(request: web.Request) -> tuple[int, int]:
    """``h`` and ``w``: rows and columns, both needed."""
    found = []
    for name, word in (("h", "height"), ("w", "width")):
        given = http.text(request, name)
        if not (given.isascii() and given.isdigit()):
            raise Invalid(f"invalid resize {word} {http.quoted(given)}: invalid syntax")
        if len(given) > 10 or int(given) >= 1 << 32:
            raise Invalid(f"invalid resize {word} {http.quoted(given)}: value out of range")
        found.append(int(given))
    return found[0], found[1]


def _refusal(error: FairleadError) -> web.Response:
    """dockerd refuses an attach in plain text, as if it were the stream."""
    return web.Response(f"{error.message}\r\n".encode(), error.status, content_type=http.RAW_STREAM)


# -- logs -------------------------------------------------------------------------------------


def log_wishes(request: web.Request) -> LogWishes:
    stdout, stderr = http.flag(request, "stdout"), http.flag(request, "stderr")
    if not (stdout or stderr):
        raise Invalid("Bad parameters: you must choose at least one stream")
    tail = http.text(request, "tail", "all")
    return LogWishes(
        stdout=stdout,
        stderr=stderr,
        since=times.query(request, "since") or 0,
        until=times.query(request, "until") or 0,
        tail=int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 10 else -1,
        follow=http.flag(request, "follow"),
    )


def _printer(container: Container, timestamps: bool, details: bool) -> Callable[[LogLine], bytes]:
    """How a line is written: with its time and attributes if asked, with its frame if there is no terminal."""
    told = f"{attributes(container)} ".encode() if details else b""

    def line_of(line: LogLine) -> bytes:
        text = told + line.text
        text = times.stamp(line.time).encode() + b" " + text if timestamps else text
        return text if container.config.tty else hijack.frame(line.stream, text)

    return line_of
