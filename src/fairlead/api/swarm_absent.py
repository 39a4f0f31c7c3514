"""What an engine that is in no swarm answers to everything about swarms: 503, in dockerd's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import http, web
from fairlead.api.wire import get, members
from fairlead.errors import FairleadError, Invalid, Unavailable

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
KINDS = ("services", "nodes", "tasks", "secrets", "configs")


def routes(engine: Engine) -> list[web.Route]:
    listed = [web.get(f"/{kind}", refuse) for kind in KINDS]
    created = [web.post(f"/{kind}/create", refuse) for kind in ("services", "secrets", "configs")]
    single = [
        route
        for kind in KINDS
        for route in (
            web.get(f"/{kind}/{{id}}", refuse),
            web.delete(f"/{kind}/{{id}}", refuse),
            web.post(f"/{kind}/{{id}}/update", refuse),
            web.get(f"/{kind}/{{id}}/logs", refuse),
        )
    ]
    swarm = [
        web.get("/swarm", refuse),
        web.get("/swarm/unlockkey", refuse),
        web.post("/swarm/update", update),
        web.post("/swarm/unlock", refuse),
        web.post("/swarm/init", init),
        web.post("/swarm/join", join),
        web.post("/swarm/leave", leave),
    ]
    return [*listed, *created, *single, *swarm]


async def refuse(request: web.Request) -> web.Response:
    raise Unavailable(NOT_A_MANAGER)


async def leave(request: web.Request) -> web.Response:
    raise Unavailable("This node is not part of a swarm")


async def update(request: web.Request) -> web.Response:
    given = http.text(request, "version")
    if not (given.isascii() and given.isdigit()):
        raise Invalid(
            f"invalid swarm version '{given}': strconv.ParseUint: parsing {http.quoted(given)}: invalid syntax"
        )
    raise Unavailable(NOT_A_MANAGER)


async def init(request: web.Request) -> web.Response:
    given = members(await http.body(request, {}), "", "swarm.InitRequest")
    if not get(given, "ListenAddr", str, ""):
        raise Invalid('invalid ListenAddr "": invalid empty address')
    raise Unavailable("this engine does not form swarms yet")


async def join(request: web.Request) -> web.Response:
    given = members(await http.body(request, {}), "", "swarm.JoinRequest")
    if not get(given, "JoinToken", str, "").startswith("SWMTKN-"):
        raise FairleadError("invalid join token")
    raise Unavailable("this engine does not join swarms yet")
