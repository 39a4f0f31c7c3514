"""The swarm's state: every object of the cluster, in memory as it is in the store, and changed only there.

    etcd --list, then watch--> State.nodes, .services, .tasks ... --told--> loops that compare and decide
      ^                                                                         |
      '------------- commit(put, delete): all of it, if nothing changed since --'

    <kind>/<id>              one object, JSON; its version is the store's
    reports/<task>           what the task's node told of it: another hand writes it than the task itself, so that
                             the leader and the nodes never wait for each other
    names/<kind>/<name>      its id: a name belongs to one object of a kind; so do a network's subnets and identifier
    specs/<digest>           what a task is; tasks name it, so that a thousand alike say it once. The leader takes away
                             what none names any more (``keeping``); who names one sees to it that it is there
    written                  with every commit, and with a token of its own: whose watch has come to the last one has
                             heard all (``current``), and knows whether its own was among them; the last key of all,
                             since what is listed anew comes in the order of keys

Rules
    1. A commit holds or fails as a whole; after ``Conflict`` the caller looks again and decides anew.
    2. What this process committed is in memory when ``commit`` returns; what others did comes by the watch, and an
       old value never takes the place of a newer one.
    3. ``guard`` is the leader's key and its version: what it decides fails once another leads.
    4. What cannot be read is passed over, and said: one bad value does not stop the cluster.
    5. A majority that is away for a moment is waited for (``PATIENCE``), unless a leader writes: he decides anew. A
       commit that nobody answered may be written all the same. It is written again only where the watch, which tells
       of every commit, has not told of this one, and never over anything that changed.

What it does not do: decide anything, or know what the objects mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from secrets import token_bytes
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from fairlead.core.cluster import Loan, Node, Report, Service, Task, reported
from fairlead.core.datakeys import Ring
from fairlead.core.remotes import VNI
from fairlead.core.service import TaskSpec
from fairlead.core.swarmspec import Cluster, ConfigFile, Secret, SharedNetwork
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Change, Entry, Ledger, Write

log = logging.getLogger(__name__)

Thing = Cluster | Node | Service | Task | Report | SharedNetwork | Secret | ConfigFile | Loan | Ring
SPECS, NAMES, MARK = "specs", "names", "written"
TRIES, PAUSE = 20, 0.1
PATIENCE, AGAIN = 10.0, 1.5
"""Seconds for an answer of the majority: as long as it takes to elect another leader, or to start our store again. And
for one when there was none a moment ago."""
TOKEN = 16
"""bytes"""
NAMED = ("services", "networks", "secrets", "configs")
"""Kinds in which a name is taken once."""
WORDS = {"services": "service", "networks": "network", "secrets": "secret", "configs": "config"}


class TaskRow(msgspec.Struct, omit_defaults=True):
    """A task as it is stored: its spec by digest, the rest as it is."""

    spec: str
    rest: msgspec.Raw


class Event(NamedTuple):
    """``before`` None: it is new; ``after`` None: it is gone."""

    kind: str
    before: Any
    after: Any


class State:
    """``told`` is called with every event, after the dictionaries show it."""

    def __init__(self, ledger: Ledger, told: Callable[[Event], None] = lambda event: None) -> None:
        self._ledger, self._told = ledger, told
        self.cluster: dict[str, Cluster] = {}
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, Task] = {}
        self.networks: dict[str, SharedNetwork] = {}
        self.secrets: dict[str, Secret] = {}
        self.configs: dict[str, ConfigFile] = {}
        self.loans: dict[str, Loan] = {}
        self.datakeys: dict[str, Ring] = {}
        self.reports: dict[str, Report] = {}
        """of tasks that there are, and of some that were"""
        self._bare: dict[str, Task] = {}
        """tasks as the leader wrote them; ``tasks`` has them with their reports"""
        self._specs: dict[str, tuple[TaskSpec, int]] = {}
        """with the version at which each was written"""
        self._names: dict[str, str] = {}
        """task -> the digest that it names"""
        self._uses: Counter[str] = Counter()
        self._gone: dict[str, int] = {}
        """keys that we deleted -> version, until the watch says so too"""
        self._mark = 0
        self._marked = asyncio.Event()
        self._unsure: dict[bytes, int] = {}
        """tokens of commits that are under way -> the version at which they were heard, 0: not yet"""
        self._silent = False
        """the last question had no answer"""
        self._limits: set[asyncio.Timeout] = set()
        """of those that wait in ``current``"""
        self._seen: list[Entry] = []

    # -- hearing -------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Everything as it is now."""
        self._seen = await self._ledger.list("")
        for entry in sorted(self._seen, key=lambda entry: not entry.key.startswith(SPECS)):
            self._hear(Change(*entry))

    async def run(self) -> None:
        """Goes on hearing, until cancelled."""
        seen, self._seen = self._seen, []
        async for change in self._ledger.watch("", seen):
            self._hear(change)

    async def current(self, within: float | None = None) -> None:
        """Returns when this memory shows every commit, of whichever manager, that had returned before.

        ``within``: seconds, less than ``PATIENCE``, of who can ask elsewhere. ``Unavailable`` when no majority of
        managers can be asked, or the news of it does not come.
        """
        try:
            async with asyncio.timeout(AGAIN if self._silent else within or PATIENCE) as limit:
                self._limits.add(limit)
                last = await self._last()
                while last is not None and self._mark < last.version:
                    self._marked.clear()
                    await self._marked.wait()
            self._silent = False
        except TimeoutError:
            self._silent = self._silent or within is None
            raise Unavailable("this manager has not heard yet what others changed; try again") from None
        finally:
            self._limits.discard(limit)

    def release(self) -> None:
        """Nobody waits any longer in ``current``: this manager ends, or is to be none."""
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)

    async def _last(self) -> Entry | None:
        """The mark of the last commit. The store here may be about to come back, or its majority."""
        while True:
            try:
                return await self._ledger.get(MARK)
            except Unavailable as error:
                log.debug("the managers' store does not answer: %s", error.message)
                await asyncio.sleep(PAUSE)

    def _hear(self, change: Change) -> None:
        if change.key == MARK:
            self._mark = max(self._mark, change.version)
            if change.value in self._unsure:
                self._unsure[change.value] = change.version
            self._marked.set()
            return
        kind, _, id = change.key.partition("/")
        if self._gone.get(change.key, 0) > change.version:
            return
        self._gone.pop(change.key, None)
        try:
            self._keep(kind, id, change.value, change.version)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
            log.error("the value of %s in the cluster's store makes no sense and is passed over: %s", change.key, error)

    def _keep(self, kind: str, id: str, value: bytes | None, version: int) -> None:
        if kind == SPECS:
            if id in self._specs and self._specs[id][1] >= version:
                return
            _set(self._specs, id, None if value is None else (_SPEC.decode(value), version))
            return
        if kind not in _DECODERS:
            return
        shelf = self._bare if kind == "tasks" else getattr(self, kind)
        before = shelf.get(id)
        if before is not None and before.version >= version:
            return
        after = None if value is None else replace(self._decode(kind, id, value), version=version)
        if kind == "tasks" and after is None:
            self._name(id, "")
        _set(shelf, id, after)
        if kind in ("tasks", "reports"):
            kind, before, after = "tasks", self.tasks.get(id), self._bare.get(id)
            after = after and reported(after, self.reports.get(id))
            _set(self.tasks, id, after)
        if before is not None or after is not None:
            self._told(Event(kind, before, after))

    def _decode(self, kind: str, id: str, value: bytes) -> Any:
        if kind != "tasks":
            return _DECODERS[kind].decode(value)
        row = _ROW.decode(value)
        task = replace(_TASK.decode(row.rest), spec=self._specs[row.spec][0])
        self._name(id, row.spec)
        return task

    def _name(self, task: str, spec: str) -> None:
        """The digest that a task names now; "": it is gone."""
        before = self._names.pop(task, "")
        self._uses[before] -= 1
        if not self._uses[before] > 0:
            del self._uses[before]
        if spec:
            self._names[task] = spec
            self._uses[spec] += 1

    # -- telling -------------------------------------------------------------------------------------

    def now(self, thing: Thing) -> Thing | None:
        """As it is by now; None: it is no more."""
        found: Thing | None = getattr(self, _KINDS[type(thing)]).get(thing.id)
        return found

    async def commit(
        self,
        put: Iterable[Thing] = (),
        delete: Iterable[Thing] = (),
        guard: tuple[str, int] | None = None,
        read: Iterable[Thing] = (),
    ) -> int:
        """Writes objects, each over the version that it carries (0: it is new). The new version of all of them.

        ``read``: others that must not have changed. Raises ``Conflict`` (somebody was faster, a name is taken, another
        leads) and ``Unavailable``.
        """
        named: dict[str, int] = {}
        writes = {write.key: write for thing in put for write in self._put(thing, named)}
        for thing in delete:
            writes.update((write.key, write) for write in self._delete(thing))
        if not writes:
            return 0
        guards = [*((_key(thing), thing.version) for thing in read), *named.items()]
        if guard is None:
            version = await self._surely(list(writes.values()), guards)
        else:
            version = await self._ledger.commit([*writes.values(), Write(MARK, b"")], [*guards, guard])
        for write in writes.values():
            self._hear(Change(write.key, write.value, version))
            if write.value is None:
                self._gone[write.key] = version
        return version

    async def _surely(self, writes: list[Write], guards: list[tuple[str, int]]) -> int:
        """The version at which it is written: once, though answers get lost."""
        token, clock = token_bytes(TOKEN), asyncio.get_running_loop().time
        marked = [*writes, Write(MARK, token)]  # last, so that it is heard after what it stands for
        until, doubt = clock() + PATIENCE, False
        self._unsure[token] = 0
        try:
            while True:
                refused: Conflict | None = None
                try:
                    return await self._ledger.commit(marked, guards)
                except Conflict as error:
                    if not doubt:
                        raise
                    refused = error  # by what we wrote ourselves, it may be
                except Unavailable:
                    if clock() >= until:
                        raise
                    await asyncio.sleep(PAUSE)
                doubt = True
                await self.current()
                if heard := self._unsure[token]:
                    return heard
                if refused is not None:
                    raise refused
        finally:
            del self._unsure[token]

    async def change(self, decide: Callable[[], Iterable[Thing]]) -> None:
        """Commits what ``decide`` makes of what is known; again and anew where somebody else was faster."""
        for _ in range(TRIES):
            try:
                await self.commit(decide())
                return
            except Conflict:
                await asyncio.sleep(PAUSE)  # the watch tells us what they wrote
        await self.commit(decide())

    def unused(self) -> set[str]:
        """Digests of specs that no task names."""
        return self._specs.keys() - self._uses.keys()

    async def forget(self, specs: Iterable[str], guard: tuple[str, int]) -> None:
        """Specs that nobody names; one that was written again meanwhile stays. Raises as ``commit``."""
        writes = [Write(f"{SPECS}/{one}", None, self._specs[one][1]) for one in specs if one in self.unused()]
        if writes:
            version = await self._ledger.commit(writes, [guard])
            for write in writes:
                self._hear(Change(write.key, None, version))

    def _put(self, thing: Thing, named: dict[str, int]) -> Iterator[Write]:
        """``named``: gets the specs that are there already, and have to stay."""
        kind = _KINDS[type(thing)]
        if isinstance(thing, Task):
            spec = msgspec.json.encode(thing.spec)
            digest = hashlib.sha256(spec).hexdigest()[:32]
            if self._uses[digest] > 0 and digest in self._specs:
                named[f"{SPECS}/{digest}"] = self._specs[digest][1]
            else:
                yield Write(f"{SPECS}/{digest}", spec)
            bare = replace(thing, spec=_NOTHING, version=0, ran=0)
            rest = msgspec.json.encode(bare)
            yield Write(_key(thing), msgspec.json.encode(TaskRow(digest, msgspec.Raw(rest))), thing.version)
            return
        if kind in NAMED and not thing.version:
            self._free(kind, _name(thing))
            for claim in _claims(kind, thing):
                yield Write(f"{NAMES}/{claim}", thing.id.encode(), 0)
        yield Write(_key(thing), msgspec.json.encode(replace(thing, version=0)), thing.version)

    def _delete(self, thing: Thing) -> Iterator[Write]:
        kind = _KINDS[type(thing)]
        yield Write(_key(thing), None, thing.version)
        if thing.id in self.reports and kind == "tasks":
            yield Write(f"reports/{thing.id}", None)
        if kind in NAMED:
            for claim in _claims(kind, thing):
                yield Write(f"{NAMES}/{claim}", None)

    def _free(self, kind: str, name: str) -> None:
        if any(_name(thing) == name for thing in getattr(self, kind).values()):
            raise Conflict(f"{WORDS[kind]} {name} already exists")


