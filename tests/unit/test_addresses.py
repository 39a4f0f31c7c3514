"""Subnets and addresses: Docker's words, Docker's order, and properties that hold for any history."""

import ipaddress
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.core import addresses
from fairlead.core.addresses import AddressPool, PoolPlan, choose, choose_subnet, settle_pools
from fairlead.core.model import EndpointSettings, Ipam, Network, Subnet
from fairlead.errors import FairleadError, Forbidden, Invalid

PLAN = PoolPlan()


def network(name: str = "n", *pools: Subnet, ipv6: bool = False, driver: str = "bridge", ipv4: bool = True) -> Network:
    return Network(
        id=name.ljust(64, "0"), name=name, created="", ipv4=ipv4, ipv6=ipv6, driver=driver, ipam=Ipam(config=pools)
    )


def settled(new: Network, *others: Network, routes: tuple[str, ...] = (), plan: PoolPlan = PLAN) -> Network:
    return replace(new, ipam=settle_pools(new, others, routes, plan))


# -- subnets we choose -----------------------------------------------------------------


def test_dockers_pools_come_first_then_many_small_ones() -> None:
    made: list[Network] = []
    for number in range(40):
        made.append(settled(network(f"n{number}"), *made))
    subnets = [one.ipam.config[0].subnet for one in made]
    assert subnets[:3] == ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16"]
    assert subnets[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert subnets[30:33] == ["192.168.240.0/20", "10.0.0.0/24", "10.0.1.0/24"]
    assert [one.ipam.config[0].gateway for one in made[:2]] == ["172.17.0.1", "172.18.0.1"]
    assert all(one.ipam.config[0].chosen and not one.ipam.given for one in made)


def test_a_freed_subnet_is_the_next_one() -> None:
    made = [settled(network("a"))]
    made.append(settled(network("b"), *made))
    assert settled(network("c"), made[1]).ipam.config[0].subnet == "172.17.0.0/16"


@pytest.mark.parametrize("route", ["172.16.0.0/12", "172.17.5.0/24", "172.17.0.9/32"])
def test_never_over_a_host_route(route: str) -> None:
    chosen = settled(network(), routes=("0.0.0.0/0", route, "::/0")).ipam.config[0].subnet
    assert not ipaddress.ip_network(chosen).overlaps(ipaddress.ip_network(route))


def test_never_over_a_resolver_of_the_host() -> None:
    plan = PoolPlan(resolvers=("172.17.0.53", "fe80::1%eth0", "127.0.0.53"))
    assert settled(network(), plan=plan).ipam.config[0].subnet == "172.18.0.0/16"


def test_halves_of_a_default_route_say_nothing() -> None:
    assert settled(network(), routes=("0.0.0.0/1", "128.0.0.0/1")).ipam.config[0].subnet == "172.17.0.0/16"


def test_a_plan_of_the_users_replaces_ours_and_can_be_exhausted() -> None:
    plan = PoolPlan(pools=(AddressPool("10.9.0.0/16", 17),))
    made = [settled(network("a"), plan=plan)]
    made.append(settled(network("b"), *made, plan=plan))
    assert [one.ipam.config[0].subnet for one in made] == ["10.9.0.0/17", "10.9.128.0/17"]
    with pytest.raises(Invalid, match="all predefined address pools have been fully subnetted"):
        settled(network("c"), *made, plan=plan)


def test_a_plan_without_ipv4_keeps_the_defaults_of_ipv4() -> None:
    plan = PoolPlan(pools=(AddressPool("2001:db8::/56", 64),))
    pools = settled(network(ipv6=True), plan=plan).ipam.config
    assert [pool.subnet for pool in pools] == ["172.17.0.0/16", "2001:db8::/64"]


def test_ipv6_comes_out_of_the_engines_own_prefix() -> None:
    plan = PoolPlan(ula=addresses.ula_prefix(b"\x12\x34\x56\x78\x9a"))
    first = settled(network("a", ipv6=True), plan=plan)
    second = settled(network("b", ipv6=True), first, plan=plan)
    assert first.ipam.config[1].subnet == "fd12:3456:789a::/64"
    assert second.ipam.config[1] == Subnet(subnet="fd12:3456:789a:1::/64", gateway="fd12:3456:789a:1::1", chosen=True)


def test_ipv6_only() -> None:
    assert [pool.subnet for pool in settled(network(ipv4=False, ipv6=True)).ipam.config] == ["fd5f:fa1b:1ead::/64"]


prefixes = st.builds(
    lambda number, length: str(ipaddress.ip_network((number << 12, length), strict=False)),
    st.integers(0, 2**20 - 1),
    st.integers(2, 28),
)


@given(st.lists(prefixes, max_size=30), st.lists(prefixes, max_size=10), st.integers(0, 12))
def test_what_is_chosen_overlaps_nothing_and_is_the_first_that_does_not(
    used: list[str], routes: list[str], bits: int
) -> None:
    pools = (AddressPool("10.0.0.0/12", 12 + bits),)
    obstacles = [ipaddress.ip_network(text) for text in [*used, *routes] if not text.startswith(("224.", "239."))]
    free = (
        candidate
        for candidate in ipaddress.ip_network("10.0.0.0/12").subnets(prefixlen_diff=bits)
        if not any(candidate.overlaps(other) for other in obstacles if not other.is_multicast)
    )
    expected = next(free, None)
    try:
        assert choose_subnet(pools, [u for u in used if not ipaddress.ip_network(u).is_multicast], routes) == str(
            expected
        )
    except Invalid:
        assert expected is None


# -- subnets of the user's -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Subnet(subnet="bad"), "invalid subnet bad: invalid CIDR block notation"),
        (Subnet(gateway="10.62.0.1"), "invalid subnet : invalid CIDR block notation"),
        (Subnet(subnet="10.62.0.0"), "invalid subnet 10.62.0.0: invalid CIDR block notation"),
        (
            Subnet(subnet="10.62.0.0/255.255.255.0"),
            "invalid subnet 10.62.0.0/255.255.255.0: invalid CIDR block notation",
        ),
        (Subnet(subnet="10.62.0.5/24"), "invalid subnet 10.62.0.5/24: it should be 10.62.0.0/24"),
        (
            Subnet(subnet="10.62.0.0/24", gateway="10.63.0.1"),
            "invalid gateway 10.63.0.1: parent subnet 10.62.0.0/24 doesn't contain this address",
        ),
        (
            Subnet(subnet="10.62.0.0/24", ip_range="10.63.0.0/25"),
            "invalid ip-range 10.63.0.0/25: parent subnet 10.62.0.0/24 doesn't contain ip-range",
        ),
        (
            Subnet(subnet="10.62.0.0/24", ip_range="10.62.0.0/23"),
            "invalid ip-range 10.62.0.0/23: CIDR block is bigger than its parent subnet 10.62.0.0/24",
        ),
        (
            Subnet(subnet="10.62.0.0/24", auxiliary={"r": "10.9.9.9"}),
            "invalid auxiliary address r: parent subnet 10.62.0.0/24 doesn't contain this address",
        ),
        (Subnet(subnet="10.62.0.0/24", gateway="fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (Subnet(subnet="10.62.0.0/24", gateway="x"), "invalid gateway x: invalid address"),
    ],
)
def test_nonsense_is_refused_in_dockerds_words(pool: Subnet, words: str) -> None:
    with pytest.raises(Invalid) as error:
        settled(network("n", pool))
    assert error.value.message == f"invalid network config:\n{words}"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Subnet(subnet="10.62.0.0/24", gateway="10.62.0.0"), "gateway (10.62.0.0)"),
        (Subnet(subnet="10.62.0.0/24", gateway="10.62.0.255"), "gateway (10.62.0.255)"),
        (Subnet(subnet="fd00:1::/64", gateway="fd00:1::"), "gateway (fd00:1::)"),
        (Subnet(subnet="10.62.0.0/24", auxiliary={"r": "10.62.0.255"}), "secondary ip address (r:10.62.0.255)"),
        (
            Subnet(subnet="10.62.0.0/24", gateway="10.62.0.9", auxiliary={"r": "10.62.0.9"}),
            "secondary ip address (r:10.62.0.9)",
        ),
        (
            Subnet(subnet="10.62.0.0/24", auxiliary={"r": "10.62.0.9", "s": "10.62.0.9"}),
            "secondary ip address (s:10.62.0.9)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_address_is_given_away_twice(pool: Subnet, words: str) -> None:
    with pytest.raises(FairleadError) as error:
        settled(network("n", pool, ipv6=True))
    assert (error.value.status, error.value.message) == (500, f"failed to allocate {words}: Address already in use")


@pytest.mark.parametrize("gateway", ["10.62.0.0", "10.62.0.1"])
def test_of_two_addresses_either_is_somebodys(gateway: str) -> None:
    assert settled(network("n", Subnet(subnet="10.62.0.0/31", gateway=gateway))).ipam.config[0].gateway == gateway


def test_several_complaints_are_a_list() -> None:
    with pytest.raises(Invalid) as error:
        settled(network("n", Subnet(subnet="10.62.0.5/24", gateway="1.1.1.1"), Subnet(subnet="bad")))
    assert error.value.message == (
        "invalid network config:\n* invalid subnet 10.62.0.5/24: it should be 10.62.0.0/24\n"
        "* invalid gateway 1.1.1.1: parent subnet 10.62.0.0/24 doesn't contain this address\n"
        "* invalid subnet bad: invalid CIDR block notation"
    )


def test_a_subnet_of_a_family_that_is_off_is_left_out() -> None:
    assert [pool.subnet for pool in settled(network("n", Subnet(subnet="fd00:1::/64"))).ipam.config] == [
        "172.17.0.0/16"
    ]


def test_everything_is_written_canonically() -> None:
    pool = Subnet(
        subnet="FD00:0:0:1::/64",
        gateway="FD00::1:0:0:0:1",
        ip_range="fd00:0:0:1:0::/80",
        auxiliary={"a": "FD00:0:0:1::2"},
    )
    made = settled(network("n", pool, ipv6=True, ipv4=False)).ipam
    assert made.given
    assert made.config == (
        Subnet(
            subnet="fd00:0:0:1::/64",
            gateway="fd00:0:0:1::1",
            ip_range="fd00:0:0:1::/80",
            auxiliary={"a": "fd00:0:0:1::2"},
        ),
    )


def test_the_gateway_is_the_first_free_address_of_the_range() -> None:
    pool = Subnet(subnet="172.20.0.0/16", ip_range="172.20.1.0/24", auxiliary={"r": "172.20.1.0"})
    assert settled(network("n", pool)).ipam.config[0].gateway == "172.20.1.1"


OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


def test_an_overlap_names_the_network() -> None:
    other = settled(network("RED", Subnet(subnet="10.61.0.0/24")))
    with pytest.raises(Forbidden) as error:
        settled(network("n", Subnet(subnet="10.61.0.0/25")), other)
    assert error.value.message.startswith(OVERLAP)
    assert "RED" in error.value.message
    with pytest.raises(Forbidden, match="of the same network"):
        settled(network("n", Subnet(subnet="10.61.0.0/25"), Subnet(subnet="10.61.0.0/24")))


def test_an_overlap_names_the_route_except_where_the_lan_is_meant() -> None:
    pool = Subnet(subnet="192.168.1.0/24", gateway="192.168.1.1")
    with pytest.raises(Forbidden, match=r"the host's route to 192\.168\.0\.0/16"):
        settled(network("n", pool), routes=("0.0.0.0/0", "192.168.0.0/16"))
    assert settled(network("n", pool, driver="macvlan"), routes=("192.168.0.0/16",)).ipam.config == (pool,)


# -- one address -----------------------------------------------------------------------------


LAN = Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", auxiliary={"printer": "10.0.0.3"})


def test_lowest_first() -> None:
    assert choose(LAN, set()) == "10.0.0.2"
    assert choose(LAN, {"10.0.0.2", "10.0.0.5"}) == "10.0.0.4"
    assert choose(LAN, {"10.0.0.4"}) == "10.0.0.2"


def test_the_range_gives_its_own_first_address() -> None:
    assert choose(Subnet(subnet="172.20.0.0/16", ip_range="172.20.1.0/24", gateway="172.20.0.1"), set()) == "172.20.1.0"


def test_what_it_had_before_if_it_is_free() -> None:
    assert choose(LAN, set(), prefer="10.0.0.77") == "10.0.0.77"
    assert choose(LAN, {"10.0.0.77"}, prefer="10.0.0.77") == "10.0.0.2"
    assert choose(LAN, set(), prefer="192.168.0.1") == "10.0.0.2"
    assert choose(LAN, set(), prefer="10.0.0.1") == "10.0.0.2"


@pytest.mark.parametrize("wish", ["10.0.0.1", "10.0.0.0", "10.0.0.255", "10.0.0.9"])
def test_a_wish_that_is_taken(wish: str) -> None:
    with pytest.raises(Forbidden, match=r"^Address already in use$"):
        choose(LAN, {"10.0.0.9"}, wish=wish)


def test_a_wish_outside() -> None:
    with pytest.raises(Invalid, match=r"no configured subnet or ip-range contain the IP address 10\.99\.0\.1"):
        choose(LAN, set(), wish="10.99.0.1")
    assert choose(Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.128/25"), set(), wish="10.0.0.9") == "10.0.0.9"


@pytest.mark.parametrize(
    ("subnet", "all_of_them"),
    [
        ("10.0.0.0/30", ["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.0/31", ["10.0.0.0", "10.0.0.1"]),
        ("10.0.0.7/32", ["10.0.0.7"]),
        ("fd00::/126", ["fd00::1", "fd00::2", "fd00::3"]),
        ("fd00::/127", ["fd00::", "fd00::1"]),
    ],
)
def test_small_subnets_to_the_last_address(subnet: str, all_of_them: list[str]) -> None:
    taken: set[str] = set()
    for expected in all_of_them:
        assert choose(Subnet(subnet=subnet), taken) == expected
        taken.add(expected)
    with pytest.raises(addresses.Full, match="no available IPv"):
        choose(Subnet(subnet=subnet), taken)


@pytest.mark.parametrize("subnet", ["10.0.0.0/8", "fd00::/64", "fd00::/16"])
def test_size_costs_nothing(subnet: str) -> None:
    first = ipaddress.ip_network(subnet).network_address
    taken = {str(first + number) for number in range(500)}
    began = time.perf_counter()
    assert choose(Subnet(subnet=subnet), taken) == str(first + 500)
    assert time.perf_counter() - began < 0.25


def test_what_is_held_may_be_given_as_numbers() -> None:
    pool = Subnet(subnet="10.0.0.0/29", gateway="10.0.0.1")
    held = {addresses.number_of("10.0.0.2"), addresses.number_of("10.0.0.4")}
    assert addresses.lease([pool], {"10.0.0.3"}, held=held) == ("10.0.0.5", pool)
    assert addresses.lease([pool], set(), prefer="10.0.0.4", held=held) == ("10.0.0.3", pool)
    with pytest.raises(Forbidden):
        addresses.lease([pool], set(), wish="10.0.0.4", held=held)


def test_several_pools_are_filled_in_turn() -> None:
    pools = (Subnet(subnet="10.0.0.0/30", gateway="10.0.0.1"), Subnet(subnet="10.0.1.0/24", gateway="10.0.1.1"))
    assert addresses.lease(pools, set()) == ("10.0.0.2", pools[0])
    assert addresses.lease(pools, {"10.0.0.2"}) == ("10.0.1.2", pools[1])
    assert addresses.lease(pools, set(), wish="10.0.1.9") == ("10.0.1.9", pools[1])
    assert addresses.lease(pools, set(), prefer="10.0.1.9") == ("10.0.1.9", pools[1])
    with pytest.raises(addresses.Full, match="RED"):
        addresses.lease(pools[:1], {"10.0.0.2"}, name="RED (3f2a)")


actions = st.lists(
    st.one_of(st.just("take"), st.integers(0, 30), st.builds(lambda n: f"10.0.0.{n}", st.integers(0, 31)))
)


@given(actions, st.sampled_from(["", "10.0.0.8/29"]))
@settings(max_examples=200)
def test_any_history_against_a_list(history: list[object], ip_range: str) -> None:
    """Take, free, ask for one: never one twice, never nobody's, always the lowest."""
    subnet = Subnet(subnet="10.0.0.0/27", ip_range=ip_range, gateway="10.0.0.1")
    nobodys = {"10.0.0.0", "10.0.0.31", "10.0.0.1"}
    part = ipaddress.ip_network(ip_range or subnet.subnet)
    held: list[str] = []
    for action in history:
        if isinstance(action, int):
            held = held[:action] + held[action + 1 :]
            continue
        wish = "" if action == "take" else str(action)
        free = [str(a) for a in part if str(a) not in nobodys and str(a) not in held]
        try:
            got = choose(subnet, set(held), wish=wish)
        except Forbidden:
            assert wish in nobodys or wish in held
        except addresses.Full:
            assert not free
        else:
            assert got == (wish or free[0])
            assert got not in held
            held.append(got)


def test_the_default_gateway_may_be_another_router() -> None:
    """``--default-gateway``, or ``--aux-address DefaultGatewayIPv4=…``."""
    assert addresses.gateway_of(LAN) == "10.0.0.1"
    other = Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", auxiliary={"DefaultGatewayIPv4": "10.0.0.254"})
    assert addresses.gateway_of(other) == "10.0.0.254"
    six = Subnet(subnet="fd00::/64", gateway="fd00::1", auxiliary={"DefaultGatewayIPv6": "fd00::fe"})
    assert addresses.gateway_of(six) == "fd00::fe"


# -- what containers ask for ---------------------------------------------------------------------


GIVEN = network("g", Subnet(subnet="10.61.0.0/25", gateway="10.61.0.1"))
CHOSEN = network("c", Subnet(subnet="172.18.0.0/16", gateway="172.18.0.1", chosen=True))
UNGIVEN = "user specified IP address is supported only when connecting to networks with user configured subnets"


@pytest.mark.parametrize(
    ("on", "wishes", "words"),
    [
        (
            GIVEN,
            EndpointSettings(ipv4="10.99.0.1"),
            "no configured subnet or ip-range contain the IP address 10.99.0.1",
        ),
        (
            GIVEN,
            EndpointSettings(ipv4="bad"),
            "* invalid IPv4 address: bad\n* no configured subnet or ip-range contain the IP address bad",
        ),
        (GIVEN, EndpointSettings(ipv6="fd00::5"), UNGIVEN),
        (CHOSEN, EndpointSettings(ipv4="172.18.0.9"), UNGIVEN),
        (GIVEN, EndpointSettings(link_local=("x",)), "invalid link-local IP address: x"),
        (
            replace(CHOSEN, predefined=True),
            EndpointSettings(aliases=("x",)),
            "network-scoped alias is supported only for containers in user defined networks",
        ),
    ],
)
def test_wishes_are_refused_in_dockerds_words(on: Network, wishes: EndpointSettings, words: str) -> None:
    with pytest.raises(Invalid) as error:
        addresses.check_wishes(on, wishes)
    assert error.value.message == f"invalid endpoint settings:\n{words}"


def test_wishes_that_are_fine() -> None:
    addresses.check_wishes(GIVEN, EndpointSettings(ipv4="10.61.0.77", aliases=("a",), link_local=("169.254.3.4",)))
    addresses.check_wishes(CHOSEN, EndpointSettings())


# -- MAC addresses ----------------------------------------------------------------------------------


def test_mac_of_an_address() -> None:
    assert addresses.mac_from_address("172.17.0.2") == "02:42:ac:11:00:02"


@given(st.binary(min_size=6, max_size=32))
def test_macs_are_local_unicast_and_stable(dice: bytes) -> None:
    mac = addresses.mac_from_dice(dice)
    first = int(mac[:2], 16)
    assert first & 0b11 == 0b10
    assert len(mac) == 17
    assert addresses.mac_from_dice(dice) == mac
