"""The rules in a real kernel: who reaches whom, and what leaks when one rule is missing.

Every guard is taken out once: the same probe that it stops must then come through,
or the test would prove nothing.
"""

import socket
from collections.abc import Callable

import pytest

from fairlead.core import rules
from fairlead.core.model import PortBinding
from fairlead.core.wanted import Element, Skeleton, Sysctl
from fairlead.engine.drivers.base import Facts
from lane import matrix
from lane.golden import same_as
from lane.matrix import changed, published, without
from lane.pretend import PretendHost
from lane.town import Town, frame, mac_of, router_advertisement, town

pytestmark = pytest.mark.kernel

TEXT = rules.skeleton().text


# -- who reaches whom -------------------------------------------------------------------

PAGE = """\
# Who reaches whom

Written by `tests/kernel/test_rules_kernel.py` from what a real kernel did: everybody called everybody, over TCP and
UDP (the tables are the same for both).

`yes`: heard, with the caller's own address. `masked`: heard, with an address of the host. Empty: silence.

{places}
## IPv4

{four}
## IPv6

{six}
What to notice:

- A published port is reachable from everywhere that can reach the host, other networks and its own container included.
  Only internal networks cannot: nothing is forwarded into or out of them.
- Routing straight to a container (near and far do) reaches nothing that was not asked for: r1 (routed, published
  port only), o1 (nat-unprotected), t1 from the trusted device.
- A port published at 127.0.0.1 is for the host alone.
- With `icc` off, p1 and p2 hear each other only at published ports.
- The client's address is kept for everything that comes from outside.
"""


@pytest.mark.proves(
    "CVE-2023-27594",
    guard=("core/rules.py", 'yield Element(map="internal", item=device,', "Element(map='internal', item=device,"),
)
def test_everybody_calls_everybody(pretend_host: PretendHost) -> None:
    with town(pretend_host) as everybody:
        matrix.build(everybody)
        tables = {(family, kind): matrix.table(everybody, family, kind) for family in (4, 6) for kind in ("tcp", "udp")}
    assert tables[4, "tcp"] == tables[4, "udp"]
    assert tables[6, "tcp"] == tables[6, "udp"]
    page = PAGE.format(places=matrix.PLACES, four=tables[4, "tcp"], six=tables[6, "tcp"])
    same_as("docs/packets/reachability.md", page)


def test_bridge_netfilter_changes_one_thing(pretend_host: PretendHost) -> None:
    """With icc off, translated frames never leave the bridge, and its ports are isolated: docs/why/icc.md."""
    both = {}
    for on in (False, True):
        with town(pretend_host, Facts(bridge_netfilter=on)) as everybody:
            matrix.build(everybody)
            both[on] = [matrix.table(everybody, family).splitlines() for family in (4, 6)]
    differences = [
        (off, on) for f in (0, 1) for off, on in zip(both[False][f], both[True][f], strict=True) if off != on
    ]
    assert len(differences) == 2
    for off, on in differences:
        assert off.startswith("| host:8090 |")
        assert off.endswith("| masked | masked | masked | yes |")
        assert on == off.removesuffix("| masked | masked | masked | yes |") + "|  |  | masked | yes |"


# -- each guard, taken out once ------------------------------------------------------------


def loopback_from_outside(t: Town) -> bool:
    """A frame to 127.0.0.1 from a neighbour reaches the port that is published there."""
    near, lan = mac_of(t, "near", "eth0"), mac_of(t, "host", "lan0")
    t.throw("near", "eth0", frame(near, lan, "192.0.2.9", "127.0.0.1", 8081, b"hello"))
    return t.hears("a1", 443) is not None


def loopback_from_a_container(t: Town) -> bool:
    mac, bridge = mac_of(t, "b1", "eth0"), mac_of(t, "host", t.driver.device(t.networks["B"]))
    t.throw("b1", "eth0", frame(mac, bridge, t.address("b1", 4), "127.0.0.1", 8081, b"hello"))
    return t.hears("a1", 443) is not None


def rules_away(t: Town) -> None:
    """Somebody flushed everything; the host's own firewall (which keeps the kernel tracking connections) is back."""
    t.load(
        "flush ruleset\ntable inet theirs { chain f { type filter hook forward priority 0; ct state invalid drop; }; }"
    )


def rules_back(t: Town) -> None:
    t.host.make([item for item in t.made if isinstance(item, Element | Skeleton)])
    t.load("delete table inet theirs")


