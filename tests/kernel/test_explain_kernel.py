"""What is explained is what happens: every call of the town, walked on paper and made for real."""

import pytest

from fairlead.core.explain import WORLD, walk
from fairlead.core.ruleset import Packet
from fairlead.core.terrain import Terrain
from fairlead.core.wanted import HOST
from fairlead.engine.drivers.base import Facts
from lane.matrix import CALLERS, build, targets
from lane.pretend import PretendHost
from lane.town import NEIGHBOURS, PORTS, Arrival, Town, town

pytestmark = pytest.mark.kernel


def terrain(town: Town) -> Terrain:
    return Terrain(
        town.made,
        town.host.addresses(),
        town.host.routes(),
        titles={name: f"container {name}" for name in town.endpoints},
        networks={town.driver.device(network): name for name, network in town.networks.items()},
    )


def on_paper(town: Town, land: Terrain, caller: str, address: str, port: int, family: int, protocol: str) -> str:
    """Who hears it, and as whom: in the words of ``in_reality``."""
    if caller in NEIGHBOURS:
        device = NEIGHBOURS[caller][0]
        neighbour = town.address(caller, family)
        if address == neighbour or address in ("127.0.0.1", "::1"):
            return "-"  # never reaches the host: theirs to say
        packet = Packet(source=neighbour, target=address, protocol=protocol, port=port, arrives=device)
        walked = walk(land, WORLD, packet)
    else:
        packet = Packet(source="", target=address, protocol=protocol, port=port)
        walked = walk(land, HOST if caller == "host" else caller, packet)
    if walked.packet.port not in PORTS:
        return "silence"  # it would arrive; nobody listens there
    if walked.place == WORLD:
        home = next((name for name in NEIGHBOURS if town.address(name, family) == walked.packet.target), "")
        return f"{home} hears {walked.packet.source}" if home else "silence"
    if walked.place in town.endpoints:
        return f"{walked.place} hears {walked.packet.source}"
    return "silence"  # the host itself listens nowhere


def in_reality(arrival: Arrival | None) -> str:
    return f"{arrival.place} hears {arrival.source}" if arrival else "silence"


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("protocol", "facts"),
    [("tcp", Facts()), ("udp", Facts()), ("tcp", Facts(firewall=False))],
    ids=["tcp", "udp", "without a firewall"],
)
def test_every_call_of_the_town_ends_as_explained(
    pretend_host: PretendHost, family: int, protocol: str, facts: Facts
) -> None:
    with town(pretend_host, facts) as here:
        build(here)
        land = terrain(here)
        calls = [
            (caller, address, port, protocol) for _, address, port, _ in targets(here, family) for caller in CALLERS
        ]
        said = [on_paper(here, land, caller, address, port, family, protocol) for caller, address, port, _ in calls]
        heard = [in_reality(arrival) for arrival in here.reach_all(calls)]
        wrong = [
            f"{caller} -> {address}:{port}: explained {paper!r}, happened {fact!r}"
            for (caller, address, port, _), paper, fact in zip(calls, said, heard, strict=True)
            if paper not in ("-", fact)
        ]
        assert not wrong, "\n".join(wrong)
        assert len(set(said)) > 15
