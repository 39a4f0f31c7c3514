"""The plans drivers really make, through the real hands: read back equal, made again and changed at no harm."""

import msgspec
import pytest

from fairlead.core import rules
from fairlead.core.model import Endpoint, Ipam, Network, PortBinding, Subnet
from fairlead.core.wanted import Element, Namespace, Plan, Skeleton, Sysctl, difference
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.errors import Internal
from fairlead.host.fake import FakeHost
from fairlead.host.linux import LinuxHost
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

MODE4, MODE6 = (f"com.docker.network.bridge.gateway_mode_ipv{family}" for family in (4, 6))
OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": "1400"},
    {MODE4: "routed", MODE6: "nat-unprotected"},
    {"com.docker.network.host_ipv4": "192.0.2.77", "com.docker.network.bridge.trusted_host_interfaces": "lan0:wan0"},
)


def network(number: int, options: dict[str, str]) -> Network:
    pools = (Subnet(subnet=f"10.{number}.0.0/16", gateway=f"10.{number}.0.1"),)
    pools += (Subnet(subnet=f"fd00:{number}::/64", gateway=f"fd00:{number}::1"),)
    id = f"{number:012x}".ljust(64, "0")
    return Network(id=id, name=f"n{number}", created="", ipv6=True, ipam=Ipam(config=pools), options=options)


def endpoint(number: int) -> Endpoint:
    return Endpoint(
        id=f"e{number}",
        network=f"{number:012x}".ljust(64, "0"),
        container=f"c{number}",
        sandbox=f"sandbox{number}",
        name=f"c{number}",
        interface="eth0",
        device=f"veth{number}",
        ipv4=f"10.{number}.0.2/16",
        ipv6=f"fd00:{number}::2/64",
        mac=f"02:42:0a:00:00:{number:02x}",
        bindings=(
            PortBinding(80, "tcp", "0.0.0.0", 8000 + number),
            PortBinding(53, "udp", "::", 8000 + number),
            PortBinding(443, "tcp", "192.0.2.1", 443 + number),
            PortBinding(9, "sctp", "2001:db8::1", 9000 + number),
        ),
    )


def everything() -> Plan:
    driver, facts = Bridge(), Facts()
    plan = [*rules.machine_plan(ipv6=True, drop_foreign=(4, 6))]
    for number, options in enumerate(OPTIONS, 1):
        net, end = network(number, options), endpoint(number)
        plan += driver.network(net, facts)
        plan += [Namespace(name=end.namespace), *driver.endpoint(net, end, facts), *driver.publish(net, end, facts)]
    return tuple({item.key: item for item in plan}.values())


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    return pretend_host.open()


def clear(host: LinuxHost, plan: Plan) -> None:
    host.remove(plan)
    host.settle()
    assert host.look() == ()


def test_what_was_made_reads_back_as_wanted(host: LinuxHost) -> None:
    plan = everything()
    host.make(plan)
    assert difference(plan, host.look(plan)) == ((), ())
    host.make(plan)
    assert difference(plan, host.look(plan)) == ((), ())
    clear(host, plan)


def test_both_hosts_say_the_same(host: LinuxHost) -> None:
    plan, paper = everything(), FakeHost()
    host.make(plan)
    paper.make(plan)
    assert set(host.look(plan)) == set(paper.look(plan))
    clear(host, plan)


def test_every_map_and_set_takes_a_change(host: LinuxHost) -> None:
    """Each element with another value, and each made again among new ones."""
    plan = everything()
    host.make(plan)
    for item in plan:
        if isinstance(item, Element) and item.value:
            address = item.value.split(" ")[0]
            other = msgspec.structs.replace(
                item, value=item.value.replace(address, "fd00:99::9" if ":" in address else "10.99.0.9")
            )
            host.make([other])
            assert difference([other], host.look([other]))[0] == ()
            host.make([item])
        elif isinstance(item, Element):
            host.make([item])
    assert difference(plan, host.look(plan)) == ((), ())
    clear(host, plan)


def test_a_network_comes_and_goes_among_others(host: LinuxHost) -> None:
    driver, facts, plan = Bridge(), Facts(), everything()
    host.make(plan)
    other = driver.network(network(9, {}), facts)
    host.make(other)
    host.remove(other)
    host.settle()
    assert difference(plan, host.look(plan)) == ((), ())
    clear(host, plan)


def test_endpoints_that_move_take_their_elements_along(host: LinuxHost) -> None:
    driver, facts, plan = Bridge(), Facts(), everything()
    host.make(plan)
    moved = msgspec.structs.replace(endpoint(1), ipv4="10.1.0.7/16", ipv6="fd00:1::7/64")
    net = network(1, OPTIONS[0])
    before = [*driver.endpoint(net, endpoint(1), facts), *driver.publish(net, endpoint(1), facts)]
    after = [*driver.endpoint(net, moved, facts), *driver.publish(net, moved, facts)]
    make, surplus = difference(after, before)
    host.make(make)
    host.remove(surplus)
    wanted = [item for item in plan if item not in before] + after
    assert difference(wanted, host.look(wanted)) == ((), ())
    clear(host, tuple(wanted))


def test_no_door_is_opened_before_its_guard_stands(host: LinuxHost) -> None:
    door = Sysctl(path="net/ipv4/ip_forward", value="1")
    closed = Sysctl(path="net/ipv4/ip_forward", value="0")
    host.make([closed])
    with pytest.raises(Internal, match="nftables"):
        host.make([Skeleton(text="chain broken {"), door])
    assert host.look([closed]) == (closed,)
    with pytest.raises(Internal, match="nftables"):
        host.make([door, Skeleton(text="chain broken {")])
    assert host.look([closed]) == (closed,)
