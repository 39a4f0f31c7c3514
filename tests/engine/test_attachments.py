"""Containers on networks: addresses, names, default routes, ports; all of it or nothing."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from paper import Paper

from fairlead.core.model import EndpointSettings, Ipam, Network, PortRequest, Subnet
from fairlead.core.wanted import Address, Element, File, Link, Route, Skeleton, Wanted
from fairlead.engine.drivers.base import Facts
from fairlead.engine.relayclient import RelayPort
from fairlead.engine.sandboxes import Stack
from fairlead.errors import Conflict, FairleadError, Forbidden, Internal, Invalid, NotFound, Unavailable


def published(paper: Paper) -> dict[str, str]:
    return {
        item.item: item.value for item in paper.kernel.wanted() if isinstance(item, Element) and "published" in item.map
    }


def default_route(paper: Paper, container_id: str) -> str:
    routes = [item for item in paper.kernel.wanted(container_id) if isinstance(item, Route)]
    return routes[0].gateway if routes else ""


async def test_addresses_go_upwards_and_freed_ones_come_first(paper: Paper) -> None:
    await paper.network("net")
    one, two, three = [await paper.container(name) for name in ("one", "two", "three")]
    for container in (one, two, three):
        await paper.open(container)
    net = paper.controller.network("net")
    one = await paper.attachments.connect(one, net, EndpointSettings())
    two = await paper.attachments.connect(two, net, EndpointSettings())
    two = await paper.attachments.disconnect(two, net)
    three = await paper.attachments.connect(three, net, EndpointSettings())
    two = await paper.attachments.connect(two, net, EndpointSettings())
    found = {c.name: paper.addresses(c)["net"] for c in (one, two, three)}
    assert found == {"one": "172.17.0.2", "three": "172.17.0.3", "two": "172.17.0.4"}


async def test_an_open_that_fails_leaves_nothing(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    await paper.network("a")
    await paper.network("b")
    web = await paper.container("web", "a", "b", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    before = paper.host.look()
    device, make = paper.controller.device(paper.controller.network("b")), paper.host.make

    def refuse(objects: Sequence[Wanted]) -> None:
        if any(isinstance(item, Link) and item.master == device for item in objects):
            raise Internal("no more ports")
        make(objects)

    monkeypatch.setattr(paper.host, "make", refuse)
    with pytest.raises(FairleadError):
        await paper.open(web)
    assert not [item for item in paper.host.look() if item.key not in {other.key for other in before}]
    assert list(paper.endpoints.everything()) == []
    assert await paper.store.list("endpoints/") == []
    assert paper.relay.ports == {}
    assert paper.names.served == {}


async def test_a_taken_port_fails_and_leaves_nothing(paper: Paper) -> None:
    await paper.network("net")
    first = await paper.container("first", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    second = await paper.container("second", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    await paper.open(first)
    with pytest.raises(FairleadError, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated"):
        await paper.open(second)
    assert published(paper) == {"tcp . 8080": "172.17.0.2 . 80"}
    assert [endpoint.name for endpoint in paper.endpoints.everything()] == ["first"]


async def test_a_program_on_the_port_is_found_out_by_taking_it(paper: Paper) -> None:
    await paper.network("net")
    paper.relay.busy = {8080, 32768}
    fixed = await paper.container("fixed", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    with pytest.raises(FairleadError, match="address already in use"):
        await paper.open(fixed)
    assert published(paper) == {}
    any_port = await paper.container("any", "net", ports=(PortRequest(80, "tcp"),))
    await paper.open(any_port)
    assert published(paper) == {"tcp . 32769": "172.17.0.2 . 80"}


async def test_the_relay_needs_one_socket_for_both_families(paper: Paper) -> None:
    await paper.network("net")
    paper.host.things[Address(link="lo", address="::1/128").key] = Address(link="lo", address="::1/128")
    wishes = (
        PortRequest(53, "udp", "", 53, 53),
        PortRequest(80, "tcp", "", 80, 80),
        PortRequest(81, "tcp", "::", 81, 81),
    )
    web = await paper.container("web", "net", ports=wishes)
    stack = await paper.open(web)
    assert {(p.protocol, p.address, p.port): (p.both, p.target) for p in paper.relay.ports.values()} == {
        ("udp", "0.0.0.0", 53): (False, ""),
        ("udp", "::", 53): (False, "172.17.0.2"),
        ("tcp", "::", 80): (True, "172.17.0.2"),
        ("tcp", "::", 81): (False, "172.17.0.2"),
    }
    await paper.attachments.close(stack)
    assert paper.relay.ports == {}
    paper.publisher._facts = Facts(firewall=False)
    await paper.open(web)
    assert all(port.target and not port.both for port in paper.relay.ports.values()), "IPv4 has to be carried as well"


async def test_ports_in_a_row_are_one_wish_of_the_relay(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    await paper.network("net")
    paper.host.things[Address(link="lo", address="::1/128").key] = Address(link="lo", address="::1/128")
    asked, take = [], paper.relay.open

    async def ask(*rows: RelayPort, meanwhile: Callable[[], object]) -> dict[str, int]:
        asked.extend((row.protocol, row.address, row.port, row.target_port, row.span, row.both) for row in rows)
        return await take(*rows)

    monkeypatch.setattr(paper.relay, "open", ask)
    row = [PortRequest(port, "tcp", "", port, port) for port in range(8000, 8100)]
    web = await paper.container("web", "net", ports=(*row, PortRequest(8100, "tcp", "0.0.0.0", 8100, 8100)))
    stack = await paper.open(web)
    assert asked == [("tcp", "0.0.0.0", 8100, 8100, 1, False), ("tcp", "::", 8000, 8000, 100, True)]
    assert len(published(paper)) == 101
    (endpoint,) = stack.endpoints
    assert {port.id for port in paper.publisher.relayed(endpoint)} == paper.relay.ports.keys()
    assert len(paper.relay.ports) == 101
    await paper.attachments.close(stack)
    assert paper.relay.ports == {}


async def test_the_relay_is_asked_before_the_process_is_made(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    await paper.network("net")
    web = await paper.container("web", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080, span=3),))
    take, done = paper.relay.open, list[str]()

    async def ask(*rows: RelayPort, meanwhile: Callable[[], object]) -> dict[str, int]:
        done.append("asked")
        await asyncio.sleep(0)
        done.append("answered")
        return await take(*rows)

    async def process() -> int:
        done.append("process")
        return 4711

    monkeypatch.setattr(paper.relay, "open", ask)
    stack = await paper.attachments.open(web)
    assert await paper.attachments.publish_beside(process(), web, stack) == 4711
    assert done == ["asked", "process", "answered"]
    assert published(paper) == {f"tcp . {8080 + on}": f"172.17.0.2 . {80 + on}" for on in range(3)}


async def test_the_relay_gives_ports_up_while_the_kernel_s_objects_go(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paper.network("net")
    web = await paper.container("web", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080, span=3),))
    stack = await paper.open(web)
    give_up, seen = paper.relay.close, list[object]()

    async def ask(*ids: str) -> None:
        seen.append(len(published(paper)))
        await asyncio.sleep(0)
        seen.append(len(published(paper)))
        await give_up(*ids)

    monkeypatch.setattr(paper.relay, "close", ask)
    await paper.attachments.close(stack)
    assert seen == [3, 0]
    assert paper.relay.ports == {}


async def test_a_relay_that_refuses_to_give_ports_up_is_told_when_the_rest_is_gone(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paper.network("net")
    stack = await paper.open(await paper.container("web", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),)))

    async def refuse(*ids: str) -> None:
        raise Unavailable("nobody there")

    monkeypatch.setattr(paper.relay, "close", refuse)
    with pytest.raises(Unavailable, match="nobody there"):
        await paper.attachments.close(stack)
    assert published(paper) == {}
    assert [endpoint.name for endpoint in paper.endpoints.everything()], "its record: the next start finishes it"


async def test_a_row_of_ports_meets_each_port_of_others(paper: Paper) -> None:
    await paper.network("net")
    row = PortRequest(5000, "tcp", "", 5000, 5000, span=10)
    await paper.open(await paper.container("web", "net", ports=(row,)))
    for port in (5000, 5007):
        with pytest.raises(FairleadError, match=f"Bind for 0.0.0.0:{port} failed: port is already allocated"):
            late = await paper.container("late", "net", ports=(PortRequest(80, "tcp", "", port, port),))
            await paper.open(late)
        with pytest.raises(Conflict, match=f"Bind for 0.0.0.0:{port} failed"):
            await paper.publisher.reserve("tcp", port)
    await paper.publisher.reserve("tcp", 5010)
    assert await paper.open(await paper.container("next", "net", ports=(PortRequest(80, "tcp", "", 4999, 4999),)))
    again = PortRequest(5001, "tcp", "", 4990, 4990, span=11)
    with pytest.raises(FairleadError, match=r"Bind for 0\.0\.0\.0:4999 failed"):
        await paper.open(await paper.container("again", "net", ports=(again,)))


async def test_what_becomes_of_an_endpoint_while_its_ports_are_taken_is_not_forgotten(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paper.network("net")
    web = await paper.container("web", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    take = paper.relay.open

    async def slowly(*ports: RelayPort, meanwhile: Callable[[], object]) -> dict[str, int]:
        meanwhile()
        (endpoint,) = stack.endpoints
        await paper.endpoints.change(stack, [replace(endpoint, names=("another",))])
        return await take(*ports)

    monkeypatch.setattr(paper.relay, "open", slowly)
    stack = await paper.attachments.open(web)
    await paper.attachments.publish(web, stack)
    (endpoint,) = stack.endpoints
    assert endpoint.names == ("another",)
    assert published(paper) == {"tcp . 8080": "172.17.0.2 . 80"}


async def test_ports_lead_to_where_their_endpoint_is(paper: Paper) -> None:
    """What they want of the kernel is found once, and again when the endpoint is another."""
    await paper.network("net")
    web = await paper.container("web", "net", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    stack = await paper.open(web)
    (endpoint,) = stack.endpoints
    assert paper.sandboxes.plan(stack)[-1] is paper.sandboxes.plan(stack)[-1]
    await paper.endpoints.change(stack, [replace(endpoint, ipv4="172.17.0.9/16")])
    assert published(paper) == {"tcp . 8080": "172.17.0.9 . 80"}
    await paper.attachments.disconnect(web, paper.controller.network("net"))
    assert not stack.published, "of who left, nothing is remembered"


async def test_priority_moves_the_default_route_and_the_ports(paper: Paper) -> None:
    await paper.network("alpha")
    await paper.network("beta")
    web = await paper.container("web", "alpha", ports=(PortRequest(80, "tcp", "", 8080, 8080),))
    await paper.open(web)
    assert default_route(paper, web.id) == "172.17.0.1"
    beta = paper.controller.network("beta")
    web = await paper.attachments.connect(web, beta, EndpointSettings(gw_priority=1))
    assert default_route(paper, web.id) == "172.18.0.1"
    assert published(paper) == {"tcp . 8080": "172.18.0.2 . 80"}
    await paper.attachments.disconnect(web, beta)
    assert default_route(paper, web.id) == "172.17.0.1"
    assert published(paper) == {"tcp . 8080": "172.17.0.2 . 80"}


async def test_a_network_that_is_gone_can_be_left(paper: Paper) -> None:
    """It went while the container did not run; asking for it for ever, the container would never start again."""
    await paper.network("net")
    await paper.network("gone")
    web = await paper.container("web", "net", "gone")
    web = replace(web, state=replace(web.state, status="created"))
    await paper.controller.remove("gone")
    left = await paper.attachments.leave(web, "gone")
    assert list(left.networks) == ["net"]
    with pytest.raises(FairleadError, match=f"^container {web.id} is not connected to the network gone$"):
        await paper.attachments.leave(left, "gone")
    runs = replace(left, state=replace(left.state, status="running"))
    with pytest.raises(NotFound, match=r"^network gone not found$"):
        await paper.attachments.leave(runs, "gone")
    with pytest.raises(FairleadError, match=r"is not connected to the network gone$"):
        await paper.attachments.leave(runs, "gone", force=True)


async def test_an_internal_network_leads_nowhere(paper: Paper) -> None:
    await paper.network("inside", internal=True)
    web = await paper.container("web", "inside")
    await paper.open(web)
    assert default_route(paper, web.id) == ""


async def test_static_addresses_of_stopped_containers_stay_theirs(paper: Paper) -> None:
    pool = Subnet(subnet="10.9.0.0/24")
    await paper.network("net", ipam=Ipam(config=(pool,)))
    await paper.container("sleeper", settings={"net": EndpointSettings(ipv4="10.9.0.2")})
    web = await paper.container("web", "net")
    await paper.open(web)
    assert paper.addresses(web) == {"net": "10.9.0.3"}
    thief = await paper.container("thief", settings={"net": EndpointSettings(ipv4="10.9.0.2")})
    with pytest.raises(Forbidden, match="Address already in use"):
        await paper.open(thief)


async def test_a_container_gets_its_address_back(paper: Paper) -> None:
    await paper.network("net")
    one, two = await paper.container("one", "net"), await paper.container("two", "net")
    first, second = await paper.open(one), await paper.attachments.open(two)
    await paper.attachments.close(first, sticky=True)
    await paper.attachments.close(second, sticky=True)
    await paper.open(two)
    await paper.open(one)
    assert (paper.addresses(one)["net"], paper.addresses(two)["net"]) == ("172.17.0.2", "172.17.0.3")


async def test_closing_leaves_nothing(paper: Paper) -> None:
    await paper.network("net")
    before = {item.key for item in paper.host.look()}
    wishes = PortRequest(53, "udp", "", 5353, 5353), PortRequest(80, "tcp", "", 8080, 8080)
    web = await paper.container("web", "net", ports=wishes)
    stack = await paper.open(web)
    assert paper.host.forgotten == [("udp", "0.0.0.0", 5353)]
    paper.host.forgotten.clear()
    await paper.attachments.close(stack)
    assert {item.key for item in paper.host.look()} == before
    assert paper.host.forgotten == [("udp", "0.0.0.0", 5353), ("tcp", "0.0.0.0", 8080)]
    assert paper.relay.ports == {}


async def test_on_a_bridge_an_address_has_one_mac_whoever_holds_it(paper: Paper) -> None:
    """What neighbours remember of an address stays right."""
    await paper.network("net")
    await paper.network("other")
    one, two, far = [
        await paper.container(name, net) for name, net in (("one", "net"), ("two", "net"), ("far", "other"))
    ]
    stack = await paper.open(one)
    before = stack.endpoints[0]
    await paper.attachments.close(stack)
    after, elsewhere = (await paper.open(two)).endpoints[0], (await paper.open(far)).endpoints[0]
    assert (after.ipv4, after.mac) == (before.ipv4, before.mac)
    assert elsewhere.mac != after.mac


async def test_macs_are_stable_and_local(paper: Paper) -> None:
    await paper.network("net")
    web = await paper.container("web", "net")
    stack = await paper.open(web)
    mac = stack.endpoints[0].mac
    await paper.attachments.close(stack)
    assert (await paper.open(web)).endpoints[0].mac == mac
    assert int(mac[:2], 16) & 3 == 2


async def test_files_that_stay_the_same_are_not_written_again(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        await paper.network(name)
    web = await paper.container("web", "one")
    await paper.open(web)
    asked: list[Wanted] = []
    make = paper.host.make
    monkeypatch.setattr(paper.host, "make", lambda objects: (asked.extend(objects), make(objects)))
    await paper.attachments.connect(web, paper.controller.network("two"), EndpointSettings())
    assert [Path(item.path).name for item in asked if isinstance(item, File)] == ["hosts", "hosts.ours"]


async def test_interfaces_are_numbered_in_order_and_gaps_are_filled(paper: Paper) -> None:
    for name in ("a", "b", "c"):
        await paper.network(name)
    web = await paper.container("web", "a", "b")
    await paper.open(web)
    web = await paper.attachments.disconnect(web, paper.controller.network("a"))
    web = await paper.attachments.connect(web, paper.controller.network("c"), EndpointSettings())
    stack = paper.attachments.stack(web)
    assert stack and [(network.name, endpoint.interface) for network, endpoint in stack.attached] == [
        ("b", "eth1"),
        ("c", "eth0"),
    ]


async def test_who_cannot_be_connected(paper: Paper) -> None:
    await paper.network("net")
    net = paper.controller.network("net")
    shared = await paper.container("shared", "host")
    lonely = await paper.container("lonely", "none")
    with pytest.raises(Invalid, match="sharing network namespace"):
        await paper.attachments.connect(shared, net, EndpointSettings())
    with pytest.raises(Invalid, match="private"):
        await paper.attachments.connect(lonely, net, EndpointSettings())


async def test_who_has_no_network_has_no_other(paper: Paper) -> None:
    await paper.network("net")
    torn = await paper.container("torn", "none", "net")
    words = r"^failed to set up container networking: .* networks in private \(none\) mode"
    with pytest.raises(Invalid, match=words):
        await paper.open(torn)
    with pytest.raises(Invalid, match=words):
        paper.attachments.rehearse(torn)


async def test_a_network_without_addresses_says_which(paper: Paper) -> None:
    await paper.network("net", ipam=Ipam(config=(Subnet(subnet="10.7.0.0/30"),)))
    net = paper.controller.network("net")
    await paper.open(await paper.container("one", "net"))
    words = f"no available IPv4 addresses on this network's address pools: net \\({net.id}\\)$"
    with pytest.raises(Unavailable, match=f"^failed to set up container networking: {words}") as refused:
        await paper.open(await paper.container("two", "net"))
    assert refused.value.status == 500  # as dockerd has it
    await paper.network("other")
    three = await paper.container("three", "other")
    await paper.open(three)
    with pytest.raises(Unavailable, match=f"^{words}") as refused:
        await paper.attachments.connect(three, net, EndpointSettings())
    assert refused.value.status == 500


async def test_an_option_of_ours_that_is_misspelt_makes_no_network(paper: Paper) -> None:
    with pytest.raises(Invalid, match=r"^option com\.fairlead\.antispof of a bridge network: there are "):
        await paper.network("net", options={"com.fairlead.antispof": "true"})


async def test_a_network_for_services_is_joined_by_no_container_alone(paper: Paper) -> None:
    await paper.controller.accept(Network("x" * 25, "net", "", driver="overlay", scope="swarm"))
    net, words = paper.controller.network("net"), "Could not attach to network net: .* network net not manually attach"
    alone = await paper.container("alone", "net")
    with pytest.raises(Forbidden, match=f"^failed to set up container networking: {words}"):
        await paper.open(alone)
    with pytest.raises(Forbidden, match=r"^failed to set up container networking: Could not attach"):
        paper.attachments.rehearse(alone)
    await paper.network("mine")
    busy = await paper.container("busy", "mine")
    await paper.open(busy)
    with pytest.raises(Forbidden, match=f"^{words}"):
        await paper.attachments.connect(busy, net, EndpointSettings())
    lost = await paper.container("lost", "elsewhere")
    with pytest.raises(NotFound, match="network elsewhere not found"):
        await paper.open(lost)
    paper.attachments.services_only = lambda name: name == "elsewhere"
    with pytest.raises(Forbidden, match="network elsewhere not manually attachable"):
        await paper.open(lost)
    assert paper.endpoints.of_network(net.id) == []


async def test_sctp_is_left_to_the_kernel(paper: Paper) -> None:
    paper.host.put(Address(link="lo", address="::1/128"))
    await paper.network("net")
    wishes = (PortRequest(9000, "sctp", "", 9000, 9000), PortRequest(80, "tcp", "", 8080, 8080))
    web = await paper.container("web", "net", ports=wishes)
    stack = await paper.open(web)
    found = [(binding.protocol, binding.host_ip) for binding in stack.endpoints[0].bindings]
    assert sorted(found) == [("sctp", "0.0.0.0"), ("tcp", "0.0.0.0"), ("tcp", "::")]


async def test_nothing_stays_of_a_network_whose_names_could_not_be_told(paper: Paper) -> None:
    """The kernel was asked while the resolver was at it, and then the resolver is gone."""
    await paper.network("RED")
    await paper.network("BLUE")
    web = await paper.container("web", "RED")
    stack = await paper.open(web)
    before = paper.kernel.wanted(stack.sandbox.id)
    serve = paper.names.serve

    async def gone(stack: Stack, meanwhile: Callable[[], None] | None = None) -> Skeleton:
        await serve(stack, meanwhile)
        paper.names.serve = serve  # type: ignore[method-assign]
        raise Unavailable("the resolver went away")

    paper.names.serve = gone  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await paper.attachments.connect(web, paper.controller.network("BLUE"), EndpointSettings())
    assert paper.kernel.wanted(stack.sandbox.id) == before
    assert paper.kernel.drift() == ((), ())
    assert list(paper.names.served[stack.sandbox.id]) == ["RED"]


async def test_a_network_that_the_kernel_refuses_is_not_served(paper: Paper) -> None:
    await paper.network("RED")
    await paper.network("BLUE")
    web = await paper.container("web", "RED")
    stack = await paper.open(web)

    def refuse(objects: Sequence[Wanted]) -> None:
        raise Internal("no room for another device")

    make, paper.host.make = paper.host.make, refuse  # type: ignore[method-assign]
    with pytest.raises(Internal, match="no room"):
        await paper.attachments.connect(web, paper.controller.network("BLUE"), EndpointSettings())
    paper.host.make = make  # type: ignore[method-assign]
    assert list(paper.names.served[stack.sandbox.id]) == ["RED"] and paper.kernel.drift() == ((), ())
