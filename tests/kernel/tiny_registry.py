"""A registry just big enough for skopeo: blobs and manifests in dictionaries, a password if wanted."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class TinyRegistry:
    """``address`` is host:port once it is open."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        self.address = ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.asked: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TinyRegistry]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()
        if self.password and request.headers.get("Authorization") != expected:
            return web.json_response(
                {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
                status=401, headers={"WWW-Authenticate": 'Basic realm="tiny"'},
            )  # fmt: skip
        parts = request.path.removeprefix("/v2/").split("/")
        if request.path == "/v2/":
            return web.Response()
        if parts[-2:] == ["tags", "list"]:
            name = "/".join(parts[:-2])
            return web.json_response(
                {"name": name, "tags": [tag for repo, tag in self.manifests if repo == name and ":" not in tag]}
            )
        if "uploads" in parts:
            return await self._upload(request)
        kind, name, ref = parts[-2], "/".join(parts[:-2]), parts[-1]
        if kind == "blobs":
            return self._found(request, self.blobs.get(ref), "application/octet-stream", "BLOB_UNKNOWN")
        if request.method == "PUT":
            return await self._put_manifest(request, name, ref)
        media, body = self.manifests.get((name, ref), ("", None))
        return self._found(request, body, media, "MANIFEST_UNKNOWN")

    def _found(self, request: web.Request, body: bytes | None, media: str, code: str) -> web.Response:
        if body is None:
            return web.json_response({"errors": [{"code": code, "message": "manifest unknown"}]}, status=404)
        headers = {"Docker-Content-Digest": "sha256:" + hashlib.sha256(body).hexdigest(), "Content-Type": media}
        return web.Response(body=body, headers=headers)

    async def _upload(self, request: web.Request) -> web.Response:
        place = request.path if request.method != "POST" else request.path.rstrip("/") + f"/u{len(self.asked)}"
        self.blobs[place] = self.blobs.get(place, b"") + await request.read()
        if request.method == "PUT":
            self.blobs[request.query["digest"]] = self.blobs.pop(place)
        headers = {"Location": place, "Range": f"0-{max(0, len(self.blobs.get(place, b'')) - 1)}"}
        return web.Response(status=201 if request.method == "PUT" else 202, headers=headers)

    async def _put_manifest(self, request: web.Request, name: str, ref: str) -> web.Response:
        body = await request.read()
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        for key in (ref, digest):
            self.manifests[name, key] = (request.headers["Content-Type"], body)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})
