"""/nodes: the machines of the swarm, and what they are told to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.api import http, swarm_parts, web, wire_nodes
from fairlead.api.swarm_parts import begins, is_one_of
from fairlead.core.cluster import Node
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

FILTERS = ("id", "label", "membership", "name", "node.label", "role")
ROLES, MEMBERSHIPS = ("worker", "manager"), ("accepted", "pending")


def routes(engine: Engine) -> list[web.Route]:
    here = Nodes(engine)
    return [
        web.get("/nodes", here.list),
        web.get("/nodes/{id}", here.inspect),
        web.delete("/nodes/{id}", here.remove),
        web.post("/nodes/{id}/update", here.update),
    ]


class Nodes(swarm_parts.Part):
    """The handlers over ``engine.swarm.Control``."""

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, FILTERS)
        control = await self.seen()
        for name, known in (("role", ROLES), ("membership", MEMBERSHIPS)):
            for value in wanted.get(name, ()):
                if value.lower() not in known:
                    raise FairleadError(f"Invalid {name} filter: '{value}'")
        trust = control.cluster().trust
        return http.answer([wire_nodes.node(node, trust) for node in control.nodes() if passes(node, wanted)])

    async def inspect(self, request: web.Request) -> web.Response:
        control = await self.seen()
        return http.answer(wire_nodes.node(control.node(request.names["id"]), control.cluster().trust))

    async def update(self, request: web.Request) -> web.Response:
        version = swarm_parts.version(request, "node")
        spec = wire_nodes.node_spec(await http.body(request))
        await self.control().update_node(request.names["id"], version, spec)
        return http.nothing(200)

    async def remove(self, request: web.Request) -> web.Response:
        await self.control().remove_node(request.names["id"], http.flag(request, "force"))
        return http.nothing(200)


def passes(node: Node, wanted: http.Filters) -> bool:
    """All who are in the list are accepted."""
    return (
        begins(wanted, "id", node.id)
        and begins(wanted, "name", node.description.hostname)
        and is_one_of(wanted, "role", node.spec.role)
        and is_one_of(wanted, "membership", "accepted")
        and http.labels_match(wanted.get("label", ()), node.description.engine_labels)
        and http.labels_match(wanted.get("node.label", ()), node.spec.labels)
    )
