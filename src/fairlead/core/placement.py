"""Placement: on which node a task runs, or why on none.

    tasks alike --> FILTERS, in their order, each able to say what it refused --> the node with the least of them

    Roster   what every node carries now; kept up to date task by task, never counted anew
    place    some tasks of one service and one spec -> task -> node, or the reason

Rules
    1. Preferences first: at each ``spread`` the branch with the fewest tasks of this service, a missing label being a
       branch of its own. Within a branch: fewest tasks of this service, then fewest tasks at all, then the id.
    2. A node on which a service failed five times in five minutes comes last.
    3. What is placed counts at once: the next task sees it.
    4. Nodes are asked in their order until one takes the task: the work is that of the nodes that carry the service,
       and of those that refuse, not of all there are. (With preferences all are asked, once for each group of tasks.)

What it does not do: decide how many tasks there should be (``reconcile``), or give them addresses.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.core import constraints, generics
from fairlead.core.cluster import Node, State, Task
from fairlead.core.ranks import Ranks
from fairlead.core.service import SECOND, Placement, Platform, Resources

FAILURES = 5
"""of a service on a node, after which the node comes last"""
LATELY = 300 * SECOND
NOTHING = Resources()


class Seat:
    """One node, and what it carries."""

    def __init__(self, node: Node, ranks: Ranks) -> None:
        self.node, self.ranks = node, ranks
        ranks.changed[node.id] = 0
        self.tasks: dict[str, Task] = {}
        self.of: Counter[str] = Counter()
        """service -> tasks that should run"""
        self.cpus, self.memory = 0, 0
        """reserved"""
        self.ports: Counter[tuple[str, int]] = Counter()
        self.failures: dict[str, list[int]] = defaultdict(list)

    def put(self, task: Task) -> None:
        """The task as it is now, whatever it was."""
        old = self.tasks.get(task.id)
        if old is not None and _weighs_alike(old, task):
            self.tasks[task.id] = task
            return
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
        self.ranks.changed[self.node.id] = len(self.tasks)
        if task.desired <= State.RUNNING:
            self.of[task.service] += by
            self._has(task.service)
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
        self._has(task.service)

    def _has(self, service: str) -> None:
        if not self.of[service]:
            del self.of[service]
        if self.of[service] or service in self.failures:
            self.ranks.having[service].add(self.node.id)
        else:
            self._has_not(service)

    def _has_not(self, service: str) -> None:
        self.ranks.having[service].discard(self.node.id)
        if not self.ranks.having[service]:
            del self.ranks.having[service]

    def leave(self) -> None:
        """The node is gone."""
        self.ranks.changed[self.node.id] = None
        for service in {*self.of, *self.failures}:
            self._has_not(service)


class Roster:
    """Every node of the cluster with its load."""

    def __init__(self, nodes: Iterable[Node] = (), tasks: Iterable[Task] = ()) -> None:
        self.seats: dict[str, Seat] = {}
        self._ranks = Ranks()
        for node in nodes:
            self.put_node(node)
        for task in tasks:
            self.put(task)

    def put_node(self, node: Node) -> None:
        seat = self.seats.get(node.id)
        if seat is None:
            self.seats[node.id] = Seat(node, self._ranks)
        else:
            seat.node = node

    def drop_node(self, node_id: str) -> None:
        if (seat := self.seats.pop(node_id, None)) is not None:
            seat.leave()

    def put(self, task: Task) -> None:
        if task.node in self.seats:
            self.seats[task.node].put(task)

    def drop(self, task: Task) -> None:
        if task.node in self.seats:
            self.seats[task.node].drop(task.id)

    def having(self, service: str) -> list[Seat]:
        """Nodes that have to do with the service."""
        return [self.seats[node] for node in self._ranks.having.get(service, ())]

    def others(self, service: str) -> Iterator[Seat]:
        """The rest of them, from the least loaded up; of use as long as no task of another service is put anywhere."""
        having = frozenset(self._ranks.having.get(service, ()))
        self._ranks.settle()
        return (self.seats[node] for node in self._ranks.order() if node not in having)


class Needs:
    """What a task wants of the node that carries it, read once for a group of tasks alike."""

    def __init__(self, task: Task) -> None:
        placement = task.spec.placement or Placement()
        self._task = task
        self._reserved = _reserved(task)
        self._driver = task.spec.log_driver.name if task.spec.log_driver else ""
        self._constraints = [constraints.parse(text) for text in placement.constraints or ()]
        self._platforms = placement.platforms or ()
        self._ports = [(port.protocol, port.published_port) for port in task.host_ports if port.published_port]
        self._most = placement.max_replicas

    def availability(self, seat: Seat) -> bool:
        return seat.node.takes_tasks

    def resources(self, seat: Seat) -> bool:
        has, need = seat.node.description.resources, self._reserved
        cpus_fit = not need.cpus or has.cpus - seat.cpus >= need.cpus
        memory_fits = not need.memory_bytes or has.memory_bytes - seat.memory >= need.memory_bytes
        return cpus_fit and memory_fits and seat.claim(self._task) is not None

    def plugins(self, seat: Seat) -> bool:
        has = seat.node.description.plugins
        return self._driver in ("", "none") or any(one.type == "Log" and one.name == self._driver for one in has)

    def place(self, seat: Seat) -> bool:
        return all(one.holds(seat.node) for one in self._constraints)

    def platform(self, seat: Seat) -> bool:
        return not self._platforms or any(_runs(wanted, seat.node.description.platform) for wanted in self._platforms)

    def ports(self, seat: Seat) -> bool:
        return not any(seat.ports[port] for port in self._ports)

    def company(self, seat: Seat) -> bool:
        return not self._most or seat.of[self._task.service] < self._most


def _runs(wanted: Platform, has: Platform) -> bool:
    """What is not said may be anything."""
    system_fits = not wanted.os or wanted.os.lower() == has.os.lower()
    same = constraints.architecture(wanted.architecture) == constraints.architecture(has.architecture)
    return system_fits and (not wanted.architecture or same)


class Filter(NamedTuple):
    """``words``: of the nodes that it refused, Docker's."""

    passes: Callable[[Needs, Seat], bool]
    words: str

    def told(self, count: int) -> str:
        return self.words.format("1 node" if count == 1 else f"{count} nodes")


