"""UCP's lab of the HTTP routing mesh: RED and WHITE behind one port of every node, told apart by name.

Enabling it is a click in UCP; here it is ``fairlead mesh http enable``, whichever client types the rest.
"""

import shutil
import threading
from collections import Counter

import pytest

from fleet.hosts import SLOW, Fleet
from lane.client import path_of
from lane.machine import eventually
from scenarios.rows import rows

HOSTS = ("manager1", "worker1", "worker2")
DEMO = """
mkdir -p /tmp/cgi-bin; echo "$TITLE" > /tmp/index.html
printf '#!/bin/sh\\nprintf "\\\\n$HTTP_X_FORWARDED_FOR"\\n' > /tmp/cgi-bin/who; chmod +x /tmp/cgi-bin/who
exec httpd -f -p 8080 -h /tmp
"""
"""What the lab's image is for: a web server on 8080 that says its title."""

pytestmark = pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="Debian's haproxy")


@pytest.fixture(scope="module")
def mesh(hosts: Fleet, balances_or_not: bool) -> Fleet:
    """A swarm with the HTTP mesh on port 80."""
    if not balances_or_not:
        pytest.skip("dockerd has no HTTP mesh")
    hosts.swarm(1)
    fairlead(hosts, "mesh http enable --port 80")
    hosts["manager1"].converged("ucp-hrm", len(HOSTS))
    return hosts


def fairlead(hosts: Fleet, command: str) -> str:
    """Type Fairlead's own command on the manager."""
    docker = hosts["manager1"].docker
    before, docker.binary = docker.binary, path_of("fairlead")
    try:
        return docker(command, timeout=SLOW).out
    except AssertionError as error:
        raise AssertionError(f"{error}\n{hosts['manager1'].engine.log.read_text()[-4000:]}") from None
    finally:
        docker.binary = before


def create(hosts: Fleet, name: str, scale: int, port: int) -> None:
    label = f"com.docker.ucp.mesh.http=8080=http://{name.lower()}.example.com"
    words = f"--name {name} --replicas {scale} -p {port}:8080 --network ucp-hrm --label {label} -e TITLE={name}"
    hosts["manager1"].docker([*f"service create {words} busybox sh -c".split(), DEMO], timeout=SLOW)
    hosts["manager1"].converged(name, scale)


def asked(hosts: Fleet, name: str, path: str = "/") -> dict[str, str]:
    """Host -> what the world gets from its port 80 when it asks for that name."""
    words = ["curl", "-s", "-m", "5", "-H", f"Host: {name}"]
    return {host: hosts.outside([*words, f"http://{found.address}{path}"]).out for host, found in hosts.items()}


@rows("S148")
def test_the_lab(mesh: Fleet) -> None:
    first = mesh["manager1"]
    assert mesh["worker1"].networks()["ucp-hrm"][1:] == ["overlay", "swarm"]
    create(mesh, "RED", 3, 5000)
    create(mesh, "WHITE", 2, 5001)
    for name in ("RED", "WHITE"):
        eventually(lambda name=name: set(asked(mesh, f"{name.lower()}.example.com").values()) == {name}, name)
    assert set(asked(mesh, "blue.example.com").values()) == {"no service has this name and path"}
    assert set(asked(mesh, "red.example.com", "/cgi-bin/who").values()) == {mesh.outside.address}, "who asks is known"
    assert "red.example.com/" in fairlead(mesh, "mesh http ls")
    assert first.docker.json("service inspect RED")[0]["Spec"]["Labels"] == {  # type: ignore[index]
        "com.docker.ucp.mesh.http": "8080=http://red.example.com"
    }


def test_no_request_is_lost_while_services_change(mesh: Fleet) -> None:
    first, answers, done = mesh["manager1"], Counter[str](), threading.Event()

    def client() -> None:
        while not done.is_set():
            for name in ("red", "white"):
                answers.update(asked(mesh, f"{name}.example.com").values())

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        first("service update --force --update-parallelism 2 RED")
        first("service scale WHITE=5")
        first.converged("WHITE", 5)
        first("service scale WHITE=1")
        first.converged("WHITE", 1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {"RED", "WHITE"}, answers


def test_a_label_that_makes_no_sense_is_refused(mesh: Fleet) -> None:
    words = "service create --label com.docker.ucp.mesh.http=http://red.example.com --name odd busybox sleep 99"
    mesh["manager1"].docker.refused(words, "expected 8080=http://name.example.com")


def test_it_goes_when_nobody_is_on_it(mesh: Fleet) -> None:
    first = mesh["manager1"]
    first("service rm RED WHITE")
    fairlead(mesh, "mesh http disable")
    assert "ucp-hrm" not in first("service ls") and "ucp-hrm" not in first.networks()
    eventually(lambda: not any(host.tasks("ucp-hrm") for host in mesh.values()), "no HAProxy is left", SLOW)
