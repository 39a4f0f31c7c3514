"""Legacy links: ``--link`` between containers, checked at create and resolved at every start.

On the default bridge a link is a line in the hosts file and a set of variables;
on user networks it is a name that only the linking container can resolve
(``EndpointSettings.links``, answered by the resolver). When a linked container
comes back with another address, those who link to it get their lines rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fairlead.core import links
from fairlead.core.container import Container
from fairlead.core.model import Endpoint
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound


class Links:
    """Who is linked to whom."""

    def __init__(self, catalog: Catalog, controller: Controller, endpoints: Endpoints) -> None:
        self._catalog = catalog
        self._controller = controller
        self._endpoints = endpoints

    def check(self, container: Container) -> None:
        """Every target exists; ``Invalid`` in Docker's words when not."""
        for link in container.host.links or ():
            name, _ = links.parse(link)
            try:
                self._catalog.get(name)
            except NotFound as error:
                raise Invalid(f"could not get container for {name}: {error.message}") from error

    def resolved(self, container: Container) -> Iterator[tuple[str, Container, Endpoint]]:
        """(alias, target, its endpoint on the default bridge) of every link of a container on the default bridge."""
        for link in container.host.links or () if container.host.network_mode == "bridge" else ():
            name, alias = links.parse(link)
            target = self._catalog.get(name)
            if "bridge" not in target.networks:
                raise FairleadError(f"container {target.id} not attached to default bridge network")
            if not target.state.running:
                raise Conflict(f"cannot link to a non running container: /{target.name} AS /{container.name}/{alias}")
            yield alias, target, self._bridge_endpoint(target)

    def standing(self, container: Container) -> Iterator[tuple[str, Container, Endpoint]]:
        """Those of ``resolved`` whose target runs now: a container that runs already does without the others."""
        for link in container.host.links or () if container.host.network_mode == "bridge" else ():
            try:
                yield from self.resolved(_with_only(container, link))
            except FairleadError:
                continue

    def environment(self, container: Container) -> list[str]:
        """The variables of its links, for its process; its record does not hold them."""
        variables: list[str] = []
        for alias, target, endpoint in self.resolved(container):
            exposed, env = target.config.exposed_ports or {}, target.config.env or ()
            variables.extend(links.environment(container.name, alias, endpoint.address4, exposed, env))
        return variables

    def linking_to(self, target: Container) -> list[Container]:
        """Running containers with a legacy link to ``target``."""
        return [
            container
            for container in self._catalog.linking()
            if container.state.running
            and container.id != target.id
            and any(self._means(link, target) for link in container.host.links or ())
        ]

    def _means(self, link: str, target: Container) -> bool:
        name, _ = links.parse(link)
        return name == target.name or target.id.startswith(name)

    def _bridge_endpoint(self, target: Container) -> Endpoint:
        bridge = self._controller.network("bridge").id
        for endpoint in self._endpoints.of_sandbox(target.id):
            if endpoint.network == bridge:
                return endpoint
        raise FairleadError(f"container {target.id} not attached to default bridge network")


def _with_only(container: Container, link: str) -> Container:
    return replace(container, host=replace(container.host, links=(link,)))
