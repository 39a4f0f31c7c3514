"""/secrets and /configs: small files for tasks. What is in a secret is never shown."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fairlead.api import http, swarm_parts, web, wire, wire_services
from fairlead.api.swarm_parts import begins
from fairlead.core.swarmspec import ConfigFile, FileSpec, Secret

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.swarm import Control

File = Secret | ConfigFile


def routes(engine: Engine) -> list[web.Route]:
    return [
        route
        for here in (Secrets(engine), Configs(engine))
        for route in (
            web.get(f"/{here.word}s", here.list),
            web.post(f"/{here.word}s/create", here.create),
            web.get(f"/{here.word}s/{{id}}", here.inspect),
            web.delete(f"/{here.word}s/{{id}}", here.remove),
            web.post(f"/{here.word}s/{{id}}/update", here.update),
        )
    ]


class Files(swarm_parts.Part):
    """The handlers, alike for both."""

    word = ""
    filters: tuple[str, ...] = ("id", "label", "name")

    def all(self, control: Control) -> list[Any]:
        """Which there are."""
        return getattr(control, f"{self.word}s")()  # type: ignore[no-any-return]

    def deed(self, what: str) -> Callable[..., Awaitable[Any]]:
        """``create``, ``update`` or ``remove`` of such a file."""
        return getattr(self.control(), f"{what}_{self.word}")  # type: ignore[no-any-return]

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, self.filters)
        found = [one for one in self.all(await self.seen()) if passes(one, wanted)]
        return http.answer([shown(one) for one in found])

    async def inspect(self, request: web.Request) -> web.Response:
        control = await self.seen()
        return http.answer(shown(getattr(control, self.word)(request.names["id"])))

    async def create(self, request: web.Request) -> web.Response:
        spec = file_spec(await http.body(request), self.word)
        return http.answer({"ID": await self.deed("create")(spec)}, 201)

    async def update(self, request: web.Request) -> web.Response:
        version = swarm_parts.version(request, self.word, terse=True)
        spec = file_spec(await http.body(request), self.word)
        await self.deed("update")(request.names["id"], version, spec)
        return http.nothing(200)

    async def remove(self, request: web.Request) -> web.Response:
        await self.deed("remove")(request.names["id"])
        return http.nothing()


class Secrets(Files):
    word = "secret"
    filters = ("id", "label", "name", "names")


class Configs(Files):
    word = "config"


def passes(one: File, wanted: http.Filters) -> bool:
    return (
        begins(wanted, "id", one.id)
        and begins(wanted, "name", one.spec.name)
        and swarm_parts.is_one_of(wanted, "names", one.spec.name)
        and http.labels_match(wanted.get("label", ()), one.spec.labels)
    )


def file_spec(body: Any, word: str) -> FileSpec:
    where = f"{word.capitalize()}Spec"
    if body is not None and not isinstance(body, dict):
        raise wire.wrong(body, "", f"swarm.{where}")
    return wire.read(FileSpec, body or {}, where)


def shown(of: File) -> dict[str, Any]:
    spec: dict[str, Any] = {"Name": of.spec.name, "Labels": of.spec.labels or {}}
    if isinstance(of, ConfigFile):
        spec["Data"] = base64.b64encode(of.spec.data).decode()
    for name, driver in (("Driver", of.spec.driver), ("Templating", of.spec.templating)):
        if driver is not None:
            spec[name] = wire_services.sparse(driver)
    return {**wire_services.head(of), "Spec": spec}
