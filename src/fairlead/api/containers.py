"""/containers: the life of containers. Their streams are in ``streams``, their files in ``container_files``."""

from __future__ import annotations

import asyncio
import builtins
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fairlead.api import container_filters, http, times, web, wire, wire_containers
from fairlead.api.places import Places
from fairlead.core import validate
from fairlead.core.container import Container, HostConfig
from fairlead.errors import FairleadError, Invalid, NotFound
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

PRUNE_FILTERS = ("label", "label!", "until")
CONDITIONS = ("", "not-running", "next-exit", "removed")


def routes(engine: Engine, settings: Settings) -> list[web.Route]:
    here = Containers(engine, settings)
    return [
        web.get("/containers/json", here.list),
        web.post("/containers/create", here.create),
        web.post("/containers/prune", here.prune),
        web.get("/containers/{id:.*}/json", here.inspect),
        web.post("/containers/{id:.*}/start", here.start),
        web.post("/containers/{id:.*}/stop", here.stop),
        web.post("/containers/{id:.*}/restart", here.restart),
        web.post("/containers/{id:.*}/kill", here.kill),
        web.post("/containers/{id:.*}/pause", here.pause),
        web.post("/containers/{id:.*}/unpause", here.unpause),
        web.post("/containers/{id:.*}/rename", here.rename),
        web.post("/containers/{id:.*}/update", here.update),
        web.post("/containers/{id:.*}/wait", http.abandonable(here.wait)),
        web.delete("/containers/{id:.*}", here.remove),
    ]


