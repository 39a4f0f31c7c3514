"""/swarm: into a swarm and out of it, its settings, tokens, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import http, swarm_parts, web, wire_swarm
from fairlead.api.wire import get, members
from fairlead.engine.swarm import NOT_A_MANAGER
from fairlead.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.Route]:
    here = Swarm(engine)
    return [
        web.get("/swarm", here.inspect),
        web.get("/swarm/unlockkey", here.unlock_key),
        web.post("/swarm/update", here.update),
        web.post("/swarm/unlock", here.unlock),
        web.post("/swarm/init", here.init),
        web.post("/swarm/join", here.join),
        web.post("/swarm/leave", here.leave),
    ]


class Swarm(swarm_parts.Part):
    """The handlers over ``engine.swarm``."""

    async def inspect(self, request: web.Request) -> web.Response:
        return http.answer(wire_swarm.cluster((await self.seen()).cluster(), secret=True))

    async def init(self, request: web.Request) -> web.Response:
        """``dryrun`` is ours: with ForceNewCluster, says what would be lost, and changes nothing."""
        asked = wire_swarm.init_request(await http.body(request, {}))
        if not asked.listen:
            raise Invalid('invalid ListenAddr "": invalid empty address')
        _check_availability(asked.availability)
        if http.flag(request, "dryrun"):
            return http.answer({"Would": list(await self._engine.swarm.rehearse(asked))})
        return http.answer(await self._engine.swarm.init(asked))

    async def join(self, request: web.Request) -> web.Response:
        asked = wire_swarm.join_request(await http.body(request, {}))
        _check_availability(asked.availability)
        await self._engine.swarm.join(asked)
        return http.nothing(200)

    async def leave(self, request: web.Request) -> web.Response:
        await self._engine.swarm.leave(http.flag(request, "force"))
        return http.nothing(200)

    async def update(self, request: web.Request) -> web.Response:
        version = swarm_parts.version(request, "swarm")
        spec = wire_swarm.spec(await http.body(request, {}))
        rotate = [
            http.flag(request, name) for name in ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
        ]
        await self.control().update_cluster(version, spec, *rotate)
        return http.nothing(200)

    async def unlock(self, request: web.Request) -> web.Response:
        given = members(await http.body(request, {}), "", "swarm.UnlockRequest")
        if self._engine.swarm.local().state == "inactive":
            raise Unavailable(NOT_A_MANAGER)
        await self._engine.swarm.unlock(get(given, "UnlockKey", str, ""))
        return http.nothing(200)

    async def unlock_key(self, request: web.Request) -> web.Response:
        return http.answer({"UnlockKey": self._engine.swarm.unlock_key()})


def _check_availability(given: str) -> None:
    if given not in ("", *wire_swarm.AVAILABILITIES):
        raise Invalid(f'invalid Availability: "{given}"')
