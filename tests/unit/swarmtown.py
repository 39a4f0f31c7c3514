"""A swarm on paper, in virtual time: services reconciled, tasks placed, and nodes that do what they are told.

update / fail / drain ...  -->  reconcile + place  -->  nodes start and stop tasks, each taking its time
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

from msgspec.structs import replace

from fairlead.core.cluster import Description, JobStatus, Node, NodeSpec, Service, State, Task, TaskStatus, UpdateStatus
from fairlead.core.orchestrator import Orchestrator
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
        self.service = Service(id="s", spec=spec, job=JobStatus() if spec.mode.is_job else None)
        self.tasks: dict[str, Task] = {}
        self.due: dict[str, tuple[int, State]] = {}
        """task -> when it comes to which state"""
        self.starts, self.stops = 1.0, 1.0
        self.bad: Callable[[Task], bool] = lambda task: False
        self.lost: Callable[[], bool] = lambda: False
        """whether what was decided now cannot be written"""
        self.deaf: set[str] = set()
        """nodes that hear nothing, though they seem to be here"""
        self.leader = self.elect()
        self.history: list[Counter[str]] = []

    def elect(self) -> Orchestrator:
        """Another leader, who knows nothing but what is written."""
        leader = Orchestrator(lambda: f"t{next(self.ids):04}")
        for thing in (*self.nodes.values(), self.service, *self.tasks.values()):
            leader.hear(None, thing)
        self.leader = leader
        return leader

    # -- what people do ------------------------------------------------------------------------------

    def update(self, **changes: object) -> None:
        """A new spec; ``template``: of its task."""
        template = changes.pop("template", self.service.spec.task_template)
        spec = replace(self.service.spec, task_template=template, **changes)
        self._service(replace(self.service, spec=spec, previous=self.service.spec, update=None))
        self.settle()

    def roll_back(self) -> None:
        assert self.service.previous is not None
        status = UpdateStatus("rollback_started", started=self.now)
        self._service(replace(self.service, spec=self.service.previous, previous=None, update=status))
        self.settle()

    def again(self, **job: int) -> None:
        self._service(replace(self.service, job=JobStatus(**job)))
        self.settle()

    def avail(self, name: str, availability: str = "active", state: str = "ready", **spec: object) -> None:
        node = self.nodes[name]
        self.nodes[name] = replace(node, spec=replace(node.spec, availability=availability, **spec), state=state)
        self.leader.hear(node, self.nodes[name])
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
        """Turns until nothing is left to write."""
        self._order()
        for _ in range(50):
            steps = self.leader.turn(self.now)
            if steps and self.lost():
                self.leader.undo(steps)
                continue
            if not steps:
                self._nobody_was_overlooked()
                break
            for before, after in steps:
                self._write(before, after)
            self._order()
        else:
            raise AssertionError("it never settles")
        self.history.append(Counter(task.spec.force_update for task in self.running()))

    def _nobody_was_overlooked(self) -> None:
        """Looked at though nothing about it seemed new, the service has nothing more to decide."""
        alarms = list(self.leader.alarms)
        self.leader.dirty.add(self.service.id)
        assert not self.leader.turn(self.now), "something was to be decided, and nobody looked"
        self.leader.alarms = alarms

    def _write(self, before: object, after: object) -> None:
        if isinstance(after or before, Service):
            assert isinstance(after, Service)
            self.service = after
            return
        assert isinstance(before, Task | None) and isinstance(after, Task | None)
        if after is None:
            assert before is not None
            del self.tasks[before.id]
            self.due.pop(before.id, None)
            return
        assert before is None or after.desired >= before.desired, "a desired state went back"
        self.tasks[after.id] = after

    def _service(self, service: Service) -> None:
        self.leader.hear(self.service, service)
        self.service = service

    def _next(self) -> int | None:
        times = [at for at, _ in self.due.values()]
        if self.leader.wake_at is not None:
            times.append(self.leader.wake_at)
        return min(times, default=None)

    def _order(self) -> None:
        """Nodes take their orders."""
        for task in list(self.tasks.values()):
            node = self.nodes.get(task.node)
            if node is None or node.state != "ready" or task.status.state.ended or task.status.state < State.ASSIGNED:
                continue
            if node.id in self.deaf:
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
        self.leader.hear(task, self.tasks[task_id])

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
    has = Resources(cpus=8_000_000_000, memory_bytes=1 << 34)
    return Node(id=name, spec=NodeSpec(), description=Description(hostname=name, resources=has), state="ready")


def version(number: int, **spec: object) -> TaskSpec:
    return TaskSpec(force_update=number, **spec)  # type: ignore[arg-type]
