"""What `fairlead explain` says of a swarm of three hosts is what happens there, while one thing after another ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.hosts import SLOW, Fleet, Host
from lane.client import path_of
from lane.images import PAGE
from lane.machine import eventually

HOSTS = ("manager1", "worker1", "worker2")
IMAGES = ("busybox", "nginx")
BLOCK = "add table inet office; add chain inet office in { type filter hook input priority 0; }"
FRAMES = "add rule inet office in udp dport 4789 drop"


@pytest.fixture(scope="module")
def client() -> str:
    """Docker's has no such command."""
    return path_of("fairlead")


@pytest.fixture(scope="module")
def town(hosts: Fleet) -> Fleet:
    """Three tasks of ``api``, one on each host; a client on each; a service on a network of its own."""
    hosts.swarm(1)
    one = hosts["manager1"]
    for network in ("app", "apart"):
        one(f"network create -d overlay --attachable {network}")
    one("service create -d --name api --replicas 3 --network app -p 8080:80 nginx")
    one("service create -d --name lone --network apart nginx")
    one.converged("api", 3)
    one.converged("lone", 1)
    for name, host in hosts.items():
        host(f"run -d --name client-{name} --network app busybox sleep 1d")
    return hosts


def said(host: Host, source: str, target: str) -> tuple[bool, str]:
    """Whether it arrives at every task, in its own words."""
    result = host.docker.attempt(["explain", "--check", source, target], timeout=SLOW)
    return result.code == 0, result.out


def address(town: Fleet, service: str) -> str:
    """Its own."""
    form = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}"
    told = town["manager1"].docker(["service", "inspect", "--format", form, service]).out.split()
    return next(text.partition("/")[0] for text in told if not text.startswith("10.0.0."))


def answered(host: Host, address: str, times: int = 12) -> bool:
    """Whether every one of so many calls is answered."""
    calls = f"for i in $(seq {times}); do timeout 3 wget -qO- http://{address}/ || exit 1; done"
    return host.inside(f"client-{host.name}", calls).code == 0


def agrees(town: Fleet, name: str, service: str, works: bool, *words: str) -> None:
    """What is said on a host is what happens there, and why is among it."""
    host, own = town[name], address(town, service)

    def same() -> bool:
        arrives, told = said(host, f"client-{name}", f"{service}:80")
        return arrives == works == answered(host, own) and all(word in told for word in words)

    try:
        eventually(same, service, SLOW)
    except AssertionError:
        told = said(host, f"client-{name}", f"{service}:80")[1]
        raise AssertionError(f"{told}\nanswered: {answered(host, own)}") from None


def test_everybody_reaches_every_task(town: Fleet) -> None:
    for name, host in town.items():
        agrees(town, name, "api", True, "one of 3 tasks that serve", "the kernel agrees")
        for source, target in (("outside", "host:8080"), ("host", "api:80")):
            eventually(lambda h=host, s=source, t=target: said(h, s, t)[0], f"{source} to {target} on {name}")
    assert town.everywhere(8080) == dict.fromkeys(HOSTS, PAGE)


def test_no_network_in_common(town: Fleet) -> None:
    agrees(town, "manager1", "lone", False, "lone is on apart", "network connect apart client-manager1")


@contextmanager
def behind_a_firewall(host: Host) -> Iterator[None]:
    for line in (*BLOCK.split("; add"), FRAMES):
        host.engine.machine.inside(["nft", line if line.startswith("add") else f"add{line}"])
    try:
        yield
    finally:
        host.engine.machine.inside(["nft", "delete", "table", "inet", "office"])


def test_a_firewall_of_the_host(town: Fleet) -> None:
    with behind_a_firewall(town["worker1"]):
        agrees(town, "worker1", "api", False, "arrives at 1 of 3 tasks only", "inet office in", "udp dport 4789 drop")
    agrees(town, "worker1", "api", True)


def test_nobody_serves(town: Fleet) -> None:
    one = town["manager1"]
    one("service create -d --name picky --network app --constraint node.labels.disk==ssd nginx")
    agrees(
        town,
        "manager1",
        "picky",
        False,
        "picky.1 is pending: no suitable node (scheduling constraints not satisfied on 3 nodes)",
    )
    one("node update --label-add disk=ssd worker2")
    agrees(town, "manager1", "picky", True, "the one task that serves")
    one("service scale -d picky=0")
    agrees(town, "manager1", "picky", False, "picky is scaled to 0")


def test_a_host_that_is_away(town: Fleet) -> None:
    """Last: it does not come back."""
    town["worker2"].engine.machine.close()
    one = town["manager1"]
    eventually(
        lambda: "worker2" not in said(one, "client-manager1", "api:80")[1].partition("vip")[2], "not sent to", SLOW
    )
    agrees(town, "manager1", "api", True)
