"""Two hosts and a store: what one makes the other has, nobody has an address twice, and an outage mends itself.

one --- store --- two        each an engine on paper
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from engine.paper import Paper, engine
from fairlead.core import remotes
from fairlead.core.model import EndpointSettings, Ipam, Network, NetworkRequest, Remote, ServicePart, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.wanted import Forwarding, Vip
from fairlead.engine.claims import Claims, Holder
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound, Unavailable
from fairlead.store.base import ANY
from fairlead.store.memory import MemoryStore


class Flaky(MemoryStore):
    """A store that can be away. Watches wait, as they promise."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: object = None) -> int:
        self._refuse()
        await asyncio.sleep(0)
        return await super().put_if(key, value, version)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        self._refuse()
        await super().delete_if(key, version)

    async def get(self, key: str):  # type: ignore[no-untyped-def]
        self._refuse()
        await asyncio.sleep(0)
        return await super().get(key)

    async def list(self, prefix: str):  # type: ignore[no-untyped-def]
        self._refuse()
        return await super().list(prefix)

    def _refuse(self) -> None:
        if self.away:
            raise Unavailable("the cluster store is away")


class Hosts:
    """Two engines; ``settled`` returns when both have said and heard everything."""

    def __init__(self, store: Flaky, one: Paper, two: Paper) -> None:
        self.store, self.one, self.two = store, one, two

    async def settled(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not look():
                await asyncio.sleep(0)


@pytest.fixture
async def hosts(tmp_path) -> AsyncIterator[Hosts]:  # type: ignore[no-untyped-def]
    store = Flaky()
    async with asyncio.TaskGroup() as tasks:
        papers = []
        for number, name in ((11, "one"), (12, "two")):
            paper = engine(tmp_path / name, cluster=store, node=f"n{number}", name=name, vtep=f"192.168.77.{number}")
            papers.append(paper)
        running = [tasks.create_task(p.cluster.run(p.controller)) for p in papers if p.cluster]
        yield Hosts(store, *papers)
        for task in running:
            task.cancel()


RED = NetworkRequest("RED", "overlay", ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"),)))


def knows(paper: Paper, name: str) -> Network | None:
    return next((network for network in paper.controller.networks() if network.name == name), None)


async def joined(paper: Paper, name: str, network: str = "RED", **fields: object) -> str:
    container = await paper.container(name, network, **fields)
    stack = await paper.open(container)
    return next(e.address4 for n, e in stack.attached if n.name == network)


async def test_a_network_is_everywhere_with_the_same_id(hosts: Hosts) -> None:
    made = await hosts.one.controller.create(RED)
    assert (made.scope, made.options[VNI]) == ("global", "4097")
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    assert knows(hosts.two, "RED") == made
    blue = await hosts.two.controller.create(NetworkRequest("BLUE", "overlay"))
    assert (blue.options[VNI], blue.ipam.config[0].subnet) == ("4098", "10.0.0.0/24")
    await hosts.settled(lambda: knows(hosts.one, "BLUE"))
    await hosts.two.controller.remove("RED")
    await hosts.settled(lambda: not knows(hosts.one, "RED"))
    assert [entry.key for entry in await hosts.store.list("networks/")] == [f"networks/{blue.id}"]


async def test_the_same_name_or_subnet_is_given_once(hosts: Hosts) -> None:
    results = await asyncio.gather(
        *(paper.controller.create(RED) for paper in (hosts.one, hosts.two)), return_exceptions=True
    )
    assert {type(result) for result in results} == {Network, Conflict}, results
    await hosts.settled(lambda: knows(hosts.one, "RED") and knows(hosts.two, "RED"))
    other = NetworkRequest("PINK", "overlay", ipam=RED.ipam)
    for paper in (hosts.one, hosts.two):
        with pytest.raises(Forbidden, match=r"overlaps|conflicts"):
            await paper.controller.create(other)
    many = await asyncio.gather(
        *(p.controller.create(NetworkRequest(f"n{i}", "overlay")) for i in range(8) for p in (hosts.one, hosts.two)),
        return_exceptions=True,
    )
    networks = [each for each in many if isinstance(each, Network)]
    assert len(networks) == 8
    assert len({each.options[VNI] for each in networks}) == len({each.ipam.config[0].subnet for each in networks}) == 8


async def test_an_identifier_that_was_asked_for_is_given_or_refused(hosts: Hosts) -> None:
    made = await hosts.one.controller.create(NetworkRequest("a", "overlay", options={VNI: "5000"}))
    assert made.options[VNI] == "5000"
    with pytest.raises(Forbidden, match=r"5000 is network a's"):
        await hosts.two.controller.create(NetworkRequest("b", "overlay", options={VNI: "5000"}))
    with pytest.raises(Invalid, match="is no identifier"):
        await hosts.two.controller.create(NetworkRequest("b", "overlay", options={VNI: "4097,4098"}))


async def test_endpoints_are_told_and_heard(hosts: Hosts) -> None:
    red = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    assert await joined(hosts.one, "web") == "10.9.0.2"
    assert await joined(hosts.two, "db") == "10.9.0.3"
    await hosts.settled(lambda: hosts.one.controller.elsewhere(red.id) and hosts.two.controller.elsewhere(red.id))
    (web,) = hosts.two.controller.elsewhere(red.id)
    assert (web.name, web.ipv4, web.mac, web.host) == ("web", "10.9.0.2/24", "02:42:0a:09:00:02", "one")
    assert hosts.two.told.others == {(red.id, web.id): web.names}
    vias = {item.via for item in hosts.two.host.look() if isinstance(item, Forwarding)}
    assert vias == {"192.168.77.11"}
    stack = hosts.one.attachments.stack(hosts.one.catalog.get("web"))
    assert stack is not None
    await hosts.one.attachments.close(stack)
    await hosts.settled(lambda: not hosts.two.controller.elsewhere(red.id))
    await hosts.settled(lambda: len(hosts.store._entries) == 4)  # index, network, db's address and row
    assert not [item for item in hosts.two.host.look() if isinstance(item, Forwarding)]


async def test_nobody_gets_an_address_twice(hosts: Hosts) -> None:
    await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    found = await asyncio.gather(*(joined(paper, f"c{i}") for i in range(10) for paper in (hosts.one, hosts.two)))
    assert len(set(found)) == 20
    with pytest.raises(FairleadError, match="Address already in use"):
        await joined(hosts.two, "greedy", settings={"RED": EndpointSettings(ipv4=found[0])})


async def test_a_network_with_containers_anywhere_stays(hosts: Hosts) -> None:
    made = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    await joined(hosts.two, "db")
    with pytest.raises(Forbidden, match=r'has active endpoints \(name:"(db" on two|10\.9\.0\.2)"? id:'):
        await hosts.one.controller.remove("RED")
    await hosts.settled(lambda: hosts.one.controller.elsewhere(made.id))
    with pytest.raises(Forbidden, match=r'has active endpoints \(name:"db" on two id:'):
        await hosts.one.controller.remove("RED")
    assert knows(hosts.one, "RED")


async def test_a_dead_host_is_struck_by_a_person(hosts: Hosts) -> None:
    """By name or id, and what it had with it; then the network can go."""
    red = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    dead = Remote(
        id="d" * 64, network=red.id, node="n66", host="three", vtep="192.168.77.66", name="gone",
        mac="02:42:0a:09:00:42", ipv4="10.9.0.66/24",
    )  # fmt: skip
    for id, address in (("d" * 64, "10.9.0.66"), ("e" * 64, "10.9.0.67"), ("f" * 64, "10.9.0.68")):
        holder = msgspec.json.encode(Holder("n66", id))
        await hosts.store.put_if(f"addresses/{red.id}/{address}", holder)  # the last two: it died before it told
    await hosts.store.put_if(f"endpoints/n66/{dead.id}", msgspec.json.encode(dead))
    await hosts.settled(lambda: hosts.one.controller.elsewhere(red.id))
    for ref in ("gone", "10.9.0.67", "f" * 12):
        with pytest.raises(Forbidden, match="has active endpoints"):
            await hosts.one.controller.remove("RED")
        await hosts.one.controller.strike(red, ref)
    await hosts.settled(lambda: not hosts.one.controller.elsewhere(red.id))
    with pytest.raises(NotFound, match="endpoint gone not found"):
        await hosts.one.controller.strike(red, "gone")
    await hosts.settled(lambda: not hosts.two.controller.elsewhere(red.id))
    await hosts.one.controller.remove("RED")
    assert [entry.key for entry in await hosts.store.list("")] == ["index"]


async def test_who_was_struck_and_lives_is_told_again(hosts: Hosts) -> None:
    red = await hosts.one.controller.create(RED)
    await joined(hosts.one, "web")
    await hosts.settled(lambda: hosts.two.controller.elsewhere(red.id))
    (row,) = hosts.two.controller.elsewhere(red.id)
    before = {entry.key: entry.value for entry in await hosts.store.list("")}
    gone: list[str] = []
    unlearn = hosts.two.overlays.unlearn
    hosts.two.overlays.unlearn = lambda id, later: gone.append(id) or unlearn(id, later=later)  # type: ignore
    await hosts.two.controller.strike(red, "web")
    await hosts.settled(lambda: gone == [row.id] and hosts.two.controller.elsewhere(red.id) == [row])
    assert {entry.key: entry.value for entry in await hosts.store.list("")} == before


async def test_of_tasks_that_come_together_sandboxes_are_told_together(hosts: Hosts) -> None:
    red = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    await joined(hosts.two, "client")
    client = hosts.two.host.log
    pool = ipaddress.ip_network(red.ipam.config[0].subnet)
    del client[:]
    part = ServicePart(service="s", name="web", task="t", vip=str(pool[200]), serving=True)
    rows = [
        Remote(
            id=f"{number:064x}",
            network=red.id,
            node="three",
            host="three",
            vtep="192.168.90.13",
            name=f"web{number}",
            mac=f"02:42:00:00:00:{number:02x}",
            ipv4=f"{pool[number]}/{pool.prefixlen}",
            part=part,
        )
        for number in range(50, 90)
    ]
    await asyncio.gather(*(hosts.store.put_if(f"endpoints/three/{row.id}", msgspec.json.encode(row)) for row in rows))

    def told() -> list[Vip]:
        return [item for deed, item in client if deed == "make" and isinstance(item, Vip)]

    await hosts.settled(lambda: told() and len(told()[-1].targets) == 40)
    assert len(told()) <= 4, "the client's sandbox was told again for each of them"


async def test_with_the_store_away_what_stands_stands(hosts: Hosts) -> None:
    red = await hosts.one.controller.create(RED)
    await joined(hosts.one, "web")
    await hosts.settled(lambda: hosts.two.controller.elsewhere(red.id))
    hosts.store.away = True
    with pytest.raises(FairleadError, match="store is away"):
        await hosts.one.controller.create(NetworkRequest("BLUE", "overlay"))
    with pytest.raises(FairleadError, match="store is away"):
        await joined(hosts.one, "late")
    await hosts.one.controller.create(NetworkRequest("local"))
    stack = hosts.one.attachments.stack(hosts.one.catalog.get("web"))
    assert stack is not None
    await hosts.one.attachments.close(stack)
    assert hosts.two.controller.elsewhere(red.id)
    hosts.store.away = False
    await hosts.settled(lambda: not hosts.two.controller.elsewhere(red.id))
    await hosts.settled(lambda: len(hosts.store._entries) == 2)  # index, network


async def test_a_failed_attach_gives_its_address_back(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    await hosts.one.controller.create(RED)

    async def refuse(*_: object) -> None:
        raise Conflict("no")

    monkeypatch.setattr(hosts.one.sandboxes, "join", refuse)
    with pytest.raises(FairleadError):
        await joined(hosts.one, "web")
    await hosts.settled(lambda: len(hosts.store._entries) == 2)


@pytest.mark.proves(
    "cluster-contents",
    guard=("core/remotes.py", "    if not holds:\n", "    if False:\n"),
)
async def test_what_makes_no_sense_is_passed_over(hosts: Hosts) -> None:
    """The store may be written by anybody who reaches it."""
    red = await hosts.one.controller.create(RED)
    await joined(hosts.one, "web")
    good = Remote(
        id="a" * 64, network=red.id, node="n66", host="three", vtep="192.168.77.66", name="x",
        mac="02:42:0a:09:00:42", ipv4="10.9.0.66/24", names=("x",),
    )  # fmt: skip

    def row(letter: str, value: object) -> tuple[str, bytes]:
        kind = "networks" if isinstance(value, Network) else "endpoints/n66"
        return f"{kind}/{letter * 64}", msgspec.json.encode(msgspec.structs.replace(value, id=letter * 64))

    change = msgspec.structs.replace
    bad = {
        "endpoints/n66/junk": b"{",
        "endpoints/n66/bytes": b'{"id": "\xc0"}',
        "networks/bytes": b'{"id": "\xc0"}',
        f"endpoints/n66/{'b' * 64}": msgspec.json.encode(good),
        **dict(
            [
                row("c", change(good, mac="ff:ff:ff:ff:ff:ff")),
                row("d", change(good, vtep="224.0.0.1")),
                row("e", change(good, names=("a b",))),
                row("f", change(red, driver="bridge")),
                row("0", change(red, options={VNI: "1 drop"})),
            ]
        ),
    }
    for key, value in bad.items():
        await hosts.store.put_if(key, value)
    await hosts.store.put_if(f"endpoints/n66/{good.id}", msgspec.json.encode(good))
    await hosts.settled(lambda: hosts.one.controller.elsewhere(red.id))
    assert hosts.one.controller.elsewhere(red.id) == [good]
    assert len([network for network in hosts.one.controller.networks() if network.scope == "global"]) == 1
    # Known, but its address is not the network's to give: nobody is led astray.
    stray = msgspec.structs.replace(good, id="9" * 64, ipv4="10.99.0.1/24", mac="02:42:0a:63:00:01")
    await hosts.store.put_if(f"endpoints/n66/{stray.id}", msgspec.json.encode(stray))
    await hosts.settled(lambda: len(hosts.one.controller.elsewhere(red.id)) == 2)
    assert (red.id, stray.id) not in hosts.one.told.others


@pytest.mark.proves(
    "cluster-rows",
    guard=("engine/cluster.py", "        if known is not None and known.node != node:\n", "        if False:\n"),
)
async def test_a_host_speaks_for_its_own_endpoints_only(hosts: Hosts) -> None:
    """Another one's row under a key of its own: neither changed nor taken away by it; an address of ours is ours."""
    red = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    await joined(hosts.one, "web")
    await joined(hosts.two, "db")
    await hosts.settled(lambda: hosts.one.controller.elsewhere(red.id) and hosts.two.controller.elsewhere(red.id))
    (db,), (web,) = (host.controller.elsewhere(red.id) for host in (hosts.one, hosts.two))
    evil = msgspec.structs.replace(db, node="n66", host="three", vtep="192.168.77.66")
    stolen = msgspec.structs.replace(web, id="e" * 64, node="n66", host="three", vtep="192.168.77.66")
    before = set(hosts.one.host.look())
    for row in (evil, stolen):
        await hosts.store.put_if(f"endpoints/n66/{row.id}", msgspec.json.encode(row))
    await hosts.store.delete_if(f"endpoints/n66/{evil.id}")
    late = msgspec.structs.replace(evil, id="f" * 64, mac="02:42:0a:09:00:63", ipv4="10.9.0.99/24", names=("late",))
    await hosts.store.put_if(f"endpoints/n66/{late.id}", msgspec.json.encode(late))
    await hosts.settled(lambda: late in hosts.one.controller.elsewhere(red.id))  # all before it is heard by now
    assert hosts.one.controller.elsewhere(red.id) == [db, late]
    await hosts.store.delete_if(f"endpoints/n66/{late.id}")
    await hosts.settled(lambda: hosts.one.controller.elsewhere(red.id) == [db])
    assert set(hosts.one.host.look()) == before


async def test_a_damaged_store_stops_what_would_guess(hosts: Hosts) -> None:
    red = await hosts.one.controller.create(RED)
    await joined(hosts.one, "web")
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    index = await hosts.store.get("index")
    assert index
    await hosts.store.put_if("index", b'{"id": "\xc0"}')
    with pytest.raises(FairleadError, match="index in the cluster store is damaged"):
        await hosts.one.controller.create(NetworkRequest("BLUE", "overlay"))
    await hosts.store.put_if("index", index.value)
    await hosts.store.put_if(f"addresses/{red.id}/10.9.0.3", b"\xc0")
    assert await joined(hosts.two, "db") == "10.9.0.4", "held, by whomever"
    with pytest.raises(FairleadError, match="active endpoints"):
        await hosts.two.controller.remove("RED")


async def test_a_subnet_in_use_is_not_given_back(hosts: Hosts) -> None:
    """Its network's record was lost between two writes; its addresses tell that it is used."""
    red = await hosts.one.controller.create(RED)
    await hosts.settled(lambda: knows(hosts.two, "RED"))
    await joined(hosts.two, "db")
    await hosts.store.delete_if(f"networks/{red.id}")
    claims = Claims(hosts.store, "n11")
    await claims.tidy(())
    assert b"10.9.0.0/24" in (await hosts.store.get("index")).value
    for entry in await hosts.store.list("addresses/"):
        await hosts.store.delete_if(entry.key)
    await claims.tidy(())
    assert b"10.9.0.0/24" not in (await hosts.store.get("index")).value


async def test_a_lease_that_fails_while_rows_are_told_ends_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look at what was told; the one that tells is in the middle of it."""
    red = await hosts.one.controller.create(RED)
    put, cluster = hosts.store.put_if, hosts.one.cluster
    assert cluster

    async def forget_meanwhile(key: str, value: bytes, version: int = ANY, lease: object = None) -> int:
        if key.startswith("endpoints/"):
            cluster._told = None
        return await put(key, value, version, lease)

    monkeypatch.setattr(hosts.store, "put_if", forget_meanwhile)
    await joined(hosts.one, "web")
    await joined(hosts.one, "db")
    await hosts.settled(lambda: len(hosts.two.controller.elsewhere(red.id)) == 2)


async def test_while_many_are_heard_of_others_are_served(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store, many = MemoryStore(), 200
    for number in range(many):
        row = Remote(
            id=f"{number:064x}", network="b" * 64, node="n66", host="three", vtep="192.168.77.66", name="x",
            mac=f"02:42:0a:09:00:{number:02x}", ipv4=f"10.9.0.{number}/24",
        )  # fmt: skip
        await store.put_if(f"endpoints/n66/{row.id}", msgspec.json.encode(row))
    paper = engine(tmp_path / "one", cluster=store, node="n11", name="one", vtep="192.168.77.11")
    assert paper.cluster
    hearing = asyncio.create_task(paper.cluster.run(paper.controller))
    served = 0
    async with asyncio.timeout(5):
        while len(paper.controller.elsewhere("b" * 64)) < many:
            served += 1
            await asyncio.sleep(0)
    hearing.cancel()
    assert served > many // 2


async def test_networks_that_are_as_they_were_are_not_read_again(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """After a restart there may be a thousand of them. What is new meanwhile, or comes later, is read."""
    store, read = MemoryStore(), []
    reads = remotes.read_network
    monkeypatch.setattr(remotes, "read_network", lambda key, value: (read.append(key), reads(key, value))[1])
    made = [
        Network(
            id=f"{number:064x}", name=f"n{number}", created="", driver="overlay", scope="global",
            ipam=Ipam(config=(Subnet(subnet=f"10.9.{number}.0/24"),)), options={VNI: str(4097 + number)},
        )
        for number in range(3)
    ]  # fmt: skip
    other = msgspec.structs.replace(made[1], labels={"colour": "red"})

    async def write(network: Network) -> None:
        await store.put_if(f"networks/{network.id}", msgspec.json.encode(network))

    async def hear(*expected: Network) -> None:
        async with asyncio.timeout(5):
            while not all(network in paper.controller.networks() for network in expected):
                await asyncio.sleep(0)

    paper = engine(tmp_path / "one", cluster=store, node="n11", name="one", vtep="192.168.77.11")
    assert paper.cluster
    for network in made:
        await write(network)
    first = asyncio.create_task(paper.cluster.run(paper.controller))
    await hear(*made)
    first.cancel()
    await asyncio.wait([first])
    read.clear()
    await write(other)
    again = asyncio.create_task(paper.cluster.run(paper.controller))
    await hear(made[0], other, made[2])
    assert read == [f"networks/{other.id}"]
    await write(made[1])
    await hear(*made)
    again.cancel()
