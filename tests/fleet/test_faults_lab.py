"""What managers survive while people write and ask: a full disk, another root, every shape of a partition, a member
that lost its data, a clock that jumps. After each, what ``test_chaos_lab`` judges; every answer was one that a single
correct store would have given (``lane.history``).

m1, m2, m3 manage; w1 works       m2: its data is on a small disk       m3: its engine's clock is ours to set
"""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.lab import weather
from fairlead.lab.machine import Machine
from fairlead.lab.topology import UNDERLAY, one_cable
from fairlead.lab.weather import Weather
from fairlead.lab.world import World
from fleet import test_history_lab as history
from fleet.askers import ASKING, asked
from fleet.managers import Gone, call
from fleet.test_chaos_lab import FAILOVER, LATER, MANAGERS, Fleet
from lane.history import OK, WRITE, Operation, unexplained
from lane.images import import_images
from lane.machine import eventually

DISK = 300
"""megabytes of m2's"""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead"
FAKETIME = next(CACHE.glob("faketime/usr/lib/*/faketime/libfaketimeMT.so.1"), None)
DAY = 24 * 3600
RATE = 40
"""requests per second while the root is exchanged"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("lab")
    with World(one_cable(*MANAGERS, "w1"), str(folder)) as world:
        disk = world["m2"].folder / "data"
        world["m2"].run("mkdir", "-p", str(disk))
        world["m2"].run("mount", "-t", "tmpfs", "-o", f"size={DISK}m", "disk", str(disk))
        world.start_engines(("m1", "m2", "w1"))
        world["m3"].start_daemon(env=clock_of_its_own(world.folder))
        made = Fleet(world, folder)
        for host in made.hosts.values():
            import_images(host.docker, folder, ("busybox", "nginx"))
        made.found()
        yield made


@pytest.fixture(autouse=True)
def cleared(fleet: Fleet) -> Iterator[None]:
    yield
    weather.change(fleet.world, Weather())
    fleet.world.type_in(UNDERLAY, ["nft", "-f", "-"], "table bridge oneway\ndelete table bridge oneway\n")


def clock_of_its_own(folder: Path, ahead: int = 0) -> dict[str, str]:
    """What makes the time of day, and nothing else, what ``sets`` says. (etcd asks the kernel itself: it has the
    machine's.)"""
    (folder / "clock").write_text(f"{ahead:+d}")
    if FAKETIME is None:
        return {}
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def sets(fleet: Fleet, seconds: int) -> None:
    """m3's clock, so far ahead of the others'."""
    (fleet.world.folder / "clock").write_text(f"{seconds:+d}")


@contextmanager
def load(fleet: Fleet, *names: str) -> Iterator[list[Operation]]:
    """While the block lasts, people write at these managers; then every answer was right, and is remembered by all."""
    eventually(lambda: all(manages(fleet[name].machine) for name in MANAGERS), "three managers", LATER)
    machines = [fleet[name].machine for name in names or MANAGERS]
    try:
        with history.writing(machines) as operations:
            yield operations
        told_alike(fleet, operations)
    finally:
        eventually(lambda: forgotten(fleet), "begin with nothing", LATER)


def manages(machine: Machine) -> bool:
    """Whether it serves, and sees three managers, one of them leading."""
    try:
        status, nodes = call(machine, "GET", "/nodes")
    except Gone:
        return False
    told = [node["ManagerStatus"] for node in nodes if node.get("ManagerStatus")] if status == 200 else []
    reachable = [one for one in told if one["Reachability"] == "reachable"]
    return len(reachable) == 3 and sum(bool(one.get("Leader")) for one in told) == 1


def forgotten(fleet: Fleet) -> bool:
    """Whether nothing is left of what people wrote."""
    try:
        return all(call(fleet.manager().machine, "DELETE", f"/configs/{key}")[0] in (204, 404) for key in history.KEYS)
    except (Gone, StopIteration):
        return False


def told_alike(fleet: Fleet, operations: list[Operation]) -> None:
    assert unexplained(operations) == []
    managers = [fleet[name].machine for name in MANAGERS]
    told: list[Any] = []

    def same() -> bool:
        try:
            told[:] = [[call(one, "GET", f"/configs/{key}") for key in history.KEYS] for one in managers]
        except Gone:
            return False
        return all(status == 200 for one in told for status, _ in one) and all(one == told[0] for one in told)

    eventually(same, "all managers say the same", LATER)
    done = [one for one in operations if one.outcome == OK]
    assert sum(one.kind == WRITE for one in done) > len(history.KEYS), "nobody wrote"
    print(f"{len(done)} answers, {sum(one.kind == WRITE for one in done)} of them writes")


def serves_writes(fleet: Fleet, by: str) -> float:
    """Seconds until a manager takes a change."""
    began = time.monotonic()
    words = "service update -q -d --label-add after=it web"
    eventually(lambda: not fleet[by].docker.attempt(words).code, f"{by} takes changes", 4 * FAILOVER)
    took = time.monotonic() - began
    print(f"{by} took a change after {took:.1f} s")
    return took


def deaf(fleet: Fleet, ear: str, to: str) -> None:
    """One hears nothing of the other, which hears it."""
    ports = fleet.world.topology.ports
    (heard,), (hearer,) = ports(to).values(), ports(ear).values()
    rule = f'type filter hook forward priority 0\nmeta iifname "{heard}" meta oifname "{hearer}" drop\n'
    fleet.world.type_in(UNDERLAY, ["nft", "-f", "-"], f"table bridge oneway {{\nchain forward {{\n{rule}}}\n}}\n")


def others(but: str) -> list[str]:
    return [name for name in MANAGERS if name != but]


@pytest.mark.parametrize("shape", ["leader alone", "a minority", "leader cut from one", "leader hears one no more"])
def test_a_partition_while_people_write(fleet: Fleet, shape: str) -> None:
    leader = fleet.leader(fleet.manager())
    follower, third = others(leader)
    with load(fleet):
        if shape == "leader alone":
            weather.change(fleet.world, Weather().parted(leader, f"{follower},{third},w1"))
        elif shape == "a minority":
            weather.change(fleet.world, Weather().parted(f"{follower},w1", f"{leader},{third}"))
        elif shape == "leader cut from one":
            weather.change(fleet.world, Weather().parted(leader, follower))
        else:
            deaf(fleet, leader, follower)
        serves_writes(fleet, third)
        time.sleep(8)
        weather.change(fleet.world, Weather())
        fleet.world.type_in(UNDERLAY, ["nft", "-f", "-"], "table bridge oneway\ndelete table bridge oneway\n")
        serves_writes(fleet, leader)
    fleet.judged()


def test_another_root_while_people_write_and_ask(fleet: Fleet) -> None:
    by = fleet.manager()
    old = by("swarm ca")
    addresses = [str(host.machine.address4) for host in fleet.hosts.values()]
    words = [*ASKING, str(RATE), "8080", *addresses]
    with load(fleet), asked(fleet.world.outside.enter(*words)) as counts:
        by("swarm ca --rotate --detach --quiet")

        def forgotten() -> bool:
            status, swarm = call(by.machine, "GET", "/swarm")
            return status == 200 and not swarm["RootRotationInProgress"] and swarm["TLSInfo"]["TrustRoot"] != old

        eventually(forgotten, "the old root is forgotten", 2 * LATER)
    (told,) = counts
    print(f"{told.asked} requests, {told.rate:.0f} a second, {told.lost} lost")
    assert told.lost == 0, told.first
    fleet.judged()


class Bystander(threading.Thread):
    """Types what people type, at one manager after the other, and remembers what was not answered."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet, self.over = fleet, threading.Event()
        self.typed, self.slowest = 0, 0.0
        self.trouble: list[str] = []

    def run(self) -> None:
        for turn in itertools.count():
            if self.over.is_set():
                return
            name = MANAGERS[turn % len(MANAGERS)]
            for host, command in self._round(name, turn):
                began = time.monotonic()
                done = self._fleet[host].docker.attempt(command)
                took = time.monotonic() - began
                self.typed, self.slowest = self.typed + 1, max(self.slowest, took)
                if done.code:
                    self.trouble.append(f"{host}: docker {command}: {took:.1f} s: {done.err.strip()}")

    def _round(self, name: str, turn: int) -> Iterator[tuple[str, str]]:
        yield from ((name, command) for command in ("node ls", "service ls", "service ps web"))
        yield name, f"config create by{turn} /etc/hostname"
        yield name, f"service update -q -d --label-add turn={turn} web"
        yield name, f"node update --label-add turn={turn} w1"
        yield name, f"network create -d overlay net{turn}"
        yield "w1", "run --rm --network RED busybox true"
        yield MANAGERS[(turn + 1) % len(MANAGERS)], f"network rm net{turn}"
        yield MANAGERS[(turn + 2) % len(MANAGERS)], f"config rm by{turn}"


def test_three_roots_in_a_row_and_everything_is_answered(fleet: Fleet) -> None:
    """Nobody waits for more than the command itself does; no request is lost, and no command meanwhile fails."""
    by = fleet["m1"]
    roots = [by("swarm ca")]
    addresses = [str(host.machine.address4) for host in fleet.hosts.values()]
    bystander = Bystander(fleet)
    with asked(fleet.world.outside.enter(*ASKING, str(RATE), "8080", *addresses)) as counts:
        bystander.start()
        try:
            for host in (by, fleet["m2"], by):
                done = host.docker.attempt("swarm ca --rotate --quiet", timeout=3 * LATER)
                assert not done.code, done.err
                roots.append(host("swarm ca"))
        finally:
            bystander.over.set()
            bystander.join()
    (told,) = counts
    print(f"{bystander.typed} commands, the slowest took {bystander.slowest:.1f} s; {told.asked} requests")
    assert len(set(roots)) == 4
    assert not bystander.trouble, "\n".join(bystander.trouble)
    assert told.lost == 0, told.first
    fleet.judged()


def test_a_disk_is_full_on_one_manager(fleet: Fleet) -> None:
    machine, first = fleet["m2"].machine, fleet["m1"]
    ballast = machine.folder / "data" / "ballast"
    with load(fleet):
        try:
            machine.run("dd", "if=/dev/zero", f"of={ballast}", "bs=64k", check=False)
            assert machine.run("stat", "-f", "-c", "%a", str(ballast.parent)).stdout.strip() == "0"
            for name in ("m1", "m3"):
                serves_writes(fleet, name)
            first("service scale -d web=8")
            eventually(lambda: len(running(fleet, "web")) == 8, "eight tasks", LATER)
        finally:
            machine.run("rm", str(ballast))
            first("service scale -d web=4")
        eventually(lambda: manages(machine), "m2 manages again", LATER)
        serves_writes(fleet, "m2")
    fleet.judged()


def running(fleet: Fleet, service: str) -> list[str]:
    words = ["service", "ps", "-f", "desired-state=running", "--format", "{{.CurrentState}}", service]
    return [line for line in fleet.manager().docker(words).lines if line.startswith("Running")]


def test_a_manager_lost_its_members_data(fleet: Fleet) -> None:
    """Its disk was replaced, or restored without it: it is who it was, and begins with what the others have."""
    gone = others(fleet.leader(fleet.manager()))[0]
    machine = fleet[gone].machine
    with load(fleet):
        stop(machine)
        shutil.rmtree(machine.folder / "data" / "swarm" / "etcd", ignore_errors=True)
        machine.run("rm", "-rf", str(machine.folder / "data" / "swarm" / "etcd"))
        serves_writes(fleet, others(gone)[0])
        machine.start_daemon(env=clock_of_its_own(fleet.world.folder) if gone == "m3" else {})
        eventually(lambda: manages(machine), f"{gone} manages again", LATER)
        serves_writes(fleet, gone)
    fleet.judged()
    assert not machine.run("ls", "-A", str(machine.folder / "data" / "swarm" / "etcd"), check=False).returncode


def stop(machine: Machine) -> None:
    """Its engine and its etcd; containers go on."""
    machine.stop_daemon()
    script = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != etcd ] || kill -9 ${p#/proc/}; done; true'
    machine.run("sh", "-c", script)


@pytest.mark.parametrize(
    "jump", [100 * DAY, -400 * DAY, -300], ids=["beyond the certificates", "before they were", "five minutes back"]
)
def test_a_manager_s_clock_jumps(fleet: Fleet, jump: int) -> None:
    if FAKETIME is None:
        pytest.skip("scripts/setup --stores brings libfaketime")
    with load(fleet, "m1", "m2"):
        try:
            sets(fleet, jump)
            serves_writes(fleet, "m1")
            fleet["m3"].machine.stop_daemon()
            fleet["m3"].machine.start_daemon(env=clock_of_its_own(fleet.world.folder, jump))
            fleet["m1"]("service scale -d web=6")
            eventually(lambda: len(running(fleet, "web")) == 6, "six tasks", LATER)
            fleet["m1"]("service scale -d web=4")
            time.sleep(15)
        finally:
            sets(fleet, 0)
        eventually(lambda: manages(fleet["m3"].machine), "m3 manages again", LATER)
        serves_writes(fleet, "m3")
    fleet.judged()
