"""Requests go on, by virtual address and through the mesh, while a service is changed under them: none is lost.

    eye (a container on m1) --VIP-->  web: tasks on m1, w1, w2  <--port 8080 of any node-- the world outside

Updated one after the other, scaled down and up, a node drained, every engine killed and started again.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fleet.askers import CROWD, asked
from fleet.hosts import Fleet, fleet
from lane.client import default
from lane.engines import Fairlead
from lane.machine import Lan, eventually

RATE = 1000
"""requests per second by each of the two ways; fewer on a machine that has more to do than processors"""
ENOUGH = 50
"""requests that must have been made while a deed lasted, also on the busiest machine"""
PORT = 8080


@pytest.fixture(scope="module")
def town(lan: Lan) -> Iterator[Fleet]:
    with fleet(Fairlead, lan, default(), "m1", "w1", "w2") as hosts:
        hosts.swarm(1)
        boss = hosts["m1"]
        boss("network create -d overlay --attachable net")
        boss("run -d --name eye --network net busybox sleep 100000")
        boss(
            "service create -d --name web --network net --replicas 6 -p 8080:80 --stop-grace-period 2s"
            " --health-cmd true --health-interval 1s --update-delay 0s --update-monitor 1s nginx"
        )
        boss.converged("web", 6)
        eventually(lambda: all("200" in page or page for page in hosts.everywhere(PORT).values()), "the mesh")
        yield hosts


@contextmanager
def watched(hosts: Fleet) -> Iterator[None]:
    """Requests are made by both ways; none may be lost."""
    boss = hosts["m1"]
    rate = str(RATE / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    pid = boss.docker("inspect -f {{.State.Pid}} eye").out
    spec = boss.docker.json("service inspect web")[0]["Endpoint"]["VirtualIPs"]  # type: ignore[index]
    on = boss.network("net")["Id"]
    vip = next(one["Addr"].partition("/")[0] for one in spec if one["NetworkID"] == on)
    nodes = [host.address for host in hosts.values()]
    inside = boss.machine.command(["nsenter", f"--net=/proc/{pid}/ns/net", *CROWD, rate, "80", vip])
    outside = ["nsenter", f"--net={hosts.outside.network}", *CROWD, rate, str(PORT), *nodes]
    with ExitStack() as undo:
        ways = {name: undo.enter_context(asked(words)) for name, words in (("VIP", inside), ("mesh", outside))}
        yield
    for name, (counts,) in ways.items():
        print(f"{name}: {counts.asked} requests, {counts.rate:.0f} a second, {counts.lost} lost")
    for name, (counts,) in ways.items():
        assert counts.lost == 0, f"{name}: {counts.lost} of {counts.asked} lost: {counts.first}"
        assert counts.asked > ENOUGH, f"{name}: only {counts.asked} were asked"


def test_an_update_one_after_the_other(town: Fleet) -> None:
    boss = town["m1"]
    before = {name for name, _ in boss.converged("web", 6)}
    with watched(town):
        boss("service update -d --force --update-parallelism 2 web")
        eventually(lambda: boss.docker("service inspect -f {{.UpdateStatus.State}} web").out == "completed", "", 120)
    assert len(before) == 6


def test_scaled_down_and_up(town: Fleet) -> None:
    boss = town["m1"]
    with watched(town):
        boss("service scale -d web=2")
        boss.converged("web", 2)
        boss("service scale -d web=6")
        boss.converged("web", 6)


def test_a_node_is_drained(town: Fleet) -> None:
    boss = town["m1"]
    with watched(town):
        boss("node update --availability drain w1")
        eventually(lambda: not town["w1"].tasks("web") and boss.replicas("web") == "6/6", "moved", 120)
    boss("node update --availability active w1")
    boss("service update -d --force --update-parallelism 3 web")
    eventually(lambda: town["w1"].tasks("web"), "spread again", 120)
    eventually(lambda: boss.docker("service inspect -f {{.UpdateStatus.State}} web").out == "completed", "", 120)


def test_every_engine_is_killed_and_comes_back(town: Fleet) -> None:
    boss = town["m1"]
    with watched(town):
        for host in town.values():
            host.engine.kill()
            host.engine.start()
            eventually(
                lambda: (
                    [status for status, _, _ in boss.nodes().values()] == ["Ready"] * 3 and boss.converged("web", 6)
                ),
                "all ready",
                60,
            )


def test_a_node_without_a_task_carries_requests_while_its_engine_is_away(town: Fleet) -> None:
    boss, way = town["m1"], town["w2"]
    boss("node update --availability drain w2")
    eventually(lambda: not way.tasks("web") and boss.replicas("web") == "6/6", "moved", 120)
    with watched(town):
        way.engine.kill()
        eventually(lambda: boss.nodes()["w2"][0] == "Down", "given up", 120)
        way.engine.start()
        eventually(lambda: boss.nodes()["w2"][0] == "Ready", "heard again", 60)
    boss("node update --availability active w2")
