"""Way out: an overlay's containers reach the world, and are reached at published ports, through ``docker_gwbridge``.

    container   eth0 - RED (overlay)            eth1 - docker_gwbridge - host - world

One bridge network for all of them, made when it is first needed, in a swarm at once. Its containers
do not hear each other (icc off), and the interface is nobody's wish: it comes
with the first network that has no way out of its own, and goes when another
network leads to the world, or none is asked to (internal).

What it leaves behind: the bridge, as Docker does; ``network rm docker_gwbridge`` removes it.
"""

from __future__ import annotations

from fairlead.core.container import Container
from fairlead.core.model import Endpoint, EndpointSettings, Network, NetworkRequest
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.sandboxes import Stack
from fairlead.errors import Conflict

NAME = "docker_gwbridge"
OPTIONS = {
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.name": NAME,
}


class WayOut:
    """Sees to it that each stack has the interface when, and only when, it needs one."""

    def __init__(self, controller: Controller, endpoints: Endpoints) -> None:
        self._controller = controller
        self._endpoints = endpoints

    async def settle(self, container: Container, stack: Stack) -> None:
        """After a stack's networks changed, before its ports are published."""
        held = next(((network, endpoint) for network, endpoint in stack.attached if endpoint.way_out), None)
        if held is None and self._needed(stack):
            await self._endpoints.attach(
                container, stack, await bridge(self._controller), EndpointSettings(), way_out=True
            )
        elif held is not None and not self._needed(stack):
            await self._endpoints.detach(stack, *held)

    def rehearse(self, container: Container, stack: Stack) -> None:
        """What ``settle`` would add to a stack that is not made."""
        if self._needed(stack):
            network = _known(self._controller) or self._controller.settle(NetworkRequest(NAME, options=OPTIONS))
            endpoint = self._endpoints.rehearse(container, stack, network, EndpointSettings(), way_out=True)
            stack.attached.append((network, endpoint))

    def _needed(self, stack: Stack) -> bool:
        asked = [(network, endpoint) for network, endpoint in stack.attached if not endpoint.way_out]
        found = [(self._controller.driver(network).attachment(network), endpoint) for network, endpoint in asked]
        leads_out = any(attachment.default_route and _has_address(endpoint) for attachment, endpoint in found)
        return any(attachment.way_out for attachment, _ in found) and not leads_out


async def bridge(controller: Controller) -> Network:
    """``docker_gwbridge``, made if it is not there."""
    try:
        return _known(controller) or await controller.create(NetworkRequest(NAME, options=OPTIONS))
    except Conflict:  # somebody else was faster
        return controller.network(NAME)


def _known(controller: Controller) -> Network | None:
    return next((network for network in controller.networks() if network.name == NAME), None)


def _has_address(endpoint: Endpoint) -> bool:
    return bool(endpoint.ipv4 or endpoint.ipv6)
