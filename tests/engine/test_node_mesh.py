"""The mesh on a node of paper: its leg, the swarm's published ports, and how its own tasks answer."""

import asyncio
import threading
from pathlib import Path

import msgspec
import pytest

from engine.paper import Paper
from fairlead.core import mesh
from fairlead.core.mesh import LEG, Published
from fairlead.core.model import (
    Endpoint,
    EndpointSettings,
    Ipam,
    Network,
    NetworkRequest,
    PortRequest,
    Remote,
    Sandbox,
    ServicePart,
    Subnet,
)
from fairlead.core.remotes import VNI
from fairlead.core.wanted import Address, Inlet, Leg, Link, MeshPort, Route, Rule
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.machine import Machine, Wishes
from fairlead.engine.mesh import Mesh
from fairlead.engine.relayclient import RelayPort
from fairlead.engine.sandboxes import Resolving, Stack
from fairlead.errors import FairleadError, Internal

INGRESS = Network(
    id="i" * 25, name="ingress", created="", driver="overlay", scope="swarm", ingress=True, ipv6=True,
    ipam=Ipam(config=(Subnet(subnet="10.8.0.0/24", gateway="10.8.0.1"), Subnet(subnet="fd08::/64", gateway="fd08::1"))),
    options={VNI: "4096"},
)  # fmt: skip
WEB = ServicePart(service="s", name="web", task="t", serving=True, ports=("8080:80/tcp", "5300:53/udp"))


@pytest.fixture
async def node(paper: Paper, tmp_path: Path) -> Mesh:
    """A node that is on ingress, at 10.8.0.2."""
    await paper.controller.accept(INGRESS)
    node = on(paper, tmp_path)
    await node.enter(INGRESS, ("10.8.0.2/24", "fd08::2/64"))
    return node


def on(paper: Paper, folder: Path) -> Mesh:
    return Mesh(
        paper.host, paper.kernel, Machine(paper.kernel, paper.host, folder / "forwarding", "boot", Wishes()),
        paper.controller, paper.endpoints, paper.overlays, Overlay(), paper.publisher, Facts(vtep="192.168.77.11"),
    )  # fmt: skip


def row(number: int, part: ServicePart | None = None) -> Remote:
    return Remote(
        id=f"{number:064x}", network=INGRESS.id, node="n2", host="two", vtep="192.168.77.12", name=f"c{number}",
        mac=f"02:42:0a:08:00:{number:02x}", ipv4=f"10.8.0.{number}/24", ipv6=f"fd08::{number}/64",
        part=part and msgspec.structs.replace(part, task=f"t{number}"),
    )  # fmt: skip


async def own(paper: Paper, number: int, part: ServicePart = WEB, network: Network = INGRESS) -> tuple[Stack, Endpoint]:
    id = f"c{number}".ljust(64, "0")
    stack = await paper.sandboxes.open(Sandbox(id, id, "own", id[:12], ""), "container", Resolving())
    endpoint = Endpoint(
        id=f"e{number}".ljust(64, "0"), network=network.id, container=id, sandbox=id, name=f"c{number}",
        interface="eth0", device=f"veth{number}", ipv4=f"10.8.0.{number}/24", ipv6=f"fd08::{number}/64",
        gateway4="10.8.0.1", gateway6="fd08::1", mac=f"02:42:0a:08:00:{number:02x}",
        settings=EndpointSettings(part=msgspec.structs.replace(part, task=f"t{number}")),
    )  # fmt: skip
    await paper.sandboxes.join(stack, network, endpoint)
    await paper.endpoints.stand(endpoint)
    return stack, endpoint


def led(paper: Paper) -> dict[str, set[str]]:
    """Published port -> IPv4 addresses that it leads to."""
    ports = [item for item in paper.host.look() if isinstance(item, MeshPort)]
    return {f"{p.protocol} {p.port}": {f"{a}:{port}" for a, port, _ in p.targets if ":" not in a} for p in ports}


def answered(paper: Paper) -> set[tuple[str, str]]:
    """(namespace, gateway) of every way back."""
    found = paper.host.look()
    tables = {(item.ns, item.table) for item in found if isinstance(item, Rule)}
    return {(r.ns, r.gateway) for r in found if isinstance(r, Route) and (r.ns, r.table) in tables and "." in r.gateway}


