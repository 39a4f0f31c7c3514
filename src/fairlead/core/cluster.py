"""The things a swarm consists of: the cluster, its nodes, services and tasks.

    Service --slots--> Task --on--> Node
                        |
                        '- observed state, told by the node    desired state, told by the manager

A *task* is one attempt to run one container in one place. It is never started again: what follows it is a new task in
the same slot. Both its states only move forward, in the order of ``State``: a report of one that lies behind is late.

There may be a hundred thousand tasks. Nothing of them can be part of a circle, so Python need not look for one there
(``gc=False``), and what few of them have is None where it is not, rather than a dictionary for each.

Times are nanoseconds since 1970, as whole numbers (``now`` is an argument everywhere); 0: not yet.
Every object carries ``version``, the number of its last change in the store, which an update has to name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.service import Mode, Platform, Resources, ServicePort, ServiceSpec, TaskSpec

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 25
"""of 36 signs: 129 bits"""


class State(enum.IntEnum):
    """A task's life. Docker's API has the names in lower case."""

    NEW = 0
    PENDING = 1
    """has its addresses, waits for a node"""
    ASSIGNED = 2
    ACCEPTED = 3
    PREPARING = 4
    READY = 5
    """could start; waits until it is wanted"""
    STARTING = 6
    RUNNING = 7
    COMPLETE = 8
    SHUTDOWN = 9
    FAILED = 10
    REJECTED = 11
    """its node cannot run it"""
    REMOVE = 12
    """only desired: when it has ended, forget it"""
    ORPHANED = 13
    """its node was away for so long that nobody waits for it any more"""

    @property
    def text(self) -> str:
        return self.name.lower()

    @property
    def ended(self) -> bool:
        return self > State.RUNNING


class PortStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A port published on the task's own node."""

    protocol: str = "tcp"
    target_port: int = 0
    published_port: int = 0


class TaskStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was last seen of it."""

    state: State = State.NEW
    at: int = 0
    message: str = ""
    error: str = ""
    container_id: str = ""
    pid: int = 0
    exit_code: int = 0
    ports: tuple[PortStatus, ...] = ()


class Report(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a task's node told of it. ``ran``: when it was first seen running."""

    id: str
    status: TaskStatus
    ran: int = 0
    version: int = 0


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A task's or a service's address on a network; addresses with prefix length."""

    network: str
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    driver_opts: dict[str, str] | None = None


class Loan(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Addresses lent to a container that is no task (``docker run --network`` of an attachable one).

    ``id``: of its endpoint. ``wish``: an address it asked for. Without addresses it waits for the leader, or ``error``
    says why it gets none.
    """

    id: str
    node: str
    network: str
    wish: str = ""
    addresses: tuple[str, ...] = ()
    error: str = ""
    version: int = 0

    @property
    def networks(self) -> tuple[Attachment, ...]:
        return (Attachment(self.network, self.addresses),)


class Task(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``slot`` counts from 1; a task of a global service has none (0), its node is its slot."""

    id: str
    spec: TaskSpec
    service: str = ""
    slot: int = 0
    node: str = ""
    desired: State = State.RUNNING
    status: TaskStatus = TaskStatus()
    created: int = 0
    updated: int = 0
    version: int = 0
    networks: tuple[Attachment, ...] = ()
    host_ports: tuple[ServicePort, ...] = ()
    """published on its own node"""
    labels: dict[str, str] | None = None
    iteration: int | None = None
    """of a job: the run it belongs to"""
    restarts: tuple[int, ...] = ()
    """when those before it in its slot were followed up, as far as its restart policy has to count them"""
    not_before: int = 0
    """it becomes desired running at this time: the delay of the restart policy"""
    ran: int = 0
    """when it was first seen running"""
    generic: tuple[dict[str, Any], ...] = ()
    """what it was given of its node's generic resources (``core.generics``)"""

    @property
    def place(self) -> int | str:
        """Its slot, or its node where a service is global."""
        return self.slot or self.node

    @property
    def wanted(self) -> bool:
        """It should run, and may still come to it."""
        return self.desired <= State.RUNNING and not self.status.state.ended

    @property
    def running(self) -> bool:
        return self.status.state == State.RUNNING


class UpdateStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """``state``: updating, paused, completed, rollback_started, rollback_paused, rollback_completed."""

    state: str = ""
    started: int = 0
    completed: int = 0
    message: str = ""


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    iteration: int = 0
    last_execution: int = 0


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """``previous``: the spec before the last update, to roll back to."""

    id: str
    spec: ServiceSpec
    created: int = 0
    updated: int = 0
    version: int = 0
    previous: ServiceSpec | None = None
    update: UpdateStatus | None = None
    job: JobStatus | None = None
    addresses: tuple[Attachment, ...] = ()
    """its virtual addresses, one for each network"""
    ports: tuple[ServicePort, ...] = ()
    """its published ports with the numbers that were chosen for it"""

    @property
    def mode(self) -> Mode:
        return self.spec.mode


class NodeSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """``role``: worker or manager; ``availability``: active, pause or drain."""

    name: str = ""
    labels: dict[str, str] = {}
    role: str = "worker"
    availability: str = "active"


class Plugin(msgspec.Struct, frozen=True, order=True):
    type: str
    name: str


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node says of itself."""

    hostname: str = ""
    platform: Platform = Platform()
    resources: Resources = Resources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    plugins: tuple[Plugin, ...] = ()


class Manager(msgspec.Struct, frozen=True, omit_defaults=True):
    """``reachability``: unknown, unreachable, reachable."""

    leader: bool = False
    reachability: str = "unknown"
    address: str = ""


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """``state``: unknown, down, ready, disconnected; what its dispatcher session shows."""

    id: str
    spec: NodeSpec = NodeSpec()
    description: Description = Description()
    state: str = "unknown"
    message: str = ""
    address: str = ""
    manager: Manager | None = None
    created: int = 0
    updated: int = 0
    version: int = 0
    since: int = 0
    """when it came into its state"""
    attachments: tuple[Attachment, ...] = ()
    """its own address on ingress: what comes in at a published port goes on from there"""
    root: str = ""
    """digest of the root whose key signed the certificate that it showed last"""
    believes: str = ""
    """of a manager: digest of the roots that its member of the store began with"""
    holds: str = ""
    """of a manager: id of the newest data key that is on its disk (``core.datakeys``)"""
    edited: int = 0
    """the version whose spec was replaced last: who saw that one, or one before it, saw another spec"""
    serials: dict[str, int] = {}
    """certificates as a manager that it was given: serial number in hexadecimal -> when it is over, nanoseconds"""

    @property
    def takes_tasks(self) -> bool:
        """New ones."""
        return self.state == "ready" and self.spec.availability == "active"

    @property
    def keeps_tasks(self) -> bool:
        """Those it has."""
        return self.state != "down" and self.spec.availability != "drain"


def new_id(draw: Callable[[int], int]) -> str:
    """25 random signs. ``draw(n)``: a random number below n (the dice are the caller's)."""
    return "".join(ALPHABET[draw(36)] for _ in range(ID_LENGTH))


def forward(old: TaskStatus, new: TaskStatus) -> TaskStatus:
    """What is known after ``new`` was told: never a state behind the one that is known."""
    return new if new.state >= old.state else old


def reported(task: Task, report: Report | None) -> Task:
    """The task with what its node told of it."""
    if report is None:
        return task
    return replace(task, status=forward(task.status, report.status), ran=report.ran)
