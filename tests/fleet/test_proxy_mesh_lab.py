"""A service that wants PROXY's header on its published port is told of its clients by it, on whichever node they call.

The task answers in hexadecimal with the first 28 bytes that it read: the header, of a client with IPv4. Its server is
busybox's ``nc``, whose queue is as long as it has "l": with two, a third who waits gets a SYN cookie, which the kernel
no longer knows when the connection's second packet comes before its first; and a reset.
"""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.askers import ASKING, asked
from fleet.hosts import SLOW, Fleet
from lane.machine import eventually

HOSTS = ("m1", "w1", "w2")
PORT, RATE, ENOUGH = 8080, 100, 10
WAITING = "l" * 64
ANSWER = rf"""
cat > /tmp/answer <<'END'
#!/bin/sh
first=$(dd bs=1 count=28 2>/tmp/null | od -An -v -tx1 | tr -d ' \n')
while read -r line && [ ${{#line}} -gt 1 ]; do :; done
printf 'HTTP/1.0 200 OK\r\n\r\n%s' "$first"
END
chmod +x /tmp/answer; exec nc -{WAITING} -p 80 -e /tmp/answer
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"


@pytest.fixture(scope="module")
def town(hosts: Fleet, balances_or_not: bool) -> Fleet:
    if not balances_or_not:
        pytest.skip("dockerd has no such label")
    hosts.swarm(1)
    words = (
        f"service create -d --name web --replicas 2 -p {PORT}:80 --label fairlead.publish.proxy=v2"
        " --stop-grace-period 6s --health-interval 1s --update-delay 0s --update-monitor 1s --health-cmd"
    )
    boss = hosts["m1"]
    boss.docker([*words.split(), "netstat -ltn | grep -q :80", "busybox", "sh", "-c", ANSWER], timeout=SLOW)
    boss.converged("web", 2)
    return hosts


def told(hosts: Fleet) -> dict[str, bytes]:
    """Host -> what the task behind its port heard first."""
    return {host: bytes.fromhex(page) for host, page in hosts.everywhere(PORT).items()}


@contextmanager
def watched(hosts: Fleet) -> Iterator[None]:
    """Requests come in by every host; none may be lost."""
    rate = str(RATE / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    places = [host.address for host in hosts.values()]
    with asked(["nsenter", f"--net={hosts.outside.network}", *ASKING, rate, str(PORT), *places]) as found:
        yield
    (counts,) = found
    assert counts.lost == 0, f"{counts.lost} of {counts.asked} lost: {counts.first}"
    assert counts.asked > ENOUGH


def updated(hosts: Fleet, words: str) -> None:
    hosts["m1"](f"service update -d --force {words} web")
    state = "service inspect -f {{.UpdateStatus.State}} web"
    eventually(lambda: hosts["m1"].docker(state).out == "completed", "updated", SLOW)


def test_every_node_tells_who_calls(town: Fleet) -> None:
    eventually(lambda: all(told(town).values()), "every node answers")
    for name, first in told(town).items():
        ends = [str(ipaddress.ip_address(first[at : at + 4])) for at in (16, 20)]
        assert first[:16] == SIGNATURE and ends == [town.outside.address, town[name].address]
        assert int.from_bytes(first[26:28], "big") == PORT


def test_no_request_is_lost_while_its_tasks_change(town: Fleet) -> None:
    with watched(town):
        updated(town, "--update-parallelism 1")
        town["m1"]("service scale -d web=4")
        town["m1"].converged("web", 4)
        town["m1"]("service scale -d web=2")
        town["m1"].converged("web", 2)


def test_connections_stay_while_the_engine_is_exchanged(town: Fleet) -> None:
    boss = town["m1"]
    with watched(town):
        for name in ("w1", "w2"):
            town[name].engine.kill()
            town[name].engine.start()
            eventually(lambda name=name: boss.nodes()[name][0] == "Ready" and boss.converged("web", 2), "back", 60)


def test_each_task_is_told_what_it_expects_while_the_label_goes(town: Fleet) -> None:
    town["m1"]("service update -d --label-rm fairlead.publish.proxy web")
    assert all(first[:16] == SIGNATURE for first in told(town).values()), "who runs goes on as it was made"
    with watched(town):
        updated(town, "--update-parallelism 1")
    assert all(first.startswith(b"GET / HTTP") for first in told(town).values())
    with watched(town):
        updated(town, "--label-add fairlead.publish.proxy=v2")
    assert all(first[:16] == SIGNATURE for first in told(town).values())


def test_another_version_is_refused(town: Fleet) -> None:
    words = "service update --label-add fairlead.publish.proxy=v1 web"
    town["m1"].docker.refused(words, "label fairlead.publish.proxy=v1: expected v2")
