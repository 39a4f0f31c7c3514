"""/_ping: the engine is there. Clients read the headers for what it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import web

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.swarm import Local

HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


def routes(engine: Engine) -> list[web.Route]:
    async def ping(request: web.Request) -> web.Response:
        body = b"" if request.method == "HEAD" else b"OK"
        headers = {**HEADERS, "Swarm": _part(engine.swarm.local())}
        return web.Response(body=body, headers=headers, content_type="text/plain; charset=utf-8")

    return [web.get("/_ping", ping), web.head("/_ping", ping)]


def _part(local: Local) -> str:
    """In the swarm: clients show commands by it."""
    if local.state != "active":
        return local.state
    return "active/manager" if local.control else "active/worker"
