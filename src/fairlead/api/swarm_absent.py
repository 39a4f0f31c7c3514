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


def routes(engine: Engine) -> list[web.Route]:
    return [
        web.get("/swarm", refuse),
        web.get("/swarm/unlockkey", refuse),
        web.post("/swarm/update", update),
        web.post("/swarm/unlock", refuse),
        web.post("/swarm/init", init),
        web.post("/swarm/join", join),
        web.post("/swarm/leave", leave),
    ]


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