_KINDS: dict[type, str] = {
    Cluster: "cluster",
    Node: "nodes",
    Service: "services",
    Task: "tasks",
    Report: "reports",
    SharedNetwork: "networks",
    Secret: "secrets",
    ConfigFile: "configs",
    Loan: "loans",
    Ring: "datakeys",
}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(type_) for type_, kind in _KINDS.items()}
_TASK = msgspec.json.Decoder(Task)
_ROW = msgspec.json.Decoder(TaskRow)
_SPEC = msgspec.json.Decoder(TaskSpec)
_NOTHING = TaskSpec()


def _set(shelf: dict[str, Any], id: str, value: Any) -> None:
    if value is None:
        shelf.pop(id, None)
    else:
        shelf[id] = value


def _key(thing: Thing) -> str:
    return f"{_KINDS[type(thing)]}/{thing.id}"


def _claims(kind: str, thing: Any) -> Iterator[str]:
    """What belongs to one object, whoever writes first."""
    yield f"{kind}/{_name(thing)}"
    if isinstance(thing, SharedNetwork):
        yield from (f"subnets/{pool.subnet}" for pool in thing.spec.ipam.config)
        yield from (f"vni/{thing.spec.options[option]}" for option in (VNI,) if option in thing.spec.options)


def _name(thing: Any) -> str:
    return str(thing.spec.name)
