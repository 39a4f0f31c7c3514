"""Explaining on paper: the transcripts of docs/explain.md are what the code says, and each verdict is seen."""

from pathlib import Path

import msgspec
import pytest
from paper import Paper

from fairlead.api.explain import shown
from fairlead.cli import explain as face
from fairlead.core.container import Container
from fairlead.core.model import Ipam, Network, PortRequest, Subnet
from fairlead.core.ruleset import unknown_words
from fairlead.core.terrain import Road
from fairlead.core.wanted import Address, Link, Route, Skeleton
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.host import Host as HostDriver
from fairlead.engine.drivers.none import Null
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.explain import Explainer, Explanation
from fairlead.engine.explainservices import Directory
from fairlead.engine.naming import Naming
from fairlead.engine.sandboxes import Stack
from fairlead.engine.swarm import LateSwarm
from fairlead.errors import Conflict, Invalid, NotFound
from lane.golden import same_as

ICC = "com.docker.network.bridge.enable_icc"
MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"
DEFAULT = "com.docker.network.bridge.default_bridge"


class Shop:
    """Networks and containers of every kind, and somebody who explains them."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        drivers = {driver.name: driver for driver in (Bridge(), HostDriver(), Null(), Overlay())}
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
            Directory(paper.controller, paper.overlays, LateSwarm(pytest.fail, lambda: False).control),
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

    def stacks(self) -> dict[str, Stack]:
        found = ((c.name, self.paper.attachments.stack(c)) for c in self.paper.catalog)
        return {name: stack for name, stack in found if stack is not None}

    async def says(self, source: str, target: str, family: int = 0, check: bool = False) -> Explanation:
        return await self.explainer.explain(source, target, family, check)


def rules(policy: str, family: str = "ip", hook: str = "forward", *lines: str, table: str = "theirs") -> str:
    """A table of somebody else, as nft lists it."""
    device = ' device "eth0"' if hook == "ingress" else ""
    head = f"\t\ttype filter hook {hook}{device} priority filter; policy {policy};\n"
    return f"table {family} {table} {{\n\tchain c {{\n{head}" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n}\n"


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


async def test_kernel_settings_that_stop_it_are_named(shop: Shop) -> None:
    roads = shop.paper.host.roads
    for road, word, remedy in (
        (Road(kind="rp_filter"), "rp_filter", "rp_filter=2"),
        (Road(kind="martian"), "the host's own", "rp_filter=2"),
        (Road(kind="unreachable"), "/forwarding is off", "forwarding=1"),
        (Road(kind="prohibit", prefix="203.0.113.0/24"), "prohibit 203.0.113.0/24", "ip route delete prohibit"),
        (Road(kind="unreachable", table="", rules=("5: from all unreachable",)), "rule 5", "delete priority 5"),
    ):
        roads["", "203.0.113.1"] = road
        answer = await shop.says("web", "world:443")
        assert not answer.arrives and word in answer.hops[-1].says, answer.hops[-1]
        assert any(remedy in line for line in answer.advice), answer.advice


async def test_other_peoples_rules_are_asked_wherever_the_packet_goes(shop: Shop) -> None:
    """In the caller's stack, on the bridge, on the host, and where it arrives; each once by itself."""
    inside = {name: stack.sandbox.namespace for name, stack in shop.stacks().items()}
    for ns, family, hook, source, target in (
        (inside["web"], "ip", "output", "web", "db:80"),
        (inside["db"], "inet", "input", "web", "db:80"),
        ("", "bridge", "forward", "web", "db:80"),
        ("", "bridge", "prerouting", "web", "world:80"),
        ("", "ip", "prerouting", "web", "world:80"),
        ("", "ip", "postrouting", "web", "world:80"),
        ("", "inet", "input", "web", "172.18.0.1:80"),
        ("", "inet", "output", "host", "web:80"),
        ("", "netdev", "ingress", "world", "host:8080"),
    ):
        before = await shop.says(source, target)
        shop.paper.host.listings = {ns: rules("drop", family, hook)}
        answer = await shop.says(source, target)
        assert before.arrives and not answer.arrives, (hook, face.text(shown(answer)))
        assert answer.hops[-1].at == "others" and "theirs" in answer.hops[-1].says
        shop.paper.host.listings = {ns: rules("accept", family, hook)}
        assert (await shop.says(source, target)).hops == before.hops, "what passes is not told"


async def test_what_cannot_be_told_is_said_so(shop: Shop) -> None:
    shop.paper.host.listings = {"": rules("accept", "inet", "forward", "ip saddr @blocked drop")}
    shop.paper.host.legacy = ("iptables filter",)
    answer = await shop.says("web", "world:80")
    assert answer.arrives and answer.works and "unless somebody else's rules stop it" in answer.verdict
    assert [hop.at for hop in answer.hops if hop.unsure] == ["others", "others"]
    assert face.text(shown(answer)).count("\n? others") == 2


