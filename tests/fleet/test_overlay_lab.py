"""The overlay lab of swarm mode, as written: two hosts, one network, a service of two tasks that find each other.

The tests are the lab's steps, in its order, on the same two hosts.
"""

import json
import re

from fleet.hosts import PROMPT, SLOW, Fleet, token_form
from lane.machine import eventually
from scenarios.rows import rows

HOSTS = ("node1", "node2")
IMAGES, MORE = ("ubuntu",), PROMPT


@rows("S103", "S104", "S105", "S106", "S108")
def test_1_create_a_new_swarm(hosts: Fleet) -> None:
    one, two = hosts.values()
    told = one("swarm init")
    assert re.match(r"Swarm initialized: current node \([0-9a-z]{25}\) is now a manager\.\n", told)
    assert "To add a worker to this swarm, run the following command:" in told
    worker = token_form(told)
    assert re.search(rf"(docker|fairlead) swarm join --token {worker} {one.address}:2377", told)
    assert "swarm join-token manager' and follow the instructions." in told
    manager = one("swarm join-token -q manager")
    assert one("swarm join-token -q worker") == worker
    assert (token_form(manager)[:-26], manager != worker) == (worker[:-26], True)
    eventually(lambda: {"ingress", "docker_gwbridge"} <= set(one.networks()), "its networks are made")
    assert one.networks()["ingress"][1:] == ["overlay", "swarm"]
    assert one.networks()["docker_gwbridge"][1:] == ["bridge", "local"]

    assert two(f"swarm join --token {worker} {one.address}:2377") == "This node joined a swarm as a worker."
    eventually(lambda: [status for status, _, _ in one.nodes().values()] == ["Ready", "Ready"], "both are ready")
    assert one.nodes() == {"node1": ("Ready", "Active", "Leader"), "node2": ("Ready", "Active", "")}
    own = [line for line in one("node ls").splitlines() if " * " in line]
    assert len(own) == 1 and "node1" in own[0]
    two.docker.refused("node ls", "This node is not a swarm manager")


@rows("S109", "S110")
def test_2_create_an_overlay_network(hosts: Fleet) -> None:
    one, two = hosts.values()
    id = one("network create -d overlay overnet")
    assert re.fullmatch("[0-9a-z]{25}", id)
    assert one.networks()["overnet"] == [id[:12], "overlay", "swarm"]
    eventually(lambda: two.networks().get("ingress") == one.networks()["ingress"], "ingress is on the worker, too")
    assert "overnet" not in two.networks()
    told = one.network("overnet")
    assert (told["Scope"], told["Driver"], told["Containers"]) == ("swarm", "overlay", None)
    assert told["Options"]["com.docker.network.driver.overlay.vxlanid_list"] == "4097"
    assert told["IPAM"]["Config"] == [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]


@rows("S111", "S112", "S113")
def test_3_create_a_service(hosts: Fleet) -> None:
    one, two = hosts.values()
    told = one("service create --name myservice --network overnet --replicas 2 ubuntu sleep infinity")
    assert re.match("[0-9a-z]{25}", told)
    placed = one.converged("myservice", 2)
    assert {task for task, _ in placed} == {"myservice.1", "myservice.2"}
    assert {node for _, node in placed} == {"node1", "node2"}
    assert one.networks()["overnet"] == two.networks()["overnet"]
    for host in (one, two):
        (task,) = host.tasks("myservice")
        assert re.fullmatch(r"myservice\.[12]\.[0-9a-z]{25}", task)
        found = host.network("overnet")
        shown = [each for each in found["Containers"].values() if not each["Name"].endswith("-endpoint")]
        assert [each["Name"] for each in shown] == [task]
        assert re.fullmatch(r"10\.0\.1\.\d+/24", shown[0]["IPv4Address"])
        assert shown[0]["MacAddress"].startswith("02:42:0a:00:01:")
        eventually(lambda host=host: len(host.network("overnet").get("Peers", [])) == 2, "both are peers")
        assert {peer["IP"] for peer in host.network("overnet")["Peers"]} == {one.address, two.address}


@rows("S114", "S119", "S122")
def test_4_test_the_network(hosts: Fleet) -> None:
    one, two = hosts.values()
    (here,), (there,) = one.tasks("myservice"), two.tasks("myservice")
    address = two.address_of(there, "overnet")
    eventually(lambda: ", 0% packet loss" in one.inside(here, f"ping -c2 -W1 {address}"), "the other's task")
    devices = one.inside(here, "ip -o link").out
    addresses = one.inside(here, "ip -o -4 addr").out
    overlay = re.search(r"(eth\d)\s+inet 10\.0\.1\.", addresses)
    gateway = re.search(r"(eth\d)\s+inet 172\.\d+\.0\.", addresses)
    assert overlay and gateway and "127.0.0.1" in addresses
    assert re.search(rf"{overlay[1]}.*mtu 1450", devices) and re.search(rf"{gateway[1]}.*mtu 1500", devices)
    assert f"dev {gateway[1]}" in next(
        line for line in one.inside(here, "ip route").lines if line.startswith("default")
    )


@rows("S115", "S117", "S118")
def test_5_test_service_discovery(hosts: Fleet) -> None:
    one, two = hosts.values()
    (here,), (there,) = one.tasks("myservice"), two.tasks("myservice")
    conf = one.inside(here, "cat /etc/resolv.conf")
    assert "nameserver 127.0.0.11" in conf and "options ndots:0" in conf
    (told,) = json.loads(one("service inspect myservice"))
    assert told["Endpoint"]["Spec"]["Mode"] == "vip"
    (virtual,) = told["Endpoint"]["VirtualIPs"]
    assert re.fullmatch(r"10\.0\.1\.\d+/24", virtual["Addr"]) and virtual["NetworkID"] == one.network("overnet")["Id"]
    addresses = {one.address_of(here, "overnet"), two.address_of(there, "overnet")}

    def resolved(name: str) -> set[str]:
        answer = one.inside(here, f"nslookup {name} 127.0.0.11").out.partition("\n\n")[2]
        return set(re.findall(r"10\.0\.1\.\d+", answer))

    assert resolved("myservice") == {virtual["Addr"].split("/")[0]}
    eventually(lambda: resolved("tasks.myservice") == addresses, "both tasks by name")
    assert virtual["Addr"].split("/")[0] not in addresses


@rows("S116")
def test_5_the_virtual_address_answers(hosts: Fleet, balances: None) -> None:
    one, _ = hosts.values()
    (here,) = one.tasks("myservice")
    eventually(lambda: ", 0% packet loss" in one.inside(here, "ping -c2 -W1 myservice"), "the virtual address")


def test_what_was_made_goes(hosts: Fleet) -> None:
    one, two = hosts.values()
    assert one("service rm myservice") == "myservice"
    eventually(lambda: not one.tasks("myservice") and not two.tasks("myservice"), "no task", SLOW)
    eventually(lambda: "overnet" not in two.networks(), "the network has gone where nobody uses it", SLOW)
    eventually(lambda: one.docker.attempt("network rm overnet"), "its tasks are over", SLOW)
    assert "overnet" not in one.networks()
