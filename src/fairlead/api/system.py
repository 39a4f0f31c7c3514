"""/version, /info, /events, /system/df, /auth: the engine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import http, times, web, wire_images, wire_system
from fairlead.api.places import Places
from fairlead.api.routes import spell
from fairlead.api.space import Space
from fairlead.api.web import NEWEST, OLDEST
from fairlead.api.wire import members
from fairlead.errors import FairleadError, Invalid, NotFound
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

DF_TYPES = ("container", "image", "volume", "build-cache")


def routes(engine: Engine, settings: Settings) -> list[web.Route]:
    here = System(engine, settings)
    return [
        web.get("/version", here.version),
        web.get("/info", here.info),
        web.get("/events", here.events),
        web.get("/system/df", here.usage),
        web.post("/auth", here.auth),
        web.get("/plugins", here.plugins),
        web.get("/plugins/{name:.*}/json", here.plugin),
        web.post("/session", here.session),
    ]


class System:
    """The handlers over ``engine.system`` and ``engine.events``."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._space = Space(engine, Places(engine, settings))

    async def version(self, request: web.Request) -> web.Response:
        newest, oldest = spell(NEWEST), spell(OLDEST)
        return http.answer(wire_system.version(self._engine.system.version(), newest, oldest))

    async def info(self, request: web.Request) -> web.Response:
        return http.answer(
            wire_system.info(self._engine.system.info(), http.version(request), self._engine.swarm.local())
        )

    async def plugin(self, request: web.Request) -> web.Response:
        raise NotFound(f"plugin {http.quoted(request.names['name'])} not found")

    async def plugins(self, request: web.Request) -> web.Response:
        return http.answer([])

    async def session(self, request: web.Request) -> web.Response:
        raise Invalid("no upgrade proto in request")

    # -- events -------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.Answer:
        """What happened since, and what happens, a JSON object each, flushed at once."""
        since, until = times.query(request, "since"), times.query(request, "until")
        if since is not None and until is not None and since > until:
            raise Invalid(
                f"`since` time ({since // times.SECOND}) cannot be after `until` time ({until // times.SECOND})"
            )
        wants = wire_system.event_test(http.filters(request))
        async with http.streaming(request, http.JSON) as out:
            await out.start()
            async for event in self._engine.events.stream(since, until, wants):
                await out.write_json(wire_system.event(event), end=b"\n")
            return out

    # -- space --------------------------------------------------------------------------------

    async def usage(self, request: web.Request) -> web.Response:
        asked = http.texts(request, "type")
        for kind in asked:
            if kind not in DF_TYPES:
                raise Invalid(f"unknown object type: {kind}")
        return http.answer(await self._space.shown(set(asked or DF_TYPES), http.version(request)))

    async def auth(self, request: web.Request) -> web.Response:
        """Ask the registry whether it knows the user; nothing is kept."""
        body = await http.body(request)
        if body is None:
            raise FairleadError("EOF")
        given = members(body, "", "registry.AuthConfig")
        await self._engine.transfers.login(wire_images.login(given))
        return http.answer({"Status": "Login Succeeded", "IdentityToken": ""})
