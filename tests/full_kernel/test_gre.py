"""Two hosts with half a subnet each, and a GRE tunnel between them (S100 as the lab has it).

one  docker0 172.17.0.1/17    == foo ==== GRE over the LAN ==== bar ==    docker0 172.17.128.1/17  two
     far     172.30.0.0/17                                                far     172.30.128.0/17
"""

import json
from collections.abc import Iterator

import pytest

from lane.fixtures import Starter
from scenarios.lab import Lab
from scenarios.rows import rows

BRIDGE = "com.docker.network.bridge"
OPEN = f"-o {BRIDGE}.gateway_mode_ipv4=nat-unprotected -o {BRIDGE}.enable_ip_masquerade=false"
"""Docker 28's words for what the lab's old engine did unasked, and for containers seen at their own addresses."""


@pytest.fixture
def tunnel(another: Starter) -> Iterator[tuple[Lab, Lab]]:
    one = Lab(another.lan, another(23, "--bip=172.17.0.1/17", "--fixed-cidr=172.17.0.0/17"))
    two = Lab(another.lan, another(24, "--bip=172.17.128.1/17", "--fixed-cidr=172.17.128.0/17"))
    for here, there, device, address, beyond in (
        (one, two, "foo", "172.17.127.254", ("172.17.128.0/17", "172.30.128.0/17")),
        (two, one, "bar", "172.17.255.254", ("172.17.0.0/17", "172.30.0.0/17")),
    ):
        # The lab's "ip tunnel add … mode gre" wants the fallback device gre0, which this way does without.
        here.host.must(f"ip link add {device} type gre local {here.host.address} remote {there.host.address}")
        here.host.must(f"ip addr add {address} dev {device}")
        here.host.must(f"ip link set {device} up")
        for subnet in beyond:
            here.host.must(f"ip route add {subnet} dev {device}")
    yield one, two


@rows("S100")
def test_hosts_and_containers_through_a_gre_tunnel(tunnel: tuple[Lab, Lab]) -> None:
    """docker0 as in the lab; containers on a network that is open, which the default bridge no longer is."""
    one, two = tunnel
    assert one.host.pings("172.17.128.1") and two.host.pings("172.17.0.1")
    for lab, subnet in ((one, "172.30.0.0/17"), (two, "172.30.128.0/17")):
        lab.docker(f"network create --subnet {subnet} {OPEN} far")
        lab.run("-d --name web --net far busybox httpd -f -h /bin")
    addresses = [lab.address("web", "far") for lab in tunnel]
    assert addresses == ["172.30.0.2", "172.30.128.2"]
    for lab, other in ((one, addresses[1]), (two, addresses[0])):
        assert lab.pings("web", other)
    before = carried(one)
    # More than fits into one frame: the tunnel takes 24 bytes of each, and whoever sends is told so.
    assert int(two.inside("web", f"wget -qO- http://{addresses[0]}/busybox | wc -c").out) > 500_000
    assert carried(one) - before > 500_000
    assert one.docker.attempt("run --rm busybox ping -c1 -W1 172.30.128.2").code == 0
    two.run("-d --name closed busybox sleep 100")
    assert not one.pings("web", "172.17.128.2"), "the default bridge is closed"


def carried(lab: Lab) -> int:
    """Bytes that went into the first host's tunnel."""
    (device,) = json.loads(lab.host.must("ip -j -s link show dev foo").out)
    return device["stats64"]["tx"]["bytes"]
