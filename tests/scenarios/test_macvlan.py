"""Networks on a device of the host (S092 to S094)."""

from lane.fixtures import Starter
from scenarios.lab import Lab
from scenarios.rows import rows


def create(lab: Lab, addresses: str) -> None:
    net = lab.outside.net
    subnet = f"--subnet {net}.0/24 --gateway {net}.1 --ip-range {net}.{addresses}/29"
    lab.docker(f"network create -d macvlan {subnet} -o parent=eth0 mvnet")


@rows("S092", "S093")
def test_two_containers_beside_the_host(lab: Lab) -> None:
    create(lab, "128")
    assert lab.network("mvnet")["Options"] == {"parent": "eth0"}
    lab.run(f"-itd --name m1 --net mvnet --ip {lab.outside.net}.130 busybox sh")
    lab.run(f"-itd --name m2 --net mvnet --ip {lab.outside.net}.131 busybox sh")
    assert f"inet {lab.outside.net}.130/24" in lab.docker("exec m1 ip -4 addr show eth0")
    assert lab.pings("m1", f"{lab.outside.net}.131") and lab.pings("m1", "m2")


@rows("S094")
def test_on_two_hosts_and_the_lan(lab: Lab, another: Starter) -> None:
    other = Lab(another.lan, another(12))
    create(lab, "128")
    create(other, "136")
    lab.run("-itd --name m1 --net mvnet busybox sh")
    other.run("-itd --name m2 --net mvnet busybox sh")
    assert lab.pings("m1", other.address("m2", "mvnet"))
    assert lab.pings("m1", other.host.address)
    assert lab.pings("m1", lab.outside.address)
    assert not lab.pings("m1", lab.host.address), "its own host is the one machine it does not reach"
