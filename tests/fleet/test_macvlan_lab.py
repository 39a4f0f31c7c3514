"""A service on the LAN itself: of a macvlan network of the swarm each node makes its own, by what it says of its LAN.

The steps of Docker's manual ("config-only" networks): the configuration on every node, the network once, on a manager.
"""

import re
from ipaddress import ip_address, ip_network

from fleet.hosts import PROMPT, Fleet, Host
from lane.machine import eventually

HOSTS = ("node1", "node2")
IMAGES, MORE = ("nginx",), PROMPT
SHARES = {"node1": 192, "node2": 208}
"""last byte of where the addresses begin that a node may give, sixteen of them"""


def lan(hosts: Fleet) -> str:
    return hosts.outside.net


def own(hosts: Fleet, name: str) -> str:
    """The share of the LAN that is a node's to give."""
    return f"{lan(hosts)}.{SHARES[name]}/28"


def address(host: Host, task: str, network: str) -> str:
    eventually(lambda: host.address_of(task, network), "it has its address")
    return host.address_of(task, network)


def test_1_the_configuration_is_each_nodes(hosts: Fleet) -> None:
    hosts.swarm(1)
    one, two = hosts.values()
    for name, host in hosts.items():
        pool = f"--subnet {lan(hosts)}.0/24 --gateway {lan(hosts)}.1 --ip-range {own(hosts, name)}"
        host(f"network create --config-only {pool} -o parent=eth0 here")
    refused = 'configuration network "nowhere" does not exist'
    one.docker.refused("network create -d macvlan --scope swarm --config-from nowhere street", refused)
    two.docker.refused("network create -d macvlan --scope swarm --config-from here street", "a worker node")
    id = one("network create -d macvlan --scope swarm --config-from here street")
    assert re.fullmatch("[0-9a-z]{25}", id)
    assert one.networks()["street"] == [id[:12], "macvlan", "swarm"]
    assert "street" not in two.networks()


def test_2_tasks_are_neighbours_of_the_hosts_on_the_lan(hosts: Fleet) -> None:
    one, two = hosts.values()
    one("service create --detach --name web --network street --replicas 2 nginx")
    placed = one.converged("web", 2)
    assert {node for _, node in placed} == set(hosts)
    found = {}
    for name, host in hosts.items():
        (task,) = host.tasks("web")
        found[name] = address(host, task, "street")
        assert ip_address(found[name]) in ip_network(own(hosts, name))
        told = host.network("street")
        assert (told["Scope"], told["Driver"], told["ConfigFrom"]["Network"]) == ("swarm", "macvlan", "here")
        assert told["IPAM"]["Config"][0]["IPRange"] == own(hosts, name)
        assert [each["Name"] for each in told["Containers"].values()] == [task]
        assert "Welcome" in hosts.outside.page(found[name], 80), "the LAN reaches it as any machine"
    (task,) = one.tasks("web")
    assert "Welcome" in one.inside(task, f"wget -qO- http://{found['node2']}/").out
    assert one.networks()["street"] == two.networks()["street"]
    one.docker.refused("network rm street", "is in use by service")
    two.docker.refused("network rm here", "is in use")


def test_3_an_engine_that_was_away_finds_its_part(hosts: Fleet) -> None:
    two = hosts["node2"]
    (before,) = two.tasks("web")
    was = address(two, before, "street")
    two.engine.restart()
    assert "Welcome" in hosts.outside.page(was, 80)
    eventually(lambda: hosts["node1"].nodes()["node2"][0] == "Ready", "it is back")
    hosts["node1"].converged("web", 2)
    assert two.tasks("web") == [before]


def test_4_all_goes_as_it_came(hosts: Fleet) -> None:
    one, two = hosts.values()
    one("service rm web")
    eventually(lambda: not (one.tasks("web") or two.tasks("web")), "its tasks are gone")
    eventually(lambda: "street" not in two.networks(), "nothing needs it there")
    one("network rm street")
    eventually(lambda: "street" not in one.networks(), "nor here")
    for host in hosts.values():
        host("network rm here")


def test_5_without_the_configuration_a_task_is_refused_and_says_why(hosts: Fleet) -> None:
    one, two = hosts.values()
    two(f"network create --config-only --subnet {lan(hosts)}.0/24 --ip-range {own(hosts, 'node2')} -o parent=eth0 here")
    one(f"network create --config-only --subnet {lan(hosts)}.0/24 --ip-range {own(hosts, 'node1')} -o parent=eth0 here")
    one("network create -d macvlan --scope swarm --config-from here --attachable street")
    eventually(lambda: "street" in two.networks(), "people may use it, so it is there")
    two("run -d --name guest --network street nginx")
    assert ip_address(address(two, "guest", "street")) in ip_network(own(hosts, "node2"))
    one("service create --detach --name more --network street --constraint node.hostname==node1 nginx")
    one.converged("more", 1)
    assert "Welcome" in two.inside("guest", f"wget -qO- http://{one.address_of(one.tasks('more')[0], 'street')}/").out
    one("service rm more")
    two("rm -f guest")
    one("network rm street")
    eventually(lambda: "street" not in two.networks(), "it is gone")
    two("network rm here")
    one("network create -d macvlan --scope swarm --config-from here street")
    one("service create --detach --name lost --network street --constraint node.hostname==node2 nginx")
    why = 'configuration network "here" does not exist'
    eventually(lambda: why in one("service ps --no-trunc lost"), "it says why")
    one("service rm lost")