async def test_a_node_answers_on_every_published_port(paper: Paper, node: Mesh) -> None:
    assert [item.link for item in paper.host.look() if isinstance(item, Leg)] == [LEG]
    await paper.overlays.learn(row(12, WEB))
    await paper.overlays.learn(row(13, WEB))
    assert led(paper) == {"tcp 8080": {"10.8.0.12:80", "10.8.0.13:80"}, "udp 5300": {"10.8.0.12:53", "10.8.0.13:53"}}
    assert {port.port for port in paper.relay.ports.values()} == {8080, 5300}, "nobody else gets them"
    await paper.overlays.learn(row(13, msgspec.structs.replace(WEB, serving=False)))
    assert led(paper)["tcp 8080"] == {"10.8.0.12:80"} and not paper.host.forgotten[2:], "who is under way goes on"
    await paper.overlays.unlearn(row(13).id)
    assert ("tcp", "10.8.0.13", 80) in paper.host.forgotten
    await paper.overlays.unlearn(row(12).id)
    assert not led(paper) and not paper.relay.ports


async def test_nobody_waits_while_the_kernel_forgets_connections(
    paper: Paper, node: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be very many; and where it cannot, the port follows its tasks all the same."""
    threads = []

    def forget(targets: object) -> None:
        threads.append(threading.current_thread())
        raise Internal("no")

    await paper.overlays.learn(row(12, WEB))
    await paper.overlays.learn(row(13, WEB))
    monkeypatch.setattr(paper.host, "forget_answers", forget)
    await paper.overlays.unlearn(row(12).id)
    assert led(paper)["tcp 8080"] == {"10.8.0.13:80"}
    assert threads and threading.current_thread() not in threads


async def test_its_own_tasks_come_first(paper: Paper, node: Mesh) -> None:
    await paper.overlays.learn(row(12, WEB))
    stack, endpoint = await own(paper, 14)
    assert led(paper)["tcp 8080"] == {"10.8.0.14:80"}
    ill = msgspec.structs.replace(endpoint.settings.part, serving=False)
    await paper.endpoints.change(stack, [msgspec.structs.replace(endpoint, settings=EndpointSettings(part=ill))])
    assert led(paper)["tcp 8080"] == {"10.8.0.12:80"}
    await paper.endpoints.detach(stack, INGRESS, endpoint)
    assert led(paper)["tcp 8080"] == {"10.8.0.12:80"}


async def test_an_own_task_is_reached_by_its_way_out_as_long_as_it_has_one(paper: Paper, node: Mesh) -> None:
    await paper.overlays.learn(row(12, WEB))
    stack, endpoint = await own(paper, 14)
    bridge = await paper.controller.create(NetworkRequest("gw"))
    out = Endpoint(
        id="out".ljust(64, "0"), network=bridge.id, container=endpoint.container, sandbox=endpoint.sandbox, name="gw",
        interface="eth1", device="vethout", ipv4="172.18.0.3/16", gateway4="172.18.0.1", mac="02:42:ac:12:00:03",
        way_out=True,
    )  # fmt: skip
    await paper.sandboxes.join(stack, bridge, out)
    await paper.endpoints.stand(out)
    assert led(paper) == {"tcp 8080": {"172.18.0.3:80"}, "udp 5300": {"172.18.0.3:53"}}
    (port,) = [item for item in paper.host.look() if isinstance(item, MeshPort) and item.port == 8080]
    assert ("fd08::14", 80, 1) in port.targets, "it has no IPv6 there"
    assert port.bridge == paper.controller.device(bridge), "containers of that bridge do not hear each other"
    assert port.around == (("10.8.0.14", 80, 1), ("fd08::14", 80, 1)), "ingress leads them there"
    assert node.reached("172.18.0.3").part.task == "t14"
    await paper.endpoints.detach(stack, bridge, out)
    assert led(paper)["tcp 8080"] == {"10.8.0.14:80"} and ("tcp", "172.18.0.3", 80) in paper.host.forgotten
    (port,) = [item for item in paper.host.look() if isinstance(item, MeshPort) and item.port == 8080]
    assert not port.around and not port.bridge
    await paper.sandboxes.join(stack, bridge, out)
    await paper.endpoints.stand(out)
    del paper.host.forgotten[:]
    await paper.endpoints.detach(stack, INGRESS, endpoint)
    assert led(paper)["tcp 8080"] == {"10.8.0.12:80"}
    assert {("tcp", "10.8.0.14", 80), ("tcp", "172.18.0.3", 80)} <= set(paper.host.forgotten)


def carried(paper: Paper, port: int = 8080) -> dict[str, set[str]]:
    """Address at which the relay carries the port -> where it leads; "v2": with PROXY's header."""
    return {
        one.address: {f"{lead.address}:{lead.port}{' v2' if lead.proxied else ''}" for lead in one.leads}
        for one in paper.relay.ports.values()
        if one.port == port and one.carries
    }


async def test_what_a_task_wants_proxy_s_header_on_is_carried_by_the_relay(paper: Paper, node: Mesh) -> None:
    asks = msgspec.structs.replace(WEB, ports=("8080:80/tcp;v2", "5300:53/udp"))
    await paper.overlays.learn(row(12, WEB))
    await paper.overlays.learn(row(13, asks))
    both = {"10.8.0.12:80", "10.8.0.13:80 v2"}
    assert carried(paper) == {"0.0.0.0": both} and led(paper).keys() == {"udp 5300"}
    assert {one.port for one in paper.relay.ports.values() if not one.carries} == {5300}
    await paper.overlays.learn(row(13, msgspec.structs.replace(asks, serving=False)))
    assert carried(paper)["0.0.0.0"] == {"10.8.0.12:80"}
    await own(paper, 14, asks)
    assert carried(paper)["0.0.0.0"] == {"10.8.0.14:80 v2"}, "its own come first"


async def test_no_connection_without_the_header_reaches_a_task_that_comes_while_a_port_is_taken(
    paper: Paper, node: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = msgspec.structs.replace(WEB, ports=("8080:80/tcp;v2",))
    take, coming = paper.relay.open, list[asyncio.Task[None]]()

    async def slowly(*ports: RelayPort) -> dict[str, int]:
        if not coming:
            coming.append(asyncio.create_task(paper.overlays.learn(row(13, asks))))
            while row(13).id not in node._tasks:
                await asyncio.sleep(0)
        return await take(*ports)

    monkeypatch.setattr(paper.relay, "open", slowly)
    await paper.overlays.learn(row(12, msgspec.structs.replace(WEB, ports=("8080:80/tcp",))))
    await coming[0]
    assert carried(paper) == {"0.0.0.0": {"10.8.0.12:80", "10.8.0.13:80 v2"}}
    assert not [item for _, item in paper.host.log if isinstance(item, MeshPort) and "10.8.0.13" in str(item.targets)]


async def test_a_port_goes_back_to_the_kernel(paper: Paper, node: Mesh) -> None:
    asks = msgspec.structs.replace(WEB, ports=("8080:80/tcp;v2",))
    await paper.overlays.learn(row(12, asks))
    assert carried(paper) and not led(paper)
    await paper.overlays.learn(row(13, WEB))
    await paper.overlays.unlearn(row(12).id)
    assert led(paper)["tcp 8080"] == {"10.8.0.13:80"} == carried(paper)["0.0.0.0"], "who waits there is accepted"
    await paper.overlays.unlearn(row(13).id)
    assert not paper.relay.ports and not led(paper)
    await paper.overlays.learn(row(13, WEB))
    paper.relay.busy = {8080}
    await paper.overlays.learn(row(12, asks))
    assert not carried(paper) and "tcp 8080" not in led(paper), "somebody was quicker"
    await paper.overlays.unlearn(row(12).id)
    await paper.overlays.unlearn(row(13).id)
    assert not paper.relay.ports and not led(paper)


async def test_a_change_of_one_port_touches_no_other(paper: Paper, node: Mesh) -> None:
    await paper.overlays.learn(row(12, WEB))
    await paper.overlays.learn(row(13, msgspec.structs.replace(WEB, service="x", ports=("9090:90/tcp",))))
    del paper.host.log[:]
    await paper.overlays.learn(row(13, msgspec.structs.replace(WEB, service="x", ports=("9090:91/tcp",))))
    assert [item.port for _, item in paper.host.log if isinstance(item, MeshPort)] == [9090]


async def test_own_tasks_answer_every_node_and_only_as_long_as_it_is_there(paper: Paper, node: Mesh) -> None:
    await paper.overlays.learn(row(3))
    _, endpoint = await own(paper, 14)
    ns = endpoint.namespace
    assert answered(paper) == {(ns, "10.8.0.2"), (ns, "10.8.0.3")}
    await paper.overlays.learn(row(4))
    await paper.overlays.unlearn(row(3).id)
    assert answered(paper) == {(ns, "10.8.0.2"), (ns, "10.8.0.4")}
    (inlet,) = [item for item in paper.host.look() if isinstance(item, Inlet)]
    assert inlet.ports == ("tcp . 80", "udp . 53")


async def test_a_container_that_comes_second_is_refused_and_one_that_was_first_keeps_its_port(
    paper: Paper, node: Mesh
) -> None:
    await paper.network("net")
    ports = (PortRequest(port=80, host_first=9090, host_last=9090),)
    first = await paper.container("a", "net", ports=ports)
    await paper.open(first)
    await paper.overlays.learn(row(12, msgspec.structs.replace(WEB, ports=("9090:80/tcp", "8080:80/tcp"))))
    assert led(paper) == {"tcp 8080": {"10.8.0.12:80"}}
    late = await paper.container("b", "net", ports=(PortRequest(port=80, host_first=8080, host_last=8080),))
    with pytest.raises(FairleadError, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated"):
        await paper.open(late)
    await paper.attachments.close(paper.attachments.stack(first))
    await paper.overlays.learn(row(13, msgspec.structs.replace(WEB, ports=("9090:80/tcp",))))
    assert "tcp 9090" in led(paper), "it is free by now"


async def test_after_a_restart_it_stands_before_anybody_says_a_word(paper: Paper, node: Mesh, tmp_path: Path) -> None:
    await paper.overlays.learn(row(3))
    await paper.overlays.learn(row(12, WEB))
    await own(paper, 14, msgspec.structs.replace(WEB, ports=("8080:80/tcp",)))
    before, owners = set(paper.host.look()), {item.owner for item in paper.kernel.wanted()}
    again = on(paper, tmp_path)
    await paper.endpoints.load()
    await paper.overlays.load()
    for owner in [owner for owner in paper.kernel._plans if owner.startswith("mesh") or owner[-64:] in again._legs]:
        paper.kernel.adopt(owner, ())
    assert again.load() == {node.leg.id}
    again.adopt()
    assert paper.kernel.repair() == ((), ()) and set(paper.host.look()) == before
    assert {item.owner for item in paper.kernel.wanted()} == owners
    assert again.ports() == {Published("tcp", 8080), Published("udp", 5300)}
    await again.enter(INGRESS, ("10.8.0.2/24", "fd08::2/64"))
    assert set(paper.host.look()) == before


async def test_a_node_that_leaves_leaves_nothing(paper: Paper, tmp_path: Path) -> None:
    await paper.controller.accept(INGRESS)
    node = on(paper, tmp_path)
    Machine(paper.kernel, paper.host, tmp_path / "forwarding", "boot", Wishes()).ready(ipv6=True)
    before = set(paper.host.look())
    await node.enter(INGRESS, ("10.8.0.2/24", "fd08::2/64"))
    await paper.overlays.learn(row(12, WEB))
    await node.leave()
    assert set(paper.host.look()) == before and not paper.relay.ports
    await node.enter(INGRESS, ("10.8.0.9/24", "fd08::9/64"))
    assert led(paper) and node.leg.mac == mesh.mac("10.8.0.9")


async def test_who_was_on_an_ingress_that_is_left_is_forgotten(paper: Paper, node: Mesh) -> None:
    await paper.overlays.learn(row(3))
    await node.leave()
    await paper.controller.dismiss(INGRESS.id)
    other = msgspec.structs.replace(INGRESS, id="j" * 25)
    await paper.controller.accept(other)
    await node.enter(other, ("10.8.0.2/24", "fd08::2/64"))
    _, endpoint = await own(paper, 14, network=other)
    assert answered(paper) == {(endpoint.namespace, "10.8.0.2")}


async def test_a_port_is_published_where_the_service_says(paper: Paper, node: Mesh) -> None:
    own = (("eth0", "192.168.77.11/24"), ("eth1", "10.1.0.4/16"), ("eth1", "fd01::4/64"), ("lo", "::1/128"))
    paper.host.make([Link(name=name, kind="dummy") for name in ("eth0", "eth1")])
    paper.host.make([Address(link=device, address=address) for device, address in own])
    for number, at in enumerate(("eth1", "192.168.77.11", "203.0.113.9"), 12):
        part = msgspec.structs.replace(WEB, service=at.replace(".", ""), ports=(f"{at}@80{number}:80/tcp",))
        await paper.overlays.learn(row(number, part))
    ports = {(item.address, item.port) for item in paper.host.look() if isinstance(item, MeshPort)}
    assert ports == {("10.1.0.4", 8012), ("fd01::4", 8012), ("192.168.77.11", 8013)}, "it has no 203.0.113.9"
    assert {(port.address, port.port) for port in paper.relay.ports.values()} == ports
    await paper.network("net")
    await paper.open(await paper.container("a", "net", ports=(PortRequest(80, "tcp", "127.0.0.1", 8013, 8013),)))
    with pytest.raises(FairleadError, match="port is already allocated"):
        await paper.open(
            await paper.container("b", "net", ports=(PortRequest(80, "tcp", "192.168.77.11", 8013, 8013),))
        )
    await paper.overlays.unlearn(row(13).id)
    assert {port.port for port in paper.relay.ports.values()} == {8012, 8013}, "8013 is the container's"


async def test_who_leaves_may_be_interrupted_and_the_next_takes_the_rest_away(
    paper: Paper, node: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the swarm is left while its networks are being given up; else the next swarm's ingress has no place."""
    await paper.overlays.learn(row(12, WEB))
    began, close = asyncio.Event(), node._close

    async def slow(port: object) -> None:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(node, "_close", slow)
    leaving = asyncio.create_task(node.leave())
    await began.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    monkeypatch.setattr(node, "_close", close)
    await node.leave()
    assert not [item for item in paper.host.look() if isinstance(item, Leg)] and not led(paper)
    assert not [wish for wish in paper.kernel.wanted() if getattr(wish, "map", "") == "overlays"]
