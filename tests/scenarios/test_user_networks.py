"""User-defined bridges: addresses and isolation (S060 to S071, S084 to S091)."""

import re

from lane.fixtures import Starter
from lane.images import PAGE
from lane.machine import eventually
from scenarios.lab import Lab
from scenarios.rows import rows


@rows("S060", "S064")
def test_a_bridge_for_each_network_a_veth_for_each_container(lab: Lab) -> None:
    network = lab.docker("network create -d bridge my_bridge").out
    bridge = f"br-{network[:12]}"
    assert bridge in lab.host.links()
    lab.run("-itd --name c1 busybox sh")
    for name in ("c2", "c3"):
        lab.run(f"-itd --name {name} --net my_bridge busybox sh")
    masters = [master for name, master in lab.host.links().items() if name.startswith("veth")]
    assert sorted(masters) == sorted(["docker0", bridge, bridge])


@rows("S061")
def test_an_address_needs_a_subnet_of_the_users(lab: Lab) -> None:
    lab.docker("network create -d bridge my_bridge")
    lab.docker.refused(
        "run -itd --name c3 --net my_bridge --ip 10.0.0.254 busybox sh",
        "user specified IP address is supported only when connecting to networks with user configured subnets",
        code=125,
    )


@rows("S062")
def test_the_address_asked_for(lab: Lab) -> None:
    lab.docker("network create -d bridge --subnet 10.0.0.0/24 my_bridge2")
    lab.run("-itd --name c3 --net my_bridge2 --ip 10.0.0.254 busybox sh")
    assert "inet 10.0.0.254/24" in lab.docker("exec c3 ip -4 a show eth0")


@rows("S063")
def test_networks_do_not_reach_each_other(lab: Lab) -> None:
    lab.docker("network create my_bridge")
    lab.run("-itd --name c1 nginx")
    lab.run("-itd --name c2 --net my_bridge busybox sh")
    c1 = lab.address("c1")
    assert lab.host.page(c1) == PAGE
    fetch = "timeout 1 wget -q -O- http://{}/"
    lab.run("-d --name c4 --net my_bridge nginx")
    assert "Welcome" in lab.inside("c2", fetch.format("c4"))  # it would, if it could
    assert not lab.pings("c2", c1)
    assert "Welcome" not in lab.inside("c2", fetch.format(c1))
    assert not lab.pings("c1", lab.address("c2", "my_bridge"))


EXTERNAL = "--driver=bridge --subnet=172.20.0.0/16 --gateway=172.20.0.1 --ip-range=172.20.1.0/24"
INTERNAL = "--driver=bridge --subnet=172.50.0.0/16 --gateway=172.50.0.1 --ip-range=172.50.1.0/24 --internal"


@rows("S065", "S067")
def test_what_was_asked_for_is_echoed(lab: Lab) -> None:
    lab.docker(f"network create {EXTERNAL} external_net")
    lab.docker(f"network create {INTERNAL} internal_net")
    external, internal = lab.network("external_net"), lab.network("internal_net")
    config = {"Subnet": "172.20.0.0/16", "IPRange": "172.20.1.0/24", "Gateway": "172.20.0.1"}
    assert (external["IPAM"]["Config"], external["Internal"]) == ([config], False)
    assert internal["Internal"] is True


@rows("S066", "S068", "S069", "S070", "S071")
def test_an_external_and_an_internal_network(lab: Lab) -> None:
    lab.docker(f"network create {EXTERNAL} external_net")
    lab.docker(f"network create {INTERNAL} internal_net")
    lab.run("-itd --name instance0 --net=external_net busybox")
    assert lab.address("instance0", "external_net") == "172.20.1.0"
    assert lab.docker.field("instance0", ".NetworkSettings.IPAddress") == ""

    lab.docker("network connect internal_net instance0")
    assert lab.address("instance0", "internal_net") == "172.50.1.0"
    assert "inet 172.50.1.0/16" in lab.docker("exec instance0 ip -4 addr show eth1")
    routes = lab.docker("exec instance0 ip route").lines
    assert [line.split()[:5] for line in routes if "default" in line] == [
        ["default", "via", "172.20.0.1", "dev", "eth0"]
    ]

    lab.run("-itd --name instance1 --net=internal_net busybox")
    assert "PING instance0 (172.50.1.0)" in lab.docker("exec instance1 ping -c1 -W1 instance0")
    assert "instance0.internal_net" in lab.docker("exec instance1 nslookup 172.50.1.0")
    assert "default" not in lab.docker("exec instance1 ip route")
    assert "Network is unreachable" in lab.inside("instance1", f"ping -c1 -W1 {lab.outside.address}")

    listed = lab.docker(["ps", "-a", "--format", "{{.Image}}|{{.Command}}|{{.Status}}|{{.Ports}}"]).lines
    assert len(listed) == 2 and all(re.match(r'busybox\|"sh"\|Up .*\|$', line) for line in listed)


