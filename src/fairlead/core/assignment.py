"""Assignment: what each node is to have, and what of it the node was not told yet.

    task, service, network, secret, config changed --hear--> whom does it concern?  --take--> Assign, for that node

    a node has    its tasks, from ASSIGNED on, as long as there are any records of them
                  what those name that have not ended: their service, networks, secrets, configs
                  every network that anybody may attach a container to, and ingress
                  where the HTTP mesh's HAProxy runs: the certificates that labels of services name

Rules
    1. A node hears of nothing else: nobody's secret is sent where nothing needs it.
    2. A change costs what it concerns: tasks are found by node, nodes by what they hold.
    3. What a node itself told (reports) is not told to it again.
    4. ``take`` looks at what is so now: what came and went between two looks is not mentioned.

What it does not do: send (``swarm.dispatcher``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from fairlead.core import webmesh
from fairlead.core.cluster import Service, State, Task
from fairlead.core.service import LogDriver
from fairlead.core.session import Assign, ServiceView
from fairlead.core.swarmspec import Secret

Ref = tuple[str, str]
"""(tasks | services | networks | secrets | configs, id)"""
KINDS = ("tasks", "services", "networks", "secrets", "configs")


class Board:
    """One node: what it holds and what it was told. ``tasks``: the ones that are its own, kept by ``Boards``."""

    def __init__(self, tasks: dict[str, Task]) -> None:
        self.tasks = tasks
        self.proxies: set[str] = set()
        """tasks of the HTTP mesh that have not ended"""
        self.needed: Counter[Ref] = Counter()
        self.told: set[Ref] = set()
        self.news: dict[Ref, None] = {}
        self.whole = True
        """nothing was told yet"""


class Boards:
    """All nodes. ``find(kind, id)``: the object as it is now, or None.

    ``log_driver``: of tasks that name none.
    """

    def __init__(self, find: Callable[[str, str], Any]) -> None:
        self._find = find
        self._tasks: dict[str, dict[str, Task]] = defaultdict(dict)
        self._boards: dict[str, Board] = {}
        self._holders: dict[Ref, set[str]] = defaultdict(set)
        self._everywhere: set[Ref] = set()
        self._ids: dict[str, str] = {}
        """of secrets, by name"""
        self._named: dict[str, set[str]] = {}
        """service -> secrets (names) that it has HAProxy show as certificates"""
        self._certificates: set[Ref] = set()
        self.log_driver: LogDriver | None = None
        self.data_port = 0

    def tasks(self, node: str) -> list[Task]:
        """All that the node has."""
        return list(self._tasks[node].values()) if node in self._tasks else []

    def hear(self, kind: str, before: Any, after: Any) -> Iterable[str]:
        """Something changed. The nodes that have to be told, of those that are open."""
        match kind:
            case "tasks":
                return self._task(before, after)
            case "networks":
                return self._network((after or before).id, after is not None and _everywhere(after))
            case "services":
                same = before is not None and after is not None and view(before) == view(after)
                return () if same else self._service(before, after)
            case "secrets":
                return self._secret(before, after)
            case "configs":
                return self._concerned((kind, (after or before).id))
        return ()

    # -- nodes -------------------------------------------------------------------------------------------

    def open(self, node: str) -> None:
        """It will be told from now on, all of it first."""
        self.close(node)
        board = self._boards[node] = Board(self._tasks[node])
        for task in board.tasks.values():
            self._need(node, board, needs(task))
            board.news["tasks", task.id] = None
            self._proxy(node, board, task)
        self._need(node, board, self._everywhere)

    def close(self, node: str) -> None:
        board = self._boards.pop(node, None)
        if board is not None:
            self._spare(node, board, list(board.needed.elements()))
            if not self._tasks[node]:
                del self._tasks[node]

    def take(self, node: str) -> Assign | None:
        """What it was not told; None: nothing."""
        board = self._boards[node]
        if not board.news and not board.whole:
            return None
        found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        drop: list[Ref] = []
        for ref in board.news:
            thing = self._shown(board, ref)
            if thing is not None:
                found[ref[0]].append(thing)
                board.told.add(ref)
            elif ref in board.told:
                drop.append(ref)
                board.told.discard(ref)
        whole, board.whole = board.whole, False
        board.news.clear()
        if not whole and not drop and not any(found.values()):
            return None
        port = self.data_port if whole else 0
        given = {kind: tuple(things) for kind, things in found.items()}
        return Assign(whole=whole, drop=tuple(drop), data_port=port, **given)

    def _shown(self, board: Board, ref: Ref) -> Any:
        kind, id = ref
        if kind == "tasks":
            task = board.tasks.get(id)
            if task is None or self.log_driver is None or task.spec.log_driver is not None:
                return task
            return replace(task, spec=replace(task.spec, log_driver=self.log_driver))
        if not board.needed[ref]:
            return None
        thing = self._find(kind, id)
        return view(thing) if kind == "services" and thing is not None else thing

    # -- what changes ------------------------------------------------------------------------------------

    def _task(self, before: Task | None, after: Task | None) -> Iterator[str]:
        old = self._tasks[before.node].get(before.id) if before is not None and before.node in self._tasks else None
        new = after if after is not None and after.node and after.status.state >= State.ASSIGNED else None
        if old is not None and (new is None or new.node != old.node):
            del self._tasks[old.node][old.id]
            if old.node in self._boards:
                yield from self._told_of(old.node, old, None)
            elif not self._tasks[old.node]:
                del self._tasks[old.node]
            old = None
        if new is not None:
            self._tasks[new.node][new.id] = new
            if new.node in self._boards:
                yield from self._told_of(new.node, old, new)

    def _told_of(self, node: str, old: Task | None, new: Task | None) -> Iterator[str]:
        board, task = self._boards[node], new or old
        assert task is not None
        if old is None or new is None or not _alike(old, new):
            board.news["tasks", task.id] = None
        self._need(node, board, needs(new))
        self._spare(node, board, needs(old))
        self._proxy(node, board, new or replace(task, status=replace(task.status, state=State.REMOVE)))
        if board.news:
            yield node

    def _network(self, id: str, everywhere: bool) -> Iterable[str]:
        ref = ("networks", id)
        if everywhere and ref not in self._everywhere:
            self._everywhere.add(ref)
            for node, board in self._boards.items():
                self._need(node, board, (ref,))
        concerned = self._concerned(ref)
        if not everywhere and ref in self._everywhere:
            self._everywhere.remove(ref)
            for node, board in self._boards.items():
                self._spare(node, board, (ref,))
        return concerned

    # -- certificates ------------------------------------------------------------------------------------

    def _service(self, before: Service | None, after: Service | None) -> list[str]:
        service = after or before
        assert service is not None
        self._named.pop(service.id, None)
        if after is not None and (names := webmesh.secrets(after.spec.labels or {})):
            self._named[after.id] = names
        return [*self._concerned(("services", service.id)), *self._certify()]

    def _secret(self, before: Secret | None, after: Secret | None) -> list[str]:
        secret = after or before
        assert secret is not None
        if after is not None:
            self._ids[secret.spec.name] = secret.id
        elif self._ids.get(secret.spec.name) == secret.id:
            del self._ids[secret.spec.name]
        return [*self._concerned(("secrets", secret.id)), *self._certify()]

    def _certify(self) -> Iterator[str]:
        """Nodes with a HAProxy for which the certificates are others now."""
        names = {name for names in self._named.values() for name in names}
        before, now = self._certificates, {("secrets", id) for name, id in self._ids.items() if name in names}
        self._certificates = now
        for node, board in self._boards.items() if before != now else ():
            if board.proxies:
                self._need(node, board, now - before)
                self._spare(node, board, before - now)
                yield node

    def _proxy(self, node: str, board: Board, task: Task) -> None:
        """Whether a node has a HAProxy."""
        container = task.spec.container_spec
        if container is None or container.image != webmesh.IMAGE:
            return
        had = bool(board.proxies)
        (board.proxies.discard if task.status.state.ended else board.proxies.add)(task.id)
        if board.proxies and not had:
            self._need(node, board, self._certificates)
        elif had and not board.proxies:
            self._spare(node, board, self._certificates)

    def _concerned(self, ref: Ref) -> list[str]:
        concerned = list(self._holders.get(ref, ()))
        for node in concerned:
            self._boards[node].news[ref] = None
        return concerned

    def _need(self, node: str, board: Board, refs: Iterable[Ref]) -> None:
        for ref in refs:
            times = board.needed[ref] = board.needed.get(ref, 0) + 1
            if times == 1:
                board.news[ref] = None
                self._holders[ref].add(node)

    def _spare(self, node: str, board: Board, refs: Iterable[Ref]) -> None:
        for ref in refs:
            board.needed[ref] -= 1
            if not board.needed[ref]:
                del board.needed[ref]
                board.news[ref] = None
                self._holders[ref].discard(node)
                if not self._holders[ref]:
                    del self._holders[ref]


def needs(task: Task | None) -> list[Ref]:
    """What a task names, unless it has ended."""
    if task is None or task.status.state.ended:
        return []
    spec = task.spec.container_spec
    found = [("services", task.service)] if task.service else []
    for held in task.networks:
        found.append(("networks", held.network))
    if spec is not None and spec.secrets:
        found += [("secrets", one.secret_id) for one in spec.secrets]
    if spec is not None and spec.configs:
        found += [("configs", one.config_id) for one in spec.configs]
    return found


def view(service: Service) -> ServiceView:
    return ServiceView(
        service.id, service.spec.name, service.spec.labels or {}, addresses=service.addresses, ports=service.ports
    )


def _everywhere(network: Any) -> bool:
    return bool(network.spec.attachable or network.spec.ingress)


def _alike(one: Task, other: Task) -> bool:
    """Whether a node that was told of one need not be told of the other."""
    same = one.spec is other.spec or one.spec == other.spec
    return same and (one.desired, one.networks, one.host_ports, one.labels) == (
        other.desired,
        other.networks,
        other.host_ports,
        other.labels,
    )
