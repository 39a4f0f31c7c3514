"""/networks: list, inspect, create, connect, disconnect, remove, prune."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fairlead.api import http, times, web, wire_networks
from fairlead.api.wire import get, members
from fairlead.core.model import Endpoint, Network, Remote
from fairlead.engine.swarmnetworks import SwarmNetworks
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


def routes(engine: Engine) -> list[web.Route]:
    here = Networks(engine)
    return [
        web.get("/networks", here.list),
        web.post("/networks/create", here.create),
        web.post("/networks/prune", here.prune),
        web.get("/networks/{id:.*}", here.inspect),
        web.post("/networks/{id:.*}/connect", here.connect),
        web.post("/networks/{id:.*}/disconnect", here.disconnect),
        web.delete("/networks/{id:.*}", here.remove),
    ]


class Networks:
    """The handlers over ``engine.networks`` and the swarm's; for connect and disconnect, ``engine.containers``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._networks = SwarmNetworks(engine.networks, engine.swarm)

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, LIST_FILTERS)
        check = self._matcher(wanted)
        found = [known for known in await self._networks.networks() if check(known.network)]
        return http.answer([wire_networks.network(known.network, here=known.here) for known in found])

    async def inspect(self, request: web.Request) -> web.Response:
        verbose = http.strict_flag(request, "verbose")
        network, here = await self._networks.network(request.names["id"], http.text(request, "scope"))
        mine, others = self._networks.endpoints(network), self._networks.elsewhere(network)
        elsewhere = () if network.scope == "swarm" else others  # of a swarm's network each node shows its own
        shown = wire_networks.network(network, mine, elsewhere, here=here)
        if network.scope == "swarm" and here:
            shown |= self._shared(network, mine, others, verbose)
        return http.answer(shown)

    def _shared(
        self, network: Network, mine: Sequence[Endpoint], others: Iterable[Remote], verbose: bool
    ) -> dict[str, Any]:
        """What only a network of a swarm has: the hosts on it, and (on managers) what runs there."""
        local = self._engine.swarm.local()
        hosts = {other.vtep: other.node for other in others}
        if mine:
            hosts[local.address] = local.node
        peers = [{"Name": node[:12], "IP": address} for address, node in hosts.items()]
        shown: dict[str, Any] = {"Peers": peers} if peers else {}
        if verbose and local.control:
            control = self._engine.swarm.control()
            shown["Services"] = wire_networks.services(network, control.services(), control.tasks(), control.nodes())
        return shown

    async def create(self, request: web.Request) -> web.Response:
        asked = wire_networks.network_request(await http.body(request, {}))
        network = await self._networks.create(asked)
        return http.answer({"Id": network.id, "Warning": ""}, 201)

    async def remove(self, request: web.Request) -> web.Response:
        await self._networks.remove(request.names["id"])
        return http.nothing()

    async def connect(self, request: web.Request) -> web.Response:
        given = members(await http.body(request, {}), "", "network.ConnectOptions")
        settings = wire_networks.endpoint_settings(given.get("endpointconfig"), ".EndpointConfig")
        container = http.reference(get(given, "Container", str, ""))
        await self._engine.containers.connect(request.names["id"], container, settings)
        return http.nothing(200)

    async def disconnect(self, request: web.Request) -> web.Response:
        given = members(await http.body(request, {}), "", "network.DisconnectOptions")
        force = get(given, "Force", bool, False)
        container = http.reference(get(given, "Container", str, ""))
        await self._engine.containers.disconnect(request.names["id"], container, force)
        return http.nothing(200)

    async def prune(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, PRUNE_FILTERS)
        before = times.until(wanted)

        def goes(network: Network) -> bool:
            if self._engine.containers.needs(network):
                return False
            return _pruned_by_labels(wanted, network) and (
                before is None or times.nanoseconds(network.created) < before
            )

        gone = await self._networks.prune(goes)
        return http.answer({"NetworksDeleted": gone or None})

    def _matcher(self, wanted: http.Filters) -> Callable[[Network], bool]:
        """Whether a network passes the list's filters: all names must agree, any value of a name will do."""
        dangling = http.filter_flag(wanted, "dangling")
        kinds = set(wanted.get("type", ()))
        for kind in kinds - {"custom", "builtin"}:
            raise FairleadError(f"invalid filter: 'type'='{kind}'")

        def check(network: Network) -> bool:
            def any_of(name: str, agrees: Callable[[str], bool]) -> bool:
                return name not in wanted or any(agrees(value) for value in wanted[name])

            return (
                any_of("driver", lambda value: value == network.driver)
                and any_of("scope", lambda value: value == network.scope)
                and any_of("id", lambda value: http.matches(value, network.id))
                and any_of("name", lambda value: http.matches(value, network.name))
                and any_of("type", lambda value: (value == "builtin") == network.predefined)
                and http.labels_match(wanted.get("label", ()), network.labels)
                and (dangling is None or dangling == self._dangles(network))
            )

        return check

    def _dangles(self, network: Network) -> bool:
        return not network.predefined and not self._engine.networks.endpoints(network.id)


def _pruned_by_labels(wanted: http.Filters, network: Network) -> bool:
    spared = wanted.get("label!", ())
    return http.labels_match(wanted.get("label", ()), network.labels) and not any(
        http.labels_match([label], network.labels) for label in spared
    )
