"""A draft: a service's tasks with what was decided so far, while somebody decides (``reconcile``, ``rollout``).

    tasks --> Draft --desire, create, put, forget--> changes(): what to write, what to delete, when to ask again

A place is a slot's number, or in a global service a node. The tasks of one place follow each other; ``slots()`` has
them oldest first. Who decides asks the draft, never the tasks it began with: a later rule sees what an earlier one did.
Most places of a large service are at rest: rules that are about what moves look at ``stirred()`` alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core import constraints
from fairlead.core.cluster import Node, Service, State, Task
from fairlead.core.service import ServicePort, TaskSpec


class Changes(NamedTuple):
    """``put``: tasks new or changed; ``delete``: ids; ``service``: as it is now, if it changed."""

    put: tuple[Task, ...] = ()
    delete: tuple[str, ...] = ()
    service: Service | None = None
    wake_at: int | None = None


class Draft:
    """The service's tasks, with what was decided so far."""

    def __init__(
        self, of: Service, tasks: Iterable[Task], nodes: Mapping[str, Node], now: int, new_id: Callable[[], str]
    ) -> None:
        self.service, self.nodes, self.now, self.new_id = of, nodes, now, new_id
        self.before = {task.id: task for task in tasks}
        self.tasks = dict(self.before)
        self.wakes: list[int] = []
        self._slots: dict[int | str, list[Task]] | None = None
        """until something changes"""
        self._stirred: dict[int | str, list[Task]] | None = None
        self._asked = of
        self._ports: tuple[ServicePort, ...] | None = None
        self._alike: dict[int, bool] = {}
        """specs (many tasks have the same) -> whether they are what ``_asked`` asks for"""

    def slots(self) -> dict[int | str, list[Task]]:
        """Place -> its tasks, oldest first. As they are now: what changes afterwards is not in it."""
        if self._slots is None:
            self._slots = defaultdict(list)
            for task in sorted(self.tasks.values(), key=lambda task: (task.created, task.id)):
                self._slots[task.place].append(task)
        return self._slots

    def stirred(self) -> dict[int | str, list[Task]]:
        """The slots in which there may be something to decide: not those with one task alone that is to run, lives, is
        up to date and may stay. In a large service most are like that, and are looked at once."""
        self._host_ports()  # another spec, another look
        if self._stirred is None:
            slots = self.slots().items()
            self._stirred = {place: tasks for place, tasks in slots if len(tasks) > 1 or not self._at_rest(tasks[0])}
        return self._stirred

    def _at_rest(self, task: Task) -> bool:
        lives = task.desired == State.RUNNING and not task.status.state.ended
        return lives and self.up_to_date(task) and self.may_stay(task)

    def put(self, task: Task) -> None:
        self.tasks[task.id] = task
        self._slots = self._stirred = None

    def forget(self, task_id: str) -> None:
        del self.tasks[task_id]
        self._slots = self._stirred = None

    def desire(self, task: Task, state: State) -> None:
        if state > task.desired:
            self.put(replace(task, desired=state, updated=self.now))

    def create(
        self,
        place: int | str,
        desired: State = State.RUNNING,
        spec: TaskSpec | None = None,
        not_before: int = 0,
        restarts: tuple[int, ...] = (),
    ) -> None:
        made = Task(
            id=self.new_id(),
            spec=spec or self.service.spec.task_template,
            service=self.service.id,
            slot=place if isinstance(place, int) else 0,
            node=place if isinstance(place, str) else "",
            desired=desired,
            created=self.now,
            updated=self.now,
            host_ports=self._host_ports(),
            iteration=self.service.job.iteration if self.service.job else None,
            not_before=not_before,
            restarts=restarts,
        )
        self.put(made)

    def up_to_date(self, task: Task) -> bool:
        """Whether it is what the service asks for now. A change of placement alone does not matter where it is met, nor
        does another name and password for the image's registry."""
        asked, ports = self.service.spec.task_template, self._host_ports()
        if task.host_ports != ports:
            return False
        if (alike := self._alike.get(id(task.spec))) is None:
            alike = self._alike[id(task.spec)] = task.spec == asked
        if alike:
            return True
        node = self.nodes.get(task.node)
        return _running(task.spec) == _running(asked) and (node is None or allowed(node, asked))

    def may_stay(self, task: Task) -> bool:
        """Where it is. Its node may never have heard of it: then nobody waits for a node that nobody hears. (A global
        service has nowhere else to go.)"""
        if not task.node:
            return True
        node = self.nodes.get(task.node)
        if task.slot and task.status.state <= State.ASSIGNED and self.silent(task):
            return False
        return node is not None and node.keeps_tasks and allowed(node, self.service.spec.task_template)

    def _host_ports(self) -> tuple[ServicePort, ...]:
        if self._ports is None or self._asked is not self.service:
            self._asked, self._alike, self._stirred = self.service, {}, None
            ports = self.service.ports or self.service.spec.ports
            self._ports = tuple(port for port in ports if port.publish_mode == "host")
        return self._ports

    def wake(self, since: int, wait: int) -> bool:
        """Whether it is not yet ``wait`` after ``since``; then it will be asked again at that time. Where that is much
        further off than the wait itself, somebody's clock was wrong, and nobody waits for it."""
        at = since + wait
        early = self.now < at <= self.now + 2 * wait
        if early:
            self.wakes.append(at)
        return early

    def silent(self, task: Task) -> bool:
        """Its node will not tell that it ended."""
        node = self.nodes.get(task.node)
        return bool(task.node) and (node is None or node.state != "ready")

    def changes(self) -> Changes:
        before = self.before
        put = tuple(t for t in self.tasks.values() if (old := before.get(t.id)) is not t and old != t)
        gone = tuple(task_id for task_id in before if task_id not in self.tasks)
        return Changes(put, gone, None, min(self.wakes, default=None))


def _running(template: TaskSpec) -> TaskSpec:
    """What of it matters to a task that has its place and its image."""
    return replace(template, placement=None, registry=None)


def allowed(node: Node, template: TaskSpec) -> bool:
    """Whether the template's constraints let a task be on that node."""
    placement = template.placement
    return placement is None or constraints.hold(node, placement.constraints or ())
