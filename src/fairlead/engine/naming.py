"""Naming: what each sandbox may resolve, kept true in the resolver.

    stack (endpoints, networks) ----> SandboxNames + EndpointNames ----> resolver

One call says everything about one stack; what an endpoint that has left used to
be called is taken back in the same breath. The resolver is a process of its
own, so a name that is served once goes on being served while we are away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fairlead.core import links, serving
from fairlead.engine.drivers.base import Driver
from fairlead.engine.resolverclient import EndpointNames, ResolverClient, SandboxNames
from fairlead.engine.sandboxes import Stack


class Naming:
    """``sandboxes.Names`` on the resolver process."""

    def __init__(self, client: ResolverClient, drivers: Mapping[str, Driver]) -> None:
        self._client = client
        self._drivers = drivers
        self._served: dict[str, set[tuple[str, str]]] = {}
        """sandbox -> (network, endpoint) whose names were told"""

    def told(self, stack: Stack) -> tuple[SandboxNames, list[EndpointNames]]:
        """Everything the resolver is told about one stack."""
        return self._sandbox(stack), list(self._names(stack))

    async def serve(self, stack: Stack, meanwhile: Callable[[], None] | None = None) -> None:
        names = list(self._names(stack))
        now = {(name.network, name.endpoint) for name in names}
        gone = self._served.get(stack.sandbox.id, set()) - now
        await self._client.open(self._sandbox(stack), names, gone, meanwhile)
        self._served[stack.sandbox.id] = now

    async def forget(self, stack: Stack) -> None:
        if stack.sandbox.id in self._served:
            await self._client.forget(stack.sandbox.id, self._served[stack.sandbox.id])
            self._served.pop(stack.sandbox.id, None)

    def adopt(self, stack: Stack) -> None:
        names = list(self._names(stack))
        self._client.adopt((self._sandbox(stack),), names)
        self._served[stack.sandbox.id] = {(name.network, name.endpoint) for name in names}

    async def resume(self) -> None:
        if self._served:
            await self._client.connect()

    def _sandbox(self, stack: Stack) -> SandboxNames:
        named = [network for network, endpoint in stack.attached if endpoint.names]
        return SandboxNames(
            id=stack.sandbox.id,
            namespace=stack.sandbox.path,
            upstreams=_upstreams(stack),
            search=stack.resolving.search,
            options=stack.resolving.options,
            forward=any(self._drivers[n.driver].attachment(n).default_route for n, _ in stack.attached),
            networks=tuple(network.id for network in named),
            links={
                network.id: {alias: target for target, alias in map(links.parse, endpoint.settings.links)}
                for network, endpoint in stack.attached
                if endpoint.settings.links
            },
        )

    def _names(self, stack: Stack) -> Iterator[EndpointNames]:
        for network, endpoint in stack.attached:
            if endpoint.names:
                yield EndpointNames(
                    network=network.id,
                    name=network.name,
                    endpoint=endpoint.id,
                    names=(*endpoint.names, *serving.names(endpoint.settings.part)),
                    ipv4=endpoint.address4,
                    ipv6=endpoint.address6,
                    container=endpoint.container,
                    ports=endpoint.ports,
                )


def _upstreams(stack: Stack) -> tuple[tuple[str, str], ...]:
    """The user's servers, else the LAN's when it is the stack's way to the world and named some, else the host's."""
    if stack.lent is not None and stack.lent.dns and not stack.resolving.given:
        return tuple((address, "sandbox") for address in stack.lent.dns)
    return stack.resolving.upstreams