async def test_the_doctor_is_told_what_others_left_in_the_way(shop: Shop) -> None:
    """Routes, refusals and policies, once each; not rules that somebody meant, nor a container's own doings."""
    host, explainer = shop.paper.host, shop.explainer
    assert await explainer.obstacles() == []
    host.roads["", "172.18.0.2"] = TUNNEL
    (found,) = await explainer.obstacles()
    assert (found.between, found.owner) == ("the host -> container web on RED", "")
    assert "172.18.0.2/32 dev tun0" in found.found and "ip route delete 172.18.0.2/32 dev tun0" in found.remedy
    host.roads = {("", "203.0.113.1"): Road(kind="prohibit", prefix="203.0.113.0/24")}
    assert [each.between for each in await explainer.obstacles()] == ["container web -> the world"]
    host.roads, host.listings = {}, {"": DOCKERS}
    (found,) = await explainer.obstacles()
    assert found.owner == "dockerd" and found.remedy.startswith("iptables -I DOCKER-USER")
    host.listings = {"": BLOCKED + rules("accept", "ip", "forward", "drop")}
    assert await explainer.obstacles() == []


@pytest.mark.parametrize(("caps", "told"), [((), True), (("NET_ADMIN",), False)])
async def test_a_stack_of_its_own_is_its_own_affair_for_who_may(shop: Shop, caps: tuple[str, ...], told: bool) -> None:
    container = next(c for c in shop.paper.catalog if c.name == "web")
    host = msgspec.structs.replace(container.host, cap_add=caps)
    await shop.paper.catalog.put(msgspec.structs.replace(container, host=host))
    inside = shop.stacks()["web"].sandbox.namespace
    shop.paper.host.roads[inside, "203.0.113.1"] = Road(kind="unicast", device="tun9", prefix="0.0.0.0/1")
    found = await shop.explainer.obstacles()
    assert [each.found for each in found] == [
        "a route that is not ours takes 203.0.113.1: 0.0.0.0/1 dev tun9 (table main)"
    ] * told


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
would help. A and B are containers (name or id), addresses, `host`, or `world` (also `outside`); without a port it is a
ping, `/udp` behind the port says the protocol, `-6` asks for IPv6. B may also be a service of a swarm (its name, an
alias, `tasks.NAME`, its own address), `host:PORT` for a port that it publishes, or a name of the HTTP mesh
(`http://…`).

What is said comes from the [wanted objects](why/wanting.md), and the rules are followed as they are written: there is
no second description of the firewall that could be wrong. `--check` makes the same walk over what the kernel has, and
names every object on the way that is missing or different. Nothing is sent.

What other people have put in its way is walked, too: their nftables (and what iptables made there), on the host, on the
bridge and in the containers; `x` stands before what surely stops the packet, `?` before what may, because it depends on
something that cannot be told from here (a mark, a named set, a limit). Legacy iptables can only be named. And which way
it goes is asked from the kernel, so a narrower route, a policy rule, `rp_filter` or forwarding that is off is seen and
named, whoever made it.

It says whether a packet *arrives*. Whether a program listens there is not looked at.

| exit code | |
|---|---|
| 0 | it arrives (at every task that may be chosen), and the name that was typed resolves |
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

THEIRS = """
## Somebody else's firewall
{firewall}

## Perhaps
{perhaps}

## Somebody else's route
{route}
"""
DOCKERS = "table ip filter {\n\tchain DOCKER-USER {\n\t}\n\n\tchain FORWARD {\n" + (
    "\t\ttype filter hook forward priority filter; policy drop;\n\t\tcounter jump DOCKER-USER\n"
    '\t\toifname "br-theirs" ct state related,established counter accept\n\t}\n}\n'
)
TUNNEL = Road(kind="unicast", device="tun0", prefix="172.18.0.2/32", origin="static")
BLOCKED = rules("accept", "inet", "forward", 'iifname "br-*" ip daddr @blocked reject', table="office")


async def test_the_page_says_what_the_code_says(shop: Shop, tmp_path: Path) -> None:
    from engine.test_explain_services import page  # which needs the shop

    parts = [PAGE]
    for heading, source, target, family in TRANSCRIPTS:
        answer = await shop.says(source, target, family)
        command = f"$ fairlead explain {'-6 ' if family == 6 else ''}{source} {target}"
        title = f"\n## {heading}\n" if heading else ""
        parts.append(f"{title}\n```\n{command}\n{face.text(shown(answer))}\n```\n")
    told = {}
    for name, listing, road in (("firewall", DOCKERS, None), ("perhaps", BLOCKED, None), ("route", "", TUNNEL)):
        shop.paper.host.listings, shop.paper.host.roads = {"": listing}, {("", "172.18.0.2"): road} if road else {}
        source, target = ("world", "host:8080") if road else ("web", "world:443")
        answer = await shop.says(source, target)
        told[name] = f"\n```\n$ fairlead explain {source} {target}\n{face.text(shown(answer))}\n```"
    parts.append(THEIRS.format(**told))
    parts.append(await page(tmp_path / "street"))
    same_as("docs/explain.md", "".join(parts))
