"""Explaining services on paper: whom their names, ports and the HTTP mesh lead to, and why somebody does not serve."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from engine.paper import Paper, engine
from engine.test_explain import Shop, rules
from fairlead.api.explain import shown
from fairlead.cli import explain as face
from fairlead.core import webmesh
from fairlead.core.cluster import Attachment, Description, Node, Service, State, Task, TaskStatus
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, NetworkRequest, Remote, ServicePart, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.service import (
    Mode,
    NetworkAttachment,
    Replicated,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.swarmspec import SharedNetwork
from fairlead.core.terrain import Road
from fairlead.core.wanted import Address, Inlet, Link, MeshPort, Route, Rule, Vip
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.explain import Explanation
from fairlead.engine.explainservices import Directory
from fairlead.engine.machine import Machine, Wishes
from fairlead.engine.mesh import Mesh
from fairlead.engine.swarm import LateSwarm


def network(name: str, number: int, **fields: Any) -> Network:
    pool = Subnet(subnet=f"10.0.{number}.0/24", gateway=f"10.0.{number}.1", chosen=True)
    made = Network(
        name[0] * 25, name, "", "overlay", "swarm", ipam=Ipam(config=(pool,)), options={VNI: str(4096 + number)}
    )
    return replace(made, **fields)


INGRESS = network("ingress", 0, ingress=True)
APP = network("app", 1, attachable=True)
BACK = network("back", 2)
WEB = network(webmesh.NAME, 3)
NETWORKS = (INGRESS, APP, BACK, WEB)
API = ServicePart("s1", "api", "", vip="10.0.1.2", names=("backend",), serving=True)
PORTS = ("8080:80/tcp",)
HOSTS = {"h2": "192.168.77.12", "h3": "192.168.77.13"}


class PaperCluster:
    """What the engine asks of the swarm's networks: addresses as they were wished for."""

    scope = "swarm"

    def __init__(self, paper: Paper) -> None:
        self.others = paper.overlays.others

    async def lease(self, network: Network, endpoint: Endpoint, taken: set[str]) -> Endpoint:
        return replace(endpoint, ipv4=f"{endpoint.settings.ipv4}/24")

    def changed(self, endpoint: Endpoint) -> None: ...


class Street:
    """One node of a swarm: containers, tasks of its own, and what rows tell of those of others."""

    def __init__(self, folder: Path) -> None:
        self.paper: Paper = engine(folder)
        self.folder = folder
        self.shop = Shop(self.paper)
        self.managers: Any = None
        self.shop.explainer._services = Directory(
            self.paper.controller, self.paper.overlays, self.control, lambda: self.mesh
        )

    def control(self) -> Any:
        return self.managers or LateSwarm(pytest.fail, lambda: False).control()

    async def build(self) -> None:
        paper = self.paper
        paper.sharing.cluster = PaperCluster(paper)  # type: ignore[assignment]
        for item in (
            Link(name="eth0", kind="veth", peer="far"),
            Address(link="eth0", address="192.168.77.11/24"),
            Route(destination="0.0.0.0/0", link="eth0"),
        ):
            paper.host.put(item)
        for one in NETWORKS:
            await paper.controller.accept(one)
        machine = Machine(paper.kernel, paper.host, self.folder / "forwarding", "boot", Wishes())
        machine.ready = lambda *_: None  # type: ignore[method-assign]
        self.mesh = Mesh(
            paper.host, paper.kernel, machine, paper.controller, paper.endpoints, paper.overlays, Overlay(),
            paper.publisher, Facts(vtep=paper.facts.vtep),
        )  # fmt: skip
        await self.mesh.enter(INGRESS, ("10.0.0.2/24",))
        await paper.controller.create(NetworkRequest("RED"))
        await self.put("web", APP, 7)
        await self.shop.run("plain", "RED")
        await self.row("api.1", "h2", APP, 5, API)
        await self.row("api.1", "h2", INGRESS, 5, replace(API, vip="", ports=PORTS))

    async def put(
        self, name: str, on: Network, number: int, part: ServicePart | None = None, service: str = "", **more: Any
    ) -> None:
        """A container of this host."""
        third = on.ipam.config[0].subnet.split(".")[2]
        wish = EndpointSettings(ipv4=f"10.0.{third}.{number}", part=part and replace(part, task=f"{name}-id"))
        made = await self.paper.container(name, settings={on.name: wish, **more})
        labels = {"com.docker.swarm.service.name": service} if service else None
        await self.paper.open(await self.paper.catalog.put(replace(made, config=replace(made.config, labels=labels))))

    async def row(self, name: str, host: str, on: Network, number: int, part: ServicePart | None) -> Remote:
        """What a row says of a task elsewhere."""
        third = int(on.ipam.config[0].subnet.split(".")[2])
        row = Remote(
            id=f"{third}{number}".rjust(64, "0"), network=on.id, node=host, host=host, vtep=HOSTS[host],
            name=f"{name}.{name}-id", mac=f"02:42:0a:00:{third:02x}:{number:02x}", ipv4=f"10.0.{third}.{number}/24",
            part=part and replace(part, task=f"{name}-id"),
        )  # fmt: skip
        await self.paper.overlays.learn(row)
        return row

    async def says(self, source: str, target: str, check: bool = False) -> Explanation:
        return await self.shop.explainer.explain(source, target, 0, check)


