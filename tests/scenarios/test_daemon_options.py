"""Engines started with options (S097 to S101)."""

import pytest

from lane.fixtures import Starter
from lane.images import PAGE, import_images
from scenarios.lab import Lab
from scenarios.rows import rows


def ping_outside(lab: Lab) -> bool:
    return lab.docker.attempt(f"run --rm busybox ping -c1 -W1 {lab.outside.address}").code == 0


@rows("S097", "S098")
def test_without_firewall_and_forwarding(another: Starter) -> None:
    lab = Lab(another.lan, another.machine(21, "--iptables=false", "--ip-forward=false"))
    lab.host.inside(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"])
    lab.engine.start()
    import_images(lab.docker, lab.engine.base, ("busybox", "nginx"))
    rules = lab.host.must("nft list ruleset ip").out + lab.host.must("nft list ruleset inet").out
    assert "DOCKER" not in rules and "masquerade" not in rules
    assert lab.host.inside("cat /proc/sys/net/ipv4/ip_forward").out == "0"
    assert "IPv4 forwarding is disabled" in lab.docker("run --rm busybox true")
    assert not ping_outside(lab)
    lab.run("-d --name web -p 8099:80 nginx")
    assert lab.host.page("127.0.0.1", 8099) == lab.outside.page(lab.host.address, 8099) == PAGE

    lab.host.inside(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    hook = "{ type nat hook postrouting priority srcnat; }"  # iptables -t nat -A POSTROUTING -s ... -j MASQUERADE
    for step in ("table ip lab", f"chain ip lab post '{hook}'", "rule ip lab post ip saddr 172.17.0.0/16 masquerade"):
        lab.host.must(f"nft add {step}")
    assert ping_outside(lab)


@rows("S099")
def test_a_bridge_made_by_hand(another: Starter) -> None:
    lab = Lab(another.lan, another.machine(22, "-b", "cookbook"))
    for step in ("link add cookbook type bridge", "addr add 10.0.0.1/24 dev cookbook", "link set cookbook up"):
        lab.host.must(f"ip {step}")
    lab.engine.start()
    import_images(lab.docker, lab.engine.base, ("busybox",))
    bridge = lab.network("bridge")
    assert bridge["IPAM"]["Config"][0]["Subnet"] == "10.0.0.0/24"
    assert bridge["Options"]["com.docker.network.bridge.name"] == "cookbook"
    assert "inet 10.0.0.2/24" in lab.docker("run --rm busybox ip -4 a show eth0")
    rules = lab.host("nft list ruleset").out
    assert "masquerade" in rules and "10.0.0.0/24" in rules
    assert ping_outside(lab)


def two_halves(another: Starter, *options: str) -> tuple[Lab, Lab]:
    """172.17.0.0/16 in two halves on two hosts, with routes between them."""
    one = Lab(another.lan, another(23, "--bip=172.17.0.1/17", "--fixed-cidr=172.17.0.0/17", *options))
    two = Lab(another.lan, another(24, "--bip=172.17.128.1/17", "--fixed-cidr=172.17.128.0/17", *options))
    one.host.must(f"ip route add 172.17.128.0/17 via {two.host.address}")
    two.host.must(f"ip route add 172.17.0.0/17 via {one.host.address}")
    return one, two


@rows("S100")
def test_two_hosts_with_half_a_subnet_each(another: Starter) -> None:
    one, two = two_halves(another)
    (config,) = one.network("bridge")["IPAM"]["Config"]
    assert config == {"Subnet": "172.17.0.0/17", "IPRange": "172.17.0.0/17", "Gateway": "172.17.0.1"}
    assert "inet 172.17.0.1/17" in one.host("ip addr show docker0")
    assert one.host.pings("172.17.128.1") and two.host.pings("172.17.0.1")
    two.run("-d --name bb busybox sleep 100")
    assert two.address("bb") == "172.17.128.2"
    assert one.docker.attempt("run --rm busybox ping -c1 -W1 172.17.128.2").code != 0


@rows("S100")
def test_direct_routing_when_allowed(another: Starter) -> None:
    one, two = two_halves(another, "--allow-direct-routing")
    two.run("-d --name bb busybox sleep 100")
    # as a published port it is open; the rest of a container stays closed even then
    two.run("-d --name web -p 8080:80 busybox httpd -f -p 80")
    assert one.host.reaches(two.address("web"), 80, 2)
    one.docker(f"run --rm busybox nc -w 2 {two.address('web')} 80 -e true")


@rows("S101")
def test_the_options_of_flannel(another: Starter) -> None:
    options = ("--iptables=false", "--bip=10.100.49.1/24", "--ip-masq=false", "--mtu=1472")
    lab = Lab(another.lan, another(25, *options))
    shown = lab.docker("run --rm busybox ip addr show eth0")
    assert "mtu 1472" in shown and "inet 10.100.49.2/24" in shown
    chosen = lab.network("bridge")["Options"]
    assert chosen["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert chosen["com.docker.network.driver.mtu"] == "1472"
    assert "mtu 1472" in lab.host("ip link show docker0")
    assert "inet 10.100.49.1/24" in lab.host("ip addr show docker0")


@rows("S101")
@pytest.mark.parametrize("opening", ["--iptables=false", "--allow-direct-routing"])
def test_two_hosts_addressed_by_flannel(another: Starter, opening: str) -> None:
    """By its options file; what carries between the hosts is not ours. Containers are seen at their own addresses."""
    options = ("--ip-masq=false", "--mtu=1472", opening)
    one = Lab(another.lan, another(23, "--bip=10.100.49.1/24", *options))
    two = Lab(another.lan, another(24, "--bip=10.100.6.1/24", *options))
    one.host.must(f"ip route add 10.100.6.0/24 via {two.host.address}")
    two.host.must(f"ip route add 10.100.49.0/24 via {one.host.address}")
    two.run("-d --name web -p 8080:80 busybox nc -ll -p 80 -e sh -c 'netstat -tn'")
    assert two.address("web") == "10.100.6.2"
    told = one.docker(f"run --rm busybox nc -w 2 {two.address('web')} 80")
    assert "10.100.6.2:80" in told and "10.100.49.2:" in told
    assert bool(one.docker.attempt("run --rm busybox ping -c1 -W1 10.100.6.2")) == (opening == "--iptables=false")
