"""Machines of a lab that found swarms, join and leave them, and who types docker on each.

anna, bert, carl    managers, or workers        dora    a worker

The machines stay from test to test, as they take long to make; the swarms do not.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from fairlead.lab.machine import Machine
from fairlead.lab.world import World
from lane.client import Docker
from lane.machine import Result, eventually

NAMES = ("anna", "bert", "carl", "dora")
MANAGERS = {"anna", "bert", "carl"}
LATER = 40.0
"""seconds that something may take on a machine that has other things to do"""


class Node:
    """One machine. ``node("swarm init")`` types docker there; ``tries`` may fail."""

    def __init__(self, world: World, machine: Machine, folder: Path) -> None:
        self.world, self.machine, self.name = world, machine, machine.name
        self.docker = Docker(f"unix://{machine.socket}", folder / machine.name)

    def __call__(self, command: str) -> str:
        return self.docker(command, timeout=LATER).out

    def tries(self, command: str) -> Result:
        return self.docker.attempt(command)

    def refuses(self, command: str) -> str:
        done = self.tries(command)
        assert done.code, done.out
        return str(done.err)

    @property
    def swarm(self) -> dict[str, Any]:
        """The Swarm part of ``info``."""
        return dict(json.loads(self.docker(["info", "--format", "{{json .Swarm}}"]).out))

    @property
    def state(self) -> str:
        return str(self.swarm["LocalNodeState"])

    @property
    def address(self) -> str:
        return str(self.machine.address4)

    @property
    def file(self) -> Path:
        return self.machine.folder / "data" / "swarm" / "node.json"

    def nodes(self) -> dict[str, tuple[str, str]]:
        """Hostname -> status, manager status; {} where nobody can say."""
        done = self.docker.attempt(["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"])
        rows = [(*line.split(), "")[:3] for line in done.out.splitlines()] if not done.code else []
        return {row[0]: (row[1], row[2]) for row in rows}

    def managers(self) -> set[str]:
        """Those that are reachable."""
        return {name for name, (_, role) in self.nodes().items() if role in ("Leader", "Reachable")}

    def token(self, role: str) -> str:
        return self(f"swarm join-token -q {role}").strip()

    def joins(self, first: Node, role: str = "worker") -> None:
        self(f"swarm join --token {first.token(role)} {first.address}:2377")

    def power_off(self) -> None:
        self.machine.down()

    def power_on(self) -> None:
        self.world.reboot(self.name)
        self.start()

    def start(self) -> None:
        self.world.start_engines([self.name])
        self.docker.env["DOCKER_HOST"] = f"unix://{self.machine.socket}"

    def kill_engine(self) -> None:
        self.machine.stop_daemon(signal.SIGKILL)


Nodes = dict[str, Node]


def all_leave(machines: Nodes) -> None:
    """Whatever became of them meanwhile."""
    for node in machines.values():
        if not node.machine.alive:
            node.power_on()
        elif not node.machine.answers:
            node.start()
        node.tries("swarm leave --force")


def three_manage(machines: Nodes) -> None:
    """anna, bert and carl manage, dora works."""
    anna, *others = machines.values()
    anna("swarm init")
    for node in others:
        node.joins(anna, "worker" if node.name == "dora" else "manager")
    settled(anna, MANAGERS)
    eventually(lambda: len(anna.nodes()) == len(machines), "all are there", LATER)


def settled(node: Node, managers: set[str]) -> None:
    """Wait until it says that these manage, and one of them leads."""

    def so() -> bool:
        roles = [role for _, role in node.nodes().values()]
        return node.managers() == managers and roles.count("Leader") == 1

    eventually(so, f"{node.name} says that {managers} manage", LATER)