@pytest.fixture
async def street(tmp_path: Path) -> Street:
    made = Street(tmp_path)
    await made.build()
    return made


def text(answer: Explanation) -> str:
    return face.text(shown(answer))


def last(answer: Explanation) -> str:
    return answer.hops[-1].says


async def own(street: Street, name: str = "api.2", number: int = 8) -> None:
    """A task on this node, on ingress as well."""
    part = replace(API, vip="", names=(), ports=PORTS, task=f"{name}-id")
    await street.put(name, APP, number, API, ingress=EndpointSettings(ipv4=f"10.0.0.{number}", part=part))


async def test_a_service_is_each_of_its_tasks(street: Street) -> None:
    await street.row("api.3", "h3", APP, 6, replace(API, weight=2))
    await own(street)
    answer = await street.says("web", "api:80", check=True)
    told = [hop.says for hop in answer.hops if hop.at == "task"]
    assert told == ["1 of 4: api.1 on h2, 10.0.1.5", "1 of 4: api.2 on this host, 10.0.1.8",
                    "2 of 4: api.3 on h3, 10.0.1.6"]  # fmt: skip
    assert answer.works and answer.place == "each of 3 tasks" and not answer.differs
    by_address = await street.says("web", "10.0.1.2:80")
    assert by_address.works and by_address.resolves is None and by_address.hops[0].at == "service"


async def test_one_task_that_cannot_be_reached_is_told_among_the_others(street: Street) -> None:
    await street.row("api.3", "h3", APP, 6, API)
    inside = street.shop.stacks()["web"].sandbox.namespace
    street.paper.host.roads[inside, "10.0.1.6"] = Road(kind="prohibit", prefix="10.0.1.6/32")
    answer = await street.says("web", "api:80")
    assert not answer.works and answer.verdict == "arrives at 1 of 2 tasks only"
    assert "prohibit 10.0.1.6/32" in last(answer) and any("ip route delete" in line for line in answer.advice)


async def test_what_the_kernel_has_otherwise_is_seen(street: Street) -> None:
    vip = next(item for item in street.paper.kernel.wanted() if isinstance(item, Vip))
    street.paper.host.things[vip.key] = replace(vip, targets=(("10.0.1.66", 1),))
    answer = await street.says("web", "api:80", check=True)
    assert answer.differs and any(line.startswith("differs: vip") for line in answer.differs)


async def test_by_which_way_a_process_comes_to_its_task(street: Street) -> None:
    """Over TCP where it connects, as far as the host leads it there; all else by the table."""

    async def way(port: str) -> list[str]:
        answer = await street.says("web", f"api:{port}")
        assert answer.works
        return [hop.at for hop in answer.hops if "becomes 10.0.1.5" in hop.says]

    assert await way("80") == ["dnat"]
    street.paper.host.led.add((street.shop.stacks()["web"].sandbox.namespace, API.vip))
    assert await way("80") == ["connect"] and await way("80/udp") == ["dnat"]
    inside = street.shop.stacks()["web"].sandbox.namespace
    street.paper.host.listings = {inside: rules("accept", "inet", "output", "ct status dnat drop")}
    assert (await street.says("web", "api:80")).works, "nothing was turned"
    assert not (await street.says("web", "api:80/udp")).works


async def test_nobody_serves(street: Street) -> None:
    """A worker sees who takes no requests; a manager also why."""
    row = await street.row("api.1", "h2", APP, 5, replace(API, serving=False))
    answer = await street.says("web", "api:80")
    assert not answer.works and answer.hops[-1].at == "vip" and "no task of it serves" in last(answer)
    assert "api.1 on h2 takes no requests: it is not healthy yet" in text(answer)
    assert "service ps api, on a manager" in answer.advice[0]
    await street.paper.overlays.learn(replace(row, away=True))
    assert "its host is not heard of" in text(await street.says("web", "api:80"))


