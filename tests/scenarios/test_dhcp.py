"""Addresses from the LAN's own DHCP server (``--ipam-driver dhcp``), against a real one: busybox udhcpd."""

from collections.abc import Iterator

import pytest

from lane.dhcpd import Dhcpd
from lane.machine import eventually
from scenarios.lab import Lab

NAP = "busybox sleep 1000"


@pytest.fixture
def server(lab: Lab) -> Iterator[Dhcpd]:
    router = f"router {lab.outside.address}"
    server = Dhcpd(lab.outside, 150, 159, router, f"dns {lab.outside.address}", "domain lan.example", "mtu 1400")
    server.start()
    yield server
    server.close()


def create(lab: Lab, *options: str) -> None:
    lab.docker(f"network create -d macvlan --ipam-driver dhcp -o parent=eth0 {' '.join(options)} lan")


def test_a_container_has_what_the_lan_gave_it(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    lab.run(f"-d --name web --network lan {NAP}")
    address = lab.address("web", "lan")
    mac = lab.docker.field("web", '(index .NetworkSettings.Networks "lan").MacAddress')
    assert server.lent() == {address: mac}
    assert f"inet {address}/24" in lab.inside("web", "ip addr show eth0")
    assert "mtu 1400" in lab.inside("web", "ip link show eth0")
    assert f"default via {lab.outside.address}" in lab.inside("web", "ip route")
    assert "search lan.example" in lab.inside("web", "cat /etc/resolv.conf")
    assert lab.resolves("web", "outside") and lab.pings("web", lab.outside.address)
    assert lab.outside.pings(address)
    lab.docker("rm -f web")
    eventually(lambda: not server.lent(), "the address is given back")