def spoofed_loopback(t: Town) -> bool:
    """A container speaks to a service of the host as if it were the host itself."""
    t.listen("host", 7777, socket.SOCK_DGRAM)
    mac, bridge = mac_of(t, "a2", "eth0"), mac_of(t, "host", "br-000000000001")
    t.throw("a2", "eth0", frame(mac, bridge, "127.0.0.2", "10.1.0.1", 7777, b"trust me"))
    return t.hears("host", 7777) is not None


def only_by_rules(t: Town) -> None:
    """The kernel forwards what comes from the internal network: what keeps it besides the rules is put aside."""
    device = t.driver.device(t.networks["I"])
    t.host.make([Sysctl(path=f"net/ipv4/conf/{device}/forwarding", value="1")])


def leaving_internal(t: Town) -> bool:
    only_by_rules(t)
    return t.reach("i1", "192.0.2.9", 80, "udp") is not None


def crossing_from_internal(t: Town) -> bool:
    """Port 80 of r1 is exposed at its own address, to everybody else."""
    only_by_rules(t)
    return t.reach("i1", t.address("r1", 4), 80, "udp") is not None


def entering_internal(t: Town) -> bool:
    """A connection that an internal container made while the rules were away is answered after they are back."""
    only_by_rules(t)
    rules_away(t)
    with t.open_socket("i1", socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(0.5)
        caller.sendto(b"hello", ("192.0.2.9", 80))
        heard = t.hears("near", 80)
        assert heard is not None
        rules_back(t)
        listener = t.listeners["near", 80, socket.SOCK_DGRAM]
        listener.sendto(b"answer", ("::ffff:" + heard[1], caller.getsockname()[1]))
        try:
            return bool(caller.recv(64))
        except TimeoutError:
            return False


def direct_from_outside(t: Town) -> bool:
    return t.reach("near", t.address("a1", 4), 80) is not None


def direct_from_outside6(t: Town) -> bool:
    return t.reach("near", t.address("a1", 6), 80) is not None


def other_network(t: Town) -> bool:
    return t.reach("b1", t.address("a1", 4), 80) is not None


def by_way_of_the_gateway(t: Town) -> bool:
    """icc off: the ports of the bridge are isolated, so the frame goes to the gateway's MAC for routing back."""
    mac, bridge = mac_of(t, "p2", "eth0"), mac_of(t, "host", t.driver.device(t.networks["P"]))
    t.throw("p2", "eth0", frame(mac, bridge, t.address("p2", 4), t.address("p1", 4), 80, b"hello"))
    return t.hears("p1", 80) is not None


def open_to_other_networks(t: Town) -> bool:
    return t.reach("b1", t.address("o1", 4), 80) is not None


def passing_traffic_taken(t: Town) -> bool:
    """Port 53 is published here; what goes from near to far's port 53 is none of our business."""
    a1 = t.endpoints["a1"]
    t.make(rules.binding_elements(published(53, 53), a1.address4, a1.address6, rules.NetworkRules(device="br-1")))
    arrivals = [t.reach("near", "198.51.100.9", 53), t.reach("b1", "192.0.2.9", 53, "udp")]
    return any(arrival is None or arrival.place == "a1" for arrival in arrivals)


def stale_connection(t: Town) -> bool:
    """A connection straight to a container that came about while the rules were away lives on after they are back."""
    rules_away(t)
    with t.open_socket("near", socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(0.5)
        caller.connect((t.address("a1", 4), 80))
        stream, _ = t.listeners["a1", 80, socket.SOCK_STREAM].accept()
        rules_back(t)
        caller.send(b"still here")
        stream.settimeout(0.5)
        try:
            return bool(stream.recv(64))
        except TimeoutError:
            return False
        finally:
            stream.close()


def relay_passed_over(t: Town) -> bool:
    """[::1] cannot be translated; a program that listens there (the relay) must get it."""
    with t.open_socket("host", socket.AF_INET6, socket.SOCK_DGRAM) as relay:
        relay.bind(("::1", 8080))
        relay.settimeout(0.5)
        with t.open_socket("host", socket.AF_INET6, socket.SOCK_DGRAM) as caller:
            caller.sendto(b"hello", ("::1", 8080))
        try:
            return not relay.recv(64)
        except TimeoutError:
            return True


GUARDS: dict[str, tuple[Callable[[Town], bool], str]] = {
    "127.0.0.1 from a neighbour": (loopback_from_outside, without(TEXT, "do not come from outside")),
    "127.0.0.1 from a container": (loopback_from_a_container, without(TEXT, "do not come from outside")),
    "loopback spoofed by a container": (spoofed_loopback, without(TEXT, "nor from containers")),
    "out of an internal network": (leaving_internal, without(TEXT, "internal: nothing leaves")),
    "from an internal network to another": (crossing_from_internal, without(TEXT, "internal: nothing crosses over")),
    "back into an internal network": (
        entering_internal,
        without(TEXT, "internal: nothing enters"),
    ),
    "straight to a container": (direct_from_outside, without(TEXT, "another network, or")),
    "straight to a container, IPv6": (direct_from_outside6, without(TEXT, "another network, or")),
    "from another network": (other_network, without(TEXT, "another network, or")),
    "icc off, by way of the gateway": (by_way_of_the_gateway, without(TEXT, "icc is off")),
    "nat-unprotected is not for other networks": (
        open_to_other_networks,
        changed(TEXT, "iifname != @networks meta nfproto ipv4 oifname @open4", "meta nfproto ipv4 oifname @open4"),
    ),
    "what passes through": (
        passing_traffic_taken,
        changed(
            TEXT,
            "policy accept;\n        fib daddr type local jump published\n    }\n    chain output",
            "policy accept;\n        jump published\n    }\n    chain output",
        ),
    ),
    "established is no reason": (
        stale_connection,
        changed(TEXT, "ct direction reply accept", "ct state established,related accept"),
    ),
    "[::1] is the relay's": (relay_passed_over, without(TEXT, "the relay's")),
}


@pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])
@pytest.mark.parametrize("name", GUARDS)
def test_guard(pretend_host: PretendHost, name: str, guarded: bool) -> None:
    leaks, broken = GUARDS[name]
    with town(pretend_host, skeleton=Skeleton(text=TEXT if guarded else broken)) as t:
        matrix.build(t)
        assert leaks(t) is not guarded


