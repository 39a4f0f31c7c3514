"""What every host promises (``host.base``), asked of the real one in a pretend host and of the one on paper."""

import os
from collections.abc import Iterator

import pytest

from fairlead.core.wanted import (
    Address,
    Element,
    Fence,
    File,
    Forwarding,
    Link,
    Namespace,
    Neighbour,
    Plan,
    Route,
    Rule,
    Shaper,
    Skeleton,
    Sysctl,
    Wanted,
    difference,
)
from fairlead.errors import Conflict, FairleadError
from fairlead.host.base import Host
from fairlead.host.fake import FakeHost

SKELETON = Skeleton(
    text="""
    map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
    set pairs { type ifname . ifname; }
    map doors { type ipv4_addr : verdict; flags interval; }
    chain no { drop; }
    chain arriving { type nat hook prerouting priority -100; dnat ip to meta l4proto . th dport map @published; }
    chain passing { type filter hook forward priority 0; iifname . oifname @pairs accept; ip daddr vmap @doors; }
    """
)
BRIDGE = Link(name="br0", kind="bridge", mac="02:00:00:00:00:01", mtu=1400, options=(("group_fwd_mask", "8"),))
SANDBOX = Namespace(name="s1")
VETH = Link(
    name="veth1",
    kind="veth",
    master="br0",
    mtu=1400,
    peer="eth0",
    peer_ns="s1",
    peer_mac="02:42:0a:00:00:02",
    options=(("hairpin", "1"), ("isolated", "1")),
    owner="endpoint 3f2a of network RED",
)
GATEWAY = Address(link="br0", address="10.0.0.1/24")
GATEWAY6 = Address(link="br0", address="fd00::1/64")
INSIDE = Address(ns="s1", link="eth0", address="10.0.0.2/24")
INSIDE6 = Address(ns="s1", link="eth0", address="fd00::2/64")
DEFAULT = Route(ns="s1", destination="0.0.0.0/0", gateway="10.0.0.1", link="eth0")
DEFAULT6 = Route(ns="s1", destination="::/0", gateway="fd00::1", link="eth0")
PORT = Element(map="published", item="tcp . 8080", value="10.0.0.2 . 80")

EVERYTHING: Plan = (
    SANDBOX,
    BRIDGE,
    GATEWAY,
    GATEWAY6,
    SKELETON,
    PORT,
    Element(map="pairs", item='"br0" . "br0"'),
    Element(map="doors", item="10.0.0.0/25", value="accept"),
    Element(map="doors", item="10.0.0.200-10.0.0.202", value="jump no"),
    VETH,
    Sysctl(ns="s1", path="net/ipv6/conf/eth0/disable_ipv6", value="0"),
    Sysctl(ns="s1", path="net/ipv4/conf/eth0/arp_notify", value="1"),
    Sysctl(path="net/ipv4/ip_local_port_range", value="32768 60999"),
    INSIDE,
    INSIDE6,
    DEFAULT,
    DEFAULT6,
    Route(destination="10.9.0.0/24", gateway="10.0.0.2", link="br0"),
    Route(destination="10.8.0.0/24", link="br0", metric=7),
    Route(destination="10.7.0.0/24", gateway="10.0.0.2", table=1000, source="10.0.0.1"),
    Rule(family=4, priority=100, table=1000, source="10.0.0.0/24"),
    Rule(family=6, priority=100, table=1000, mark=5),
    Neighbour(link="br0", address="10.0.0.9", mac="02:42:0a:00:00:09"),
    Neighbour(link="br0", address="fd00::9", mac="02:42:0a:00:00:09"),
    Namespace(name="overlay"),
    Link(name="br1", ns="overlay", kind="bridge", options=(("ageing_time", "1000"),)),
    Link(
        name="vx0",
        ns="overlay",
        kind="vxlan",
        master="br1",
        options=(("id", "4097"), ("learning", "0"), ("port", "4789")),
        up=False,
    ),
    Forwarding(ns="overlay", link="vx0", mac="00:00:00:00:00:00", via="192.0.2.1"),
    Forwarding(ns="overlay", link="vx0", mac="00:00:00:00:00:00", via="192.0.2.2"),
    Forwarding(ns="overlay", link="vx0", mac="02:42:0a:00:00:07", via="192.0.2.2"),
    Link(name="veth2", ns="overlay", kind="veth", master="br1", peer="eth1", peer_ns="s1"),
    Link(name="eth2", ns="s1", kind="macvlan", parent="br0", mac="02:42:0a:00:00:05", options=(("mode", "bridge"),)),
    Shaper(link="veth1", rate=8_000_000),
    Fence(link="veth1", mac="02:42:0a:00:00:02", addresses=("10.0.0.2", "fd00::2")),
    Shaper(ns="s1", link="eth2", rate=80_000_000_000),
)


