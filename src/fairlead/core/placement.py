"""Placement: on which node a task runs, or why on none.

    tasks alike --> filters, in this order, each able to say what it refused --> the node with the least of them
                     ready, resources, plugins, constraints, platform, ports, replicas on a node

    Roster   what every node carries now; kept up to date task by task, never counted anew
    place    some tasks of one service and one spec -> task -> node, or the reason

Rules
    1. Preferences first: at each ``spread`` the branch with the fewest tasks of this service, a missing label being a
       branch of its own. Within a branch: fewest tasks of this service, then fewest tasks at all, then the id.
    2. A node on which a service failed five times in five minutes comes last.
    3. What is placed counts at once: the next task sees it.
    4. The work is that of the nodes once for each group of alike tasks, and a heap's for each task.

What it does not do: decide how many tasks there should be (``reconcile``), or give them addresses.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.core import constraints, generics
from fairlead.core.cluster import Node, State, Task
from fairlead.core.service import SECOND, Placement, Resources

FAILURES = 5
"""of a service on a node, after which the node comes last"""
LATELY = 300 * SECOND


class Seat:
    """One node, and what it carries."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.tasks: dict[str, Task] = {}
        self.of: Counter[str] = Counter()
        """service -> tasks that should run"""
        self.cpus, self.memory = 0, 0
        """reserved"""
        self.ports: Counter[tuple[str, int]] = Counter()
        self.failures: dict[str, list[int]] = defaultdict(list)

    def put(self, task: Task) -> None:
        """The task as it is now, whatever it was."""
        self.drop(task.id)
        if task.status.state in (State.FAILED, State.REJECTED) and task.status.at:
            self._failed(task)
        if task.status.state.ended:
            return
        self.tasks[task.id] = task
        self._count(task, 1)

    def drop(self, task_id: str) -> None:
        old = self.tasks.pop(task_id, None)
        if old is not None:
            self._count(old, -1)

    def failing(self, service: str, now: int) -> int:
        """How often it failed here lately, if that is often enough to matter."""
        lately = [at for at in self.failures.get(service, ()) if now - at < LATELY]
        return len(lately) if len(lately) >= FAILURES else 0

    def claim(self, task: Task) -> tuple[dict[str, Any], ...] | None:
        """What a task like this would get of the node's generic resources; None: there is not enough left."""
        asked = _reserved(task).generic_resources or ()
        if not asked:
            return ()
        taken = [one for other in self.tasks.values() for one in other.generic]
        return generics.claim(asked, self.node.description.resources.generic_resources or (), taken)

    def _count(self, task: Task, by: int) -> None:
        if task.desired <= State.RUNNING:
            self.of[task.service] += by
        reserved = _reserved(task)
        self.cpus += by * reserved.cpus
        self.memory += by * reserved.memory_bytes
        for port in task.host_ports:
            if port.published_port:
                self.ports[port.protocol, port.published_port] += by

    def _failed(self, task: Task) -> None:
        times = self.failures[task.service]
        if task.status.at not in times:
            times.append(task.status.at)
            del times[: -2 * FAILURES]


class Roster:
    """Every node of the cluster with its load."""

    def __init__(self, nodes: Iterable[Node] = (), tasks: Iterable[Task] = ()) -> None:
        self.seats: dict[str, Seat] = {}
        for node in nodes:
            self.put_node(node)
        for task in tasks:
            self.put(task)

    def put_node(self, node: Node) -> None:
        seat = self.seats.get(node.id)
        if seat is None:
            self.seats[node.id] = Seat(node)
        else:
            seat.node = node

    def drop_node(self, node_id: str) -> None:
        self.seats.pop(node_id, None)

    def put(self, task: Task) -> None:
        if task.node in self.seats:
            self.seats[task.node].put(task)

    def drop(self, task: Task) -> None:
        if task.node in self.seats:
            self.seats[task.node].drop(task.id)


class Filter(NamedTuple):
    """``one`` and ``many`` say what it refused, ``many`` with the number."""

    passes: Callable[[Seat], bool]
    one: str
    many: str

    def told(self, count: int) -> str:
        return self.one if count == 1 else self.many.format(count)


class Verdict(NamedTuple):
    """``node`` "": none, and ``reason`` says why. ``generic``: what it gets there of generic resources."""

    node: str
    reason: str = ""
    generic: tuple[dict[str, Any], ...] = ()


def place(tasks: Sequence[Task], roster: Roster, now: int) -> dict[str, Verdict]:
    """Task id -> verdict for tasks of one service and spec; what is placed is in ``roster`` afterwards.

    A task that has a node already (of a global service) is only judged.
    """
    if not tasks:
        return {}
    sieve = filters(tasks[0])
    verdicts = {task.id: _judge(task, sieve, roster) for task in tasks if task.node}
    free = [task for task in tasks if not task.node]
    if not free:
        return verdicts
    refused: Counter[int] = Counter()
    fit = [seat for seat in roster.seats.values() if _passes(seat, sieve, refused)]
    branch = _branch(fit, _levels(free[0].spec.placement), free[0].service, now)
    for task in free:
        seat = branch.take(lambda seat: _passes(seat, sieve, refused), task)
        verdicts[task.id] = _sits(seat, task) if seat else Verdict("", _reason(sieve, refused))
    return verdicts


