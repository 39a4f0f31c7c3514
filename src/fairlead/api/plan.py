"""/fairlead/plan: what the engine wants of the kernel, and what it would want, each object with owner and reason.

    GET   /fairlead/plan                      everything that is wanted now; ``?owner=RED`` keeps owners with that word
    POST  /fairlead/plan/networks/create      what this body would make at /networks/create; nothing is made
    POST  /fairlead/plan/containers/create    what create and start of this body would make; nothing is made

Not Docker's; below a path of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fairlead.api import http, web, wire_containers, wire_networks
from fairlead.core.wanted import Wanted
from fairlead.errors import Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.Route]:
    async def plan(request: web.Request) -> web.Response:
        word = http.text(request, "owner")
        return http.answer(_all(item for item in engine.kernel.wanted() if word in item.owner))

    async def network(request: web.Request) -> web.Response:
        asked = wire_networks.network_request(await http.body(request, {}))
        return http.answer({"Plan": _all(engine.rehearsal.network(asked)), "Warnings": []})

    async def container(request: web.Request) -> web.Response:
        body = await http.body(request)
        if body is None:
            raise Invalid("invalid JSON: got EOF while reading request body")
        asked = wire_containers.create(body, http.version(request))
        name = http.text(request, "name")
        found, warnings = await engine.rehearsal.container(name, asked.config, asked.host, asked.networks)
        return http.answer({"Plan": _all(found), "Warnings": [*warnings, *asked.warnings]})

    return [
        web.get("/fairlead/plan", plan),
        web.post("/fairlead/plan/networks/create", network),
        web.post("/fairlead/plan/containers/create", container),
    ]


def _all(items: Iterable[Wanted]) -> list[dict[str, Any]]:
    return [told(item) for item in items]


def told(item: Wanted) -> dict[str, Any]:
    """One wanted object as JSON: its kind, itself as one line, whose it is and why."""
    return {"Kind": item.key[0], "Object": str(item), "Owner": item.owner, "Why": item.why}