class Containers:
    """The handlers over ``engine.containers``."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._containers = engine.containers
        self._places = Places(engine, settings)

    # -- asking -------------------------------------------------------------------------------

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, container_filters.ACCEPTED)
        limit = http.number(request, "limit", 0) or 0
        everything = http.flag(request, "all") or limit > 0 or container_filters.asks_for_stopped(wanted)
        matches = container_filters.matcher(wanted, self._facts())
        found = [
            container
            for container in self._containers.list()
            if (everything or _counts_as_running(container)) and matches(container)
        ]
        shown = [await self._summary(container, request) for container in (found[:limit] if limit > 0 else found)]
        return http.answer(shown)

    async def _summary(self, container: Container, request: web.Request) -> dict[str, Any]:
        place = self._places.of(container)
        shown = wire_containers.summary(container, place, http.version(request), self._places.links(container))
        if http.flag(request, "size"):
            shown |= {name: size for name, size in (await self._places.sizes(container)).items() if size}
        return shown

    async def inspect(self, request: web.Request) -> web.Response:
        container = self._containers.get(request.names["id"])
        place = self._places.of(container)
        shown = wire_containers.inspect(container, place, http.version(request))
        if http.flag(request, "size"):
            sizes, at = await self._places.sizes(container), list(shown).index("Mounts")
            shown = dict([*list(shown.items())[:at], *sizes.items(), *list(shown.items())[at:]])
        return http.answer(shown)

    def _facts(self) -> container_filters.Facts:
        return container_filters.Facts(
            ports=lambda container: wire_containers.ports(container, self._places.of(container)),
            network_ids=self._places.network_ids(),
            images=self._image_id,
            find=self._containers.get,
            parent=self._engine.images.parent,
        )

    def _image_id(self, ref: str) -> str:
        try:
            return self._engine.images.get(ref).id
        except (NotFound, Invalid):
            return ""

    # -- making and removing --------------------------------------------------------------------

    async def create(self, request: web.Request) -> web.Response:
        body = await http.body(request)
        if body is None and not request.body_exists:
            raise Invalid("invalid JSON: got EOF while reading request body")
        asked = wire_containers.create(body, http.version(request))
        platform = http.text(request, "platform")
        validate.platform(platform)
        container, warnings = await self._containers.create(
            http.text(request, "name"), asked.config, asked.host, asked.networks, platform
        )
        return http.answer({"Id": container.id, "Warnings": [*warnings, *asked.warnings]}, 201)

    async def remove(self, request: web.Request) -> web.Response:
        ref = request.names["id"]
        if http.flag(request, "link"):
            await self._containers.unlink(ref)
        else:
            await self._containers.remove(ref, force=http.flag(request, "force"), volumes=http.flag(request, "v"))
        return http.nothing()

    async def prune(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, PRUNE_FILTERS)
        before = times.until(wanted)
        gone, freed = [], 0
        for container in self._containers.list():
            if container.state.running or container.state.status in ("restarting", "removing"):
                continue
            if not _prunable(container, wanted, before):
                continue
            freed += (await self._places.sizes(container))["SizeRw"]
            await self._containers.remove(container.id)
            gone.append(container.id)
        self._engine.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return http.answer({"ContainersDeleted": gone or None, "SpaceReclaimed": freed})

    # -- its life -------------------------------------------------------------------------------

    async def start(self, request: web.Request) -> web.Response:
        length = request.content_length
        if (length or 0) > 7 or (length is None and request.body_exists):
            raise Invalid(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        await self._containers.start(request.names["id"])
        return http.nothing()

    async def stop(self, request: web.Request) -> web.Response:
        ref = request.names["id"]
        try:
            await self._containers.stop(ref, http.number(request, "t"), _signal(request))
        except Invalid as error:
            raise FairleadError(f"cannot stop container: {ref}: {error.message}") from error
        return http.nothing()

    async def restart(self, request: web.Request) -> web.Response:
        ref = request.names["id"]
        try:
            await self._containers.restart(ref, http.number(request, "t"), _signal(request))
        except Invalid as error:
            raise FairleadError(f"Cannot restart container {ref}: {error.message}") from error
        return http.nothing()

    async def kill(self, request: web.Request) -> web.Response:
        ref = request.names["id"]
        try:
            await self._containers.kill(ref, http.text(request, "signal"))
        except NotFound as error:
            raise NotFound(f"cannot kill container: {ref}: {error.message}") from error
        except Invalid as error:
            signal = http.text(request, "signal")
            unknown = signal.isascii() and signal.isdigit() and int(signal[:9]) > 0
            words = f"the linux daemon does not support signal {signal}" if unknown else error.message
            raise Invalid(f"cannot kill container: {ref}: {words}") from error
        return http.nothing()

    async def pause(self, request: web.Request) -> web.Response:
        await self._containers.pause(request.names["id"])
        return http.nothing()

    async def unpause(self, request: web.Request) -> web.Response:
        await self._containers.unpause(request.names["id"])
        return http.nothing()

    async def rename(self, request: web.Request) -> web.Response:
        await self._containers.rename(request.names["id"], http.text(request, "name"))
        return http.nothing()

    async def update(self, request: web.Request) -> web.Response:
        given = wire.members(await http.body(request, {}), "", "container.UpdateConfig")
        changes = wire.read(HostConfig, given)
        return http.answer({"Warnings": await self._containers.update(request.names["id"], changes) or None})

    async def wait(self, request: web.Request) -> web.Answer:
        """The head of the answer leaves at once: ``docker run`` starts the container only after it."""
        condition = http.text(request, "condition")
        if condition not in CONDITIONS:
            raise Invalid(f"invalid condition: {http.quoted(condition)}")
        end = self._containers.wait(request.names["id"], condition or "not-running")
        try:
            async with http.streaming(request, http.JSON) as out:
                await out.start()
                try:
                    told: dict[str, Any] = {"StatusCode": (await end).code}
                except asyncio.CancelledError:
                    with suppress(ConnectionError):
                        await out.write_json({"Error": {"Message": "context canceled"}, "StatusCode": -1}, end=b"\n")
                    raise
                await out.write_json(told, end=b"\n")
                return out
        finally:
            end.cancel()


def _signal(request: web.Request) -> str:
    """A signal of one's own for stop and restart came with 1.42."""
    return http.text(request, "signal") if http.version(request) >= (1, 42) else ""


def _counts_as_running(container: Container) -> bool:
    return container.state.running or container.state.status == "restarting"


def _prunable(container: Container, wanted: http.Filters, before: int | None) -> bool:
    labels = container.config.labels
    spared: builtins.list[str] = wanted.get("label!", [])
    return (
        http.labels_match(wanted.get("label", ()), labels)
        and not any(http.labels_match([label], labels) for label in spared)
        and (before is None or times.nanoseconds(container.created) < before)
    )
