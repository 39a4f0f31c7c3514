"""Nobody asked for IPv6, or for routers: there is none of it."""

import pytest

from lane.town import router_advertisement
from scenarios.lab import Lab
from security.attack import Seat, mac_of, throw

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"


@pytest.mark.proves(
    "CVE-2024-32473",
    guard=("core/inside.py", '"0" if wants_it else "1"', '"0"'),
)
def test_a_network_without_ipv6_has_none(lab: Lab) -> None:
    net = lab.outside.net
    lab.docker("network create RED")
    lab.docker(f"network create -d macvlan --subnet {net}.0/24 --ip-range {net}.128/28 -o parent=eth0 LAN")
    for name, network in (("one", "bridge"), ("two", "RED"), ("three", "LAN")):
        lab.run(f"-d --name {name} --net {network} {NAP}")
        shown = lab.inside(name, "ip -6 addr show eth0; ip -6 route")
        assert "inet6" not in shown and "fe80" not in shown, (name, shown)
    for device in [name for name in lab.host.links() if name.startswith(("br-", "docker0", "veth"))]:
        assert "inet6" not in lab.host(f"ip -6 addr show dev {device}"), device


@pytest.mark.proves(
    "CVE-2020-13401",
    guard=("core/inside.py", 'f"{ours}/accept_ra": "0", ', ""),
)
def test_a_container_is_nobodys_router(lab: Lab) -> None:
    lab.docker("network create --ipv6 --subnet fd00:7::/64 SIX")
    for name in ("evil", "good"):
        lab.run(f"-d --name {name} --net SIX {NAP}")
    seat = Seat(lab.engine, "evil")
    bridge = next(name for name in lab.host.links() if name.startswith("br-"))
    assert lab.host.must(f"cat /proc/sys/net/ipv6/conf/{bridge}/accept_ra").out == "0"
    before = _routes(lab)
    throw(seat, "eth0", router_advertisement(mac_of(seat, "eth0")))
    assert lab.inside("evil", "ping -6 -c2 -i 0.3 -W1 good").code == 0  # what was sent before has arrived
    assert _routes(lab) == before and "fd66" not in before


def _routes(lab: Lab) -> str:
    command = "ip -6 route; ip -6 addr"
    lines = f"{lab.host(['sh', '-c', command])}\n{lab.inside('good', command)}".splitlines()
    kept = [line.removesuffix(" ").removesuffix(" tentative") for line in lines]
    return "\n".join(line for line in kept if "valid_lft" not in line and "cache" not in line)
