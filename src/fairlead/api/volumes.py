"""/volumes: list, inspect, create, remove, prune."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairlead.api import http, web, wire_volumes
from fairlead.engine.volumes import Volume
from fairlead.errors import Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

LIST_FILTERS = ("dangling", "driver", "label", "name")
PRUNE_FILTERS = ("all", "label", "label!")
ONLY_ANONYMOUS = (1, 42)
"""From this API version on, ``prune`` spares named volumes unless told."""


def routes(engine: Engine) -> list[web.Route]:
    here = Volumes(engine)
    return [
        web.get("/volumes", here.list),
        web.post("/volumes/create", here.create),
        web.post("/volumes/prune", here.prune),
        web.get("/volumes/{name:.*}", here.inspect),
        web.delete("/volumes/{name:.*}", here.remove),
    ]


class Volumes:
    """The handlers over ``engine.volumes``."""

    def __init__(self, engine: Engine) -> None:
        self._volumes = engine.volumes

    async def list(self, request: web.Request) -> web.Response:
        check = self._matcher(http.filters(request, LIST_FILTERS))
        found = [self._shown(volume) for volume in self._volumes.list() if check(volume)]
        return http.answer({"Volumes": found, "Warnings": None})

    def _matcher(self, wanted: http.Filters) -> Callable[[Volume], bool]:
        dangling, drivers, names = http.clear_flag(wanted, "dangling"), wanted.get("driver"), wanted.get("name")

        def check(volume: Volume) -> bool:
            return (
                (dangling is None or dangling is not bool(self._volumes.users(volume.name)))
                and (not drivers or volume.driver in drivers)
                and (not names or any(_name_matches(name, volume.name) for name in names))
                and http.labels_match(wanted.get("label", ()), volume.labels)
            )

        return check

    async def inspect(self, request: web.Request) -> web.Response:
        return http.answer(self._shown(self._volumes.get(request.names["name"])))

    async def create(self, request: web.Request) -> web.Response:
        asked = wire_volumes.create(await http.body(request, {}))
        volume = await self._volumes.create(asked.name, asked.driver, asked.labels, asked.options)
        return http.answer(self._shown(volume), 201)

    async def remove(self, request: web.Request) -> web.Response:
        await self._volumes.remove(request.names["name"], http.flag(request, "force"))
        return http.nothing()

    async def prune(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, PRUNE_FILTERS)
        everything = _all(wanted) or http.version(request) < ONLY_ANONYMOUS

        def check(volume: Volume) -> bool:
            without = wanted.get("label!", ())
            return http.labels_match(wanted.get("label", ()), volume.labels) and not any(
                http.labels_match([label], volume.labels) for label in without
            )

        names, freed = await self._volumes.prune(check, bool(everything))
        return http.answer({"VolumesDeleted": names, "SpaceReclaimed": freed})

    def _shown(self, volume: Volume) -> dict[str, Any]:
        return wire_volumes.volume(volume, self._volumes.path(volume.name))


def _name_matches(pattern: str, name: str) -> bool:
    """Docker reads the filter as a regular expression, or as a part of the name."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return pattern in name


def _all(wanted: http.Filters) -> bool:
    values = wanted.get("all", ())
    if len(values) > 1:
        raise Invalid(f"invalid filter 'all=[{' '.join(values)}]': only one value is expected")
    return http.parse_bool(values[0], "invalid filter 'all': ") if values else False