@pytest.fixture(params=["paper", pytest.param("linux", marks=pytest.mark.kernel)])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    if request.param == "paper":
        yield FakeHost()
        return
    if os.geteuid():
        pytest.skip("makes network namespaces: needs root")
    made = request.getfixturevalue("pretend_host").open()
    try:
        yield made
    finally:
        made.remove(made.look())
        made.settle()


def missing(host: Host, *plan: Wanted) -> Plan:
    return difference(plan, host.look(plan))[0]


def keys(plan: Plan) -> set[tuple[str, ...]]:
    return {item.key for item in plan}


def test_everything_made_reads_back_as_it_was_wanted(host: Host) -> None:
    host.make(EVERYTHING)
    make, surplus = difference(EVERYTHING, host.look(EVERYTHING))
    assert make == ()
    assert surplus == ()


def test_everything_removed_is_gone(host: Host) -> None:
    host.make(EVERYTHING)
    host.remove(EVERYTHING)
    host.settle()
    assert host.look() == ()
    lasting = [item for item in host.look(EVERYTHING) if not isinstance(item, Sysctl)]
    assert lasting == []


def test_each_kind_removed_alone_is_gone_alone(host: Host) -> None:
    host.make(EVERYTHING)
    for item in (PORT, DEFAULT, INSIDE6, EVERYTHING[20], EVERYTHING[22], EVERYTHING[27]):
        host.remove([item])
        assert keys(missing(host, *EVERYTHING)) == {item.key}
        host.make([item])
        assert missing(host, *EVERYTHING) == ()


def test_look_without_wishes_reports_ours_by_the_same_keys(host: Host) -> None:
    host.make(EVERYTHING)
    found = {tuple(word.replace('"br0"', "br0") for word in key) for key in keys(host.look())}
    assert keys((BRIDGE, VETH, SANDBOX, GATEWAY, GATEWAY6, SKELETON, PORT)) <= found
    assert found <= keys(EVERYTHING) | {("element", "", "pairs", "br0 . br0")}


def test_the_mark_tells_the_owner(host: Host) -> None:
    host.make([SANDBOX, BRIDGE, VETH])
    owners = [item.owner for item in host.look([VETH]) if item.key == VETH.key]
    assert owners == ["endpoint 3f2a of network RED"]


def test_making_again_changes_nothing(host: Host) -> None:
    host.make(EVERYTHING)
    host.make(EVERYTHING)
    assert difference(EVERYTHING, host.look(EVERYTHING)) == ((), ())


def test_removing_what_is_gone_is_fine(host: Host) -> None:
    host.remove(EVERYTHING)
    host.make([SANDBOX, BRIDGE, VETH, SKELETON])
    host.remove([*EVERYTHING, *EVERYTHING])
    host.settle()
    assert host.look() == ()


def test_a_name_on_its_way_out_can_be_made_again_at_once(host: Host) -> None:
    for _ in range(3):
        host.make([SANDBOX, BRIDGE, VETH])
        host.remove([VETH])
        assert VETH.key not in keys(host.look())
        host.make([VETH])
        assert missing(host, VETH) == ()


