"""Real nodes join, take a task, leave and are removed, again and again; the manager has no more than before.

(Ten thousand of them, in time that jumps: ``tests/swarm/test_joins.py``.)
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fleet.members import LATER, Node
from lane.machine import eventually

NAMES = ("anna", "bert", "carl")
ROUNDS, FIRST = 12, 2
"""``FIRST``: after so many, what is needed once is there"""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    with World(one_cable(*NAMES), str(tmp_path)) as world:
        world.start_engines(NAMES)
        yield [Node(world, world[name], tmp_path) for name in NAMES]


def weight(node: Node) -> tuple[int, int]:
    """Kilobytes, and open files, of its engine."""
    script = "p=$(cat /run/fairlead.pid); grep VmRSS /proc/$p/status | tr -dc 0-9; echo; ls /proc/$p/fd | wc -l"
    size, files = node.machine.run("sh", "-c", script).stdout.split()
    return int(size), int(files)


def test_a_manager_has_no_more_than_before(nodes: list[Node]) -> None:
    anna, *others = nodes
    anna("swarm init")
    anna("network create -d overlay --attachable red")
    anna("service create -q -d --name web --mode global --network red nothing:latest")
    sizes: list[tuple[int, int]] = []
    for number in range(ROUNDS):
        ids = []
        for node in others:
            node.joins(anna)
            ids.append(node.swarm["NodeID"])
        eventually(lambda: [state for state, _ in anna.nodes().values()] == ["Ready"] * 3, "all ready", LATER)
        for node in others:
            node("swarm leave")
        anna(f"node rm --force {' '.join(ids)}")
        assert set(anna.nodes()) == {"anna"}
        assert all(node.state == "inactive" and not node.file.exists() for node in others)
        if number >= FIRST:
            sizes.append(weight(anna))
    tasks = lambda: set(anna("service ps --no-trunc --format {{.Node}} web").split())  # noqa: E731
    eventually(lambda: tasks() <= {"anna"}, "that nobody has tasks of nodes that are gone", LATER)
    print(f"{2 * ROUNDS} joined and left; kilobytes and files of the manager: {sizes[0]} to {sizes[-1]}")
    assert sizes[-1][0] - sizes[0][0] < 6000, sizes
    assert sizes[-1][1] - sizes[0][1] <= 4, sizes