def task(slot: int, state: State, node: str = "", error: str = "", message: str = "", **more: Any) -> Task:
    status = TaskStatus(state, error=error, message=message)
    made = Task(f"api.{slot}-id", TaskSpec(), "s1", slot, node, status=status, created=slot)
    return replace(made, **more)


def managers(*tasks: Task, **spec: Any) -> Any:
    """As much of the swarm's records as is asked."""
    asked = ServiceSpec("api", task_template=TaskSpec(networks=(NetworkAttachment("app"),)), **spec)
    port = ServicePort("", "tcp", 80, 8080)
    services = [Service("s1", asked, addresses=(Attachment(APP.id, ("10.0.1.2/24",)),), ports=(port,))]
    nodes = [
        Node(name, description=Description(name), state=state) for name, state in (("h2", "ready"), ("h3", "down"))
    ]
    return SimpleNamespace(
        services=lambda: services, tasks=lambda: list(tasks), nodes=lambda: nodes,
        networks=lambda: [SharedNetwork(one.id, one) for one in NETWORKS],
    )  # fmt: skip


NOBODY_FITS = "no suitable node (insufficient resources on 2 nodes)"
WHY = [
    (task(1, State.PENDING, error=NOBODY_FITS), f"api.1 is pending: {NOBODY_FITS}"),
    (task(1, State.PREPARING, "h2", message="preparing"), "api.1 is preparing on h2: preparing"),
    (task(1, State.RUNNING, "h3"), "api.1 was on h3, which is down: not heard of"),
    (task(1, State.RUNNING, "h2"), "api.1 on h2 takes no requests"),
    (task(4, State.RUNNING, "h2"), "api.4 runs on h2, and nothing of it was heard here yet"),
]


@pytest.mark.parametrize(("one", "says"), WHY)
async def test_a_manager_knows_why(street: Street, one: Task, says: str) -> None:
    await street.row("api.1", "h2", APP, 5, replace(API, serving=False))
    street.managers = managers(one)
    answer = await street.says("web", "api:80")
    assert not answer.works and says in text(answer)


async def test_a_manager_knows_why_there_is_no_task_at_all(street: Street) -> None:
    await street.paper.overlays.forget()
    street.managers = managers(mode=Mode(replicated=Replicated(0)))
    answer = await street.says("web", "api:80")
    assert not answer.works and "api is scaled to 0" in text(answer) and "its name leads nowhere" in last(answer)
    failed = task(1, State.REJECTED, "h2", "No such image: nothing", desired=State.SHUTDOWN)
    street.managers = managers(failed, replace(task(1, State.READY, "h2", desired=State.READY), id="n", created=9))
    assert "api.1 is ready on h2: the one before it ended: No such image" in text(await street.says("web", "api:80"))


async def test_no_network_in_common(street: Street) -> None:
    answer = await street.says("plain", "api:80")
    assert not answer.works and "service api is on app, container plain on RED" in last(answer)
    assert answer.advice[0].startswith("fairlead network connect app plain") and "8080" in answer.advice[1]
    part = ServicePart("s9", "other", "", vip="10.0.2.9", serving=True)
    await street.put("other.1", BACK, 9, part)
    assert (await street.says("other.1", "api")).advice[0] == "fairlead service update --network-add app other"
    assert (await street.says("plain", "other")).advice == (
        "back is for tasks only: make plain a service on it, or back with --attachable",
    )


async def test_names_without_an_address_of_the_service(street: Street) -> None:
    bare = ServicePart("s2", "old", "", serving=True)
    await street.row("old.1", "h2", APP, 20, bare)
    await street.row("old.2", "h3", APP, 21, bare)
    answer = await street.says("web", "old:80")
    assert answer.works and "(dnsrr), so old is 2 tasks that serve" in text(answer) and "and 1 more" in text(answer)


async def test_a_task_that_draws_itself(street: Street) -> None:
    await own(street)
    answer = await street.says("api.2", "10.0.1.2:80")
    assert answer.works, text(answer)
    await street.row("api.1", "h2", APP, 5, replace(API, serving=False))
    alone = await street.says("api.2", "10.0.1.2:80")
    assert alone.works and "got itself" in last(alone)


@pytest.mark.parametrize(("hook", "says"), [("output", "theirs"), ("input", "a frame that answers comes in, but")])
async def test_a_firewall_in_the_way_of_frames(street: Street, hook: str, says: str) -> None:
    """Of the host itself: what containers say passes, what carries it does not."""
    street.paper.host.listings = {"": rules("accept", "inet", hook, "udp dport 4789 drop")}
    answer = await street.says("web", "api:80")
    assert not answer.works and says in last(answer) and "udp dport 4789 drop" in last(answer), text(answer)
    street.paper.host.listings = {"": rules("accept", "inet", hook, "tcp dport 80 drop")}
    assert (await street.says("web", "api:80")).works


