"""The Docker Swarm Tutorial, as written: three managers, three workers, a leader who goes.

The steps stand in the tutorial's order; what it types through docker-machine is typed on the same host here.
"""

import re
from collections import Counter

from fleet.hosts import PROMPT, SLOW, Fleet
from lane.images import PAGE
from lane.machine import eventually
from scenarios.rows import rows

MANAGERS, WORKERS = ("manager1", "manager2", "manager3"), ("worker1", "worker2", "worker3")
HOSTS = (*MANAGERS, *WORKERS)
IMAGES, MORE = ("nginx",), PROMPT


@rows("S103", "S104", "S105", "S106")
def test_01_creating_the_nodes_and_the_swarm(hosts: Fleet) -> None:
    first = hosts["manager1"]
    first(f"swarm init --listen-addr {first.address} --advertise-addr {first.address}")
    tokens = {role: first(f"swarm join-token {role} -q") for role in ("manager", "worker")}
    for role, names, door in (("manager", MANAGERS[1:], first.address), ("worker", WORKERS, f"{first.address}:2377")):
        for host in (hosts[name] for name in names):
            words = f"--token {tokens[role]} --listen-addr {host.address} --advertise-addr {host.address} {door}"
            assert host(f"swarm join {words}") == f"This node joined a swarm as a {role}."
    expected = {
        "manager1": ("Ready", "Active", "Leader"),
        **dict.fromkeys(MANAGERS[1:], ("Ready", "Active", "Reachable")),
        **dict.fromkeys(WORKERS, ("Ready", "Active", "")),
    }
    eventually(lambda: first.nodes() == expected, "everybody is there", 30)


@rows("S121")
def test_02_a_service(hosts: Fleet) -> None:
    first = hosts["manager1"]
    first("service create -p 80:80 --name web nginx:latest")
    first.converged("web", 1)
    (line,) = [line for line in first("service ls").splitlines() if "web" in line]
    assert line.split()[1:] == ["web", "replicated", "1/1", "nginx:latest", "*:80->80/tcp"]
    told = first.docker.json("service inspect web")[0]  # type: ignore[index]
    assert told["Spec"]["EndpointSpec"]["Ports"][0]["PublishedPort"] == 80
    assert told["Endpoint"]["VirtualIPs"][0]["Addr"].startswith("10.0.0.")


@rows("S120")
def test_03_any_address_in_a_browser(hosts: Fleet, balances: None) -> None:
    assert hosts.everywhere(80) == dict.fromkeys(hosts, PAGE)


@rows("S125")
def test_04_scaled_to_fifteen(hosts: Fleet) -> None:
    first = hosts["manager1"]
    assert "web scaled to 15" in first("service scale web=15")
    placed = first.converged("web", 15)
    assert sorted(Counter(node for _, node in placed).values()) == [2, 2, 2, 3, 3, 3]
    assert {task for task, _ in placed} == {f"web.{number}" for number in range(1, 16)}


@rows("S126")
def test_05_a_drained_worker(hosts: Fleet) -> None:
    first = hosts["manager1"]
    had = {task for task, node in first.placed("web") if node == "worker1"}
    assert first("node update --availability drain worker1") == "worker1"
    eventually(lambda: "worker1" not in {node for _, node in first.placed("web")}, "drained", SLOW)
    placed = first.converged("web", 15)
    assert "worker1" not in {node for _, node in placed} and {task for task, _ in placed} >= had
    told = first("service ps web")
    for task in had:
        assert re.search(rf"^\S+\s+\\_ {re.escape(task)}\s.*worker1\s+Shutdown\s", told, re.M), told
    assert first.nodes()["worker1"] == ("Ready", "Drain", "")
    eventually(lambda: not hosts["worker1"].tasks("web"), "no task there", SLOW)


@rows("S127")
def test_06_scaled_down(hosts: Fleet) -> None:
    first = hosts["manager1"]
    assert "web scaled to 10" in first("service scale web=10")
    placed = first.converged("web", 10)
    assert max(Counter(node for _, node in placed).values()) == 2
    eventually(lambda: sum(len(host.tasks("web")) for host in hosts.values()) == 10, "the others have ended", SLOW)


@rows("S128")
def test_07_active_again(hosts: Fleet) -> None:
    first = hosts["manager1"]
    assert first("node update --availability active worker1") == "worker1"
    told = first("node inspect worker1 --pretty")
    for line in (
        r"^ID:\s+[0-9a-z]{25}$",
        r"^Hostname:\s+worker1$",
        r"^Joined at:\s+\d{4}-\d\d-\d\d .* utc$",
        r"^ State:\s+Ready$",
        r"^ Availability:\s+Active$",
        r"^ Operating System:\s+linux$",
        r"^ Architecture:\s+\S+$",
        r"^ CPUs:\s+\d+$",
        r"^ Memory:\s+[\d.]+\s?[GM]iB$",
        r"^ Network:\s+.*overlay",
        r"^ Volume:\s+local$",
        r"^Engine Version:\s+\S+$",
    ):
        assert re.search(line, told, re.M), f"{line}\n{told}"


@rows("S129")
def test_08_the_leader_leaves(hosts: Fleet) -> None:
    assert hosts["manager1"]("swarm leave --force") == "Node left the swarm."
    second = hosts["manager2"]

    def elected() -> bool:
        """A new leader, and the old one is down."""
        if second.docker.attempt("node ls", timeout=SLOW).code:
            return False
        now = second.nodes()
        roles = sorted(now[name][2] for name in MANAGERS[1:])
        return roles == ["Leader", "Reachable"] and now["manager1"] == ("Down", "Active", "Unreachable")

    eventually(elected, "a new leader", SLOW)
    # dockerd goes on counting the tasks of a manager that has left: what runs where says more
    eventually(lambda: len(second.placed("web")) == 10, "ten tasks", SLOW)
    assert "manager1" not in {node for _, node in second.placed("web")}
    eventually(lambda: not hosts["manager1"].tasks("web"), "nothing runs where nobody asked for it", SLOW)
    assert hosts["manager1"]("info --format {{.Swarm.LocalNodeState}}") == "inactive"


@rows("S130")
def test_09_the_service_is_removed(hosts: Fleet) -> None:
    second = hosts["manager2"]
    assert second("service rm web") == "web"
    assert "web" not in second("service ls --format {{.Name}}").split()
    eventually(lambda: not any(host.tasks("web") for host in hosts.values()), "all tasks have ended", SLOW)
