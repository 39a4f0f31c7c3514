"""Topology is data: names tell addresses, and the cable is text."""

import pytest

from fairlead.errors import Invalid
from fairlead.lab.topology import Topology


def test_names_tell_addresses() -> None:
    plan = Topology(("one", "two"))
    assert plan.nodes == ("outside", "one", "two")
    assert [plan.address4(node) for node in plan.nodes] == ["192.168.77.1", "192.168.77.11", "192.168.77.12"]
    assert [plan.address6(node) for node in plan.nodes] == ["fd77:77::1", "fd77:77::b", "fd77:77::c"]


def test_the_cable_is_text() -> None:
    plan = Topology(("one",))
    assert "\n".join(plan.cable({"outside": 7, "one": 8})) == (
        "link set lo up\n"
        "link add lan0 mtu 1500 type bridge forward_delay 0 mcast_snooping 0\n"
        "link set lan0 up\n"
        "link add port0 mtu 1500 type veth peer name eth0 mtu 1500 netns 7\n"
        "link set port0 master lan0 up\n"
        "link add port1 mtu 1500 type veth peer name eth0 mtu 1500 netns 8\n"
        "link set port1 master lan0 up"
    )
    assert plan.stack("one")[-2:] == ["route add default via 192.168.77.1", "route add ::/0 via fd77:77::1"]
    assert not [line for line in plan.stack("outside") if line.startswith("route")]


@pytest.mark.parametrize("hosts", [("a", "a"), ("outside",)])
def test_names_must_differ(hosts: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        Topology(hosts)