FILTERS = (
    Filter(Needs.availability, "{} not available for new tasks"),
    Filter(Needs.resources, "insufficient resources on {}"),
    Filter(Needs.plugins, "missing plugin on {}"),
    Filter(Needs.place, "scheduling constraints not satisfied on {}"),
    Filter(Needs.platform, "unsupported platform on {}"),
    Filter(Needs.ports, "host-mode port already in use on {}"),
    Filter(Needs.company, "max replicas per node limit exceed"),
)
"""in the order in which they are asked"""


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
    needs = Needs(tasks[0])
    verdicts = {task.id: _judge(task, needs, roster) for task in tasks if task.node}
    free = [task for task in tasks if not task.node]
    if not free:
        return verdicts
    refused: Counter[int] = Counter()
    levels, service = _levels(free[0].spec.placement), free[0].service
    branch: _Fork | _Leaf
    if levels:
        fit = [seat for seat in roster.seats.values() if _passes(seat, needs, refused)]
        branch = _branch(fit, levels, service, now)
    else:
        branch = _Leaf(roster.having(service), service, now, roster.others(service))

    def fits(seat: Seat) -> bool:
        return _passes(seat, needs, refused)

    for task in free:
        seat = branch.take(fits, task)
        verdicts[task.id] = _sits(seat, task) if seat else Verdict("", _reason(refused))
    return verdicts


def _judge(task: Task, needs: Needs, roster: Roster) -> Verdict:
    """A task whose node is given: all but what it itself takes there."""
    seat = roster.seats.get(task.node)
    if seat is None:
        return Verdict("", "its node has left the swarm")
    seat.drop(task.id)
    refused: Counter[int] = Counter()
    fits = _passes(seat, needs, refused)
    seat.put(replace(task, generic=task.generic or seat.claim(task) or ()) if fits else task)
    return _sits(seat, task) if fits else Verdict("", _reason(refused))


def _sits(seat: Seat, task: Task) -> Verdict:
    return Verdict(seat.node.id, generic=seat.tasks[task.id].generic)


def _passes(seat: Seat, needs: Needs, refused: Counter[int]) -> bool:
    for number, one in enumerate(FILTERS):
        if not one.passes(needs, seat):
            refused[number] += 1
            return False
    return True


def _reason(refused: Counter[int]) -> str:
    told = [FILTERS[number].told(count) for number, count in refused.most_common()]
    return f"no suitable node ({'; '.join(told)})" if told else "no suitable node"


def _weighs_alike(one: Task, other: Task) -> bool:
    """Whether a node that carries the one carries as much with the other."""
    return (
        one.spec is other.spec
        and one.service == other.service
        and (one.desired <= State.RUNNING) == (other.desired <= State.RUNNING)
        and not other.status.state.ended
        and one.host_ports == other.host_ports
    )


def _reserved(task: Task) -> Resources:
    asked = task.spec.resources
    return (asked and asked.reservations) or NOTHING


# -- the spread ------------------------------------------------------------------------------------------------------


class _Leaf:
    """Nodes among which nothing is preferred: a heap of the least loaded. ``rest``: more of them, in their order, that
    have nothing to do with the service."""

    def __init__(self, seats: Sequence[Seat], service: str, now: int, rest: Iterator[Seat] = iter(())) -> None:
        self.service, self.now, self.rest = service, now, rest
        self.following = next(rest, None)
        self.load = sum(seat.of[service] for seat in seats)
        self.heap = [(*self._key(seat), seat.node.id, seat) for seat in seats]
        heapq.heapify(self.heap)

    def _key(self, seat: Seat) -> tuple[int, int, int]:
        return seat.failing(self.service, self.now), seat.of[self.service], len(seat.tasks)

    def take(self, fits: Callable[[Seat], bool], task: Task) -> Seat | None:
        while (seat := self._least()) is not None:
            if not fits(seat):
                continue
            seat.put(replace(task, node=seat.node.id, generic=seat.claim(task) or ()))
            self.load += 1
            heapq.heappush(self.heap, (*self._key(seat), seat.node.id, seat))
            return seat
        return None

    def _least(self) -> Seat | None:
        seat = self.following
        if seat is None or (self.heap and self.heap[0][:-1] < (*self._key(seat), seat.node.id)):
            return heapq.heappop(self.heap)[-1] if self.heap else None
        self.following = next(self.rest, None)
        return seat


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
