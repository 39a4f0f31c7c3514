"""A leader dies as soon as it leads, and its etcd, which leads the others, with it: another takes changes in time.

m1, m2, m3 manage       the leader's engine is killed --> another leads --> its etcd is made to lead --> no power
"""

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.lab.machine import Machine
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fleet.managers import Gone, call, founded, known_leader, leader, whole
from fleet.test_chaos_lab import FAILOVER, LATER
from lane.machine import eventually

ROUNDS = 4


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(one_cable("m1", "m2", "m3")) as made:
        made.start_engines(made.topology.hosts)
        founded(made.hosts)
        for machine in made.hosts:
            said = machine.run("cat", "/run/fairlead/swarm/etcd.log").stdout
            assert not re.findall(r"lookup \S+ on \S+", said), "it asks no name server who its members are"
        yield made


def etcd(machine: Machine, verb: str, **words: Any) -> dict[str, Any]:
    """What the member there answers; nothing while it cannot."""
    told = machine.run(
        *("curl", "-s", "--unix-socket", "/run/fairlead/swarm/etcd/client:0", f"http://etcd/v3/maintenance/{verb}"),
        *("-d", json.dumps(words)),
        check=False,
    ).stdout
    return dict(json.loads(told or "{}"))


def leads_etcd(machine: Machine, machines: list[Machine]) -> bool:
    """Whether it does now; asked to, if it does not."""
    told = {one.name: etcd(one, "status") for one in machines}
    wanted = told[machine.name].get("header", {}).get("member_id")
    for one in machines:
        now = told[one.name].get("leader")
        if now and now == told[one.name]["header"]["member_id"] != wanted:
            etcd(one, "transfer-leadership", targetID=wanted)
    return bool(wanted) and etcd(machine, "status").get("leader") == wanted


def done(machine: Machine, before: str, name: str) -> bool:
    """Whether it takes a change, and another leads than before."""
    try:
        taken = call(machine, "POST", "/configs/create", {"Name": name, "Data": "eA=="})[0] in (201, 409)
        return taken and known_leader(machine) not in ("", before)
    except Gone:
        return False


def test_a_leader_dies_as_soon_as_it_leads_and_etcd_s_with_it(world: World) -> None:
    for number in range(ROUNDS):
        dies_early(world, number)
    said = "".join(machine.log() for machine in world.hosts)
    assert "went when the managers' store lost its leader" in said, "its lease was not waited for"


def dies_early(world: World, number: int) -> None:
    machines = list(world.hosts)
    first = leader(machines)
    others = [machine for machine in machines if machine is not first]
    first.stop_daemon(signal.SIGKILL)  # its etcd goes on, and is one of the majority
    dead = leader(others)
    by = next(machine for machine in others if machine is not dead)
    eventually(lambda: leads_etcd(dead, machines), "it leads etcd, too")
    dead.down()
    try:
        eventually(lambda: done(by, dead.name, f"early{number}"), "another leads, and takes changes", FAILOVER)
    finally:
        first.start_daemon()
        world.reboot(dead.name)
        world.start_engines([dead.name])
        eventually(lambda: all(whole(machine) for machine in machines), "all three again", LATER)