def filters(task: Task) -> tuple[Filter, ...]:
    """What a node has to pass to carry a task like this one."""
    spec, need = task.spec, _reserved(task)
    placement = spec.placement or Placement()
    asked = [constraints.parse(text) for text in placement.constraints or ()]
    driver = spec.log_driver.name if spec.log_driver else ""
    platforms = placement.platforms or ()
    ports = [(port.protocol, port.published_port) for port in task.host_ports if port.published_port]
    most = placement.max_replicas

    def resources(seat: Seat) -> bool:
        has = seat.node.description.resources
        cpus_fit = not need.cpus or has.cpus - seat.cpus >= need.cpus
        memory_fits = not need.memory_bytes or has.memory_bytes - seat.memory >= need.memory_bytes
        return cpus_fit and memory_fits and seat.claim(task) is not None

    def plugins(seat: Seat) -> bool:
        return driver in ("", "none") or any(
            plugin.type == "Log" and plugin.name == driver for plugin in seat.node.description.plugins
        )

    def platform(seat: Seat) -> bool:
        has = seat.node.description.platform
        return not platforms or any(
            (not wanted.os or wanted.os.lower() == has.os.lower())
            and (
                not wanted.architecture
                or constraints.architecture(wanted.architecture) == constraints.architecture(has.architecture)
            )
            for wanted in platforms
        )

    return (
        Filter(
            lambda seat: seat.node.takes_tasks,
            "1 node not available for new tasks",
            "{} nodes not available for new tasks",
        ),
        Filter(resources, "insufficient resources on 1 node", "insufficient resources on {} nodes"),
        Filter(plugins, "missing plugin on 1 node", "missing plugin on {} nodes"),
        Filter(
            lambda seat: all(one.holds(seat.node) for one in asked),
            "scheduling constraints not satisfied on 1 node",
            "scheduling constraints not satisfied on {} nodes",
        ),
        Filter(platform, "unsupported platform on 1 node", "unsupported platform on {} nodes"),
        Filter(
            lambda seat: not any(seat.ports[port] for port in ports),
            "host-mode port already in use on 1 node",
            "host-mode port already in use on {} nodes",
        ),
        Filter(
            lambda seat: not most or seat.of[task.service] < most,
            "max replicas per node limit exceed",
            "max replicas per node limit exceed",
        ),
    )


def _judge(task: Task, sieve: Sequence[Filter], roster: Roster) -> Verdict:
    """A task whose node is given: all but what it itself takes there."""
    seat = roster.seats.get(task.node)
    if seat is None:
        return Verdict("", "its node has left the swarm")
    seat.drop(task.id)
    refused: Counter[int] = Counter()
    fits = _passes(seat, sieve, refused)
    seat.put(replace(task, generic=task.generic or seat.claim(task) or ()) if fits else task)
    return _sits(seat, task) if fits else Verdict("", _reason(sieve, refused))


def _sits(seat: Seat, task: Task) -> Verdict:
    return Verdict(seat.node.id, generic=seat.tasks[task.id].generic)


def _passes(seat: Seat, sieve: Sequence[Filter], refused: Counter[int]) -> bool:
    for number, one in enumerate(sieve):
        if not one.passes(seat):
            refused[number] += 1
            return False
    return True


def _reason(sieve: Sequence[Filter], refused: Counter[int]) -> str:
    told = [sieve[number].told(count) for number, count in refused.most_common()]
    return f"no suitable node ({'; '.join(told)})" if told else "no suitable node"


def _reserved(task: Task) -> Resources:
    asked = task.spec.resources
    return (asked and asked.reservations) or Resources()


# -- the spread ------------------------------------------------------------------------------------------------------


class _Leaf:
    """Nodes among which nothing is preferred: a heap of the least loaded."""

    def __init__(self, seats: Sequence[Seat], service: str, now: int) -> None:
        self.service, self.now = service, now
        self.load = sum(seat.of[service] for seat in seats)
        self.heap = [(*self._key(seat), seat.node.id, seat) for seat in seats]
        heapq.heapify(self.heap)

    def _key(self, seat: Seat) -> tuple[int, int, int]:
        return seat.failing(self.service, self.now), seat.of[self.service], len(seat.tasks)

    def take(self, fits: Callable[[Seat], bool], task: Task) -> Seat | None:
        while self.heap:
            *_, seat = heapq.heappop(self.heap)
            if not fits(seat):
                continue
            seat.put(replace(task, node=seat.node.id, generic=seat.claim(task) or ()))
            self.load += 1
            heapq.heappush(self.heap, (*self._key(seat), seat.node.id, seat))
            return seat
        return None


class _Fork:
    """Branches by the value of a label; the one with the fewest tasks of the service is next."""

    def __init__(self, branches: Sequence[_Fork | _Leaf]) -> None:
        self.branches = list(branches)
        self.load: int = sum(branch.load for branch in branches)

    def take(self, fits: Callable[[Seat], bool], task: Task) -> Seat | None:
        while self.branches:
            least = min(self.branches, key=lambda branch: branch.load)
            seat = least.take(fits, task)
            if seat is not None:
                self.load += 1
                return seat
            self.branches.remove(least)
        return None


def _branch(seats: Sequence[Seat], levels: Sequence[str], service: str, now: int) -> _Fork | _Leaf:
    if not levels:
        return _Leaf(seats, service, now)
    values: dict[str, list[Seat]] = defaultdict(list)
    for seat in seats:
        values[constraints.value_of(seat.node, levels[0])].append(seat)
    return _Fork([_branch(values[value], levels[1:], service, now) for value in sorted(values)])


def _levels(placement: Placement | None) -> list[str]:
    preferences = (placement and placement.preferences) or ()
    return [one.spread.spread_descriptor for one in preferences if one.spread]
