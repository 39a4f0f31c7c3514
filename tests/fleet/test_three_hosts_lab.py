"""Containers on multiple hosts, as the networking chapter writes it: a manager, two workers, five nginx."""

import re
from collections import Counter

from fleet.hosts import Fleet
from lane.images import PAGE
from lane.machine import eventually
from scenarios.rows import rows

HOSTS = ("master", "worker-1", "worker-2")
IMAGES = ("nginx",)


@rows("S104", "S106", "S107")
def test_1_three_hosts_become_a_swarm(hosts: Fleet) -> None:
    master, *workers = hosts.values()
    master(f"swarm init --advertise-addr={master.address}")
    token = master("swarm join-token -q worker")
    for host in workers:
        joined = host(f"swarm join --token {token} --advertise-addr {host.address} {master.address}:2377")
        assert joined == "This node joined a swarm as a worker."
    eventually(lambda: {status for status, _, _ in master.nodes().values()} == {"Ready"}, "all are ready")
    assert set(master.nodes()) == set(hosts)
    managers = master("node ls --filter role=manager --format {{.Hostname}}").split()
    assert managers == ["master"]


@rows("S121", "S122")
def test_2_five_nginx_over_three_hosts(hosts: Fleet) -> None:
    master, *_ = hosts.values()
    master("network create -d overlay nginxnet")
    master(
        "service create --name my-nginx --publish target=80,published=80 --replicas=5 --network nginxnet nginx",
    )
    placed = master.converged("my-nginx", 5)
    assert sorted(Counter(node for _, node in placed).values()) == [1, 2, 2]
    for name, host in hosts.items():
        assert len(host.tasks("my-nginx")) == [node for _, node in placed].count(name)
    (line,) = [line for line in master("service ls").splitlines() if "my-nginx" in line]
    assert "*:80->80/tcp" in line and "5/5" in line
    addresses = {host.address_of(task, "nginxnet") for host in hosts.values() for task in host.tasks("my-nginx")}
    assert len(addresses) == 5
    assert all(re.fullmatch(r"10\.0\.1\.\d+", address) for address in addresses)


@rows("S121")
def test_3_the_port_answers_on_every_host(hosts: Fleet, balances: None) -> None:
    assert hosts.everywhere(80) == dict.fromkeys(hosts, PAGE)
