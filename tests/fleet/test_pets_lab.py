"""The pets, as the reference architecture writes them: two tenants on a network each, and an administrator on both.

host-A, host-B      dognet 10.1.0.0/24: dog-db, dog-web (8000), admin (7000)
                    catnet 10.2.0.0/24: cat-db, cat-web (9000), admin
"""

import re

import pytest

from fleet.hosts import PROMPT, SLOW, Fleet, Host
from lane.engines import Fairlead
from lane.machine import Result, eventually
from scenarios.rows import rows

HOSTS = ("host-A", "host-B")
IMAGES, MORE = ("nginx", "redis", "flask"), PROMPT
PETS = ("dog-db", "dog-web", "cat-db", "cat-web", "admin")


@pytest.fixture(scope="module")
def pets(hosts: Fleet, balances_or_not: bool) -> Fleet:
    """The whole of it, running. Where nothing balances, names lead to tasks (dnsrr) and no port is published."""
    hosts.swarm(1)
    for host in hosts.values():
        for image in ("chrch/web", "chrch/admin"):
            host(f"tag flask {image}")
    one, _ = hosts.values()
    one("network create -d overlay --subnet 10.1.0.0/24 --gateway 10.1.0.1 dognet")
    one("network create -d overlay --subnet 10.2.0.0/24 --gateway 10.2.0.1 catnet")

    def create(words: str, port: str = "") -> None:
        one(f"service create -d {f'-p {port}' if balances_or_not and port else ''} {words}")

    mode = "" if balances_or_not else "--endpoint-mode dnsrr"
    create(f"{mode} --network dognet --name dog-db redis")
    create(f"{mode} --network dognet -e 'DB=dog-db' -e 'ROLE=dog' --name dog-web chrch/web", "8000:5000")
    create(f"{mode} --network catnet --name cat-db redis")
    create(f"{mode} --network catnet -e 'DB=cat-db' -e 'ROLE=cat' --name cat-web chrch/web", "9000:5000")
    create(
        f"{mode} --network dognet --network catnet -e 'DB1=dog-db' -e 'DB2=cat-db' --name admin chrch/admin",
        "7000:5000",
    )
    for pet in PETS:
        one.converged(pet, 1)
    return hosts


def task_of(pets: Fleet, service: str) -> tuple[Host, str]:
    """The only task of a service, and the host it is on."""
    ((host, task),) = [(host, task) for host in pets.values() for task in host.tasks(service)]
    return host, task


def asks(pets: Fleet, service: str, script: str) -> Result:
    host, task = task_of(pets, service)
    return host.inside(task, script)


@rows("S120")
def test_a_port_answers_on_both_hosts(pets: Fleet, balances: None) -> None:
    for port in (8000, 9000, 7000):
        assert pets.everywhere(port, "/hi") == dict.fromkeys(pets, "Hi from flask\n")
    assert "DB=dog-db" in asks(pets, "dog-web", "env") and "ROLE=cat" in asks(pets, "cat-web", "env")


@rows("S124")
def test_each_tenant_reaches_its_own(pets: Fleet) -> None:
    for who, database, page in (("dog-web", "dog-db", ""), ("cat-web", "cat-db", ""), ("admin", "dog-db", "cat-web")):
        answer = eventually(lambda w=who, d=database: asks(pets, w, f"nc {d} 6379 </dev/null").out, f"{database}")
        assert answer == "PONG"
        if page:
            eventually(lambda w=who, p=page: "Hi from flask" in asks(pets, w, f"wget -qO- http://{p}:5000/hi"), page)
    eventually(lambda: asks(pets, "admin", "nc cat-db 6379 </dev/null").out == "PONG", "cat-db")
    addresses = asks(pets, "admin", "ip -o -4 addr").out
    assert re.search(r"inet 10\.1\.0\.\d+/24", addresses) and re.search(r"inet 10\.2\.0\.\d+/24", addresses)


@rows("S124")
def test_no_tenant_reaches_the_other(pets: Fleet) -> None:
    for who, other, network in (("dog-web", "cat", "catnet"), ("cat-web", "dog", "dognet")):
        for service in (f"{other}-db", f"{other}-web"):
            assert not asks(pets, who, f"nslookup {service} 127.0.0.11")
            host, task = task_of(pets, service)
            assert not asks(pets, who, f"ping -c1 -W1 {host.address_of(task, network)}")
        gateway = asks(pets, who, "ip route").out.splitlines()[0].split()[2]
        assert not asks(pets, who, f"nc -w 1 {gateway} 6379 </dev/null").out


@rows("S123")
def test_a_service_without_a_virtual_address(pets: Fleet) -> None:
    one, _ = pets.values()
    one("service create -d --name robin --endpoint-mode dnsrr --replicas 3 --network dognet redis")
    one.converged("robin", 3)
    told = one.docker.json("service inspect robin")[0]  # type: ignore[index]
    assert told["Spec"]["EndpointSpec"]["Mode"] == "dnsrr" and not told["Endpoint"].get("VirtualIPs")
    tasks = {host.address_of(task, "dognet") for host in pets.values() for task in host.tasks("robin")}

    def answers() -> bool:
        told = asks(pets, "dog-web", "nslookup robin 127.0.0.11").out.partition("\n\n")[2]
        return set(re.findall(r"10\.1\.0\.\d+", told)) == tasks

    assert len(tasks) == 3
    eventually(answers, "all three by name")
    one("service rm robin")


@rows("S132")
def test_a_port_of_the_host(pets: Fleet) -> None:
    one, two = pets.values()
    one("service create --name local -d --constraint node.hostname==host-B -p mode=host,published=8081,target=80 nginx")
    one.converged("local", 1)
    assert "Welcome" in pets.outside.page(two.address, 8081)
    assert pets.outside.page(one.address, 8081, patience=0.5) == ""
    one("service rm local")


@rows("S131")
def test_an_encrypted_network(pets: Fleet) -> None:
    """Where the kernel cannot encrypt, nothing runs in clear instead; where it can: ``tests/full_kernel``."""
    one, _ = pets.values()
    one("network create -d overlay --opt encrypted=true net")
    assert one.network("net")["Options"]["encrypted"] == "true"
    if isinstance(one.engine, Fairlead):
        one("service create -d --name secret --network net redis")
        why = "encrypted overlay networks need AES-GCM for ESP"
        eventually(lambda: why in one("service ps --no-trunc secret"), "it is said why nothing runs", SLOW)
        one("service rm secret")
    eventually(lambda: one.docker.attempt("network rm net"), "the network goes", SLOW)
