"""Rules and the bridge driver without a kernel: plans as golden text, elements against a model."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.core import rules
from fairlead.core.bridgeoptions import ANTISPOOF, bridge_options, endpoint_options
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, NetworkRequest, PortBinding, Subnet
from fairlead.core.wanted import Element, Skeleton, Sysctl
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.host import Host
from fairlead.engine.drivers.none import Null
from fairlead.errors import Forbidden, Invalid
from lane.golden import as_text, same_as

BRIDGE = "com.docker.network.bridge."
DEFAULT = {
    BRIDGE + "default_bridge": "true",
    BRIDGE + "enable_icc": "true",
    BRIDGE + "enable_ip_masquerade": "true",
    BRIDGE + "host_binding_ipv4": "0.0.0.0",
    BRIDGE + "name": "docker0",
    "com.docker.network.driver.mtu": "1500",
}
V4 = Subnet(subnet="172.18.0.0/16", gateway="172.18.0.1")
V6 = Subnet(subnet="fd00:18::/64", gateway="fd00:18::1")


def network(*pools: Subnet, internal: bool = False, predefined: bool = False, **options: str) -> Network:
    pools = pools or (V4,)
    return Network(
        id="3f2a91c0ffee".ljust(64, "0"),
        name="RED",
        created="",
        internal=internal,
        predefined=predefined,
        ipv4=any("." in pool.subnet for pool in pools),
        ipv6=any(":" in pool.subnet for pool in pools),
        ipam=Ipam(config=pools),
        options={BRIDGE + key: value for key, value in options.items()},
    )


def endpoint(on: Network, *bindings: PortBinding, **settings: object) -> Endpoint:
    return Endpoint(
        id="77b01de5".ljust(64, "0"),
        network=on.id,
        container="c0ffee".ljust(64, "0"),
        sandbox="c0ffee".ljust(64, "0"),
        name="web",
        interface="eth0",
        device="veth77b01de",
        ipv4="172.18.0.2/16" if on.ipv4 else "",
        ipv6="fd00:18::2/64" if on.ipv6 else "",
        mac="02:11:22:33:44:55",
        bindings=bindings,
        settings=EndpointSettings(**settings),  # type: ignore[arg-type]
    )


PUBLISHED = (
    PortBinding(80, "tcp", "0.0.0.0", 8080),
    PortBinding(80, "tcp", "::", 8080),
    PortBinding(80, "tcp", "127.0.0.1", 8081),
    PortBinding(53, "udp", "2001:db8::1", 53),
)
ROUTED = (PortBinding(80, "tcp", "0.0.0.0", 0), PortBinding(80, "tcp", "::", 0))

SYSCTLS = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2"

STORIES: dict[str, tuple[Network, tuple[PortBinding, ...], Facts, dict[str, object]]] = {
    "default": (replace(network(), options=DEFAULT, predefined=True), PUBLISHED[:1], Facts(), {}),
    "user": (network(), PUBLISHED, Facts(), {}),
    "dual-stack": (network(V4, V6), PUBLISHED, Facts(default_mtu=1400), {}),
    "ipv6-only": (network(V6), PUBLISHED, Facts(), {}),
    "several-subnets": (network(V4, Subnet(subnet="10.9.0.0/24", gateway="10.9.0.1")), (), Facts(), {}),
    "internal": (network(V4, V6, internal=True), PUBLISHED, Facts(), {}),
    "isolated": (
        network(V4, V6, internal=True, gateway_mode_ipv4="isolated", gateway_mode_ipv6="isolated"), (), Facts(), {},
    ),
    "routed": (network(V4, V6, gateway_mode_ipv4="routed", gateway_mode_ipv6="routed"), ROUTED, Facts(), {}),
    "nat4-routed6": (network(V4, V6, gateway_mode_ipv6="routed"), (PUBLISHED[0], ROUTED[1]), Facts(), {}),
    "nat-unprotected": (network(gateway_mode_ipv4="nat-unprotected"), PUBLISHED[:1], Facts(), {}),
    "icc-off": (network(enable_icc="false"), (), Facts(), {}),
    "no-masquerade": (network(enable_ip_masquerade="false"), PUBLISHED[:1], Facts(), {}),
    "inhibit-ipv4": (network(V4, V6, inhibit_ipv4="true"), (), Facts(), {}),
    "trusted": (network(V4, V6, trusted_host_interfaces="lan0:wg0"), PUBLISHED[:2], Facts(), {}),
    "allow-direct-routing": (network(V4, V6), PUBLISHED[:2], Facts(allow_direct_routing=True), {}),
    "bridge-netfilter": (network(enable_icc="false"), (), Facts(bridge_netfilter=True), {}),
    "iptables-false": (network(V4, V6), PUBLISHED, Facts(firewall=False), {}),
    "ip6tables-false": (network(V4, V6), PUBLISHED, Facts(firewall6=False), {}),
    "kernel-without-ipv6": (network(), (), Facts(has_ipv6=False), {}),
    "bridge-of-somebody-else": (
        replace(network(), options={**DEFAULT, BRIDGE + "name": "cookbook"}, predefined=True), PUBLISHED[:1],
        Facts(bridge="cookbook"), {},
    ),
    "antispoof": (
        replace(network(V4, V6), options={ANTISPOOF: "true"}), (), Facts(), {"link_local": ("169.254.7.7", "fe80::7")},
    ),
    "endpoint-options": (
        network(V4, V6), (), Facts(),
        {"driver_opts": {"com.docker.network.endpoint.sysctls": SYSCTLS}, "link_local": ("169.254.7.7", "fe80::7")},
    ),
}  # fmt: skip


def story(name: str) -> str:
    on, bindings, facts, settings = STORIES[name]
    mine, driver = endpoint(on, *bindings, **settings), Bridge()
    parts = {
        "network": driver.network(on, facts),
        "endpoint": driver.endpoint(on, mine, facts),
        "publish": driver.publish(on, mine, facts),
    }
    text = "".join(f"{title}\n{as_text(plan) or '(nothing)'}\n\n" for title, plan in parts.items())
    return f"{text}{driver.publishing(on)}\n{driver.attachment(on)}\n"


@pytest.mark.parametrize("name", STORIES)
def test_plans(name: str) -> None:
    same_as(f"tests/unit/golden/bridge-{name}.txt", story(name))


@pytest.mark.parametrize("name", STORIES)
def test_plans_say_nothing_twice(name: str) -> None:
    on, bindings, facts, settings = STORIES[name]
    mine, driver = endpoint(on, *bindings, **settings), Bridge()
    plan = (*driver.network(on, facts), *driver.endpoint(on, mine, facts), *driver.publish(on, mine, facts))
    assert len({item.key for item in plan}) == len(plan)


def test_no_firewall_no_word_about_one() -> None:
    on, facts = network(V4, V6), Facts(firewall=False)
    plan = (*Bridge().network(on, facts), *Bridge().publish(on, endpoint(on, *PUBLISHED), facts))
    assert not [item for item in plan if isinstance(item, Element | Skeleton)]
    assert not [item for item in plan if isinstance(item, Sysctl) and "route_localnet" in item.path]
    assert rules.machine_plan(firewall=False, forward=False) == ()


def test_the_table() -> None:
    same_as("tests/unit/golden/table.txt", rules.skeleton().text)
    same_as("tests/unit/golden/table-drop-foreign.txt", rules.skeleton(drop_foreign=(4, 6)).text)


def test_the_machines_plan() -> None:
    assert [str(item.key) for item in rules.machine_plan()] == [
        "('skeleton', '')",
        "('sysctl', '', 'net/ipv4/ip_forward')",
    ]
    assert len(rules.machine_plan(ipv6=True)) == 4
    assert rules.machine_plan(forward=False, ipv6=True) == (rules.skeleton(),)


# -- elements against a model -----------------------------------------------------------------


ADDRESSES = ("192.0.2.1", "127.0.0.1", "2001:db8::1", "::1")
spots = st.tuples(
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.sampled_from(["0.0.0.0", "::", *ADDRESSES]),
    st.integers(1, 6),
)


@st.composite
def containers(draw: st.DrawFn) -> list[tuple[str, str, list[PortBinding]]]:
    """Some containers, and bindings no two of which claim the same spot."""
    found = []
    used: set[tuple[str, str, int]] = set()
    for number in range(draw(st.integers(0, 4))):
        mine = [spot for spot in draw(st.lists(spots, max_size=6, unique=True)) if spot not in used]
        used |= set(mine)
        four = f"10.0.0.{number + 2}" if draw(st.booleans()) else ""
        six = f"fd00::{number + 2}" if draw(st.booleans()) else ""
        found.append((four, six, [PortBinding(80 + number, protocol, ip, port) for protocol, ip, port in mine]))
    return found


def expected(all_of_them: list[tuple[str, str, list[PortBinding]]], address: str, protocol: str, port: int) -> str:
    """Where a packet to that address of the host should go: the exact address first, then any of its family."""
    family = 6 if ":" in address else 4
    for wanted in (address, "::" if family == 6 else "0.0.0.0"):
        for four, six, bindings in all_of_them:
            target = six if family == 6 else four
            for binding in bindings:
                if (binding.protocol, binding.host_ip, binding.host_port) == (protocol, wanted, port) and target:
                    return f"{target} . {binding.port}"
    return ""


@given(containers())
def test_published_ports_against_a_model(all_of_them: list[tuple[str, str, list[PortBinding]]]) -> None:
    on = rules.NetworkRules(device="br0")
    maps: dict[str, dict[str, str]] = {}
    for four, six, bindings in all_of_them:
        for item in rules.binding_elements(bindings, four, six, on):
            assert item.item not in maps.setdefault(item.map, {})
            maps[item.map][item.item] = item.value
    for address in ADDRESSES:
        family = 6 if ":" in address else 4
        for protocol in ("tcp", "udp", "sctp"):
            for port in range(1, 7):
                found = maps.get(f"published_at{family}", {}).get(f"{address} . {protocol} . {port}") or maps.get(
                    f"published{family}", {}
                ).get(f"{protocol} . {port}", "")
                assert found == expected(all_of_them, address, protocol, port)


modes = st.sampled_from(["nat", "nat-unprotected", "routed", "isolated"])
networks = st.builds(
    rules.NetworkRules,
    device=st.just("br0"),
    subnets=st.just(("10.0.0.0/24", "fd00::/64")),
    internal=st.booleans(),
    icc=st.booleans(),
    masquerade=st.booleans(),
    mode4=modes,
    mode6=modes,
    source4=st.sampled_from(["", "192.0.2.1"]),
    source6=st.sampled_from(["", "2001:db8::1"]),
    trusted=st.sampled_from([(), ("lan0",), ("lan0", "wg0")]),
    direct=st.booleans(),
)


@given(networks)
def test_what_a_network_opens(on: rules.NetworkRules) -> None:
    elements = [*rules.network_elements(on), *rules.binding_elements(PUBLISHED, "10.0.0.2", "fd00::2", on)]
    keys = [item.key for item in elements]
    assert len(set(keys)) == len(keys)
    by_map = {name: [item for item in elements if item.map == name] for name in {item.map for item in elements}}
    edge = "internal" if on.internal else "networks"
    assert by_map[edge], "what enters is asked for its reason, or does not enter at all"
    assert {"internal", "networks"} & set(by_map) == {edge}
    assert bool(by_map.get("apart")) is not on.icc
    if on.internal:
        assert not set(by_map) - {"same", "internal", "apart"}, "an internal network opens nothing"
        return
    for family in (4, 6):
        mode = on.mode(family)
        nat = mode in ("nat", "nat-unprotected")
        assert bool(by_map.get(f"published{family}")) is nat
        assert bool(by_map.get(f"open{family}")) is (mode == "nat-unprotected")
        assert bool(by_map.get(f"routed{family}")) is (mode == "routed")
        assert bool(by_map.get(f"exposed{family}")) is (mode == "routed" or (nat and on.direct))
        assert bool(by_map.get(f"trusted{family}")) is (nat and bool(on.trusted) and not on.direct)
        leaves = [*by_map.get(f"masquerade{family}", []), *by_map.get(f"source{family}", [])]
        assert len(leaves) == (1 if nat and on.masquerade else 0)


def every_map() -> Iterator[str]:
    for line in rules.skeleton().text.splitlines():
        words = line.split()
        if words[:1] in (["set"], ["map"]):
            yield words[1]


@given(networks)
def test_every_element_has_its_map(on: rules.NetworkRules) -> None:
    elements = [*rules.network_elements(on), *rules.binding_elements(PUBLISHED, "10.0.0.2", "fd00::2", on)]
    assert {item.map for item in elements} <= set(every_map())


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("com.docker.network.driver.mtu", "x", 'strconv.Atoi: parsing "x": invalid syntax'),
        (BRIDGE + "enable_icc", "maybe", 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (BRIDGE + "gateway_mode_ipv4", "open", "unknown gateway mode open"),
        (BRIDGE + "host_binding_ipv4", "here", "nil ip"),
        ("com.docker.network.host_ipv4", "here", "nil ip"),
    ],
)
def test_options_that_cannot_be_read(key: str, value: str, words: str) -> None:
    with pytest.raises(Invalid) as error:
        Bridge().check(NetworkRequest(name="n", options={key: value}), Facts())
    assert error.value.message == f"failed to parse {key} value: {value} ({words})"


@pytest.mark.parametrize("name", ["a b", "a/b", "sixteencharacter", 'a"b', "a:b", "eth*", "veth%d", ".."])
def test_device_names(name: str) -> None:
    with pytest.raises(Invalid, match="not a name of a network device"):
        bridge_options({BRIDGE + "name": name})


@pytest.mark.parametrize("mtu", ["-1", "67", "65536"])
def test_mtu_must_make_sense(mtu: str) -> None:
    with pytest.raises(Invalid, match=f"invalid MTU number: {mtu}"):
        bridge_options({"com.docker.network.driver.mtu": mtu})


def test_isolated_is_for_internal_networks() -> None:
    options = {BRIDGE + "gateway_mode_ipv4": "isolated"}
    with pytest.raises(Invalid, match="gateway mode 'isolated' can only be used for an internal network"):
        Bridge().check(NetworkRequest(name="n", options=options), Facts())
    Bridge().check(NetworkRequest(name="n", options=options, internal=True), Facts())


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_gos_booleans(value: str) -> None:
    assert bridge_options({BRIDGE + "inhibit_ipv4": value}).inhibit_ipv4


def test_a_default_address_of_one_family_is_no_binding_in_the_other() -> None:
    def where(address: str) -> tuple[str, str]:
        found = Bridge().publishing(network(host_binding_ipv4=address))
        return found.host_ip4, found.host_ip6

    assert where("0.0.0.0") == ("0.0.0.0", "::")
    assert where("127.0.0.1") == ("127.0.0.1", "")
    assert where("::1") == ("", "::1")


@pytest.mark.parametrize(
    "text",
    ["net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.x=1", "kernel.ipv4.conf.IFNAME.x=1", "net.ipv4.conf.IFNAME.../x=1"],
)
def test_sysctls_are_the_interfaces_own(text: str) -> None:
    with pytest.raises(Invalid, match="unrecognised network interface sysctl"):
        endpoint_options({"com.docker.network.endpoint.sysctls": text})


def test_endpoint_options() -> None:
    found = endpoint_options(
        {
            "com.docker.network.endpoint.ifname": "lan0",
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.ifname.forwarding=1,net.mpls.conf.IFNAME.input=1",
        }
    )
    assert found.ifname == "lan0"
    assert found.sysctls == (("net/ipv4/conf/IFNAME/forwarding", "1"), ("net/mpls/conf/IFNAME/input", "1"))
    with pytest.raises(Invalid, match="invalid interface name"):
        endpoint_options({"com.docker.network.endpoint.ifname": "a/b"})


@pytest.mark.parametrize("driver", [Host(), Null()], ids=lambda driver: driver.name)
def test_host_and_none_make_nothing(driver: Host | Null) -> None:
    on = replace(network(), driver=driver.name)
    assert driver.network(on, Facts()) == driver.endpoint(on, endpoint(on), Facts()) == ()
    assert driver.publish(on, endpoint(on, *PUBLISHED), Facts()) == ()
    assert driver.device(on) == ""
    with pytest.raises(Forbidden, match=f'only one instance of "{driver.name}" network is allowed'):
        driver.check(NetworkRequest(name="n"), Facts())


def test_a_fence_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(Invalid, match="antispoof needs the firewall"):
        Bridge().check(NetworkRequest(name="n", options={ANTISPOOF: "1"}), Facts(firewall=False))


def test_what_closes_first_after_a_flush_is_in_the_table() -> None:
    declared = rules.skeleton().text
    assert all(f"set {name} {{" in declared for name in rules.CLOSING)
