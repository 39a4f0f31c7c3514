"""Networks as people see them on this machine: its own, and on a manager all of the swarm's.

    a name or id --> the swarm's (managers only) --> this engine's own
                     Known(network, here): of the swarm's, few matter to one node (``here``)

Rules
    1. A network of the swarm is one network, whether it has come to this node or not; the swarm says what it is, and
       of one that each node makes by its own configuration, the node.
    2. A name belongs to one network, here or in the swarm.
    3. Overlays and whatever is asked for with ``--scope swarm`` are made in the swarm, by managers; all others here.
    4. ``host`` and ``bridge`` are every node's own, and a service may ask for them: who looks for them among the
       swarm's (as Docker's client does before it creates a service) finds them under their names.
    5. Without a majority of managers this engine's own networks are there as ever, and the swarm's as they were last
       heard of.
    6. One that was removed from the swarm is not shown any more, unless somebody of this node is still on it.

What it does not do: bring networks to this node (``swarm.shared``), settle subnets (``core.sharednetworks``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core import sharednetworks
from fairlead.core.allocation import NODE_NETWORKS
from fairlead.core.container import NEVER
from fairlead.core.model import Endpoint, Ipam, Network, NetworkRequest, Remote
from fairlead.engine.controller import check_config_only
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from fairlead.engine.controller import Controller
    from fairlead.engine.swarm import Control, Swarm

OVERLAY = "overlay"
PATIENCE = 2.0
"""seconds that a list waits for what other managers wrote"""
PREDEFINED = {"com.docker.swarm.predefined": "true"}


class Known(NamedTuple):
    """``here``: it is this engine's own, or somebody of this node is on it."""

    network: Network
    here: bool


class SwarmNetworks:
    def __init__(self, own: Controller, swarm: Swarm) -> None:
        self._own, self._swarm = own, swarm

    # -- asking ----------------------------------------------------------------------------------------

    async def networks(self) -> list[Known]:
        """The swarm's by id, then this engine's own."""
        control = self._control()
        if control is None:
            return [Known(network, True) for network in self._own.networks()]
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await control.current()
        return self._all(control)

    def _all(self, control: Control) -> list[Known]:
        own = {network.id: network for network in self._own.networks()}
        shared = [
            Known(own.get(network.id, network.spec), bool(self._own.endpoints(network.id)))
            for network in control.networks()
        ]
        known = {network.id for network, _ in shared}
        return [
            *shared,
            *(
                Known(network, True)
                for network in own.values()
                if network.id not in known and (network.scope != "swarm" or self._own.endpoints(network.id))
            ),
        ]

    async def network(self, ref: str, scope: str = "") -> Known:
        """By id, name or the start of an id; ``NotFound``, or ``Invalid`` when several are meant."""
        if scope == "swarm" and ref in NODE_NETWORKS and self._control():
            own = Network(ref, ref, NEVER, driver=ref, scope="swarm", ipam=Ipam(driver=""), labels=PREDEFINED)
            return Known(own, False)
        found = [one for one in await self.networks() if scope in ("", one.network.scope)]
        ways: list[tuple[Callable[[Network], bool], str]] = [
            (lambda network: network.id == ref, "id"),
            (lambda network: network.name == ref, "name"),
            (lambda network: bool(ref) and network.id.startswith(ref), "ID prefix"),
        ]
        for means, by in ways:
            meant = [one for one in found if means(one.network)]
            if len(meant) > 1:
                raise Invalid(f"network {ref} is ambiguous ({len(meant)} matches found based on {by})")
            if meant:
                return meant[0]
        raise NotFound(f"network {ref} not found")

    def endpoints(self, network: Network) -> list[Endpoint]:
        """Those of this node."""
        return self._own.endpoints(network.id)

    def elsewhere(self, network: Network) -> list[Remote]:
        """Those of other hosts."""
        return self._own.elsewhere(network.id)

    # -- making and removing ---------------------------------------------------------------------------

    async def create(self, request: NetworkRequest) -> Network:
        local = self._swarm.local()
        if local.state == "inactive":
            return await self._own.create(request)
        control = self._control()
        if control is None:
            if self._is_shared(request):
                raise Forbidden(
                    "Cannot create a multi-host network from a worker node. Please create the network from a manager"
                    " node."
                )
            return await self._own.create(request)
        if any(one.network.name == request.name for one in self._all(control)):
            raise Conflict(f"network with name {request.name} already exists")
        check_config_only(request)
        if not self._is_shared(request):
            return await self._own.create(request)
        self._check(request)
        return (await control.create_network(request)).spec

    def _is_shared(self, request: NetworkRequest) -> bool:
        return not request.config_only and (request.scope == "swarm" or request.driver == OVERLAY)

    def _check(self, request: NetworkRequest) -> None:
        """What only this engine can tell."""
        if request.scope == "local":
            raise Forbidden("cannot downgrade network scope for overlay networks")
        if request.driver not in (OVERLAY, *sharednetworks.OF_NODES):
            raise NotFound(f'plugin "{request.driver}" not found')
        if request.config_from:
            try:
                source = self._own.network(request.config_from)
            except NotFound:
                raise NotFound(f'configuration network "{request.config_from}" does not exist') from None
            if not source.config_only:
                raise Forbidden(f'"{request.config_from}" is not a configuration network')

    async def remove(self, ref: str) -> None:
        network = (await self.network(ref)).network
        control = self._control()
        if control is None or network.scope != "swarm":
            await self._own.remove(network.id)
            return
        alone = [*self._alone(network)]
        if alone and not network.ingress:
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints ({', '.join(alone)})"
            )
        await control.remove_network(network.id)

    def _alone(self, network: Network) -> Iterable[str]:
        """Containers on it that belong to no service: nobody else would tell of them."""
        for endpoint in self.endpoints(network):
            if endpoint.settings.part is None:
                yield f'name:"{endpoint.name}" id:"{endpoint.id[:12]}"'
        for other in self.elsewhere(network):
            if other.part is None:
                yield f'name:"{other.name}" on {other.host}'

    async def prune(self, wants: Callable[[Network], bool]) -> list[str]:
        """Names of what went: first the swarm's, where this node manages, then this engine's own."""
        gone = []
        control = self._control()
        for network in control.networks() if control else ():
            if not network.spec.ingress and wants(network.spec):
                try:
                    await self.remove(network.id)
                except Unavailable:
                    break
                except FairleadError:
                    continue
                gone.append(network.spec.name)
        return [*gone, *await self._own.prune(wants)]

    def _control(self) -> Control | None:
        return self._swarm.control() if self._swarm.local().control else None
