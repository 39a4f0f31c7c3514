"""What breaks under a swarm that serves, and that it mends: leader, worker, wire, every address at once.

m1, m2, m3 manage; w1, w2 work       web: 4 tasks on RED (VIP), port 8080 on every node       eye: asks, on the same RED

After each fault the same is judged (``Fleet.judged``): one leader, all nodes ready, as many tasks as wanted and no
container besides, no address twice, the VIP the same as ever, name, VIP and port answer everywhere they should.
"""

import re
import signal
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from cluster import looks
from cluster.town import Host
from fairlead.lab import weather
from fairlead.lab.topology import one_cable
from fairlead.lab.weather import Weather
from fairlead.lab.world import World
from fleet.hosts import PROMPT
from lane.images import PAGE, import_images
from lane.machine import eventually

MANAGERS, WORKERS = ("m1", "m2", "m3"), ("w1", "w2")
LATER = 60.0
"""seconds that something may take on a machine that has other things to do"""
BLIP = 4.0
"""seconds after which names are right: one, and what it takes to ask five nodes on a busy machine"""
FAILOVER = 5.0
"""seconds in which a new leader takes changes"""


class Fleet:
    """Five hosts and the service they run."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.hosts = {machine.name: Host(machine, folder) for machine in world.hosts}
        self.vip = ""

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def found(self) -> None:
        first, *others = self.hosts.values()
        first("swarm init")
        for host in others:
            role = "manager" if host.machine.name in MANAGERS else "worker"
            token = first(f"swarm join-token -q {role}")
            host(f"swarm join --token {token} {first.machine.address4}:2377")
        first("network create -d overlay --attachable RED")
        first("service create -q -d --name web --replicas 4 --network RED -p 8080:80 nginx")
        first("service create -q -d --name eye --network RED --mode global busybox sleep 1000000")
        self.judged()
        (virtual,) = [one["Addr"] for one in self.spec(first, "web")["VirtualIPs"] if one["Addr"].startswith("10.0.1.")]
        self.vip = virtual.partition("/")[0]

    @staticmethod
    def spec(host: Host, service: str) -> dict[str, Any]:
        return dict(host.docker.json(f"service inspect {service}")[0]["Endpoint"])  # type: ignore[index]

    def alive(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.machine.alive and host.machine.answers]

    def manager(self) -> Host:
        """One that answers for the swarm now."""
        able = [host for host in self.alive() if host.machine.name in MANAGERS]
        found = [host for host in able if host.docker.attempt("node ls").code == 0]
        assert found, "no manager answers"
        return found[0]

    def roles(self, by: Host) -> dict[str, tuple[str, str]]:
        """Hostname -> status, manager status; {} where nobody can say."""
        told = by.docker.attempt(["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"])
        rows = [(*line.split(), "")[:3] for line in told.lines] if not told.code else []
        return {row[0]: (row[1], row[2]) for row in rows}

    def leader(self, by: Host) -> str:
        return next((name for name, (_, role) in self.roles(by).items() if role == "Leader"), "")

    def wrong(self) -> list[str]:
        """What is not as it should be; nothing when all is well."""
        by = self.manager()
        roles = self.roles(by)
        away = sorted(name for name, (status, _) in roles.items() if status != "Ready")
        leaders = [name for name, (_, role) in roles.items() if role == "Leader"]
        wrong = [f"{away} are not ready"] if away else []
        wrong += [f"leaders: {leaders}"] if len(leaders) != 1 else []
        there, addresses = self.addresses(), list[str]()
        for service, wanted in (("web", 4), ("eye", len(self.hosts))):
            form = "{{.Name}}.{{.ID}} {{.CurrentState}}"
            listed = by.docker(
                ["service", "ps", "--no-trunc", "-f", "desired-state=running", "--format", form, service]
            )
            running = {line.split()[0] for line in listed.lines if " Running " in f"{line} "}
            here = {name for name in there if name.startswith(f"{service}.")}
            if len(running) != wanted:
                wrong.append(f"{service}: {len(running)} of {wanted} tasks run")
            if service == "web" and here != running:
                wrong.append(f"{service}: containers {sorted(here)}, tasks {sorted(running)}")
            addresses += [there[name] for name in here]
        if len(set(addresses)) != len(addresses) or self.vip in addresses:
            wrong.append(f"an address twice: {sorted(addresses)}, VIP {self.vip}")
        return wrong or self.unreached()

    def addresses(self) -> dict[str, str]:
        """What runs on RED, on all hosts, and at which address."""
        found = [one for host in self.alive() for one in looks.asked(host, "/containers/json")]
        return {
            one["Names"][0].strip("/"): one["NetworkSettings"]["Networks"].get("RED", {}).get("IPAddress", "")
            for one in found
        }

    def unreached(self) -> list[str]:
        wrong = []
        for host in self.alive():
            name = host.machine.name
            page = self.world.outside.run(
                "timeout", "2", "busybox", "wget", "-qO-", f"http://{host.machine.address4}:8080", check=False
            ).stdout
            if page != PAGE:
                wrong.append(f"{name}:8080 does not answer")
            eye = next((one for one in looks.running(host) if one.startswith("eye.")), "")
            own = f"http://{host.machine.address4}:8080"  # of its own node, whose tasks are on the same docker_gwbridge
            asked = host.inside(
                eye, f"nslookup web 127.0.0.11; for at in {'http://web ' * 6} {own}; do timeout 2 wget -qO- $at; done"
            )
            found = re.findall(r"10\.0\.1\.\d+", asked.out.partition("\n\n")[2])
            if self.vip and found != [self.vip]:
                wrong.append(f"on {name} web is {found}, not {self.vip}")
            if asked.out.count(PAGE.strip()) != 7:
                wrong.append(f"on {name} web answers {asked.out.count(PAGE.strip())} of 7 times, the last at {own}")
        return wrong

    def judged(self, within: float = LATER) -> None:
        last: list[str] = []

        def well() -> bool:
            try:
                last[:] = self.wrong()
            except (AssertionError, OSError, HTTPException) as refused:  # no leader now; an engine that begins
                last[:] = [str(refused)]
            return not last

        try:
            eventually(well, "all is well", within)
        except AssertionError:
            logs = "\n".join(line for host in self.hosts.values() for line in host.machine.log().splitlines()[-8:])
            raise AssertionError("\n".join([*last, logs])) from None

    def on(self, *names: str) -> None:
        """Machines that were off have power again."""
        for name in names:
            self.world.reboot(name)
        self.world.start_engines(names)
        for name in names:
            self[name].follow()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("lab")
    with World(one_cable(*MANAGERS, *WORKERS), str(folder)) as world:
        world.start_engines(world.topology.hosts)
        fleet = Fleet(world, folder)
        for host in fleet.hosts.values():
            import_images(host.docker, folder, ("busybox", "nginx"), PROMPT)
        fleet.found()
        yield fleet


@pytest.fixture
def fleet(standing: Fleet) -> Iterator[Fleet]:
    yield standing
    weather.change(standing.world, Weather())


def test_a_leader_loses_power_and_another_goes_on(fleet: Fleet) -> None:
    by = fleet.manager()
    leader = fleet.leader(by)
    fleet[leader].machine.down()
    by = next(host for name, host in fleet.hosts.items() if name in MANAGERS and name != leader)
    eventually(lambda: fleet.leader(by) not in ("", leader), "a new leader", 4 * FAILOVER)
    eventually(
        lambda: not by.docker.attempt("service update -q -d --label-add after=it web").code, "a change", FAILOVER
    )
    eventually(lambda: fleet.roles(by).get(leader) == ("Down", "Unreachable"), "the old one is missed", LATER)
    fleet.on(leader)
    fleet.judged()


def test_a_worker_loses_power_and_its_tasks_start_elsewhere(fleet: Fleet) -> None:
    by = fleet.manager()
    fleet["w1"].machine.down()
    eventually(lambda: fleet.roles(by).get("w1", ("",))[0] == "Down", "it is missed", LATER)

    def elsewhere() -> bool:
        form = ["service", "ps", "-f", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}", "web"]
        lines = by.docker(form).lines
        return len(lines) == 4 and all(" Running" in line and not line.startswith("w1 ") for line in lines)

    eventually(elsewhere, "four tasks without it", LATER)
    fleet.on("w1")
    fleet.judged()


def test_engines_are_killed_and_their_tasks_do_not_notice(fleet: Fleet) -> None:
    before = {name: host("ps -q --no-trunc").split() for name, host in fleet.hosts.items()}
    for host in fleet.hosts.values():
        host.machine.stop_daemon(signal.SIGKILL)
    page = ["timeout", "2", "busybox", "wget", "-qO-", f"http://{fleet['w2'].machine.address4}:8080"]
    assert fleet.world.outside.run(*page, check=False).stdout == PAGE
    fleet.world.start_engines(fleet.hosts)
    fleet.judged()
    assert {name: sorted(host("ps -q --no-trunc").split()) for name, host in fleet.hosts.items()} == {
        name: sorted(ids) for name, ids in before.items()
    }


@pytest.mark.parametrize("alone", ["w2", "leader"])
def test_a_node_is_cut_off_and_heard_again(fleet: Fleet, alone: str) -> None:
    by = fleet.manager()
    cut = fleet.leader(by) if alone == "leader" else alone
    rest = ",".join(name for name in fleet.hosts if name != cut)
    weather.change(fleet.world, Weather().parted(cut, rest))
    by = next(host for name, host in fleet.hosts.items() if name in MANAGERS and name != cut)
    eventually(lambda: fleet.roles(by).get(cut, ("",))[0] == "Down", "it is missed", LATER)
    eventually(lambda: fleet.leader(by) not in ("", cut), "somebody else leads", LATER)
    weather.change(fleet.world, Weather())
    fleet.judged()


def test_names_are_right_as_soon_as_a_blip_is_over(fleet: Fleet) -> None:
    """Of a node that was given up meanwhile: its own tasks are replaced, and nobody goes on naming them."""
    cut = next(name for name in WORKERS if any(one.startswith("web.") for one in looks.running(fleet[name])))
    rest = [host for name, host in fleet.hosts.items() if name != cut]
    weather.change(fleet.world, Weather().parted(cut, ",".join(name for name in fleet.hosts if name != cut)))

    def elsewhere() -> set[str]:
        form = "{{.Name}}.{{.ID}} {{.Node}} {{.CurrentState}}"
        asked = ["service", "ps", "--no-trunc", "-f", "desired-state=running", "--format", form, "web"]
        lines = [line.split() for line in fleet.manager().docker(asked).lines]
        return {name for name, node, state, *_ in lines if node != cut and state == "Running"}

    eventually(lambda: len(elsewhere()) == 4, "four tasks without it", LATER)
    told = {address for name, address in fleet.addresses().items() if name in elsewhere()}

    def named(host: Host) -> set[str]:
        eye = next(one for one in looks.running(host) if one.startswith("eye."))
        answer = host.inside(eye, "nslookup tasks.web 127.0.0.11").out.partition("\n\n")[2]
        return set(re.findall(r"10\.0\.1\.\d+", answer))

    eventually(lambda: all(named(host) == told for host in rest), "the rest name them", LATER)
    weather.change(fleet.world, Weather())
    eventually(lambda: all(named(host) == told for host in fleet.hosts.values()), "so does everybody", BLIP)
    fleet.judged()


def test_a_drained_node_serves_on_until_others_do(fleet: Fleet) -> None:
    by = fleet.manager()
    by("node update --availability drain w1")
    eventually(
        lambda: not [one for one in fleet["w1"]("ps --format {{.Names}}").split() if "web." in one], "drained", LATER
    )
    by("node update --availability active w1")
    fleet.judged()
