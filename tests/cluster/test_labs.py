"""The labs over several hosts, as typed: with each store, and with either client (S091, S100, S133 to S147).

node-1  container1 ------ RED ------- container2, container3  node-2
                                      container3 ---- BLUE ---- container4  node-3
"""

import json
import re

import pytest

from cluster.conftest import STORES
from cluster.town import Town
from lane.machine import eventually
from scenarios.rows import rows

pytestmark = pytest.mark.parametrize(
    ("store", "client"),
    [(STORES[0], "fairlead"), *((store, "docker") for store in STORES)],
    indirect=True,
    scope="module",
)
RED = "network create -d overlay --subnet=10.10.10.0/24 RED"
BLUE = "network create -d overlay --subnet=10.10.20.0/24 BLUE"


@rows("S133", "S134")
def test_a_network_is_on_all_hosts(town: Town, store: str) -> None:
    one, *others = town.hosts
    id = one(RED)
    assert re.fullmatch("[0-9a-f]{64}", id)
    town.everywhere("RED")
    for host in town.hosts:
        line = next(line for line in host("network ls").splitlines() if "RED" in line)
        assert line.split() == [id[:12], "RED", "overlay", "global"]
        assert host.network("RED")["Id"] == id
    told = json.loads(others[0].machine.ask("/v1.40/info"))
    assert told["ClusterStore"].startswith({"zookeeper": "zk"}.get(store, store) + "://")
    assert told["ClusterAdvertise"] == f"{others[0].machine.address4}:2376"
    others[1]("network rm RED")
    town.gone("RED")


@rows("S135", "S136", "S137", "S138", "S139", "S145", "S146")
def test_containers_of_two_hosts(town: Town) -> None:
    one, two, three = town.hosts
    one(RED)
    town.everywhere("RED")
    one("run -itd --name container1 --net RED busybox")
    two("run -itd --name container2 --net RED busybox")
    eventually(lambda: all(len(host.members("RED")) == 2 for host in town.hosts), "both are known")
    seen = {key: value["Name"] for key, value in one.network("RED")["Containers"].items()}
    (remote,) = [key for key in seen if key.startswith("ep-")]
    assert seen[remote] == "container2"
    assert all(key.startswith("ep-") for key in three.network("RED")["Containers"])
    (own,) = [value for value in one.network("RED")["Containers"].values() if value["Name"] == "container1"]
    assert (own["IPv4Address"], own["MacAddress"]) == ("10.10.10.2/24", "02:42:0a:0a:0a:02")
    devices = one.inside("container1", "ifconfig").out
    assert re.search(r"eth0 .*\n.*10\.10\.10\.2 .*Mask:255\.255\.255\.0\n(.*\n)*? .*MTU:1450", devices)
    assert re.search(r"eth1 .*\n.*172\.\d+\.0\.2 ", devices) and "MTU:1500" in devices
    hosts = one.inside("container1", "cat /etc/hosts").out
    assert "10.10.10.2" in hosts and "container2" not in hosts and "172." not in hosts
    assert ", 0% packet loss" in one.inside("container1", "ping -w 3 -c 3 container2")
    assert two.pings("container2", "container1.RED")
    two.docker("exec -d container2 nc -l -p 9000 -e echo hello")
    assert eventually(lambda: one.inside("container1", "nc container2 9000 </dev/null").out) == "hello"


@rows("S140", "S141", "S142", "S143")
def test_two_networks_are_two(town: Town) -> None:
    one, two, three = town.hosts
    one(RED)
    one(BLUE)
    town.everywhere("BLUE")
    one("run -itd --name container1 --net RED busybox")
    two("run -itd --name container2 --net RED busybox")
    two("run -itd --name container3 --net RED busybox")
    two("network connect BLUE container3")
    three("run -itd --name container4 --net BLUE busybox")
    eventually(lambda: two.pings("container3", "container1"), "container1 over RED")
    eventually(lambda: two.pings("container3", "container4"), "container4 over BLUE")
    assert len(re.findall(r"^eth\d", two.inside("container3", "ifconfig").out, re.M)) == 3
    assert "bad address" in one.pings("container1", "container4")
    assert not one.pings("container1", three.members("BLUE")["container4"])
    three("rm -f container4")
    three("run -d --name container4 --net BLUE -p 9000:9000 busybox nc -ll -p 9000 -e echo hello")
    assert eventually(lambda: one.inside("container1", f"nc {three.machine.address4} 9000 </dev/null").out) == "hello"
    two("network disconnect RED container2")
    two("network connect BLUE container2")
    devices = two.inside("container2", "ip -o -4 address").out
    assert "10.10.10." not in devices and "10.10.20." in devices and re.search(r"172\.\d+\.0\.", devices)
    eventually(lambda: two.pings("container2", "container4"), "container4 over BLUE")


