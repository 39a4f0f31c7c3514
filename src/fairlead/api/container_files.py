"""Files of a container: ``cp`` (archive), ``diff`` (changes), ``export``."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from fairlead.api import http, times, web
from fairlead.core.container import Container
from fairlead.core.files import PathStat
from fairlead.errors import Invalid, NotFound

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

TAR = "application/x-tar"


def routes(engine: Engine) -> list[web.Route]:
    here = ContainerFiles(engine)
    return [
        web.head("/containers/{id:.*}/archive", here.info),
        web.get("/containers/{id:.*}/archive", here.get),
        web.put("/containers/{id:.*}/archive", here.put),
        web.get("/containers/{id:.*}/changes", here.changes),
        web.get("/containers/{id:.*}/export", here.export),
    ]


class ContainerFiles:
    """The handlers over ``engine.filesystem``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def info(self, request: web.Request) -> web.Response:
        stat = await self._stat(request)
        return web.Response(headers=_stat_header(stat))

    async def get(self, request: web.Request) -> web.Answer:
        container, path = self._asked(request)
        stat = await self._stat(request)
        return await _send(request, self._engine.filesystem.get(container, path), _stat_header(stat))

    async def put(self, request: web.Request) -> web.Response:
        container, path = self._asked(request)
        await self._stat(request)
        await self._engine.filesystem.put(
            container,
            path,
            request.pieces(),
            http.flag(request, "noOverwriteDirNonDir"),
            http.flag(request, "copyUIDGID"),
        )
        return http.nothing(200)

    async def changes(self, request: web.Request) -> web.Response:
        container = self._engine.containers.get(request.names["id"])
        found = await self._engine.filesystem.changes(container)
        return http.answer([{"Path": change.path, "Kind": change.kind} for change in found] or None)

    async def export(self, request: web.Request) -> web.Answer:
        container = self._engine.containers.get(request.names["id"])
        return await _send(request, self._engine.filesystem.export(container), {}, "application/octet-stream")

    def _asked(self, request: web.Request) -> tuple[Container, str]:
        path = http.text(request, "path")
        if not path:
            raise Invalid("bad parameter: pathcannot be empty")
        return self._engine.containers.get(request.names["id"]), path

    async def _stat(self, request: web.Request) -> PathStat:
        container, path = self._asked(request)
        try:
            return await self._engine.filesystem.info(container, path)
        except NotFound as error:
            ref = request.names["id"]
            raise NotFound(f"Could not find the file {path} in container {ref}") from error


def _stat_header(stat: PathStat) -> dict[str, str]:
    """What is at a path, as ``docker cp`` wants to know it: JSON in base64 in a header."""
    shown = {
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": times.text(stat.mtime),
        "linkTarget": stat.link_target,
    }
    return {"X-Docker-Container-Path-Stat": base64.b64encode(msgspec.json.encode(shown)).decode()}


async def _send(
    request: web.Request, pieces: AsyncIterator[bytes], headers: dict[str, str], content_type: str = TAR
) -> web.Answer:
    """A tar as it comes. An error before the first byte is an answer, later it cuts the connection."""
    async with http.streaming(request, content_type) as out:
        out.headers.update(headers)
        async for piece in pieces:
            await out.write(piece)
        return out