@pytest.mark.parametrize("isolated", [True, False])
def test_icc_is_kept_within_the_bridge(pretend_host: PretendHost, isolated: bool) -> None:
    with town(pretend_host) as t:
        t.network("P", enable_icc="false")
        ports = [t.container(name, "P").device for name in ("p1", "p2")]
        if not isolated:
            for port in ports:
                pretend_host.run("bridge", "link", "set", "dev", port, "isolated", "off")
        assert (t.reach("p2", t.address("p1", 4), 80) is None) is isolated
        assert (t.reach("p2", t.address("p1", 6), 80) is None) is isolated


@pytest.mark.parametrize("drop_foreign", [True, False])
def test_a_host_that_forwards_for_us_forwards_for_nobody_else(pretend_host: PretendHost, drop_foreign: bool) -> None:
    with town(pretend_host, Facts(drop_foreign=drop_foreign)) as t:
        t.network("A")
        t.container("a1", "A", *published(80, 8080))
        assert (t.reach("near", "198.51.100.9", 80) is None) is drop_foreign
        assert (t.reach("far", "2001:db8::9", 80) is None) is drop_foreign
        assert t.reach("near", "192.0.2.1", 8080) is not None
        assert t.reach("a1", "198.51.100.9", 80) is not None


# -- with the host's own firewall ------------------------------------------------------------


@pytest.mark.parametrize("priority", [-150, -1, 0, 1, 100])
def test_what_the_host_drops_stays_dropped(pretend_host: PretendHost, priority: int) -> None:
    with town(pretend_host) as t:
        t.network("A")
        t.container("a1", "A", *published(80, 8080), *published(80, 8081))
        theirs = f"type filter hook forward priority {priority}; meta l4proto tcp ct original proto-dst 8080 drop;"
        t.load(f"table inet theirs {{ chain f {{ {theirs} }}; }}")
        assert t.reach("near", "192.0.2.1", 8080) is None
        assert t.reach("near", "192.0.2.1", 8081) is not None
        t.load("delete table inet theirs")


def test_the_user_chain_sees_published_traffic_first_and_survives_us(pretend_host: PretendHost) -> None:
    with town(pretend_host) as t:
        t.network("A")
        t.container("a1", "A", *published(80, 8080), *published(80, 8081))
        t.load(rules.USER_TABLE)
        t.load("add rule inet fairlead-user forward meta l4proto tcp ct original proto-dst 8080 counter drop")
        assert t.reach("near", "192.0.2.1", 8080) is None
        assert t.reach("near", "2001:db8::1", 8080) is None
        assert t.reach("near", "192.0.2.1", 8081) is not None
        t.load(rules.USER_TABLE)  # as every start of the engine does
        t.load("delete table inet fairlead")
        t.host.make([item for item in t.made if isinstance(item, Element | Skeleton)])
        assert t.reach("near", "192.0.2.1", 8080) is None
        assert t.reach("near", "192.0.2.1", 8081) is not None
        t.load("delete table inet fairlead-user")