@rows("S144")
def test_an_internal_network_has_no_way_out(town: Town) -> None:
    one, two, _ = town.hosts
    one("network create -d overlay --subnet=10.30.10.0/24 --internal internal-overlay")
    town.everywhere("internal-overlay")
    assert two.network("internal-overlay")["Internal"] is True
    one("run -itd --name aa --net internal-overlay busybox")
    two("run -itd --name bb --net internal-overlay busybox")
    assert "default" not in one.inside("aa", "ip route").out
    assert re.findall(r"\d: (\w+)", one.inside("aa", "ip -o link").out) == ["lo", "eth0"]
    eventually(lambda: one.pings("aa", "bb"), "the peer")
    assert not one.pings("aa", town.world.outside.address4)


@rows("S091")
def test_two_hosts_by_published_ports(town: Town) -> None:
    one, two, _ = town.hosts
    two("run -d -p 8001:6379 --name db busybox nc -ll -p 6379 -e sh -c 'netstat -tn'")
    one(f"run -itd -p 8000:5000 -e DB={two.machine.address4} --name web busybox")
    told = eventually(lambda: one.inside("web", "nc -w 1 $DB 8001 </dev/null").out, "the database on the other host")
    assert one.machine.address4 in told


@rows("S100")
def test_half_a_subnet_on_each_host(town: Town) -> None:
    """The town's first two hosts were started with --bip and --fixed-cidr."""
    one, two, _ = town.hosts
    for host, other, half in ((one, two, "172.17.128.0/17"), (two, one, "172.17.0.0/17")):
        host.machine.run("ip", "route", "add", half, "via", other.machine.address4)
    try:
        (config,) = one.network("bridge")["IPAM"]["Config"]
        assert config == {"Subnet": "172.17.0.0/17", "IPRange": "172.17.0.0/17", "Gateway": "172.17.0.1"}
        for host, other in ((one, "172.17.128.1"), (two, "172.17.0.1")):
            host.machine.run("ping", "-c1", "-W1", other)
        two("run -itd --name bb busybox")
        assert "172.17.128.2/17" in two.inside("bb", "ip address").out
        refused = one.docker.attempt("run --rm busybox ping -c1 -W1 172.17.128.2")
        assert refused.code, "as in Docker 28: only with --allow-direct-routing, or a network that is open"
        for host, subnet in ((one, "172.30.0.0/17"), (two, "172.30.128.0/17")):
            host(
                f"network create --subnet {subnet} -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected open"
            )
        one.machine.run("ip", "route", "add", "172.30.128.0/17", "via", two.machine.address4)
        two("run -itd --name cc --net open busybox")
        one("run --rm --net open busybox ping -c1 -W5 172.30.128.2")
        two("rm -f cc")
        for host in (one, two):
            host("network rm open")
    finally:
        for host in (one, two):
            for half in ("172.17.0.0/17", "172.17.128.0/17", "172.30.128.0/17"):
                host.machine.run("ip", "route", "del", half, "dev", "eth0", check=False)


@rows("S147")
def test_the_store_of_the_labs_in_a_container(town: Town) -> None:
    one, *_ = town.hosts
    ports = " ".join(f"--expose {port}" for port in ("53/udp", "8300", "8301", "8301/udp", "8400"))
    one(f"run -itd -p 8500:8500 {ports} -h consul --name consul busybox")
    told = one("ps --format {{.Ports}}")
    assert "0.0.0.0:8500->8500/tcp" in told
    for bare in ("53/udp", "8301/udp", "8300-8301/tcp", "8400/tcp"):
        assert bare in told.split(", ")
