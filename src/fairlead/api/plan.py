"""/fairlead/plan: everything the engine wants of the kernel, each object with its owner and its reason.

Not Docker's; below a path of its own. ``?owner=RED`` keeps what an owner of that word wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from fairlead.api import http
from fairlead.core.wanted import Wanted

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.RouteDef]:
    async def plan(request: web.Request) -> web.Response:
        word = http.text(request, "owner")
        return http.answer([told(item) for item in engine.kernel.wanted() if word in item.owner])

    return [web.get("/fairlead/plan", plan)]


def told(item: Wanted) -> dict[str, Any]:
    """One wanted object as JSON: its kind, itself as one line, whose it is and why."""
    return {"Kind": item.key[0], "Object": str(item), "Owner": item.owner, "Why": item.why}
