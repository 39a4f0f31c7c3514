"""Networks of the swarm: made once, for all nodes. See ``control``; what becomes of a request: ``core.sharednetworks``.

A network goes when nobody is on it. Tasks of services that were just removed are waited for: their network's addresses
and its identifier on the wire are given to others as soon as it is gone.
"""

from __future__ import annotations

import datetime

from fairlead.core import sharednetworks
from fairlead.core.allocation import on_network
from fairlead.core.cluster import Task
from fairlead.core.model import NetworkRequest
from fairlead.core.refusals import exists, unmet
from fairlead.core.service import SECOND
from fairlead.core.swarmspec import SharedNetwork
from fairlead.errors import Conflict
from fairlead.swarm.control_base import PAUSE, Change, by_id, find
from fairlead.swarm.control_cluster import ClusterControl

PATIENCE = 15 * SECOND
"""for tasks that are about to end"""


class NetworkControl(ClusterControl):
    def networks(self) -> list[SharedNetwork]:
        return by_id(self.state.networks)

    def network(self, ref: str) -> SharedNetwork:
        return find(self.state.networks, ref, "network", lambda network: network.spec.name)

    async def create_network(self, request: NetworkRequest) -> SharedNetwork:
        id = self.new_id()

        def decide() -> Change:
            others = [network.spec for network in self.networks()]
            sharednetworks.check(request)
            if any(other.name == request.name for other in others):
                raise Conflict(f"network with name {request.name} already exists")
            if request.ingress and (present := [other for other in others if other.ingress]):
                raise exists(f"ingress network ({present[0].id}) is already present")
            created = stamp(self.clock())
            network = sharednetworks.settle(request, others, self.cluster(), id, created)
            return Change((SharedNetwork(id, network),))

        await self.write(decide)
        return self.state.networks[id]

    async def remove_network(self, ref: str) -> None:
        await self.current()
        until = self.clock() + PATIENCE
        while (last := self._last_on(ref)) is not None:
            if self.clock() >= until:
                raise unmet(f"network {self.network(ref).id} is in use by task {last.id}")
            await self.pause(PAUSE)
        await self.write(lambda: Change(delete=(self._unused(ref),)))

    def _unused(self, ref: str) -> SharedNetwork:
        network = self.network(ref)
        for service in self.services_on(network):
            if network.spec.ingress:
                raise unmet(f"ingress network cannot be removed because service {service} depends on it")
            raise unmet(f"network {network.id} is in use by service {service}")
        for loan in self.state.loans.values():
            if loan.network == network.id:
                raise unmet(f"network {network.id} is in use by task {loan.id}")
        return network

    def services_on(self, network: SharedNetwork) -> list[str]:
        """Ids."""
        return [id for id, service in sorted(self.state.services.items()) if on_network(service.spec, network)]

    def _last_on(self, ref: str) -> Task | None:
        """A task of a service that is no more, and which may still use its addresses."""
        network = self._unused(ref)
        return next((task for task in self.state.tasks.values() if self._holds(task, network)), None)

    def _holds(self, task: Task, network: SharedNetwork) -> bool:
        node = self.state.nodes.get(task.node)
        ended = task.status.state.ended or node is None or node.state == "down"
        return not ended and any(one.network == network.id for one in task.networks)


def stamp(now: int) -> str:
    """RFC 3339 with nanoseconds."""
    seconds, rest = divmod(now, SECOND)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
