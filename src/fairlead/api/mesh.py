"""The HTTP routing mesh of the swarm: one port of every node, and host names and paths that lead on from it.

    GET     /fairlead/mesh/http    where it is, and which names lead where
    POST    /fairlead/mesh/http    {"Port": 80, "HTTPS": 443}: make its network and its service; HTTPS 0: not
    DELETE  /fairlead/mesh/http    take both away, or the service alone while others are on the network

Services join by being on its network, with a label: ``com.docker.ucp.mesh.http=8080=http://red.example.com``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fairlead.api import http, swarm_parts, web
from fairlead.core import webmesh
from fairlead.core.allocation import on_network
from fairlead.core.cluster import Service
from fairlead.core.model import NetworkRequest
from fairlead.core.serving import ROUTE
from fairlead.errors import FairleadError, Invalid, NotFound

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.swarm import Control

ROUNDS = 4


def routes(engine: Engine) -> list[web.Route]:
    here = HttpMesh(engine)
    return [
        web.get("/fairlead/mesh/http", here.show),
        web.post("/fairlead/mesh/http", here.enable),
        web.delete("/fairlead/mesh/http", here.disable),
    ]


class HttpMesh(swarm_parts.Part):
    """The handlers over ``engine.swarm.Control``."""

    async def show(self, request: web.Request) -> web.Response:
        services = (await self.seen()).services()
        own = next((service for service in services if service.spec.name == webmesh.NAME), None)
        ports = [port.published_port for port in own.ports] if own else []
        led = sorted((route for service in services for route in _led(service)), key=lambda route: route["URL"])
        return http.answer({"Enabled": own is not None, "Ports": ports, "Routes": led})

    async def enable(self, request: web.Request) -> web.Response:
        asked = await http.body(request, {})
        asked = asked if isinstance(asked, dict) else {"Port": None}
        port, tls_port = asked.get("Port", webmesh.PORT), asked.get("HTTPS", 0)
        for given, least in ((port, 1), (tls_port, 0)):
            if type(given) is not int or not least <= given < 1 << 16:
                raise Invalid(f"the HTTP mesh needs a port from 1 to 65535, not {given!r}")
        control = self.control()
        networks = {network.spec.name for network in control.networks()}
        if webmesh.NAME not in networks:
            labels = {webmesh.SYSTEM: "true"}
            asked_network = NetworkRequest(name=webmesh.NAME, driver="overlay", attachable=True, labels=labels)
            await control.create_network(asked_network)
        try:
            id = await control.create_service(webmesh.service(port, tls_port))
        except FairleadError:
            if webmesh.NAME not in networks:
                await control.remove_network(webmesh.NAME)
            raise
        return http.answer({"ID": id}, 201)

    async def disable(self, request: web.Request) -> web.Response:
        """The network stays while services are on it: theirs is the next word."""
        control = self.control()
        await control.remove_service(webmesh.NAME)
        network = next((network for network in control.networks() if network.spec.name == webmesh.NAME), None)
        if network and not any(on_network(service.spec, network) for service in control.services()):
            await _remove(control, network.id)
        return http.nothing()


async def _remove(control: Control, network: str) -> None:
    """Tasks that are about to end may take longer than a removal waits."""
    for attempt in range(ROUNDS):
        try:
            return await control.remove_network(network)
        except NotFound:
            return
        except FairleadError:
            if attempt == ROUNDS - 1:
                raise


def _led(service: Service) -> list[dict[str, Any]]:
    """What a service's labels ask for; those that make no sense are not there."""
    try:
        asked = webmesh.routes(service.spec.labels or {}, service.spec.ports)
    except Invalid:
        return []
    return [_shown(service.spec.name, match) for match in filter(None, map(ROUTE.fullmatch, asked))]


def _shown(service: str, route: re.Match[str]) -> dict[str, Any]:
    return {
        "URL": webmesh.url(route["place"]),
        "Service": service,
        "Port": int(route["port"]),
        "Sticky": bool(route["sticky"]),
        "Secrets": route["tls"].split(",") if route["tls"] else [],
        "Redirect": route["to"] or "",
    }
