"""A crowd: ten nodes and a service of 300 tasks. Everybody knows everybody, and afterwards nothing is left.

manager1 manager2 manager3      worker1 ... worker7      30 tasks on each
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.hosts import PROMPT, Fleet, Host
from lane.client import path_of
from lane.machine import eventually

MANAGERS, WORKERS = [f"manager{number}" for number in range(1, 4)], [f"worker{number}" for number in range(1, 8)]
HOSTS = (*MANAGERS, *WORKERS)
IMAGES, MORE = ("busybox",), PROMPT
MANY, FEW = 300, 30
SERVE = ["sh", "-c", "hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
LATE = 60
"""seconds in which hundreds of containers come and go, where nothing else is to be done"""


@pytest.fixture(scope="module")
def client() -> str:
    return path_of("docker")


@pytest.fixture(scope="module")
def first(hosts: Fleet) -> Host:
    hosts.swarm(3)
    return hosts["manager1"]


@pytest.fixture(scope="module")
def quiet(hosts: Fleet, first: Host) -> dict[str, list[str]]:
    """What is on each node before there is a service."""
    first("network create --driver overlay --subnet 10.77.0.0/16 crowd")
    return {name: remains(host) for name, host in hosts.items()}


def remains(host: Host) -> list[str]:
    """What a service's tasks leave behind when nobody cleans up: containers, networks, namespaces, devices."""
    names = host("network ls --format {{.Name}}").split() if host.name in WORKERS else []
    devices = [line.split(":")[1].split("@")[0].strip() for line in host.machine.inside("ip -o link").lines]
    return [*host("ps -aq").split(), *sorted(names), *sorted(device for device in devices if device != "lo")]


def spread(first: Host, count: int) -> Counter[str]:
    """Node -> tasks, when so many run."""
    eventually(lambda: first.replicas("crowd") == f"{count}/{count}", f"{count} tasks", LATE)
    return Counter(node for _, node in first.placed("crowd"))


NAMES = """
mount -t tmpfs none /mnt && cp $0 /mnt/resolv.conf && mount --bind /mnt/resolv.conf /etc/resolv.conf
exec getent ahostsv4 tasks.crowd
"""


def known(host: Host) -> frozenset[str]:
    """The tasks' addresses as a program of glibc gets them on this node: by UDP, and when they are too many by TCP."""
    pid = host.docker(["inspect", "--format", "{{.State.Pid}}", host.tasks("crowd")[0]]).out
    inside = ["nsenter", "-t", pid, "-n", "unshare", "-m", "sh", "-c", NAMES, f"/proc/{pid}/root/etc/resolv.conf"]
    return frozenset(line.split()[0] for line in host.machine.inside(inside).lines)


def everybody_knows(hosts: Fleet, count: int) -> None:
    def same() -> bool:
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(known, (host for host in hosts.values() if host.tasks("crowd"))))
        return [len(addresses) for addresses in found] == [count]

    eventually(same, f"{count} addresses on every node", LATE)


def test_01_three_hundred_tasks(hosts: Fleet, first: Host, quiet: dict[str, list[str]]) -> None:
    words = ["service", "create", "--detach", "--name", "crowd", "--network", "crowd", "--replicas", str(MANY)]
    first.docker([*words, "busybox", *SERVE], timeout=LATE)
    assert spread(first, MANY) == dict.fromkeys(hosts, MANY // len(hosts))


def test_02_every_node_knows_them_all(hosts: Fleet, first: Host) -> None:
    everybody_knows(hosts, MANY)


def test_03_the_virtual_address_answers_on_every_node(hosts: Fleet) -> None:
    for host in hosts.values():
        names = {host.inside(host.tasks("crowd")[0], "wget -qO- http://crowd/").out for _ in range(5)}
        assert all(re.fullmatch("[0-9a-f]{12}", name) for name in names) and len(names) > 1, names


def test_04_scaled_down(hosts: Fleet, first: Host) -> None:
    first(f"service scale --detach crowd={FEW}")
    assert spread(first, FEW) == dict.fromkeys(hosts, FEW // len(hosts))
    eventually(lambda: sum(len(host.tasks("crowd")) for host in hosts.values()) == FEW, "the others have ended", LATE)
    everybody_knows(hosts, FEW)


def test_05_a_drained_node(hosts: Fleet, first: Host) -> None:
    first("node update --availability drain worker7")
    eventually(lambda: not hosts["worker7"].tasks("crowd"), "nothing runs there", LATE)
    assert sorted(spread(first, FEW).values()) == [3] * 6 + [4] * 3
    everybody_knows(hosts, FEW)


def test_06_scaled_up_again(hosts: Fleet, first: Host) -> None:
    first(f"service scale --detach crowd={MANY}")
    assert sorted(spread(first, MANY).values()) == [33] * 6 + [34] * 3
    everybody_knows(hosts, MANY)


def test_07_nothing_is_left(hosts: Fleet, first: Host, quiet: dict[str, list[str]]) -> None:
    first("service rm crowd")
    for name, host in hosts.items():
        eventually(lambda: remains(host) == quiet[name], f"{name} is as it was", LATE)  # noqa: B023