async def test_what_a_worker_does_not_know_managers_may(street: Street) -> None:
    answer = await street.says("web", "elsewhere:80")
    assert "is it a service? This is a worker" in answer.advice[0]
    street.managers = managers()
    assert not (await street.says("web", "elsewhere:80")).advice


# -- published ports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["host", "world", "outside", "plain", "web"])
async def test_a_published_port_leads_to_a_task_elsewhere(street: Street, source: str) -> None:
    answer = await street.says(source, "host:8080", check=True)
    assert answer.works and answer.place == "api.1 on h2" and not answer.differs, text(answer)
    seen = {"world": "203.0.113.1", "outside": "203.0.113.1"}.get(source, "10.0.0.2")
    assert answer.source == seen, "nobody is rewritten but who is of this host"


async def test_own_tasks_come_first_without_ingress_between(street: Street) -> None:
    await own(street)
    answer = await street.says("world", "host:8080", check=True)
    assert answer.place == "container api.2" and not answer.differs, text(answer)
    assert "api.2 on this host, 172.18.0.3" in text(answer) and "docker_gwbridge" in text(answer)


async def test_what_comes_by_ingress_is_answered_by_this_node(street: Street) -> None:
    await own(street)
    answer = await street.says("host", "10.0.0.8:80", check=True)
    assert [hop.at for hop in answer.hops][-3:] == ["inlet", "arrive", "answer"] and not answer.differs, text(answer)
    assert "10.0.0.2, this node" in last(answer)


async def test_a_task_without_a_way_back_to_the_node_answers_nobody(street: Street) -> None:
    await own(street)
    ways = [item for item in street.paper.kernel.wanted() if isinstance(item, Rule)]
    street.paper.host.lose(ways)
    answer = await street.says("host", "10.0.0.8:80", check=True)
    assert answer.differs and any("no way back to this node's address on ingress" in line for line in answer.differs)


async def test_what_a_task_takes_by_ingress(street: Street) -> None:
    await own(street)
    inlet = next(item for item in street.paper.kernel.wanted() if isinstance(item, Inlet))
    street.paper.host.things[inlet.key] = replace(inlet, ports=("tcp . 81",))
    answer = await street.says("host", "10.0.0.8:80", check=True)
    assert answer.differs and "takes tcp . 81, not 10.0.0.8 port 80 tcp" in answer.differs[-1]
    out = await street.says("api.2", "10.0.0.5:80")
    assert not out.works and "the rest is refused" in last(out) and "a network of their own" in out.advice[0]


async def test_a_published_port_that_nobody_serves(street: Street) -> None:
    await street.row("api.1", "h2", INGRESS, 5, replace(API, vip="", ports=PORTS, serving=False))
    answer = await street.says("world", "host:8080")
    assert not answer.works and "port 8080 tcp is the swarm's, and no task serves it" in last(answer)
    assert "service ps api, on a manager" in answer.advice[0]


async def test_a_port_whose_tasks_are_told_of_their_clients(street: Street) -> None:
    """The relay carries it: it is nobody's address that the task sees, but the header."""
    proxied_ports = replace(API, vip="", ports=("8080:80/tcp;v2",))
    await street.row("api.1", "h2", INGRESS, 5, proxied_ports)
    await street.row("api.3", "h3", INGRESS, 6, proxied_ports)
    answer = await street.says("world", "host:8080")
    assert answer.works and answer.place == "each of 2 tasks", text(answer)
    assert "told of its clients by PROXY's header: one of 2 tasks" in text(answer)
    assert "1 of 2: api.3 on h3" in text(answer) and "the relay listens at 192.168.77.11 port 8080 tcp" in text(answer)
    await street.row("api.1", "h2", INGRESS, 5, replace(proxied_ports, serving=False))
    await street.row("api.3", "h3", INGRESS, 6, replace(proxied_ports, serving=False))
    nobody = await street.says("world", "host:8080")
    assert not nobody.works and "no task serves it" in last(nobody)


async def test_from_where_no_names_of_services_are_known(street: Street) -> None:
    answer = await street.says("host", "api:80")
    assert answer.works and "port 8080 of every node leads to port 80 of api" in answer.hops[0].says
    other = await street.says("host", "api:443")
    assert not other.works and "api publishes 8080 (for its own 80), not its 443" in last(other)
    assert other.advice == ("publish it: fairlead service update --publish-add PORT:443 api",)


