"""Explaining on paper: the transcripts of docs/explain.md are what the code says, and each verdict is seen."""

import msgspec
import pytest
from paper import Paper

from fairlead.api.explain import shown
from fairlead.cli import explain as face
from fairlead.core.container import Container
from fairlead.core.model import Ipam, Network, PortRequest, Subnet
from fairlead.core.ruleset import unknown_words
from fairlead.core.wanted import Address, Link, Route, Skeleton
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.host import Host as HostDriver
from fairlead.engine.drivers.none import Null
from fairlead.engine.explain import Explainer, Explanation
from fairlead.engine.naming import Naming
from fairlead.errors import Conflict, Invalid, NotFound
from lane.golden import same_as

ICC = "com.docker.network.bridge.enable_icc"
MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"
DEFAULT = "com.docker.network.bridge.default_bridge"


class Shop:
    """Networks and containers of every kind, and somebody who explains them."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        drivers = {driver.name: driver for driver in (Bridge(), HostDriver(), Null())}
        self.forwards = True
        self.explainer = Explainer(
            paper.kernel,
            paper.host,
            paper.catalog,
            paper.controller,
            paper.attachments,
            paper.publisher,
            Naming(None, drivers),  # type: ignore[arg-type]
            paper.files,
            lambda family: self.forwards,
        )

    async def build(self) -> None:
        uplink = Link(name="eth0", kind="veth", peer="far")
        for item in (
            uplink,
            Address(link="eth0", address="192.0.2.10/24"),
            Route(destination="0.0.0.0/0", link="eth0"),
        ):
            self.paper.host.put(item)
        v6 = Ipam(config=(Subnet("172.18.0.0/16", gateway="172.18.0.1"), Subnet("fd00:1::/64", gateway="fd00:1::1")))
        pools = Ipam(config=(Subnet("172.17.0.0/16", gateway="172.17.0.1"),))
        bridge = Network("b" * 64, "bridge", "", ipam=pools, options={DEFAULT: "true"}, predefined=True)
        await self.paper.controller.ensure(bridge)
        await self.paper.network("RED", ipv6=True, ipam=msgspec.structs.replace(v6, given=True))
        await self.paper.network("BLUE")
        await self.paper.network("DEEP", internal=True)
        await self.paper.network("APART", options={ICC: "false"})
        await self.paper.network("OPEN", options={MODE4: "routed"})
        await self.run(
            "web", "RED", PortRequest(80, "tcp", "", 8080, 8080), PortRequest(443, "tcp", "127.0.0.1", 8443, 8443)
        )
        for name, network in (("db", "RED"), ("api", "BLUE"), ("vault", "DEEP"), ("one", "APART"), ("two", "APART")):
            await self.run(name, network)
        await self.run("site", "OPEN", PortRequest(80, "tcp"))
        await self.run("left", "bridge")
        await self.run("right", "bridge")

    async def run(self, name: str, network: str, *ports: PortRequest) -> Container:
        container = await self.paper.container(name, network, ports=ports)
        await self.paper.open(container)
        return container

    async def says(self, source: str, target: str, family: int = 0, check: bool = False) -> Explanation:
        return await self.explainer.explain(source, target, family, check)


@pytest.fixture
async def shop(paper: Paper) -> Shop:
    made = Shop(paper)
    await made.build()
    return made


CASES = [
    # source, target, family: arrives, by name, place or a word of the last hop
    ("web", "db:5432", 0, True, True, "container db"),
    ("web", "db", 6, True, True, "container db"),
    ("web", "web:80", 0, True, True, "container web"),
    ("web", "localhost:80", 0, True, True, "container web"),
    ("web", "api:80", 0, False, False, "another network"),
    ("api", "vault:80", 0, False, False, "nothing enters"),
    ("vault", "api:80", 0, False, False, "unreachable"),
    ("vault", "world:443", 0, False, None, "unreachable"),
    ("vault", "example.org:443", 0, False, False, "forwards no questions"),
    ("one", "two:80", 0, False, True, "icc is off"),
    ("left", "right:80", 0, True, False, "container right"),
    ("api", "host:8080", 0, True, None, "container web"),
    ("web", "host:8080", 0, True, None, "container web"),
    ("world", "host:8080", 0, True, None, "container web"),
    ("host", "127.0.0.1:8080", 0, True, None, "container web"),
    ("host", "127.0.0.1:8443", 0, True, None, "container web"),
    ("world", "host:8443", 0, True, None, "the host"),
    ("world", "127.0.0.1:8443", 0, False, None, "do not come from outside"),
    ("world", "[::1]:8080", 0, False, None, "its own loopback device only"),
    ("world", "web:80", 0, False, None, "container addresses from outside"),
    ("world", "site:80", 0, True, None, "container site"),
    ("world", "site:81", 0, False, None, "container addresses from outside"),
    ("world", "site", 0, True, None, "container site"),
    ("web", "world:443", 0, True, None, "the world"),
    ("web", "172.18.0.99", 0, False, None, "nobody has 172.18.0.99"),
    ("host", "web", 0, True, None, "container web"),
    ("api", "db", 6, False, False, "unreachable"),
    ("web", "api", 6, False, False, "no IPv6 address"),
    ("172.18.0.3", "172.18.0.2:80", 0, True, None, "container web"),
]


@pytest.mark.parametrize(("source", "target", "family", "arrives", "resolves", "word"), CASES)
async def test_verdicts(
    shop: Shop, source: str, target: str, family: int, arrives: bool, resolves: bool | None, word: str
) -> None:
    answer = await shop.says(source, target, family, check=True)
    told = face.text(shown(answer))
    assert (answer.arrives, answer.resolves) == (arrives, resolves), told
    assert word in (answer.place if arrives else answer.hops[-1].says), told
    assert answer.hops[-1].stops != arrives, told
    assert not answer.differs, told
    if not arrives and word not in ("no IPv6 address", "nobody has 172.18.0.99"):
        assert answer.advice, told


async def test_what_is_asked_badly_is_refused(shop: Shop) -> None:
    for target in ("web:0", "web:70000", "web:80/icmp", "", "web/udp"):
        with pytest.raises(Invalid):
            await shop.says("db", target)
    with pytest.raises(NotFound):
        await shop.says("nobody", "web")
    with pytest.raises(NotFound):
        await shop.says("host", "nobody")
    await shop.paper.container("idle", "RED")
    with pytest.raises(Conflict):
        await shop.says("idle", "web")


async def test_a_host_that_does_not_forward_stops_it(shop: Shop) -> None:
    shop.forwards = False
    answer = await shop.says("web", "world:443")
    assert not answer.arrives and "ip_forward" in answer.hops[-1].says


async def test_check_sees_what_the_kernel_lost(shop: Shop) -> None:
    plug = next(i for i in shop.paper.kernel.wanted() if isinstance(i, Link) and i.peer_ns.startswith("db"))
    shop.paper.host.lose((plug,))
    answer = await shop.says("web", "db:5432", check=True)
    assert answer.arrives and answer.differs is not None
    assert any(line.startswith("missing: link") for line in answer.differs)
    assert any("would stop" in line for line in answer.differs)


async def test_check_sees_a_door_that_is_open(shop: Shop) -> None:
    """What is dropped relies on no object that could be missing: the walk over the kernel's own objects tells."""
    guard = next(i for i in shop.paper.kernel.wanted() if str(i).startswith("skeleton"))
    assert isinstance(guard, Skeleton) and not unknown_words(guard)
    open_door = guard.text.replace('counter drop comment "another network', 'accept comment "another network')
    shop.paper.host.things[guard.key] = Skeleton(text=open_door)
    answer = await shop.says("web", "api:80", check=True)
    assert not answer.arrives and answer.differs is not None
    (line,) = answer.differs
    assert line.startswith("with what the kernel has, it would arrive at container api")


