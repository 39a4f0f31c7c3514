"""Swarm: what the engine and its faces ask about the swarm that this node is in, or is not. ``swarm.node`` answers.

Membership   is this node in a swarm, how did it come in, how does it get out      works on every node
Control      the objects of the swarm, read and changed                            works on managers
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.model import NetworkRequest
from fairlead.core.protocol import Protocol
from fairlead.errors import FairleadError, Unavailable

if TYPE_CHECKING:
    from fairlead.core.cluster import Node, NodeSpec, Service, Task
    from fairlead.core.findings import Finding
    from fairlead.core.loglines import LogLine
    from fairlead.core.service import ServiceSpec
    from fairlead.core.swarmspec import Cluster, ClusterSpec, ConfigFile, FileSpec, Secret, SharedNetwork
    from fairlead.engine.logs import LogWishes

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
STORE = "--cluster-store and --cluster-advertise daemon configurations are incompatible with swarm mode"
NO_MANAGER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this"
    " command on a manager node or promote the current node to a manager."
)

IN_NONE = "This node is not part of a swarm"


class Local(msgspec.Struct, frozen=True):
    """This node's own view. ``state``: inactive, pending, active, error, locked. ``managers``: node id -> host:port."""

    state: str = "inactive"
    node: str = ""
    address: str = ""
    control: bool = False
    error: str = ""
    managers: dict[str, str] = {}
    cluster: Cluster | None = None
    nodes: int = 0
    """how many there are, and how many of them manage; known to managers"""
    managing: int = 0
    warnings: tuple[str, ...] = ()


def _usual() -> ClusterSpec:
    from fairlead.core.swarmspec import ClusterSpec  # a start need not wait for all that swarms know

    return ClusterSpec()


class InitRequest(msgspec.Struct, frozen=True):
    """Addresses as people write them: ``eth0``, ``192.0.2.1``, with port or without; empty: found by us."""

    listen: str = "0.0.0.0:2377"
    advertise: str = ""
    data_path: str = ""
    data_port: int = 0
    pools: tuple[str, ...] = ()
    subnet_size: int = 0
    force_new_cluster: bool = False
    spec: ClusterSpec = msgspec.field(default_factory=_usual)
    autolock: bool = False
    availability: str = "active"


class JoinRequest(msgspec.Struct, frozen=True):
    listen: str = "0.0.0.0:2377"
    advertise: str = ""
    data_path: str = ""
    remotes: tuple[str, ...] = ()
    token: str = ""
    availability: str = "active"

    def __repr__(self) -> str:
        return f"JoinRequest({self.remotes})"


class ServiceLine(msgspec.Struct, frozen=True):
    """A line that a task said. ``details``: as Docker writes them, whose line it is included."""

    task: Task
    line: LogLine
    details: str


class Control(Protocol):
    """Reads are from this manager's memory (after ``current``: not older than the call); changes are in the store when
    they return.

    ``ref``: id, name, or the beginning of an id. Raises ``NotFound``, ``Conflict``, ``Invalid``, in Docker's words.
    ``version``: that was seen; ``Conflict``-like "update out of sequence" when it is no longer the last.
    """

    async def current(self) -> None:
        """Hears what other managers wrote before now; ``Unavailable`` when no majority of them can be asked."""

    def cluster(self) -> Cluster: ...

    async def update_cluster(
        self, version: int, spec: ClusterSpec, rotate_worker: bool, rotate_manager: bool, rotate_unlock: bool
    ) -> None: ...

    def nodes(self) -> list[Node]: ...

    def node(self, ref: str) -> Node: ...

    async def update_node(self, ref: str, version: int, spec: NodeSpec) -> None: ...

    async def remove_node(self, ref: str, force: bool) -> None: ...

    def services(self) -> list[Service]: ...

    def service(self, ref: str) -> Service: ...

    async def create_service(self, spec: ServiceSpec) -> str:
        """Its id."""

    async def update_service(self, ref: str, version: int, spec: ServiceSpec, back: bool = False) -> None:
        """``back``: to the spec before the last update, whatever ``spec`` says."""

    async def remove_service(self, ref: str) -> None:
        """Its tasks end as their nodes hear of it."""

    def tasks(self) -> list[Task]: ...

    def task(self, ref: str) -> Task: ...

    def logs(self, belongs: Callable[[Task], bool], wishes: LogWishes) -> AsyncIterator[ServiceLine]:
        """What the tasks that belong said; with ``follow`` for ever. ``Unavailable`` at the end, if some is missing."""

    def secrets(self) -> list[Secret]: ...

    def secret(self, ref: str) -> Secret: ...

    async def create_secret(self, spec: FileSpec) -> str: ...

    async def update_secret(self, ref: str, version: int, spec: FileSpec) -> None: ...

    async def remove_secret(self, ref: str) -> None: ...

    def configs(self) -> list[ConfigFile]: ...

    def config(self, ref: str) -> ConfigFile: ...

    async def create_config(self, spec: FileSpec) -> str: ...

    async def update_config(self, ref: str, version: int, spec: FileSpec) -> None: ...

    async def remove_config(self, ref: str) -> None: ...

    def networks(self) -> list[SharedNetwork]: ...

    def network(self, ref: str) -> SharedNetwork: ...

    async def create_network(self, request: NetworkRequest) -> SharedNetwork:
        """With its identifier and address pools; no node has it until a task needs it."""

    async def remove_network(self, ref: str) -> None:
        """Refused while a service or a task is on it."""


