"""Addresses and ports of services and tasks: each once, in turn, and given back."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from fairlead.core.allocation import FIRST_PORT, Desk, Field, on_network
from fairlead.core.cluster import Attachment, Service, Task
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.service import EndpointSpec, NetworkAttachment, ServicePort, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import SharedNetwork
from fairlead.errors import Conflict, NotFound, Unavailable


def network(id: str, *pools: Subnet, ingress: bool = False) -> SharedNetwork:
    return SharedNetwork(id, Network(id=id, name=id.upper(), created="", ipam=Ipam(config=pools), ingress=ingress))


RED = network("red", Subnet("10.0.1.0/24", gateway="10.0.1.1"))
INGRESS = network("ingress", Subnet("10.0.0.0/24", gateway="10.0.0.1"), ingress=True)


def desk(*networks: SharedNetwork) -> Desk:
    made = Desk()
    for one in networks or (RED, INGRESS):
        made.open(one)
    return made


def service(*ports: ServicePort, id: str = "s", networks: tuple[str, ...] = ("red",), mode: str = "") -> Service:
    template = TaskSpec(networks=tuple(NetworkAttachment(target=name, aliases=("also",)) for name in networks))
    return Service(id=id, spec=ServiceSpec(name=id, task_template=template, endpoint_spec=EndpointSpec(mode, ports)))


def task(of: Service, id: str = "t") -> Task:
    return Task(id=id, spec=of.spec.task_template, service=of.id)


def addressed(at: Desk, of: Service, id: str = "t") -> Task:
    made = task(of, id)
    return replace(made, networks=at.give(at.wishes(of.spec, made.spec)))


class Asked(set[int]):
    """Counts how often it was asked for one."""

    asked = 0

    def __contains__(self, one: object) -> bool:
        self.asked += 1
        return super().__contains__(one)


def test_a_service_gets_its_address_first_and_tasks_the_next() -> None:
    at = desk()
    web = at.service(service())
    assert web.addresses == (Attachment("red", ("10.0.1.2/24",)),)
    assert addressed(at, web).networks == (Attachment("red", ("10.0.1.3/24",), aliases=("also",)),)
    assert at.service(web) is web, "it has all it needs"


def test_published_ports_bring_ingress() -> None:
    at = desk()
    web = at.service(service(ServicePort(target_port=80, published_port=8080)))
    assert [held.network for held in web.addresses] == ["ingress", "red"]
    assert [held.network for held in addressed(at, web).networks] == ["ingress", "red"]
    host = at.service(service(ServicePort(target_port=80, published_port=81, publish_mode="host"), id="h"))
    assert [held.network for held in host.addresses] == ["red"]


def test_each_node_s_own_networks_need_nothing_from_here() -> None:
    at = desk()
    web = at.service(service(networks=("host", "red")))
    assert [held.network for held in web.addresses] == ["red"]
    assert [held.network for held in addressed(at, web).networks] == ["red"]


def test_who_is_on_a_network() -> None:
    published = service(ServicePort(target_port=80), networks=()).spec
    assert on_network(published, INGRESS) and not on_network(published, RED)
    assert on_network(service().spec, RED) and on_network(service(networks=("RED",)).spec, RED), "by id, by name"
    assert not on_network(service(ServicePort(target_port=80, publish_mode="host")).spec, INGRESS)


def test_dnsrr_has_no_address_of_its_own() -> None:
    at = desk()
    web = at.service(service(mode="dnsrr"))
    assert web.addresses == ()
    assert addressed(at, web).networks[0].addresses == ("10.0.1.2/24",)


def test_two_families() -> None:
    at = desk(network("both", Subnet("10.0.1.0/24", gateway="10.0.1.1"), Subnet("fd00::/64", gateway="fd00::1")))
    assert at.service(service(networks=("both",))).addresses[0].addresses == ("10.0.1.2/24", "fd00::2/64")


def test_a_second_pool_when_the_first_is_full() -> None:
    at = desk(network("red", Subnet("10.0.1.0/30", gateway="10.0.1.1"), Subnet("10.0.2.0/24", gateway="10.0.2.1")))
    web = at.service(service())
    assert addressed(at, web).networks[0].addresses == ("10.0.2.2/24",)


def test_an_address_given_back_rests() -> None:
    at = desk()
    web = at.service(service())
    one = addressed(at, web, "one")
    at.release(one)
    assert addressed(at, web, "two").networks[0].addresses == ("10.0.1.4/24",)


def test_the_last_address_comes_round_again() -> None:
    at = desk(network("red", Subnet("10.0.1.0/29", gateway="10.0.1.1")))
    web = at.service(service())
    tasks = [addressed(at, web, str(n)) for n in range(4)]
    with pytest.raises(Unavailable, match="no available IPv4 addresses on this network's address pools: RED"):
        addressed(at, web, "more")
    at.release(tasks[1])
    assert addressed(at, web, "more").networks == tasks[1].networks


def test_a_full_pool_is_not_looked_through_for_each_who_asks() -> None:
    """Tens of thousands of tasks may want an address of a network that has none left."""
    field = Field(Subnet("10.0.0.0/28"), "net")
    given = [field.give() for _ in range(14)]
    taken = field.taken = Asked(field.taken)
    for _ in range(100):
        with pytest.raises(Unavailable, match="no available IPv4 addresses"):
            field.give()
    assert taken.asked < 50
    field.release(int(ipaddress.ip_interface(given[3]).ip))
    assert field.give() == given[3]


def test_nothing_is_half_given() -> None:
    at = desk(RED, network("tiny", Subnet("10.0.9.0/30", gateway="10.0.9.1")))
    full = at.service(service(networks=("tiny",)))
    both = service(networks=("red", "tiny"), id="both", mode="dnsrr")
    with pytest.raises(Unavailable):
        addressed(at, both)
    at.release(full)
    given = addressed(at, both).networks
    assert [held.addresses[0] for held in given] == ["10.0.1.3/24", "10.0.9.2/30"], "10.0.1.2 rests, it was given back"


def test_networks_by_name_or_id_and_the_one_that_is_not_there() -> None:
    at = desk()
    assert at.service(service(networks=("RED",))).addresses[0].network == "red"
    with pytest.raises(NotFound, match="network blue not found"):
        at.service(service(networks=("blue",), id="other"))
    with pytest.raises(NotFound, match="ingress"):
        desk(RED).service(service(ServicePort(target_port=80)))


def test_leaving_a_network_gives_its_address_back() -> None:
    at = desk()
    web = at.service(service(networks=("red",)))
    left = at.service(replace(web, spec=replace(web.spec, task_template=TaskSpec())))
    assert left.addresses == ()
    assert not at.fields["red"][0].taken - desk().fields["red"][0].taken


def test_ports_are_chosen_and_kept() -> None:
    at = desk()
    web = at.service(service(ServicePort(target_port=80), ServicePort(target_port=53, protocol="udp")))
    assert [port.published_port for port in web.ports] == [FIRST_PORT, FIRST_PORT + 1]
    more = replace(web, spec=replace(web.spec, endpoint_spec=EndpointSpec(ports=(ServicePort(target_port=80),))))
    assert at.service(more).ports[0].published_port == FIRST_PORT


def test_a_port_is_one_services() -> None:
    at = desk()
    at.service(service(ServicePort(target_port=80, published_port=80), id="web"))
    with pytest.raises(Conflict, match="port '80' is already in use by service 'web' as an ingress port"):
        at.service(service(ServicePort(target_port=8080, published_port=80), id="other"))
    at.service(service(ServicePort(target_port=53, published_port=80, protocol="udp"), id="dns"))


def test_a_port_that_was_given_up_is_free() -> None:
    at = desk()
    web = at.service(service(ServicePort(target_port=80, published_port=80), id="web"))
    at.service(replace(web, spec=replace(web.spec, endpoint_spec=EndpointSpec())))
    at.service(service(ServicePort(target_port=80, published_port=80), id="other"))


def test_a_new_desk_knows_what_was_held() -> None:
    first = desk()
    web = first.service(service(ServicePort(target_port=80)))
    tasks = [addressed(first, web, str(n)) for n in range(3)]
    second = desk()
    for thing in (web, *tasks):
        second.hold(thing)
    other = second.service(service(ServicePort(target_port=80), id="other"))
    held = {address for thing in tasks for one in thing.networks for address in one.addresses}
    held |= {address for one in web.addresses for address in one.addresses}
    assert not held & {address for one in other.addresses for address in one.addresses}
    assert other.ports[0].published_port == FIRST_PORT + 1


@given(some.lists(some.tuples(some.booleans(), some.integers(0, 20)), max_size=60))
def test_no_address_twice(steps: list[tuple[bool, int]]) -> None:
    at = desk(network("red", Subnet("10.0.1.0/28", gateway="10.0.1.1", ip_range="10.0.1.4/30")))
    web = service(mode="dnsrr")
    tasks: dict[int, Task] = {}
    for give, name in steps:
        if give and name not in tasks:
            try:
                tasks[name] = addressed(at, web, str(name))
            except Unavailable:
                assert len(tasks) == 4
        elif not give and name in tasks:
            at.release(tasks.pop(name))
        held = [one.addresses[0] for held in tasks.values() for one in held.networks]
        assert len(set(held)) == len(held)
        assert all(ipaddress.ip_interface(one).ip in ipaddress.ip_network("10.0.1.4/30") for one in held)
