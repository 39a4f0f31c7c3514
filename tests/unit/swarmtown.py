"""A swarm on paper, in virtual time: services reconciled, tasks placed, and nodes that do what they are told.

update / fail / drain ...  -->  reconcile + place  -->  nodes start and stop tasks, each taking its time
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

from msgspec.structs import replace

from fairlead.core.cluster import Description, Node, NodeSpec, Service, State, Task, TaskStatus, UpdateStatus
from fairlead.core.placement import Roster, place
from fairlead.core.reconcile import reconcile
from fairlead.core.service import SECOND, Mode, Replicated, Resources, ServiceSpec, TaskSpec

SECONDS = SECOND


def replicated(number: int, **spec: object) -> ServiceSpec:
    return ServiceSpec(name="web", mode=Mode(replicated=Replicated(number)), **spec)  # type: ignore[arg-type]


class Town:
    """One service on some nodes. ``starts``, ``stops``: seconds a task takes to; ``bad``: whether a task falls."""

    def __init__(self, spec: ServiceSpec, nodes: str = "abc") -> None:
        self.now = 1000 * SECOND
        self.ids = count(1)
        self.nodes = {name: town_node(name) for name in nodes}
        self.service = Service(id="s", spec=spec)
        self.tasks: dict[str, Task] = {}
        self.due: dict[str, tuple[int, State]] = {}
        """task -> when it comes to which state"""
        self.starts, self.stops = 1.0, 1.0
        self.bad: Callable[[Task], bool] = lambda task: False
        self.most_down = 0
        self.history: list[Counter[str]] = []

    # -- what people do ------------------------------------------------------------------------------

    def update(self, **changes: object) -> None:
        """A new spec; ``template``: of its task."""
        template = changes.pop("template", self.service.spec.task_template)
        spec = replace(self.service.spec, task_template=template, **changes)
        self.service = replace(self.service, spec=spec, previous=self.service.spec, update=None)
        self.settle()

    def roll_back(self) -> None:
        assert self.service.previous is not None
        status = UpdateStatus("rollback_started", started=self.now)
        self.service = replace(self.service, spec=self.service.previous, previous=None, update=status)
        self.settle()

    def avail(self, name: str, availability: str = "active", state: str = "ready") -> None:
        node = self.nodes[name]
        self.nodes[name] = replace(node, spec=replace(node.spec, availability=availability), state=state)
        if state == "down":
            self.due = {task: due for task, due in self.due.items() if self.tasks[task].node != name}
        self.settle()

    def end(self, task_id: str, state: State = State.FAILED) -> None:
        self.due.pop(task_id, None)
        self._tell(task_id, state)
        self.settle()

    # -- time ----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Virtual time goes on, from one thing that is due to the next."""
        end = self.now + int(seconds * SECOND)
        self.settle()
        while (at := self._next()) is not None and at <= end:
            self.now = max(at, self.now)
            for task_id, (when, state) in sorted(self.due.items()):
                if when <= self.now and self.due.pop(task_id, None):
                    self._tell(task_id, state)
            self.settle()
        self.now = end

    def settle(self) -> None:
        """Reconcile and place until nothing changes."""
        self._place()
        self._order()
        for _ in range(50):
            changes = reconcile(
                self.service, self.tasks.values(), self.nodes, self.now, lambda: f"t{next(self.ids):04}"
            )
            self.wake = changes.wake_at
            if changes.service is None and not changes.put and not changes.delete:
                break
            for task in changes.put:
                old = self.tasks.get(task.id)
                assert old is None or task.desired >= old.desired, "a desired state went back"
                self.tasks[task.id] = task
            for gone in changes.delete:
                del self.tasks[gone]
                self.due.pop(gone, None)
            self.service = changes.service or self.service
            self._place()
            self._order()
        else:
            raise AssertionError("it never settles")
        self.history.append(Counter(task.spec.force_update for task in self.running()))

    def _next(self) -> int | None:
        times = [at for at, _ in self.due.values()]
        if self.wake is not None:
            times.append(self.wake)
        return min(times, default=None)

    def _place(self) -> None:
        roster = Roster(self.nodes.values(), self.tasks.values())
        pending = [task for task in self.tasks.values() if task.status.state < State.ASSIGNED and task.wanted]
        for task_id, verdict in place(pending, roster, self.now).items():
            task = self.tasks[task_id]
            status = (
                TaskStatus(State.ASSIGNED, at=self.now)
                if verdict.node
                else TaskStatus(State.PENDING, error=verdict.reason)
            )
            if status.state != task.status.state:
                self.tasks[task_id] = replace(task, node=verdict.node or task.node, status=status)

    def _order(self) -> None:
        """Nodes take their orders."""
        for task in self.tasks.values():
            node = self.nodes.get(task.node)
            if node is None or node.state != "ready" or task.status.state.ended or task.status.state < State.ASSIGNED:
                continue
            if task.desired > State.RUNNING:
                if self.due.get(task.id, (0, State.NEW))[1] != State.SHUTDOWN:
                    self.due[task.id] = (self.now + int(self.stops * SECOND), State.SHUTDOWN)
            elif task.desired == State.READY and task.status.state < State.READY:
                self._tell(task.id, State.READY)
            elif task.desired == State.RUNNING and task.status.state < State.STARTING:
                end = State.FAILED if self.bad(task) else State.RUNNING
                self._tell(task.id, State.STARTING)
                self.due[task.id] = (self.now + int(self.starts * SECOND), end)

    def _tell(self, task_id: str, state: State) -> None:
        task = self.tasks[task_id]
        ran = task.ran or (self.now if state == State.RUNNING else 0)
        self.tasks[task_id] = replace(task, status=TaskStatus(state, at=self.now), ran=ran)

    # -- looks ---------------------------------------------------------------------------------------

    def running(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.running]

    def spread(self) -> dict[str, int]:
        return dict(Counter(task.node for task in self.running() if task.wanted))

    def slots(self) -> list[int]:
        return sorted(task.slot for task in self.running() if task.wanted)

    @property
    def state(self) -> str:
        return self.service.update.state if self.service.update else ""


def town_node(name: str) -> Node:
    has = Resources(nano_cpus=8_000_000_000, memory_bytes=1 << 34)
    return Node(id=name, spec=NodeSpec(), description=Description(hostname=name, resources=has), state="ready")


def version(number: int, **spec: object) -> TaskSpec:
    return TaskSpec(force_update=number, **spec)  # type: ignore[arg-type]