class Swarm(Protocol):
    """Membership, and the control that it gives."""

    def local(self) -> Local: ...

    def control(self) -> Control:
        """``Unavailable`` in Docker's words on a node that is no manager."""

    def findings(self) -> Sequence[Finding]:
        """What a manager's doctor says of the swarm."""

    async def init(self, request: InitRequest) -> str:
        """The node's id."""

    async def rehearse(self, request: InitRequest) -> tuple[str, ...]:
        """What ``init`` with ``force_new_cluster`` would do, and what would be lost by it; nothing is done."""

    async def join(self, request: JoinRequest) -> None: ...

    async def leave(self, force: bool) -> None: ...

    async def unlock(self, key: str) -> None: ...

    def unlock_key(self) -> str: ...

    async def run(self) -> None:
        """Until cancelled: be the node that the disk says."""

    async def rest(self) -> None:
        """What goes on without us (etcd) is not to."""


class LateSwarm:
    """A swarm's node that is only made where there is one, or is to be one.

    ``build``: makes it. ``there``: whether the disk says that this machine is in a swarm. ``store``: this engine is of
    a cluster with a store, and then it is in no swarm.
    """

    def __init__(self, build: Callable[[], Swarm], there: Callable[[], bool], *, store: bool = False) -> None:
        self._build, self._there, self._store = build, there, store
        self._node: Swarm | None = None
        self._wanted = asyncio.Event()
        self._runs = asyncio.Event()

    def local(self) -> Local:
        return self._node.local() if self._node else Local()

    def control(self) -> Control:
        if self._node is None:
            raise Unavailable(NOT_A_MANAGER)
        return self._node.control()

    def unlock_key(self) -> str:
        if self._node is None:
            raise Unavailable(NOT_A_MANAGER)
        return self._node.unlock_key()

    def findings(self) -> Sequence[Finding]:
        return self._node.findings() if self._node else ()

    async def init(self, request: InitRequest) -> str:
        self._refuse_store()
        return await (await self._made()).init(request)

    async def rehearse(self, request: InitRequest) -> tuple[str, ...]:
        return await (await self._made()).rehearse(request)

    async def join(self, request: JoinRequest) -> None:
        self._refuse_store()
        await (await self._made()).join(request)

    async def leave(self, force: bool) -> None:
        await (await self._made()).leave(force)

    async def unlock(self, key: str) -> None:
        await (await self._made()).unlock(key)

    async def rest(self) -> None:
        if self._node is not None:
            await self._node.rest()

    async def run(self) -> None:
        """Until cancelled."""
        if self._there():
            self._refuse_store()
            self._wanted.set()
        await self._wanted.wait()
        self._node = self._build()
        self._runs.set()
        await self._node.run()

    def _refuse_store(self) -> None:
        if self._store:
            raise FairleadError(STORE)

    async def _made(self) -> Swarm:
        self._wanted.set()
        await self._runs.wait()
        assert self._node is not None
        return self._node
