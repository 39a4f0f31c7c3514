"""/_ping: the engine is there. Clients read the headers for what it speaks."""

from __future__ import annotations

from fairlead.api import web

HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}


def routes() -> list[web.Route]:
    return [web.get("/_ping", ping), web.head("/_ping", ping)]


async def ping(request: web.Request) -> web.Response:
    body = b"" if request.method == "HEAD" else b"OK"
    return web.Response(body=body, headers=HEADERS, content_type="text/plain; charset=utf-8")