async def test_a_port_that_is_another_ones_here(street: Street) -> None:
    port = next(item for item in street.paper.kernel.wanted() if isinstance(item, MeshPort))
    street.paper.kernel.drop("mesh tcp 8080")
    answer = await street.says("world", "host:8080")
    assert port.port == 8080 and "port 8080 is api's on every node but this one" in text(answer)
    nobody = await street.says("world", "host:9090")
    assert "no service publishes port 9090: api is at 8080" in text(nobody)


# -- the HTTP mesh ----------------------------------------------------------------------------------------------------


async def proxied(street: Street, *, serving: bool = True) -> None:
    """HAProxy here and elsewhere, and a service behind it."""
    proxy = ServicePart("s5", webmesh.NAME, "", vip="10.0.3.2", serving=True)
    inside = replace(proxy, vip="", ports=("80:80/tcp",), task="p1-id")
    await street.put("p1", WEB, 4, proxy, webmesh.NAME, ingress=EndpointSettings(ipv4="10.0.0.4", part=inside))
    red = ServicePart("s6", "red", "", vip="10.0.3.9", serving=serving, routes=("8000=red.example.com/",))
    await street.row("red.1", "h3", WEB, 7, red)


@pytest.mark.parametrize("target", ["red.example.com", "red.example.com:80", "http://red.example.com/a/b"])
async def test_a_name_of_the_http_mesh(street: Street, target: str) -> None:
    await proxied(street)
    answer = await street.says("world", target)
    assert answer.works and answer.place == "red.1 on h3", text(answer)
    assert "HAProxy sends red.example.com/ to port 8000 of service red" in text(answer)
    assert "container p1 calls one of its servers" in text(answer) and "10.0.3.7 port 8000 tcp" in text(answer)


async def test_names_of_the_http_mesh_that_lead_nowhere(street: Street) -> None:
    await proxied(street, serving=False)
    answer = await street.says("web", "http://red.example.com")
    assert not answer.works and "it answers 503" in text(answer) and "red.1 on h3 takes no requests" in text(answer)
    wrong = await street.says("web", "red.example.com:81")
    assert not wrong.works and "the HTTP mesh answers on 80 of every node, not on 81" in last(wrong)


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = """
## A service of a swarm

What a caller knows of a service is in rows that nodes tell each other, on every node; a manager adds what the swarm's
records say of tasks that do not serve. Each task that may be drawn is walked to: the walk that is shown is the first
that fails, if one does. A task elsewhere is followed to its host; what happens there, that host can explain. At
`connect` the process gets the task's address instead of the service's, over TCP; at `dnat` each of its packets does.
`tests/fleet/test_explain_lab.py` compares this with what happens on three hosts, while one thing after another ends.
"""


async def page(folder: Path) -> str:
    """The part of docs/explain.md about services."""
    street = Street(folder)
    await street.build()
    parts = [PAGE]

    async def say(heading: str, source: str, target: str) -> None:
        answer = text(await street.says(source, target))
        parts.append(f"\n### {heading}\n\n```\n$ fairlead explain {source} {target}\n{answer}\n```\n")

    await street.row("api.3", "h3", APP, 6, replace(API, weight=2))
    inside = street.shop.stacks()["web"].sandbox.namespace
    street.paper.host.led.add((inside, API.vip))
    await say("By name", "web", "api:80")
    await say("From where names of services are not known", "host", "api:80")
    await say("No network in common", "plain", "api:80")
    street.paper.host.roads[inside, "10.0.1.6"] = Road(kind="prohibit", prefix="10.0.1.6/32")
    await say("One task that cannot be reached", "web", "api:80")
    street.paper.host.roads.clear()
    await own(street)
    await say("A published port, and a task on this node", "world", "host:8080")
    await say("A port that nobody publishes", "world", "host:9090")
    await proxied(street)
    await say("A name of the HTTP mesh", "world", "http://red.example.com/cart")
    for name, host, number in (("api.1", "h2", 5), ("api.3", "h3", 6), ("api.2", "", 8)):
        if host:
            await street.row(name, host, APP, number, replace(API, serving=False))
    stack = street.shop.stacks()["api.2"]
    ill = [
        replace(e, settings=replace(e.settings, part=replace(API, serving=False, task="api.2-id")))
        for e in stack.endpoints
        if e.network == APP.id
    ]
    await street.paper.endpoints.change(stack, ill)
    street.managers = managers(task(2, State.RUNNING, "h2"), task(3, State.RUNNING, "h3"), WHY[0][0])
    await say("Nobody serves, asked on a manager", "web", "api:80")
    return "".join(parts)
