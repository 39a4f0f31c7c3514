"""Who gets in at which port of a manager: certificates that are foreign, over, of another role, taken back.

anna, bert manage; carl managed, and somebody has a copy of his keys; dora works      mallory stands on the wire
"""

import datetime
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.swarm import ca
from fleet.members import LATER, Node, settled
from lane import knocking
from lane.machine import eventually

NAMES = ("anna", "bert", "carl", "dora", "mallory")
NOW = datetime.datetime.now(datetime.UTC)
A_WORKER_S = "this takes a manager, and the certificate is a worker's"
NOT_OURS = "does not accept the certificate of this node"


class Town:
    """The swarm, with a root whose key is ours."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder = folder
        self.nodes = {name: Node(world, world[name], folder) for name in NAMES}
        self.root = ca.Authority.found(NOW)
        for name, content in (("ca.crt", self.root.certificate), ("ca.key", self.root.key)):
            (folder / name).write_bytes(content)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def found(self) -> None:
        anna = self["anna"]
        anna("swarm init")
        anna(f"swarm ca --rotate --quiet --ca-cert {self.folder}/ca.crt --ca-key {self.folder}/ca.key")
        for name, role in (("bert", "manager"), ("carl", "manager"), ("dora", "worker")):
            self[name].joins(anna, role)
        settled(anna, {"anna", "bert", "carl"})

    def notes(self, name: str) -> dict[str, Any]:
        """A copy of what is on a node's disk."""
        return dict(json.loads(self[name].file.read_text()))

    def forged(self, of: str, role: str, root: ca.Authority, at: datetime.datetime = NOW) -> dict[str, Any]:
        """A certificate in the name of a node."""
        notes = self.notes(of)
        node, _, cluster = ca.identity(notes["certificate"].encode())
        key, request = ca.new_request()
        certificate = root.issue(request, ca.Identity(node, role, cluster), at)
        return notes | {"certificate": certificate.decode(), "key": key.decode()}

    def knocks(self, notes: dict[str, Any], at: str) -> dict[str, str]:
        """What becomes of somebody with these credentials at a manager's ports."""
        file = self.folder / "stolen.json"
        file.write_text(json.dumps(notes))
        words = [sys.executable, knocking.__file__, str(file), self[at].address]
        return dict(json.loads(self["mallory"].machine.run(*words).stdout))

    def holds(self, notes: dict[str, Any], at: str) -> Callable[[], list[str]]:
        """Somebody with these credentials is connected to a manager's store, and stays; what becomes of it."""
        file, mallory = self.folder / f"held-at-{at}.json", self["mallory"].machine
        file.write_text(json.dumps(notes))
        mallory.start(sys.executable, knocking.__file__, str(file), self[at].address, "hold", log=f"held-at-{at}")
        eventually(lambda: "held" in mallory.log(f"held-at-{at}"), f"connected to {at}", LATER)
        return lambda: mallory.log(f"held-at-{at}").split()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("lab")
    with World(one_cable(*NAMES), str(folder)) as world:
        world.start_engines(NAMES[:-1])
        made = Town(world, folder)
        made.found()
        yield made


@pytest.mark.parametrize("flaw", ["foreign", "expired"])
def test_what_is_not_of_this_swarm_or_over_opens_nothing(town: Town, flaw: str) -> None:
    root = ca.Authority.found(NOW) if flaw == "foreign" else town.root
    at = NOW - ca.NODE_LIFE - ca.BACKDATED if flaw == "expired" else NOW
    told = town.knocks(town.forged("bert", "manager", root, at), "anna")
    assert NOT_OURS in told["session"] and NOT_OURS in told["manager"]
    assert told["members"] != "in"
    assert town.knocks(town.notes("bert"), "anna")["members"] == "in", "bert's own"


def test_a_worker_s_opens_a_session_and_no_more(town: Town) -> None:
    told = town.knocks(town.notes("dora"), "anna")
    assert told["session"] == "in"
    assert told["manager"] == A_WORKER_S
    assert told["members"] != "in"


def test_a_manager_s_in_the_name_of_nobody_or_of_a_worker(town: Town) -> None:
    """Whoever had the root's key once could make them."""
    told = town.knocks(town.forged("dora", "manager", town.root), "anna")
    assert told["manager"] == "this node is not to be a manager"
    notes = town.forged("dora", "manager", town.root)
    identity = ca.identity(notes["certificate"].encode())
    key, request = ca.new_request()
    nobody = town.root.issue(request, identity._replace(node="n" * 25), NOW)
    told = town.knocks(notes | {"certificate": nobody.decode(), "key": key.decode()}, "anna")
    assert told["session"] == told["manager"] == f"node {'n' * 25} is not part of this swarm"


def test_what_a_manager_had_is_worth_nothing_when_it_is_none_and_less_when_it_is_removed(town: Town) -> None:
    anna, carl = town["anna"], town["carl"]
    stolen, id = town.notes("carl"), carl.swarm["NodeID"]
    assert {town.knocks(stolen, at)["members"] for at in ("anna", "bert")} == {"in"}
    held = [town.holds(stolen, at) for at in ("anna", "bert")]
    assert [one() for one in held] == [["held"], ["held"]]
    eventually(lambda: anna.tries(f"node demote {id}").code == 0, "all can be reached again", LATER)
    eventually(lambda: town.notes("carl")["certificate"] != stolen["certificate"], "another certificate", LATER)
    for at in ("anna", "bert"):
        eventually(lambda at=at: town.knocks(stolen, at)["members"] != "in", f"revoked at {at}", LATER)
        told = town.knocks(stolen, at)
        assert told["manager"] == "this node is not to be a manager"
    eventually(lambda: [one()[-1] for one in held] == ["cut", "cut"], "what was open is so no more", LATER)
    anna(f"node rm --force {id}")
    for notes in (stolen, town.notes("carl")):
        for at in ("bert", "anna"):  # at once, at every manager
            told = town.knocks(notes, at)
            assert told["session"] == f"node {id} is not part of this swarm"
            assert told["manager"] == (told["session"] if notes is stolen else A_WORKER_S)
            assert told["members"] != "in"
    anna.kill_engine()
    anna.machine.run("pkill", "-9", "-x", "etcd", check=False)
    anna.start()
    settled(anna, {"anna", "bert"})
    assert town.knocks(stolen, "anna")["members"] != "in", "it is remembered"


def test_nothing_else_listens(town: Town) -> None:
    """No port of etcd's for clients, and no port of the engine's."""
    for name, ports in (("anna", {2377, 2378, 7946}), ("dora", {7946})):
        lines = town[name].machine.run("ss", "-Hltn").stdout.splitlines()
        assert {int(line.split()[3].rpartition(":")[2]) for line in lines} <= ports, lines
