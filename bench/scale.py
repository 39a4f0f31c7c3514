"""A swarm too large to be had here: what a leader decides and what nodes are told, with nobody on the other end.

    Orchestrator (reconcile, allocation, placement) --steps--> Swarm: versions, as the store gives them
          ^                                                      |
          '----------------- hears what was written -------------+--> Boards (dispatch) --take--> every node

The parts are the swarm's own, driven as a leader drives them: what it wrote it hears again, with a version, and turns
follow until there is nothing to write. A node has ``EACH`` tasks and a service ``CREW``; all are on one overlay, with a
virtual address and a published port. Left out: the store, encryption, the wire. (``swarm`` measures those with them.)
Times are the processor's. A large heap fits no cache, which is to be seen; more growth with the swarm is not to be.

place       from services alone until every task has its addresses and its node
successor   another leader hears all there is, and finds nothing to do
dispatch    every node comes, and is handed all that it is to have
running     node by node tells that its tasks run; the leader looks after each
lost        a node goes away: its tasks get their successors elsewhere, and those nodes are told. For each such task
death       a task fails: its follower, when the delay of the restart policy is over, comes to its node
memory      what a manager keeps: the tasks themselves, and what leader and dispatcher remember of them
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec.structs import replace

from bench.api import Job
from bench.paths import Child
from bench.table import OURS
from fairlead.core.assignment import Boards
from fairlead.core.cluster import Description, Node, Service, State, Task, TaskStatus
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.orchestrator import Orchestrator, Step
from fairlead.core.service import (
    SECOND,
    ContainerSpec,
    EndpointSpec,
    Mode,
    NetworkAttachment,
    Replicated,
    Resources,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.swarmspec import SharedNetwork
from fairlead.daemon import GARBAGE

SIZES = (50, 500, 5_000)
"""nodes"""
QUICK = (50, 500)
ROUNDS = 3
EACH = 20
CREW = 50
LOST, DEATHS = 5, 50
"""nodes and tasks of a round that fall, one after the other"""
KINDS = {Node: "nodes", SharedNetwork: "networks", Service: "services", Task: "tasks"}
DECODERS = {kind: msgspec.json.Decoder(thing) for thing, kind in KINDS.items()}
PAGE = resource.getpagesize()
FIGURES = {
    "place": "services of {} placed: for each task",
    "successor": "a leader follows, {}: for each task",
    "dispatch": "nodes come, {}: for each task",
    "running": "tasks told to run, {}: for each",
    "lost": "a node lost of {}: for each task it had",
    "death": "one task falls of {}",
    "memory": "memory for each task of {}",
}


def row(figure: str, nodes: int) -> str:
    return FIGURES[figure].format(f"{nodes * EACH:,} tasks on {nodes:,} nodes")


class Swarm:
    """What is written, and who hears of it."""

    def __init__(self, nodes: int, crew: int = CREW) -> None:
        self.now = 1_000_000 * SECOND
        self.versions, ids = count(1), count(1)
        self.leader = Orchestrator(lambda: f"{next(ids):025}")
        self.kept: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS.values()}
        self.boards = Boards(lambda kind, id: self.kept[kind].get(id))
        self.told: set[str] = set()
        """nodes for which there is news"""
        self.things = [*_networks(), *_nodes(nodes), *_services(nodes * EACH // crew, crew)]

    def write(self, steps: Iterable[Step]) -> None:
        """As a store would; the leader hears of it, and the dispatcher."""
        for before, after in steps:
            thing: Any = before if after is None else after
            kind = KINDS[type(thing)]
            shelf = self.kept[kind]
            old = shelf.pop(thing.id, None)
            if after is not None:
                shelf[thing.id] = after = replace(after, version=next(self.versions))
            self.leader.hear(old, after)
            self.told.update(self.boards.hear(kind, old, after))

    def put(self, *things: Any) -> None:
        self.write(Step(None, thing) for thing in things)

    def drop(self, *things: Any) -> None:
        self.write(Step(thing, None) for thing in things)

    def settle(self) -> None:
        while steps := self.leader.turn(self.now):
            self.write(steps)

    def take(self) -> int:
        """Every node with news gets it; how many tasks were named."""
        told, self.told = self.told, set()
        given = [self.boards.take(node) for node in sorted(told)]
        return sum(len(assign.tasks) for assign in given if assign)


def _networks() -> Iterator[SharedNetwork]:
    for id, subnet, ingress in (("ingress", "10.0.0.0/10", True), ("net", "10.64.0.0/10", False)):
        gateway = subnet.replace(".0/10", ".1")
        pools = (Subnet(subnet, gateway=gateway),)
        yield SharedNetwork(id, Network(id, id, "", ipam=Ipam(config=pools), ingress=ingress))


def _nodes(number: int) -> Iterator[Node]:
    has = Resources(cpus=64 * 10**9, memory_bytes=1 << 38)
    for one in range(number):
        name = f"node{one:021}"
        yield Node(name, description=Description(hostname=name, resources=has), state="ready", address="10.1.0.1")


def _services(number: int, crew: int) -> Iterator[Service]:
    for one in range(number):
        container = ContainerSpec(image="busybox:latest", args=("sleep", "100000"), env=(f"NUMBER={one}",))
        template = TaskSpec(container_spec=container, networks=(NetworkAttachment("net"),))
        spec = ServiceSpec(
            name=f"service{one}",
            task_template=template,
            mode=Mode(replicated=Replicated(crew)),
            endpoint_spec=EndpointSpec(ports=(ServicePort(target_port=80),)),
        )
        yield Service(f"service{one:018}", spec)


# -- what is measured ------------------------------------------------------------------------------------------------


def round_of(nodes: int, crew: int = CREW) -> dict[str, float]:
    """Microseconds of processor time for each figure but memory."""
    swarm, tasks = Swarm(nodes, crew), nodes * EACH
    took = {"place": _place(swarm) / tasks}
    assert all(len(seat.tasks) == EACH for seat in swarm.leader.roster.seats.values()), "they are not spread evenly"
    parts = (
        ("successor", _successor, tasks),
        ("dispatch", _dispatch, tasks),
        ("running", _running, tasks),
        ("lost", lambda swarm: _lost(swarm, LOST), LOST),
        ("death", lambda swarm: _death(swarm, DEATHS), DEATHS),
    )
    for figure, part, number in parts:
        gc.collect()  # what others left is not looked through at this one's expense
        took[figure] = part(swarm) / number
    return took


def _since(begun: float) -> float:
    return (time.process_time() - begun) * 1e6


def _place(swarm: Swarm) -> float:
    begun = time.process_time()
    swarm.put(*swarm.things)
    swarm.settle()
    return _since(begun)


def _successor(swarm: Swarm) -> float:
    begun = time.process_time()
    leader = Orchestrator(str)
    for kind in KINDS.values():
        for thing in swarm.kept[kind].values():
            leader.hear(None, thing)
    steps = leader.turn(swarm.now)
    took = _since(begun)
    assert not steps, "what was decided is decided anew"
    return took


def _dispatch(swarm: Swarm) -> float:
    named, begun = 0, time.process_time()
    for node in swarm.kept["nodes"]:
        swarm.boards.open(node)
        assign = swarm.boards.take(node)
        assert assign is not None
        named += len(assign.tasks)
        msgspec.json.encode(assign)
    took = _since(begun)
    assert named == len(swarm.kept["tasks"])
    return took


def _running(swarm: Swarm) -> float:
    begun = time.process_time()
    for node in swarm.kept["nodes"]:
        status = TaskStatus(State.RUNNING, swarm.now, "started", container_id=f"{node:0>64}")
        swarm.write([Step(task, replace(task, status=status, ran=swarm.now)) for task in swarm.boards.tasks(node)])
        swarm.settle()
    assert not swarm.take(), "what nodes told is told to them again"
    return _since(begun)


def _lost(swarm: Swarm, number: int) -> float:
    took = 0.0
    for id in random.Random(1).sample(list(swarm.kept["nodes"]), number):
        node, had = swarm.kept["nodes"][id], sum(task.wanted for task in swarm.boards.tasks(id))
        begun = time.process_time()
        swarm.put(replace(node, state="down"))
        swarm.settle()
        named = swarm.take()
        took += _since(begun) / had
        assert named == 2 * had, "each of its tasks, and the one in its place"
        swarm.put(replace(node, state="ready"))
        _start(swarm)
    return took


def _start(swarm: Swarm) -> None:
    """What was assigned runs, and what was to stop has stopped."""
    for task in list(swarm.kept["tasks"].values()):
        state = State.SHUTDOWN if task.desired > State.RUNNING else State.RUNNING
        if task.status.state < state and not task.status.state.ended:
            swarm.put(replace(task, status=TaskStatus(state, swarm.now, "so")))
    swarm.settle()
    swarm.take()


def _death(swarm: Swarm, number: int) -> float:
    took = 0.0
    lively = [task.id for task in swarm.kept["tasks"].values() if task.running and task.desired == State.RUNNING]
    for id in random.Random(2).sample(lively, number):
        task = swarm.kept["tasks"][id]
        begun = time.process_time()
        swarm.put(replace(task, status=TaskStatus(State.FAILED, swarm.now, "failed", exit_code=1)))
        swarm.settle()
        assert swarm.leader.wake_at is not None
        swarm.now = swarm.leader.wake_at
        swarm.settle()
        named = swarm.take()
        took += _since(begun)
        assert named, "nobody follows"
    return took


def written(nodes: int, file: Path) -> None:
    """All that there is, one thing a line, as it is when every task is placed."""
    swarm = Swarm(nodes)
    _place(swarm)
    with file.open("wb") as out:
        for kind in KINDS.values():
            for thing in swarm.kept[kind].values():
                out.write(msgspec.json.encode((kind, replace(thing, spec=TaskSpec()) if kind == "tasks" else thing)))
                out.write(b"\n")


def weigh(nodes: int, file: Path) -> float:
    """Bytes for each task of a manager that leads: it has read them from the store, and has a session with each node.
    Of a small swarm there are several, since the memory of a process grows in steps."""
    swarms = [Swarm(0) for _ in range(max(1, 500 // nodes))]
    for swarm in swarms:
        _read(swarm, file, ("networks", "nodes", "services"))
        swarm.leader.dirty.clear()
        for node in swarm.kept["nodes"]:
            swarm.boards.open(node)
    gc.collect()
    before = resident()
    for swarm in swarms:
        _read(swarm, file, ("tasks",))
        assert not swarm.leader.turn(swarm.now), "what was decided is decided anew"
        for node in swarm.kept["nodes"]:
            swarm.boards.take(node)
    gc.collect()
    return (resident() - before) / sum(len(swarm.kept["tasks"]) for swarm in swarms)


def _read(swarm: Swarm, file: Path, kinds: tuple[str, ...]) -> None:
    """A task's spec is that of its service, once in memory: ``swarm.state`` sees to that."""
    with file.open("rb") as lines:
        for line in lines:
            kind, raw = msgspec.json.decode(line, type=tuple[str, msgspec.Raw])
            if kind in kinds:
                thing = DECODERS[kind].decode(raw)
                if kind == "tasks":
                    thing = replace(thing, spec=swarm.kept["services"][thing.service].spec.task_template)
                swarm.put(thing)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


