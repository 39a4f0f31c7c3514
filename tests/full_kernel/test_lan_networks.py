"""Networks on a device of the host, where the kernel has VLANs, ipvlan and dummies (S095, S096 of the labs)."""

from lane.dhcpd import Dhcpd
from lane.machine import eventually
from scenarios.lab import Lab
from scenarios.rows import rows

NAP = "busybox sleep 1000"


def vlan(lab: Lab, number: int) -> None:
    net = f"10.0.{number}.0/24"
    lab.docker(
        f"network create -d macvlan --subnet {net} --gateway 10.0.{number}.1 -o parent=eth0.{number} mac{number}"
    )


def repaired(lab: Lab) -> None:
    """The daemon comes back and finds nothing to repair."""
    before = lab.host("ip -o link").out
    said = lab.engine.log.stat().st_size
    lab.engine.restart()
    with lab.engine.log.open() as log:
        log.seek(said)
        assert "put right after a restart" not in log.read()
    assert lab.host("ip -o link").out == before


@rows("S095")
def test_a_vlan_comes_and_goes_with_its_network(lab: Lab) -> None:
    vlan(lab, 10)
    assert "vlan protocol 802.1Q id 10" in lab.host.must("ip -d link show eth0.10")
    lab.run(f"-d --name c1 --network mac10 --ip 10.0.10.5 {NAP}")
    repaired(lab)
    lab.outside.must("ip link add link lan0 name lan0.10 type vlan id 10")
    lab.outside.must("ip addr add 10.0.10.1/24 dev lan0.10")
    lab.outside.must("ip link set lan0.10 up")
    try:
        eventually(lambda: lab.pings("c1", "10.0.10.1"), "the router of VLAN 10")
        assert lab.outside.pings("10.0.10.5")
    finally:
        lab.outside.must("ip link del lan0.10")
    lab.docker("rm -f c1")
    lab.docker("network rm mac10")
    assert "eth0.10" not in lab.host.links()


@rows("S096")
def test_a_vlan_with_a_server_of_its_own(lab: Lab) -> None:
    """The VLAN is made with the network, and its DHCP server found on it."""
    lab.outside.must("ip link add link lan0 name lan0.10 type vlan id 10")
    lab.outside.must("ip addr add 10.0.10.1/24 dev lan0.10")
    lab.outside.must("ip link set lan0.10 up")
    server = Dhcpd(lab.outside, 150, 159, "router 10.0.10.1", net="10.0.10", link="lan0.10")
    try:
        server.start()
        lab.docker("network create -d macvlan --ipam-driver dhcp -o parent=eth0.10 leased")
        lab.run(f"-d --name c1 --network leased {NAP}")
        assert lab.address("c1", "leased").startswith("10.0.10.15") and lab.pings("c1", "10.0.10.1")
        repaired(lab)
    finally:
        server.close()
        lab.outside.must("ip link del lan0.10")


def test_vlans_are_apart(lab: Lab) -> None:
    vlan(lab, 10)
    vlan(lab, 20)
    lab.run(f"-d --name c1 --network mac10 {NAP}")
    lab.run(f"-d --name c2 --network mac10 {NAP}")
    lab.run(f"-d --name c3 --network mac20 {NAP}")
    assert lab.pings("c1", "c2")
    assert not lab.pings("c1", lab.address("c3", "mac20"))
    assert not lab.resolves("c1", "c3")


def test_a_vlan_that_was_there_stays(lab: Lab) -> None:
    lab.host.must("ip link add link eth0 name eth0.30 type vlan id 30")
    try:
        vlan(lab, 30)
        lab.docker("network rm mac30")
        assert "eth0.30" in lab.host.links()
    finally:
        lab.host.must("ip link del eth0.30")


