"""What is explained is what happens: every call of the town, walked on paper and made for real."""

import pytest

from fairlead.core.explain import walk
from fairlead.core.model import PortBinding
from fairlead.core.others import Others
from fairlead.core.ruleset import Packet
from fairlead.core.steps import WORLD
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
        ask=town.host.road,
        others=lambda ns: Others(*town.host.rulesets(ns)),
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
        if home and walked.packet.leaves != NEIGHBOURS[home][0]:
            return "silence"  # on the wrong cable
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


IPTABLES = (("iptables-nft", "-P", "FORWARD", "DROP"),)
THEIRS: dict[str, tuple[tuple[str, ...], ...]] = {
    "nothing": (),
    "a policy of iptables": IPTABLES,
    "what DOCKER-USER would let pass": (
        *IPTABLES,
        ("iptables-nft", "-N", "DOCKER-USER"),
        ("iptables-nft", "-A", "FORWARD", "-j", "DOCKER-USER"),
        ("iptables-nft", "-A", "DOCKER-USER", "-o", "wan0", "-j", "ACCEPT"),
        ("iptables-nft", "-A", "DOCKER-USER", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"),
    ),
    "ports of iptables": (
        ("iptables-nft", "-A", "FORWARD", "-p", "tcp", "-m", "multiport", "--dports", "80,90", "-j", "DROP"),
    ),
    "the bridge": (("nft", "-f", "bridge"),),
    "a host without forwarding": (("sysctl", "-q", "-w", "net.ipv4.ip_forward=0"),),
    "a narrower route": (("ip", "route", "add", "10.1.0.2/32", "dev", "wan0"),),
    "a policy rule": (
        ("ip", "route", "add", "prohibit", "default", "table", "77"),
        ("ip", "rule", "add", "priority", "9", "from", "10.1.0.0/24", "to", "198.51.100.0/24", "lookup", "77"),
    ),
    "rp_filter": (
        ("ip", "route", "add", "198.51.100.9/32", "dev", "lan0"),
        ("sysctl", "-q", "-w", "net.ipv4.conf.wan0.rp_filter=1"),
    ),
}  # fmt: skip
BRIDGED = """\
table bridge theirs {
    chain c {
        type filter hook forward priority 0; policy accept;
        tcp dport 80 drop
    }
}
"""
PROBES = [("a1", "198.51.100.9", 80), ("far", "192.0.2.1", 8080), ("a2", "10.1.0.2", 80), ("host", "10.1.0.2", 80)]


@pytest.mark.parametrize("what", THEIRS)
def test_what_others_put_in_the_way_is_explained_as_it_happens(pretend_host: PretendHost, what: str) -> None:
    with town(pretend_host, Facts()) as here:
        here.network("A")
        here.container("a1", "A", PortBinding(80, "tcp", "0.0.0.0", 8080))
        here.container("a2", "A")
        for words in THEIRS[what]:
            if words == ("nft", "-f", "bridge"):
                here.load(BRIDGED)
            else:
                pretend_host.run(*words)
        land, calls = terrain(here), [(*probe, "tcp") for probe in PROBES]
        said = [on_paper(here, land, caller, address, port, 4, "tcp") for caller, address, port, _ in calls]
        heard = [in_reality(arrival) for arrival in here.reach_all(calls)]
        pretend_host.run("nft", "flush", "ruleset")
        if what == "a policy rule":
            pretend_host.run("ip", "rule", "delete", "priority", "9")
        assert said == heard
        assert ("silence" in said) == (what != "nothing")