def test_what_is_on_a_device_goes_with_it(host: Host) -> None:
    host.make([SANDBOX, BRIDGE, GATEWAY, VETH, INSIDE, DEFAULT])
    host.remove([VETH])
    host.settle()
    assert keys(missing(host, SANDBOX, BRIDGE, GATEWAY, VETH, INSIDE, DEFAULT)) == keys((VETH, INSIDE, DEFAULT))


def test_the_first_address_of_a_subnet_goes_alone(host: Host) -> None:
    second, third = Address(link="br0", address="10.0.0.7/24"), Address(link="br0", address="fd00::7/64")
    host.make([BRIDGE, GATEWAY, GATEWAY6, second, third])
    host.remove([GATEWAY, GATEWAY6])
    assert keys(missing(host, BRIDGE, GATEWAY, GATEWAY6, second, third)) == keys((GATEWAY, GATEWAY6))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            BRIDGE,
            Link(name="br0", kind="bridge", mac="02:00:00:00:00:02", mtu=1300, options=(("group_fwd_mask", "16"),)),
        ),
        (PORT, Element(map="published", item="tcp . 8080", value="10.0.0.3 . 81")),
        (DEFAULT, Route(ns="s1", destination="0.0.0.0/0", gateway="10.0.0.7", link="eth0")),
        (DEFAULT6, Route(ns="s1", destination="::/0", gateway="fd00::7", link="eth0")),
        (EVERYTHING[20], Rule(family=4, priority=100, table=1001, source="10.1.0.0/24")),
        (EVERYTHING[22], Neighbour(link="br0", address="10.0.0.9", mac="02:42:0a:00:00:0a")),
        (EVERYTHING[10], Sysctl(ns="s1", path="net/ipv6/conf/eth0/disable_ipv6", value="1")),
        (VETH, Link(name="veth1", kind="veth", peer="eth0", peer_ns="s1", peer_mac="02:42:0a:00:00:03", up=False)),
        (VETH, Link(name="veth1", kind="veth", peer="eth7", peer_ns="s1", mtu=1400)),
    ],
    ids=["bridge", "element", "route", "route6", "rule", "neighbour", "sysctl", "veth", "veth with another end"],
)
def test_what_is_different_becomes_what_is_wanted(host: Host, before: Wanted, after: Wanted) -> None:
    host.make(EVERYTHING)
    assert missing(host, after) == (after,)
    host.make([after])
    assert missing(host, after) == ()
    assert missing(host, before) == (before,)


def test_another_skeleton_replaces_the_table_and_its_elements(host: Host) -> None:
    host.make([SKELETON, PORT])
    other = Skeleton(text=SKELETON.text.replace("drop", "accept"))
    host.make([other])
    assert missing(host, other, PORT) == (PORT,)
    host.make([SKELETON, PORT])
    assert missing(host, SKELETON, PORT) == ()


def test_an_equal_skeleton_leaves_the_elements_alone(host: Host) -> None:
    host.make([SKELETON, PORT])
    host.make([SKELETON])
    assert missing(host, SKELETON, PORT) == ()


def test_a_refused_plan_leaves_nothing(host: Host) -> None:
    impossible = Address(link="nowhere", address="10.1.0.1/24")
    with pytest.raises(FairleadError, match="nowhere"):
        host.make([*EVERYTHING, impossible])
    host.settle()
    assert host.look() == ()


def test_a_refused_plan_leaves_what_was_there_before(host: Host) -> None:
    host.make(EVERYTHING)
    with pytest.raises(FairleadError, match="nowhere"):
        host.make(
            [
                *EVERYTHING,
                Element(map="published", item="tcp . 8080", value="10.0.0.3 . 81"),
                Element(map="published", item="tcp . 8081", value="10.0.0.3 . 81"),
                Route(ns="s1", destination="10.66.0.0/24", link="eth0"),
                Link(name="br9", kind="bridge"),
                Route(destination="10.67.0.0/24", link="nowhere"),
            ]
        )
    host.settle()
    assert difference(EVERYTHING, host.look(EVERYTHING)) == ((), ())