PAGE = """\
# Why does it arrive, why not?

`fairlead explain A B[:port]` walks the first packet of a connection from A to B and says, hop by hop, who answers the
name, which route and device it takes, which rule and which element of the firewall lets it pass or drops it, and what
would help. A and B are containers (name or id), addresses, `host`, or `world`; without a port it is a ping, `/udp`
behind the port says the protocol, `-6` asks for IPv6.

What is said comes from the [wanted objects](why/wanting.md), and the rules are followed as they are written: there is
no second description of the firewall that could be wrong. `--check` makes the same walk over what the kernel has, and
names every object on the way that is missing or different. Nothing is sent.

It says whether a packet *arrives*. Whether a program listens there is not looked at.

| exit code | |
|---|---|
| 0 | it arrives, and the name that was typed resolves |
| 1 | it does not arrive, or only by address, or `--check` found a difference |

These transcripts are written by `tests/engine/test_explain.py`, and what is said of each pair of places there is
compared with what a real kernel does by `tests/kernel/test_explain_kernel.py` (every call of
[the town](packets/reachability.md)) and, by name and with real containers, by `tests/scenarios/test_explain.py`.
"""

TRANSCRIPTS = [
    ("On one network", "web", "db:5432", 0),
    ("On different networks", "web", "api:80", 0),
    ("Out of an internal network", "vault", "example.org:443", 0),
    ("icc off", "one", "two:80", 0),
    ("No names on the default bridge", "left", "right:80", 0),
    ("A published port, from outside", "world", "host:8080", 0),
    ("A published port, from another network", "api", "host:8080", 0),
    ("A published port, from the container's own network", "db", "host:8080", 0),
    ("A port of 127.0.0.1, on the host and from outside", "host", "127.0.0.1:8443", 0),
    ("", "world", "127.0.0.1:8443", 0),
    ("Straight to a container's address, from outside", "world", "web:80", 0),
    ("The same in gateway mode routed", "world", "site:80", 0),
    ("Into the world", "web", "world:443", 0),
    ("IPv6", "web", "db:5432", 6),
]


async def test_the_page_says_what_the_code_says(shop: Shop) -> None:
    parts = [PAGE]
    for heading, source, target, family in TRANSCRIPTS:
        answer = await shop.says(source, target, family)
        command = f"$ fairlead explain {'-6 ' if family == 6 else ''}{source} {target}"
        title = f"\n## {heading}\n" if heading else ""
        parts.append(f"{title}\n```\n{command}\n{face.text(shown(answer))}\n```\n")
    same_as("docs/explain.md", "".join(parts))
