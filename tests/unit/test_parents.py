"""Macvlan and ipvlan networks: dockerd's sentences, golden plans, who makes the parent and who inherits it."""

from collections.abc import Mapping

import msgspec
import pytest

from fairlead.core import addresses, parents
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, NetworkRequest, Subnet
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.drivers.ipvlan import Ipvlan
from fairlead.engine.drivers.macvlan import Macvlan
from fairlead.errors import FairleadError, Invalid
from lane.golden import as_text, same_as

HERE = frozenset({"lo", "eth0", "eth0.20", "docker0"})
DRIVERS: Mapping[str, Driver] = {"macvlan": Macvlan(), "ipvlan": Ipvlan()}


def request(driver: str = "macvlan", **options: str) -> NetworkRequest:
    return NetworkRequest("n", driver, options=options)


def network(driver: str = "macvlan", id: str = "1", made: str = "", six: bool = False, **options: str) -> Network:
    pools = (Subnet(subnet="192.168.1.0/24", gateway="192.168.1.1", auxiliary={"host": "192.168.1.9"}),)
    pools += (Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"),) if six else ()
    ipam = Ipam(config=pools)
    return Network(id=id * 64, name="lan", created="", driver=driver, ipam=ipam, ipv6=six, options=options, made=made)


def endpoint(six: bool = False, **driver_opts: str) -> Endpoint:
    return Endpoint(
        id="e" * 64,
        network="1" * 64,
        container="c" * 64,
        sandbox="c" * 64,
        name="web",
        interface="eth0",
        ipv4="192.168.1.5/24",
        ipv6="fd00:1::5/64" if six else "",
        mac="02:00:00:00:00:05",
        settings=EndpointSettings(driver_opts=driver_opts),
    )


def complaint(asked: NetworkRequest, *others: Network) -> str:
    with pytest.raises(FairleadError) as caught:
        DRIVERS[asked.driver].check(asked, Facts())
        parents.check(asked, others, HERE.__contains__)
    assert caught.value.status == 500
    return caught.value.message


@pytest.mark.parametrize(
    ("parent", "words"),
    [
        ("nosuch0", "invalid subinterface vlan name nosuch0, example formatting is eth0.10"),
        ("eth0:1", "invalid subinterface vlan name eth0:1, example formatting is eth0.10"),
        ("nosuch0.10", "-o parent interface was not found on the host: nosuch0"),
        ("eth0.5000", "vlan id must be between 1-4094, received: 5000"),
        ("eth0.0", "vlan id must be between 1-4094, received: 0"),
        ("eth0.abc", "unable to parse a valid vlan id from: abc (ex. eth0.10 for vlan 10)"),
        (
            "eth0.10.20",
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received eth0.10.20",
        ),
        (".10", "-o parent interface was not found on the host: "),
        ("lo", "loopback interface is not a valid macvlan parent link"),
    ],
)
def test_dockerds_words_about_parents(parent: str, words: str) -> None:
    assert complaint(request(parent=parent)) == words
    if parent != "lo":
        assert complaint(request("ipvlan", parent=parent)) == words


def test_dockerds_words_about_modes() -> None:
    told = "is not valid, 'bridge' mode is the macvlan driver default"
    assert complaint(request(parent="lo", macvlan_mode="bad")) == f"requested macvlan mode 'bad' {told}"
    told = "is not valid, 'l2' mode is the ipvlan driver default"
    assert complaint(request("ipvlan", parent="eth0", ipvlan_mode="bad")) == f"requested ipvlan mode 'bad' {told}"
    told = "is not valid, 'bridge' is the ipvlan driver default"
    assert complaint(request("ipvlan", parent="eth0", ipvlan_flag="bad")) == f"requested ipvlan flag 'bad' {told}"


def test_passthru_has_its_parent_for_itself() -> None:
    plain, passthru = network(parent="eth0"), network(parent="eth0", macvlan_mode="passthru")
    in_use = f"macvlan network {'1' * 64} is already using parent interface eth0"
    asked = request(parent="eth0", macvlan_mode="passthru")
    assert complaint(asked, plain) == f"cannot use mode passthru, {in_use}"
    assert complaint(request(parent="eth0"), passthru) == f"{in_use} in mode passthru"
    parents.check(request(parent="eth0"), [plain], HERE.__contains__)
    parents.check(request("ipvlan", parent="eth0"), [passthru], HERE.__contains__)
    parents.check(asked, [network(parent="eth0.20"), network("ipvlan", parent="eth0")], HERE.__contains__)


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_the_host_is_a_neighbour_in_bridge_mode_only(mode: str) -> None:
    with pytest.raises(Invalid, match="host_access"):
        Macvlan().check(request(parent="eth0", macvlan_mode=mode, host_access="true"), Facts())
    with pytest.raises(Invalid, match="host_access"):
        Ipvlan().check(request("ipvlan", parent="eth0", host_access="true"), Facts())


def test_only_what_is_not_there_is_made() -> None:
    made = {
        parent: parents.to_make(network(parent=parent), HERE.__contains__)
        for parent in ("eth0", "eth0.20", "eth0.10", "")
    }
    assert made == {"eth0": "", "eth0.20": "", "eth0.10": "eth0.10", "": f"dm-{'1' * 12}"}
    assert parents.to_make(Network(id="2", name="b", created=""), HERE.__contains__) == ""


def test_the_parent_is_inherited() -> None:
    first, second = network(parent="eth0.10", made="eth0.10"), network("ipvlan", id="2", parent="eth0.10")
    others = [first, network(id="3", parent="eth0"), second]
    assert parents.heir(first, others) == second
    assert parents.heir(second, others) is None, "what a network did not make it does not hand on"
    assert parents.heir(first, [first]) is None


def test_a_router_has_an_address_only_where_one_is() -> None:
    def settled(driver: str, internal: bool = False, **options: str) -> str:
        pools = Ipam(config=(Subnet(subnet="10.5.0.0/24"),))
        asked = Network(id="1", name="n", created="", driver=driver, ipam=pools, internal=internal, options=options)
        return addresses.settle_pools(asked, [], [], addresses.PoolPlan()).config[0].gateway

    assert settled("macvlan", parent="eth0") == settled("ipvlan", parent="eth0") == "10.5.0.1"
    assert settled("bridge", internal=True) == "10.5.0.1"
    assert settled("macvlan", parent="eth0", internal=True) == settled("macvlan") == ""
    assert settled("ipvlan", parent="eth0", ipvlan_mode="l3") == settled("ipvlan", ipvlan_mode="l3s") == ""


PLANS = {
    "bridge": (network(parent="eth0"), endpoint()),
    "vlan": (network(parent="eth0.10", made="eth0.10", macvlan_mode="private"), endpoint()),
    "dual-stack": (network(parent="eth0", six=True), endpoint(six=True)),
    "alone": (network(made="dm-111111111111"), endpoint()),
    "passthru-mtu": (
        network(parent="eth0", macvlan_mode="passthru", **{"com.docker.network.driver.mtu": "1400"}),
        endpoint(**{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}),
    ),
    "host-access": (network(parent="eth0", host_access="true", six=True), endpoint(six=True)),
    "ipvlan": (network("ipvlan", parent="eth0"), endpoint()),
    "ipvlan-l3": (network("ipvlan", parent="eth0", ipvlan_mode="l3", ipvlan_flag="private"), endpoint()),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans(name: str) -> None:
    net, end = PLANS[name]
    if net.driver == "ipvlan":
        end = msgspec.structs.replace(end, mac="")
    driver, facts = DRIVERS[net.driver], Facts()
    parts = (driver.network(net, facts), driver.endpoint(net, end, facts), driver.publish(net, end, facts))
    text = "\n\n".join(as_text(part) for part in parts if part)
    same_as(f"tests/unit/golden/lan-{name}.txt", f"{text}\n\n{driver.attachment(net)}\n")


def test_no_ipv6_on_a_kernel_without() -> None:
    facts = msgspec.structs.replace(Facts(), has_ipv6=False)
    for net, end in PLANS.values():
        plan = DRIVERS[net.driver].network(net, facts) + DRIVERS[net.driver].endpoint(net, end, facts)
        assert "net/ipv6" not in as_text(plan)


def test_on_the_lan_only_sending_can_be_slowed() -> None:
    out, into = endpoint(**{"com.fairlead.rate_out": "10mbit"}), endpoint(**{"com.fairlead.rate": "10mbit"})
    for name, driver in DRIVERS.items():
        net = network(name, parent="eth0")
        assert "shaper link=eth0 rate=10000000 ns=cccccccccccc" in as_text(driver.endpoint(net, out, Facts()))
        with pytest.raises(Invalid, match="rate_in is for bridge networks"):
            driver.endpoint(net, into, Facts())
