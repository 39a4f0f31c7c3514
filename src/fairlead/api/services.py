"""/services: what should run on the swarm. Asked for, changed, taken back, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.api import http, swarm_parts, web, wire_services
from fairlead.api.images import registry_auth
from fairlead.api.swarm_parts import begins, is_one_of
from fairlead.core.cluster import Service
from fairlead.core.imagespec import Credentials
from fairlead.core.service import ServiceSpec
from fairlead.core.tally import tally
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

FILTERS = ("id", "label", "mode", "name", "runtime")


def routes(engine: Engine) -> list[web.Route]:
    here = Services(engine)
    return [
        web.get("/services", here.list),
        web.post("/services/create", here.create),
        web.get("/services/{id}", here.inspect),
        web.delete("/services/{id}", here.remove),
        web.post("/services/{id}/update", here.update),
    ]


class Services(swarm_parts.Part):
    """The handlers over ``engine.swarm.Control``."""

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, FILTERS)
        with_status = http.strict_flag(request, "status")
        control = await self.seen()
        found = [service for service in control.services() if passes(service, wanted)]
        counts = tally(found, control.tasks()) if with_status else {}
        networks = control.networks()
        return http.answer([wire_services.service(one, networks, counts=counts.get(one.id)) for one in found])

    async def inspect(self, request: web.Request) -> web.Response:
        defaults = http.strict_flag(request, "insertDefaults")
        control = await self.seen()
        service = control.service(request.names["id"])
        return http.answer(wire_services.service(service, control.networks(), defaults=defaults))

    async def create(self, request: web.Request) -> web.Response:
        spec = _asked_by(wire_services.service_spec(await http.body(request)), registry_auth(request))
        id = await self.control().create_service(spec)
        return http.answer({"ID": id, "Warnings": None}, 201)

    async def update(self, request: web.Request) -> web.Response:
        version = swarm_parts.version(request, "service")
        spec = wire_services.service_spec(await http.body(request))
        control = await self.seen()
        kept = http.text(request, "registryAuthFrom")
        if kept not in ("", "spec", "previous-spec"):
            raise FairleadError("unsupported registryAuthFrom value")
        service = control.service(request.names["id"])
        before = (service.previous or service.spec) if kept == "previous-spec" else service.spec
        spec = _asked_by(spec, registry_auth(request), before.task_template.registry)
        back = http.text(request, "rollback")
        if back not in ("", "none", "previous"):
            raise FairleadError(f"unrecognized rollback option {back}")
        await control.update_service(request.names["id"], version, spec, back == "previous")
        return http.answer({"Warnings": None})

    async def remove(self, request: web.Request) -> web.Response:
        await self.control().remove_service(request.names["id"])
        return http.nothing(200)


def _asked_by(spec: ServiceSpec, who: Credentials, before: Credentials | None = None) -> ServiceSpec:
    """With the name and password for the registry of its image: those sent now, or the ones before."""
    asks = before if who == Credentials() else who
    return replace(spec, task_template=replace(spec.task_template, registry=asks))


def passes(service: Service, wanted: http.Filters) -> bool:
    mode = service.mode.name.replace(" ", "-")
    return (
        begins(wanted, "id", service.id)
        and begins(wanted, "name", service.spec.name)
        and http.labels_match(wanted.get("label", ()), service.spec.labels)
        and is_one_of(wanted, "mode", mode)
        and is_one_of(wanted, "runtime", service.spec.task_template.runtime or "container")
    )
