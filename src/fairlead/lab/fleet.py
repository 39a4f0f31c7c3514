"""Fleet: a lab whose hosts are one swarm from the start.

    3m3w     manager1 manager2 manager3 worker1 worker2 worker3: as the tutorials of swarm mode call them

Founded on the first, joined by the others, each with the command that people type.
"""

from __future__ import annotations

import re

from fairlead.errors import Invalid
from fairlead.lab.topology import Topology, one_cable
from fairlead.lab.world import World

_COUNTS = re.compile(r"([1-9]\d?)m(?:(\d\d?)w)?")
MANAGER = "manager"


def read(text: str) -> Topology:
    """So many managers and workers on one wire; ``Invalid`` when the text is not of the form 3m or 3m3w."""
    found = _COUNTS.fullmatch(text)
    if not found:
        raise Invalid(f"--swarm {text!r} makes no sense: 3m3w are three managers and three workers")
    managers, workers = int(found[1]), int(found[2] or 0)
    names = [f"{MANAGER}{number + 1}" for number in range(managers)]
    return one_cable(*names, *(f"worker{number + 1}" for number in range(workers)))


def found(world: World) -> None:
    """Make the hosts' engines, which answer, one swarm. ``Internal`` with the words of the step that failed."""
    first, *others = world.hosts
    first.run("fairlead", "swarm", "init", "--advertise-addr", first.address4)
    for host in others:
        role = MANAGER if host.name.startswith(MANAGER) else "worker"
        token = first.run("fairlead", "swarm", "join-token", "-q", role).stdout.strip()
        host.run("fairlead", "swarm", "join", "--token", token, f"{first.address4}:2377")
