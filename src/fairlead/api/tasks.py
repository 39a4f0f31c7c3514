"""/tasks: the attempts to run what services ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import http, swarm_parts, web, wire_services
from fairlead.api.swarm_parts import begins, is_one_of
from fairlead.core.cluster import State, Task
from fairlead.core.service import ServiceSpec
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

FILTERS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")


def routes(engine: Engine) -> list[web.Route]:
    here = Tasks(engine)
    return [web.get("/tasks", here.list), web.get("/tasks/{id}", here.inspect)]


class Tasks(swarm_parts.Part):
    """The handlers over ``engine.swarm.Control``."""

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, FILTERS)
        control = await self.seen()
        wanted["service"] = [control.service(ref).id for ref in wanted.get("service", ())]
        wanted["node"] = [control.node(ref).id for ref in wanted.get("node", ())]
        for state in wanted.get("desired-state", ()):
            if state.upper() not in State.__members__:
                raise FairleadError(f"Invalid desired-state filter: '{state}'")
        specs = {service.id: service.spec for service in control.services()}
        found = [task for task in control.tasks() if passes(task, wanted, specs.get(task.service, ServiceSpec()))]
        networks = {network.id: network for network in control.networks()}
        return http.answer([wire_services.task(task, networks) for task in found])

    async def inspect(self, request: web.Request) -> web.Response:
        control = await self.seen()
        task = control.task(request.names["id"])
        return http.answer(wire_services.task(task, {network.id: network for network in control.networks()}))


def passes(task: Task, wanted: http.Filters, of: ServiceSpec) -> bool:
    """``of``: its service's spec, an empty one when that is gone. Names and labels are the service's, as in Docker."""
    states = [state.lower() for state in wanted.get("desired-state", ())]
    name = f"{of.name or task.service}.{task.slot or task.node}.{task.id}"
    return (
        begins(wanted, "id", task.id)
        and is_one_of(wanted, "service", task.service)
        and is_one_of(wanted, "node", task.node)
        and (not states or wire_services.desired(task) in states)
        and http.labels_match(wanted.get("label", ()), of.labels)
        and is_one_of(wanted, "runtime", task.spec.runtime or "container")
        and begins(wanted, "name", name)
        and ("true" not in wanted.get("_up-to-date", ()) or task.spec == of.task_template)
    )