def test_a_device_whose_group_somebody_changed_is_known_by_name(pretend_host: PretendHost) -> None:
    """The group says sooner what the name says: who takes it away opens and closes nothing."""
    with town(pretend_host) as t:
        t.network("A")
        t.network("B")
        t.container("a1", "A", *published(80, 8080))
        t.container("b1", "B")
        ways = [("near", "192.0.2.1", 8080), ("near", t.address("a1", 4), 80), ("b1", t.address("a1", 4), 80)]

        def reached() -> list[bool]:
            return [t.reach(*way) is not None for way in ways]

        assert reached() == [True, False, False]
        marked = pretend_host.run("ip", "-o", "link", "show", "group", str(rules.GROUP)).splitlines()
        assert len(marked) == 2
        for line in marked:
            pretend_host.run("ip", "link", "set", line.split(": ")[1], "group", "default")
        assert reached() == [True, False, False]


# -- the rest of the driver ---------------------------------------------------------------------


def test_a_network_without_ipv6_has_none_at_all(pretend_host: PretendHost) -> None:
    with town(pretend_host) as t:
        t.network("V4", ipv6=False)
        made = t.container("c1", "V4")
        device = t.driver.device(t.networks["V4"])
        for name, ns in ((device, ""), (made.device, ""), ("eth0", made.namespace)):
            assert "inet6" not in pretend_host.run("ip", "address", "show", "dev", name, ns=ns)


def test_every_device_of_ours_refuses_routers(pretend_host: PretendHost) -> None:
    """A container's router advertisement changes no route of the host or of its neighbours."""
    with town(pretend_host) as t:
        t.network("A")
        t.container("a1", "A")
        made = t.container("a2", "A")
        before = [pretend_host.run("ip", "-6", "route", ns=ns) for ns in ("", made.namespace)]
        mac = bytes.fromhex(mac_of(t, "a1", "eth0").replace(":", ""))
        t.throw("a1", "eth0", router_advertisement(mac))
        assert t.reach("a1", t.address("a2", 6), 80) is not None  # what was sent before has arrived
        after = [pretend_host.run("ip", "-6", "route", ns=ns) for ns in ("", made.namespace)]
        assert before == after
        assert "fd66:" not in "".join(after)


@pytest.mark.parametrize("address", ["", "192.0.2.77"])
def test_leaves_with_a_certain_address_of_the_host(pretend_host: PretendHost, address: str) -> None:
    with town(pretend_host) as t:
        pretend_host.run("ip", "address", "add", "192.0.2.77/24", "dev", "lan0")
        t.network("S", host_ipv4=address)
        t.container("s1", "S")
        arrival = t.reach("s1", "192.0.2.9", 80)
        assert arrival is not None
        assert arrival.source == (address or "192.0.2.1")


def test_several_subnets_on_one_bridge(pretend_host: PretendHost) -> None:
    """The host routes between them; nothing is dropped or masked."""
    with town(pretend_host) as t:
        t.network("M", subnets=("10.1.0.0/24", "fd00:1::/64"))
        t.container("m1", "M")
        second = t.container("m2", "M")
        pretend_host.run("ip", "address", "add", "10.2.0.1/24", "dev", t.driver.device(t.networks["M"]))
        pretend_host.run("ip", "address", "add", "10.2.0.5/24", "dev", "eth0", ns=second.namespace)
        arrival = t.reach("m1", "10.2.0.5", 80)
        assert arrival is not None
        assert (arrival.place, arrival.source) == ("m2", t.address("m1", 4))


def test_a_thousand_ports_are_elements(pretend_host: PretendHost) -> None:
    with town(pretend_host) as t:
        t.network("A")
        bindings = tuple(PortBinding(80, "tcp", "0.0.0.0", port) for port in range(10000, 11000))
        t.container("a1", "A", *bindings)
        assert t.reach("near", "192.0.2.1", 10999) is not None
        assert t.reach("near", "192.0.2.1", 11000) is None
        listing = pretend_host.run("nft", "-t", "list", "table", "inet", "fairlead")
        assert "10999" not in listing