def test_a_device_of_somebody_else_is_a_conflict(host: Host, request: pytest.FixtureRequest) -> None:
    if isinstance(host, FakeHost):
        host.put(Link(name="br0", kind="bridge"))
    else:
        request.getfixturevalue("pretend_host").run("ip", "link", "add", "br0", "type", "bridge")
    with pytest.raises(Conflict, match="br0"):
        host.make([SANDBOX, BRIDGE])
    assert host.link_exists("br0") and not host.is_ours("br0")
    assert keys(host.look()) == set()
    assert BRIDGE.key in keys(host.look([BRIDGE]))
    host.remove([BRIDGE])
    host.settle()
    assert host.link_exists("br0")
    if not isinstance(host, FakeHost):
        request.getfixturevalue("pretend_host").run("ip", "link", "delete", "br0")


def test_files_are_replaced_in_place(host: Host, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "deep", "hosts")
    first, second = File(path=path, content="127.0.0.1 localhost\n"), File(path=path, content="::1 me\n", mode=0o600)
    host.make([first])
    assert missing(host, first) == ()
    before = os.stat(path).st_ino if os.path.exists(path) else 0
    host.make([second])
    assert missing(host, second) == ()
    assert (os.stat(path).st_ino if os.path.exists(path) else 0) == before
    with pytest.raises(FairleadError):
        host.make([first, Address(link="nowhere", address="10.1.0.1/24")])
    assert missing(host, second) == ()
    host.remove([second])
    assert missing(host, second) == (second,)


def test_questions_about_the_host(host: Host) -> None:
    assert host.addresses("br0") == []
    assert not host.link_exists("br0")
    assert host.link_mtu("br0") == 0
    host.make([BRIDGE, GATEWAY, Route(destination="10.8.0.0/24", link="br0")])
    assert host.addresses("br0") == [("br0", "10.0.0.1/24")]
    assert ("br0", "10.0.0.1/24") in host.addresses()
    assert ("10.8.0.0/24", "br0") in host.routes()
    assert host.link_mtu("br0") == host.path_mtu("br0", 4) == host.path_mtu("br0", 6) == 1400
    assert host.link_exists("br0") and host.is_ours("br0")
    assert not host.is_ours("br7")
    host.make([Route(destination="0.0.0.0/0", link="br0", gateway="10.0.0.254")])
    assert host.link_mtu() == 1400, "of the device by which packets leave for the world"


def test_a_setting_of_the_host(host: Host) -> None:
    host.make([Sysctl(path="net/ipv4/ip_forward", value="1")])
    assert host.sysctl("net/ipv4/ip_forward") == "1"
    assert host.sysctl("net/ipv4/no_such_thing") == ""


def test_namespaces_have_a_path(host: Host) -> None:
    assert host.namespace_path("s1").endswith("/netns/s1")


def test_forgetting_flows_of_nobody_is_fine(host: Host) -> None:
    host.forget_flows([])
    host.forget_flows([("tcp", "", 8080), ("udp", "10.0.0.1", 53)])


def test_a_lost_bridge_gets_its_ports_back(host: Host) -> None:
    host.make((SANDBOX, BRIDGE, VETH))
    host.remove((BRIDGE,))
    host.settle()
    host.make((BRIDGE, VETH))
    assert difference((BRIDGE, VETH), host.look((BRIDGE, VETH)))[0] == ()


def test_a_glance_at_the_devices(host: Host) -> None:
    host.make((SANDBOX, BRIDGE, VETH))
    assert host.devices_amiss((BRIDGE, VETH)) == set()
    assert host.devices_amiss((BRIDGE,)) == {VETH.name}, "one too many"
    host.remove((VETH,))
    host.settle()
    assert host.devices_amiss((BRIDGE, VETH)) == {VETH.name}, "one too few"
    assert host.devices_amiss((BRIDGE,)) == set()