@rows("S084")
def test_an_alias_belongs_to_its_network(lab: Lab) -> None:
    for network in ("CustomNetwork", "Other"):
        lab.docker(f"network create {network}")
    lab.run("-d --network CustomNetwork --network-alias my-alias --name al net-test sleep 100")
    lab.run("-d --network CustomNetwork --name one net-test sleep 100")
    lab.run("-d --network Other --name two net-test sleep 100")
    assert lab.pings("one", "my-alias")
    assert not lab.resolves("two", "my-alias")


@rows("S085", "S086", "S087")
def test_one_container_between_two_networks(lab: Lab) -> None:
    for network in ("Network1", "Network2"):
        lab.docker(f"network create {network}")
    for name in "ABC":
        lab.run(f"-itd --name Container{name} busybox")
    holder = lab.docker.field("ContainerB", ".Id")
    lab.docker.refused(
        "run -itd --name ContainerB busybox",
        f'Conflict. The container name "/ContainerB" is already in use by container "{holder}"',
        code=125,
    )
    for network, name in (("1", "A"), ("2", "B"), ("1", "C"), ("2", "C")):
        lab.docker(f"network connect Network{network} Container{name}")
    for one, other in ("AC", "CA", "BC", "CB"):
        assert lab.pings(f"Container{one}", f"Container{other}")
    assert not lab.resolves("ContainerA", "ContainerB")
    shown = lab.docker("exec ContainerC ip -4 -o addr show").out
    assert re.findall(r"\d: (eth\d) +inet ([\d.]+)", shown) == [
        ("eth0", lab.address("ContainerC")),
        ("eth1", lab.address("ContainerC", "Network1")),
        ("eth2", lab.address("ContainerC", "Network2")),
    ]


@rows("S088", "S089")
def test_a_container_on_a_custom_network_alone(lab: Lab) -> None:
    lab.docker("network create CustomNetwork")
    lab.run("--rm -itd --name C1 net-test")
    lab.run("--rm -itd --name C2 net-test")
    lab.run("--rm -itd --name C3 --net CustomNetwork net-test")
    shown = lab.docker("exec C3 ip -o link show").lines
    assert [re.match(r"\d+: (\w+)", line)[1] for line in shown] == ["lo", "eth0"]
    subnet = lab.network("CustomNetwork")["IPAM"]["Config"][0]["Subnet"]
    assert lab.address("C3", "CustomNetwork").startswith(subnet.removesuffix(".0.0/16") + ".")
    assert set(lab.members("bridge")) == {"C1", "C2"}


@rows("S090")
def test_web_and_database(lab: Lab) -> None:
    lab.docker("network create -d bridge catnet")
    lab.run("-d --net catnet --name cat-db redis")
    lab.run("-d --net catnet -p 8000:5000 -e DB=cat-db --name web flask")
    eventually(lambda: "PONG" in lab.inside("web", "nc -w 1 $DB 6379 </dev/null"), "the database by its name")
    assert "Hi from" in lab.outside.page(lab.host.address, 8000, "/hi")


@rows("S091")
def test_across_two_hosts_by_published_ports(lab: Lab, another: Starter) -> None:
    other = Lab(another.lan, another(12, images=("redis",)))
    other.run("-d -p 8001:6379 --name db redis")
    lab.run(f"-d -p 8000:5000 -e DB={other.host.address} --name web flask")
    eventually(lambda: "PONG" in lab.inside("web", "nc -w 1 $DB 8001 </dev/null"), "the database on the other host")
    other.run("-d --name listener -p 8002:9000 redis sh -c 'nc -l -p 9000 -w 5 >/dev/null & sleep 100'")
    peer = "netstat -tn | grep :9000"
    lab.docker("exec -d web sh -c 'sleep 5 | nc $DB 8002'")
    seen = eventually(lambda: other.inside("listener", peer).out, "the connection as the other host sees it")
    assert lab.host.address in seen
