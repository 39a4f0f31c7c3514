"""Networks as people see them: this engine's own and the swarm's, on a manager, on a worker, and in neither."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from paper import Paper

from fairlead.core.model import Network, NetworkRequest
from fairlead.core.swarmspec import SharedNetwork
from fairlead.engine import swarmnetworks
from fairlead.engine.swarm import Local
from fairlead.engine.swarmnetworks import SwarmNetworks
from fairlead.errors import FairleadError, Forbidden, Invalid, NotFound, Unavailable

NET = Network("n" * 25, "net", "", driver="overlay", scope="swarm", attachable=True)
BRIDGE = NetworkRequest("mine")
OVERLAY = NetworkRequest("far", driver="overlay")


class Managers:
    """As much of a swarm's control as networks need."""

    def __init__(self) -> None:
        self.all = [SharedNetwork(NET.id, NET)]
        self.current: Callable[[], Any] = self._current
        self.asked: list[object] = []

    async def _current(self) -> None: ...

    def networks(self) -> list[SharedNetwork]:
        return self.all

    async def create_network(self, request: NetworkRequest) -> SharedNetwork:
        self.asked.append(request)
        return SharedNetwork("f" * 25, replace(NET, id="f" * 25, name=request.name))

    async def remove_network(self, ref: str) -> None:
        self.asked.append(ref)


@pytest.fixture
async def seen(paper: Paper) -> AsyncIterator[tuple[SwarmNetworks, Managers, Paper]]:
    managers = Managers()
    local = Local("active", node="n1", control=True)
    swarm = SimpleNamespace(local=lambda: local, control=lambda: managers)
    yield SwarmNetworks(paper.controller, swarm), managers, paper


def outside(paper: Paper, state: str) -> SwarmNetworks:
    """``inactive``, or a worker's."""
    return SwarmNetworks(paper.controller, SimpleNamespace(local=lambda: Local(state)))


Seen = tuple[SwarmNetworks, Managers, Paper]


async def test_one_network_is_shown_once(seen: Seen) -> None:
    networks, _, paper = seen
    assert (await networks.networks())[0] == (NET, False)
    await paper.controller.accept(NET)
    assert [known for known in await networks.networks() if known.network.id == NET.id] == [(NET, False)]
    paper.controller.endpoints = lambda network_id: ["somebody"]  # type: ignore[method-assign, list-item, return-value]
    assert await networks.network("net") == await networks.network(NET.id[:5]) == (NET, True)
    with pytest.raises(NotFound):
        await networks.network("net", "local")
    with pytest.raises(NotFound):
        await networks.network("")


async def test_what_left_the_swarm_is_not_shown_unless_somebody_is_on_it(seen: Seen) -> None:
    networks, managers, paper = seen
    await paper.controller.accept(NET)
    assert NET.id in [known.network.id for known in await networks.networks()]
    managers.all = []
    assert NET.id not in [known.network.id for known in await networks.networks()]


async def test_one_name_two_networks(seen: Seen) -> None:
    networks, managers, _ = seen
    managers.all.append(SharedNetwork("m" * 25, replace(NET, id="m" * 25)))
    with pytest.raises(Invalid, match=r"network net is ambiguous \(2 matches found based on name\)"):
        await networks.network("net")


async def test_where_a_network_is_made(seen: Seen) -> None:
    networks, managers, paper = seen
    assert (await networks.create(OVERLAY)).id == "f" * 25
    assert (await networks.create(NetworkRequest("far2", scope="swarm"))).scope == "swarm"
    mine = await networks.create(BRIDGE)
    assert paper.controller.network("mine") == mine and len(managers.asked) == 2


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (NetworkRequest("net"), 409, "network with name net already exists"),
        (NetworkRequest("bridge", driver="overlay"), 409, "network with name bridge already exists"),
        (replace(OVERLAY, scope="local"), 403, "cannot downgrade network scope for overlay networks"),
        (NetworkRequest("x", driver="nope", scope="swarm"), 404, 'plugin "nope" not found'),
        (replace(OVERLAY, config_only=True, scope="swarm"), 403, "configuration network can only contain"),
        (replace(BRIDGE, scope="swarm", config_from="nope"), 404, 'configuration network "nope" does not exist'),
        (replace(BRIDGE, scope="swarm", config_from="bridge"), 403, '"bridge" is not a configuration network'),
    ],
    ids=str,
)
async def test_what_is_refused(seen: Seen, request_: NetworkRequest, status: int, words: str) -> None:
    networks, managers, paper = seen
    await paper.controller.accept(Network("b" * 64, "bridge", ""))
    with pytest.raises(FairleadError, match=words) as caught:
        await networks.create(request_)
    assert caught.value.status == status and not managers.asked


async def test_a_worker_makes_only_its_own(paper: Paper) -> None:
    worker = outside(paper, "active")
    with pytest.raises(Forbidden, match="Cannot create a multi-host network from a worker node"):
        await worker.create(OVERLAY)
    await worker.create(BRIDGE)
    await worker.remove("mine")


async def test_outside_of_a_swarm_all_is_as_ever(paper: Paper) -> None:
    with pytest.raises(Forbidden, match="This node is not a swarm manager"):
        await outside(paper, "inactive").create(OVERLAY)


async def test_a_network_goes_from_the_swarm_unless_a_container_alone_is_on_it(seen: Seen) -> None:
    networks, managers, paper = seen
    await networks.remove("net")
    assert managers.asked == [NET.id]
    other = SimpleNamespace(part=None, name="lonely", host="two")
    paper.controller.elsewhere = lambda network_id: [other]  # type: ignore[method-assign]
    with pytest.raises(Forbidden, match=r'network net has active endpoints .*name:"lonely" on two'):
        await networks.remove("net")
    other.part = object()
    await networks.remove("net")


async def test_pruning_spares_ingress_and_what_is_in_use(seen: Seen) -> None:
    networks, managers, _ = seen
    managers.all.append(SharedNetwork("i" * 25, replace(NET, id="i" * 25, name="ingress", ingress=True)))
    assert await networks.prune(lambda network: True) == ["net"]

    async def refuse(ref: str) -> None:
        raise Invalid("in use")

    managers.remove_network = refuse  # type: ignore[method-assign]
    assert await networks.prune(lambda network: True) == []


async def test_without_a_majority_the_engine_s_own_networks_are_there(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, managers, _ = seen
    monkeypatch.setattr(swarmnetworks, "PATIENCE", 0.01)

    async def nobody() -> None:
        raise Unavailable("no majority")

    async def for_ever() -> None:
        await asyncio.Event().wait()

    for managers.current in (nobody, for_ever):
        await networks.create(BRIDGE)
        assert (await networks.network("mine")).here and await networks.network("net") == (NET, False)
        await networks.remove("mine")


async def test_services_find_each_node_s_own_networks_among_the_swarm_s(seen: Seen) -> None:
    networks, _, _ = seen
    network, here = await networks.network("host", "swarm")
    assert (network.id, network.driver, network.scope, here) == ("host", "host", "swarm", False)
