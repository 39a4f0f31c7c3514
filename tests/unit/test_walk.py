"""A packet walked over a few objects: what the bigger tests cannot put together."""

from fairlead.core import keying
from fairlead.core.explain import walk
from fairlead.core.model import PortBinding
from fairlead.core.rules import NetworkRules, binding_elements, network_elements, skeleton
from fairlead.core.ruleset import Packet
from fairlead.core.steps import NOWHERE, WORLD, Walked
from fairlead.core.terrain import Road, Terrain
from fairlead.core.wanted import Address, Forwarding, Link, Neighbour, Policy, Route, Sysctl, Wanted

BRIDGE = (Link(name="br-red", kind="bridge"), Address(link="br-red", address="10.1.0.1/24"))
HOST = {
    "host_addresses": [("eth0", "192.0.2.1/24")],
    "host_routes": [("0.0.0.0/0", "eth0")],
    "networks": {"br-red": "RED"},
}


def plug(ns: str, last: int, *options: tuple[str, str], route: bool = True) -> list[Wanted]:
    made: list[Wanted] = [
        Link(name=f"veth{last}", kind="veth", master="br-red", peer="eth0", peer_ns=ns, options=options),
        Address(ns=ns, link="eth0", address=f"10.1.0.{last}/24"),
    ]
    return [*made, Route(ns=ns, destination="0.0.0.0/0", gateway="10.1.0.1", link="eth0")] if route else made


def test_without_a_way_back_it_was_for_nothing() -> None:
    call = Packet(source="192.0.2.9", target="10.1.0.2", protocol="tcp", port=80, arrives="eth0")
    with_route = walk(Terrain([*BRIDGE, *plug("db", 2)], **HOST), WORLD, call)  # type: ignore[arg-type]
    without = walk(Terrain([*BRIDGE, *plug("db", 2, route=False)], **HOST), WORLD, call)  # type: ignore[arg-type]
    assert with_route.place == "db"
    assert (without.place, without.reason) == (NOWHERE, "answer")


def test_bridge_netfilter_and_isolated_ports_cannot_have_a_published_port_of_their_own() -> None:
    red = NetworkRules(device="br-red", subnets=("10.1.0.0/24",), icc=False)
    ports = binding_elements([PortBinding(80, "tcp", "0.0.0.0", 8080)], "10.1.0.2", "", red)
    call = Packet(source="", target="192.0.2.1", protocol="tcp", port=8080)

    def place(*options: tuple[str, str]) -> str:
        plugs = [*plug("one", 2, *options), *plug("two", 3, *options)]
        objects = [skeleton(), *network_elements(red), *ports, *BRIDGE, *plugs]
        return walk(Terrain(objects, **HOST), "two", call).place  # type: ignore[arg-type]

    assert place(("isolated", "1")) == "one"
    assert place(("hairpin", "1")) == "one"
    assert place(("hairpin", "1"), ("isolated", "1")) == NOWHERE


def test_an_encrypted_overlay_needs_a_key_first() -> None:
    ns = "1-red"
    tunnel = Link(ns=ns, name="vxlan0", kind="vxlan", master="br0", options=(("port", "4790"),))
    plugged = Link(ns=ns, name="veth2", kind="veth", master="br0", peer="eth0", peer_ns="web")
    objects = [
        Link(ns=ns, name="br0", kind="bridge"), tunnel, plugged, Address(ns="web", link="eth0", address="10.9.0.2/24"),
        Neighbour(ns=ns, link="vxlan0", address="10.9.0.3", mac="02:42:0a:09:00:03"),
        Forwarding(ns=ns, link="vxlan0", mac="02:42:0a:09:00:03", via="192.0.2.7", why="db on two is reached there"),
    ]  # fmt: skip
    pair = Policy(way="out", source="192.0.2.1/32", target="192.0.2.7/32", port=4790, need="4097")
    call = Packet(source="", target="10.9.0.3", protocol="tcp", port=80)

    def hop(*more: Wanted) -> tuple[str, str]:
        walked = walk(Terrain([*objects, *more], **HOST), "web", call)  # type: ignore[arg-type]
        return walked.reason, next(hop.says for hop in walked.hops if hop.at == "tunnel")

    assert hop() == ("", "in UDP to 192.0.2.7, out by eth0: db on two is reached there")
    guard = keying.guard("192.0.2.1", 4790)
    says = "frames for it must be encrypted, and no key is agreed upon with 192.0.2.7 (yet)"
    assert hop(*guard) == ("key", says)
    assert hop(*guard, pair) == ("", "in UDP, in ESP to 192.0.2.7, out by eth0: db on two is reached there")


def test_a_macvlan_is_on_the_cable_not_on_the_host() -> None:
    cable = [
        Link(ns=name, name="eth0", kind="macvlan", parent="eth0", options=(("mode", "bridge"),)) for name in ("a", "b")
    ]
    addresses = [Address(ns=name, link="eth0", address=f"192.0.2.{last}/24") for name, last in (("a", 50), ("b", 51))]
    land = Terrain([*cable, *addresses], **HOST)  # type: ignore[arg-type]

    def place(target: str) -> str:
        return walk(land, "a", Packet(source="", target=target, protocol="tcp", port=80)).place

    assert (place("192.0.2.51"), place("192.0.2.1"), place("192.0.2.99")) == ("b", NOWHERE, WORLD)


def test_no_device_is_named_where_none_is_known() -> None:
    call = Packet(source="203.0.113.1", target="10.1.0.2", protocol="tcp", port=80)
    seen = walk(Terrain([*BRIDGE, *plug("db", 2)], **HOST), WORLD, call)  # type: ignore[arg-type]
    assert seen.hops[0].says == "comes in from 203.0.113.1, for 10.1.0.2"


def test_an_internal_network_is_closed_by_the_kernel_and_that_is_our_own_will() -> None:
    closed = Sysctl(path="net/ipv4/conf/br-red/forwarding", value="0")

    def stopped(*more: Wanted) -> Walked:
        land = Terrain(
            [*BRIDGE, *plug("db", 2), *more],
            ask=lambda ns, target, source, arrives: Road(kind="unreachable") if arrives else None,
            **HOST,  # type: ignore[arg-type]
        )
        return walk(land, "db", Packet(source="", target="203.0.113.1", protocol="tcp", port=80))

    assert (stopped(closed).reason, stopped(closed).hops[-1].objects) == ("internal", (closed,))
    assert stopped().reason == "refused"
