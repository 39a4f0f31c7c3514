"""What leads an answer back to the node that let a call in, for every address that a node may have on ingress."""

import ipaddress

import pytest

from fairlead.core import mesh
from fairlead.core.model import Endpoint, Ipam, Network, Subnet
from fairlead.core.wanted import Route, Rule

KERNELS = {0, 253, 254, 255}
"""unspec, default, main, local: linux/rtnetlink.h"""


@pytest.mark.parametrize("subnet", ["10.0.0.0/24", "128.0.0.0/24", "128.0.0.64/26"])
def test_every_node_has_a_table_of_its_own_that_is_none_of_the_kernels(subnet: str) -> None:
    ingress = Network("i", "ingress", "", "overlay", "swarm", ipam=Ipam(config=(Subnet(subnet),)), ingress=True)
    own = Endpoint("e", "i", "c", "s", "web", ipv4="10.0.0.9/24")
    tables: dict[int, str] = {}
    for leg in map(str, ipaddress.ip_network(subnet).hosts()):
        rule, route = mesh.way_back(own, ingress, leg, "")
        assert isinstance(rule, Rule) and isinstance(route, Route) and rule.table == route.table
        assert rule.mark == int.from_bytes(bytes.fromhex(mesh.mac(leg).replace(":", ""))[-4:]) * 2 % (1 << 32)
        assert rule.table not in KERNELS and tables.setdefault(rule.table, leg) == leg