# -- the part --------------------------------------------------------------------------------------------------------


def _as_in_a_daemon(work: Callable[[], Any]) -> Any:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    return work()


def run(job: Job) -> None:
    """Each size in a process of its own: nothing that a larger one left is in its way."""
    sizes = QUICK if job.quick else SIZES
    for number in range(ROUNDS):
        for nodes in sizes if number % 2 else reversed(sizes):
            took = Child(job.lan.network, lambda nodes=nodes: _as_in_a_daemon(lambda: _times(nodes))).result()
            for figure, microseconds in took.items():
                job.table.add(row(figure, nodes), OURS, microseconds, "us")
    with TemporaryDirectory() as folder:
        for nodes in sizes:
            file = Path(folder, str(nodes))
            Child(job.lan.network, lambda nodes=nodes, file=file: written(nodes, file)).result()
            each = Child(job.lan.network, lambda nodes=nodes, file=file: _as_in_a_daemon(lambda: weigh(nodes, file)))
            job.table.add(row("memory", nodes), OURS, each.result() / 1024, "KiB")


def _times(nodes: int) -> dict[str, float]:
    """A small swarm more than once: it is done in a moment, and a moment may be a bad one."""
    rounds = [round_of(nodes) for _ in range(5 if nodes < 100 else 1)]
    return {figure: median(one[figure] for one in rounds) for figure in rounds[0]}