def test_a_shared_vlan_goes_with_the_last_network(lab: Lab) -> None:
    vlan(lab, 10)
    lab.docker("network create -d macvlan --subnet 10.1.10.0/24 -o parent=eth0.10 second")
    lab.run(f"-d --name c1 --network second {NAP}")
    lab.run(f"-d --name c2 --network second {NAP}")
    lab.docker("network rm mac10")
    assert lab.pings("c1", "c2")
    repaired(lab)
    lab.docker("rm -f c1 c2")
    lab.docker("network rm second")
    assert "eth0.10" not in lab.host.links()


def test_no_parent_means_no_way_out(lab: Lab) -> None:
    lab.docker("network create -d macvlan alone")
    lab.docker("network create -d ipvlan alone2")
    for name in ("alone", "alone2"):
        lab.run(f"-d --name {name}-1 --network {name} {NAP}")
        lab.run(f"-d --name {name}-2 --network {name} {NAP}")
        assert lab.pings(f"{name}-1", f"{name}-2")
        assert "default" not in lab.inside(f"{name}-1", "ip route")
    repaired(lab)


def test_ipvlan_l2(lab: Lab) -> None:
    subnet = f"--subnet {lab.outside.net}.0/24 --gateway {lab.outside.address}"
    lab.docker(f"network create -d ipvlan {subnet} -o parent=eth0 flat")
    lab.run(f"-d --name c1 --network flat --ip {lab.outside.net}.201 {NAP}")
    lab.run(f"-d --name c2 --network flat --ip {lab.outside.net}.202 {NAP}")
    mac = lab.host.must("ip -br link show eth0").out.split()[2]
    assert mac in lab.inside("c1", "ip link show eth0") and mac in lab.inside("c2", "ip link show eth0")
    assert lab.pings("c1", "c2") and lab.pings("c1", lab.outside.address)
    assert lab.outside.pings(f"{lab.outside.net}.201")
    assert "default via" in lab.inside("c1", "ip route")
    repaired(lab)


def test_a_deleted_ipvlan_is_back_at_once(lab: Lab) -> None:
    lab.docker("network create -d ipvlan --subnet 10.50.0.0/24 -o parent=eth0 flat")
    lab.run(f"-d --name c1 --network flat {NAP}")
    lab.run(f"-d --name c2 --network flat {NAP}")
    place = lab.docker.field("c1", ".NetworkSettings.SandboxKey")
    assert lab.host.inside(["nsenter", f"--net={place}", "ip", "link", "del", "eth0"]).code == 0
    eventually(lambda: lab.pings("c1", lab.address("c2", "flat")), "nobody waits for the half minute's look")


def test_ipvlan_routes(lab: Lab) -> None:
    for mode in ("l3", "l3s"):
        lab.docker(f"network create -d ipvlan --subnet 10.50.0.0/24 -o parent=eth0 -o ipvlan_mode={mode} routed")
        lab.run(f"-d --name c1 --network routed {NAP}")
        assert lab.address("c1", "routed") == "10.50.0.1"
        assert lab.inside("c1", "ip route").lines[0].startswith("default dev eth0")
        lab.outside.must(f"ip route add 10.50.0.0/24 via {lab.host.address}")
        try:
            assert eventually(lambda: lab.pings("c1", lab.outside.address), mode)
        finally:
            lab.outside.must("ip route del 10.50.0.0/24")
        repaired(lab)
        lab.docker("rm -f c1")
        lab.docker("network rm routed")


def test_one_parent_is_for_one_kind(lab: Lab) -> None:
    lab.docker("network create -d ipvlan --subnet 10.50.0.0/24 -o parent=eth0 ip")
    lab.docker("network create -d macvlan --subnet 10.51.0.0/24 -o parent=eth0 mac")
    lab.run(f"-d --name c1 --network ip {NAP}")
    refused = lab.docker.refused(f"run --rm --network mac {NAP}")
    assert "eth0 carries devices of another kind" in refused
    assert "do not support custom mac" in lab.docker.refused(
        f"run --rm --network ip --mac-address 02:42:01:02:03:04 {NAP}"
    )
