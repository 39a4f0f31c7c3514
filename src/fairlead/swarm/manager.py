"""What a manager runs, for as long as it is one.

    etcd ---- State --+-- gate (2377): admission, dispatcher         every manager
    (members)         +-- control                                    every manager
                      '-- leader, roll call, roles, rotation         the one that is elected

Rules
    1. etcd goes on when we end (it votes; what it keeps is the swarm's), and is found again by the next start.
       ``stop`` ends it: this node leaves, is demoted, or is locked.
    2. ``ready`` is set when the state is known. Until then, and without a majority, what needs it says so.
    3. The hosts file of etcd follows the managers' addresses: those in the state, and those noted while there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import Node, new_id
from fairlead.core.session import Hello, Relay
from fairlead.core.swarmspec import Cluster, ClusterSpec
from fairlead.core.tidings import Tiding, tiding
from fairlead.core.tokens import parse_unlock_key
from fairlead.core.written import bracketed, joined
from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.store.base import Ledger
from fairlead.swarm import ca, gate, joining, leader, members, revoking
from fairlead.swarm.control import Control
from fairlead.swarm.control_base import cluster_of
from fairlead.swarm.credentials import Credentials, replace_file
from fairlead.swarm.datakeys import DataKeys
from fairlead.swarm.dispatcher import Dispatcher
from fairlead.swarm.gate import Gate, Stream
from fairlead.swarm.joining import Admission
from fairlead.swarm.keeping import LIFETIME, Keeping
from fairlead.swarm.leader import Guard, Leader
from fairlead.swarm.loans import Loans
from fairlead.swarm.members import RESTARTING, Members, Place
from fairlead.swarm.presence import BEATS, RollCall
from fairlead.swarm.rekeying import Rekeying
from fairlead.swarm.roles import Roles
from fairlead.swarm.rotation import Rotation, belief
from fairlead.swarm.sealedledger import SealedLedger
from fairlead.swarm.servicelogs import ServiceLogs
from fairlead.swarm.sharedstore import SharedVerbs
from fairlead.swarm.state import Event, State, Thing
from fairlead.swarm.succession import Succession

log = logging.getLogger(__name__)

PAUSE = 0.2
TURN, SOON = 30.0, 10.0
"""Seconds after which it is another's turn to start its etcd again though it is not back; and in which it should be."""


class Process(Protocol):
    """``host.child.Child``."""

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    async def restart(self) -> None: ...


class Opened(Protocol):
    """The HTTP client of etcd."""

    async def ask(self, method: str, path: str, body: bytes | None = None, *, again: bool = True) -> Any: ...

    async def close(self) -> None: ...


class Tools(NamedTuple):
    """What the machine gives. ``etcd(argv, place)``: the program, run with a hosts file of ours, in ``place.run``."""

    etcd: Callable[[Callable[[], Sequence[str]], Place], Process]
    open: Callable[[Path], tuple[Opened, Ledger]]
    clock: Callable[[], int]
    now: Callable[[], datetime.datetime]
    draw: Callable[[int], int]
    local: Callable[[str], bool] = lambda ref: False
    """Whether this engine alone has a network of that name or id."""
    tell: Callable[[Tiding], None] = lambda tiding: None
    """An event, for people who listen to this engine."""
    lifetime: int = LIFETIME
    """Of a key of the gossip, in nanoseconds."""
    cut: Callable[[int], object] = lambda port: None
    """Ends every connection to that port of ours. ``Unavailable``: this machine cannot."""


class Beginning(NamedTuple):
    """``others``: whose etcd to join; ``found``: the first objects of a new swarm; ``recover``: alone again."""

    others: tuple[str, ...] = ()
    found: tuple[Thing, ...] = ()
    recover: bool = False


class Manager:
    """``address``: ``host:port`` where others reach this manager."""

    def __init__(self, credentials: Credentials, address: str, place: Place, tools: Tools) -> None:
        self.me = credentials.identity.node
        self._credentials, self.address, self._place, self._tools = credentials, address, place, tools
        self.ready = asyncio.Event()
        self._ears: list[Callable[[Event], None]] = []
        self._beginning = Beginning()
        self._etcd = tools.etcd(self._command, place)
        self._servers, etcd = tools.open(place.run / members.SOCKET)
        self.datakeys = DataKeys(credentials)
        self.ledger = SealedLedger(etcd, self.datakeys)
        self.members = Members(self._servers)
        self.state = State(self.ledger, self._tell)
        shows = credentials.with_pair
        self.admission = Admission(self.state, self.members, tools.clock, tools.now, tools.draw, self._give, shows)
        self.gate = Gate(credentials, self.admission.welcome, tools.now)
        self.control = Control(self.state, tools.clock, tools.draw, tools.local, manages=self._stays)
        self.dispatcher: Dispatcher | None = None
        self.leading = False
        self._resigned = False
        self._standing: asyncio.Task[None] | None = None
        self._heard: dict[str, str] = {}
        """what the state does not know yet"""
        self._moved, self._reload, self._settings = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._revoking = revoking.Revoking(credentials, place.certificates, tools.cut, tools.clock, tools.now)
        self._back_by = 0.0
        """until then, by the loop's clock, our etcd is being started again"""

    @property
    def _began(self) -> Path:
        return self._place.certificates / "began.crt"

    def _begun_with(self) -> str:
        """The roots that our etcd began with."""
        try:
            return self._began.read_text()
        except FileNotFoundError:
            return ""

    @property
    def hosts(self) -> Path:
        return self._place.run / "hosts"

    def cluster(self) -> Cluster:
        return cluster_of(self.state)

    def hear(self, ear: Callable[[Event], None]) -> Callable[[], None]:
        """``ear`` is told every change of the state, until what is returned is called."""
        self._ears.append(ear)
        return lambda: self._ears.remove(ear)

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self, beginning: Beginning = Beginning()) -> None:
        """Until cancelled. Raises ``Unavailable`` when the port is somebody else's."""
        self._beginning = beginning
        self._place.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.rekeyed()
        if self._begun_with() not in ("", self._credentials.notes.roots):
            self._reload.set()  # it went on without us, and we ended before it was started again
        self._revoking.begin()
        (self._place.run / "nsswitch.conf").write_text(members.NAMES)
        self._write_hosts()
        self._answer()
        self.gate.listen(self._credentials.notes.listen)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.gate.run())
                group.create_task(self._etcd.run())
                await self._load(beginning.found)
                self._begin(group)
        finally:
            self.ready.clear()
            self.state.release()
            await self._servers.close()

    async def _load(self, found: tuple[Thing, ...]) -> None:
        """Until the state is known; a new swarm's is made first."""
        while True:
            try:
                await self.state.load()
                if found and not self.state.cluster:
                    await self.state.commit(found)
                if self.state.cluster:
                    return
            except Unavailable as error:
                log.debug("the managers' state is not there yet: %s", error.message)
            await asyncio.sleep(PAUSE)

    def _begin(self, group: asyncio.TaskGroup) -> None:
        self.dispatcher = Dispatcher(
            self.state, self.ledger, self.me, self._connect, self._renew, self._tools.clock, self.resting
        )
        self.dispatcher.verbs |= {**SharedVerbs(self.ledger).served, **Loans(self.state, self.hear).served}
        self.control.fetch = ServiceLogs(self.state.tasks.values, self.dispatcher.call, self.hear).read
        self.hear(self.dispatcher.hear)
        self._follow(Event("cluster", None, self.cluster()))
        self.hear(self._follow)
        self.hear(self._herald)
        self.hear(self.datakeys.hear)
        group.create_task(self.state.run())
        group.create_task(self.datakeys.run(self.state))
        group.create_task(self.dispatcher.run())
        self._standing = group.create_task(leader.stand(self.ledger, self.me, self._lead))
        group.create_task(Succession(self.ledger, self.members, self._others, self._sign).run())
        group.create_task(self._tell_address())
        group.create_task(self._follow_roots())
        group.create_task(self._stay_strict())
        self.ready.set()

    def _herald(self, event: Event) -> None:
        told = tiding(event.before, event.after)
        if told is not None:
            self._tools.tell(told)

    async def resign(self) -> None:
        """Leads no more, now or later: somebody else can at once."""
        if self._standing is not None:
            self._standing.cancel()
            await asyncio.wait([self._standing])

    async def stop(self) -> None:
        """etcd ends. (``run`` was cancelled before.)"""
        await self._etcd.stop()

    def _command(self) -> list[str]:
        """Asked before every start of etcd."""
        members.clear(self._place)
        replace_file(self._began, self._credentials.notes.roots.encode())
        others, _, recover = self._beginning
        self._beginning = self._beginning._replace(recover=False)  # the others: until etcd has data of its own
        host, _ = gate.parted(self._credentials.notes.listen)
        return members.command(self.me, self._place, bracketed(host), others, recover=recover)

    # -- what the port answers ---------------------------------------------------------------------------------------

    def _answer(self) -> None:
        self.admission.answer_at(self.gate)
        self.gate.on(Hello, self._session, gate.NODES)
        self.gate.on(Relay, self._relay, gate.MANAGERS)

    async def _session(self, stream: Stream, hello: Hello) -> None:
        dispatcher = self._dispatching()
        await self._note_root(stream)
        await dispatcher.session(stream, hello)

    async def _note_root(self, stream: Stream) -> None:
        """Of which root a node's certificate is."""
        if stream.identity is None or stream.certificate is None:
            return
        id, trust = stream.identity.node, self.cluster().trust
        signs = [root for root in (trust.next_root, trust.root) if root]
        found = next((root for root in signs if ca.signed_with(stream.certificate, root.encode())), "")

        def told() -> Iterable[Node]:
            node = self.state.nodes.get(id)
            if node and found and node.root != (digest := tokens.digest(found.encode())):
                yield replace(node, root=digest)

        await self.state.change(told)

    async def _relay(self, stream: Stream, asked: Relay) -> Any:
        return await self._dispatching().relay(stream, asked)

    def _dispatching(self) -> Dispatcher:
        if self.dispatcher is None:
            raise Unavailable("this manager does not know its swarm yet")
        return self.dispatcher

    async def _give(self, node: str) -> dict[str, bytes]:
        return await self.datakeys.give(self.state, node)

    async def _connect(self, address: str) -> Stream:
        return await gate.open(address, self._credentials)

    def _renew(self, stream: Any, node: Node) -> bool:
        """Another role, or another root."""
        if stream.identity is None or stream.certificate is None:
            return False
        signs = joining.signing_root(self.cluster())
        return stream.identity.role != node.spec.role or not ca.signed_with(stream.certificate, signs.encode())

    # -- the one that leads ------------------------------------------------------------------------------------------

    async def _lead(self, guard: Guard) -> None:
        """With other settings, the parts that know them begin anew. Returns when this node leads no more by itself."""
        self._resigned = False
        while not self._resigned:
            self._settings.clear()
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(self._lead_with(self.cluster().spec, guard))
                await self._settings.wait()
                leading.cancel()

    async def _lead_with(self, spec: ClusterSpec, guard: Guard) -> None:
        clock = self._tools.clock
        history = spec.orchestration.task_history_retention_limit
        decides = Leader(self.state, clock, lambda: new_id(self._tools.draw), 5 if history is None else history)
        grace = BEATS * spec.dispatcher.heartbeat_period / 1e9
        calls = RollCall(self.state, self.ledger, self.me, self._dispatching().boards.tasks, clock, grace)
        keeping = Keeping(self.state, self.ledger, clock, self._fresh_key, lifetime=self._tools.lifetime)
        rekeying = Rekeying(
            self.state, self.ledger, self.members, self.datakeys, self.me, clock, self._fresh_key, self._resign
        )
        parts = (decides, calls, Roles(self.state, self.members), Rotation(self.state), keeping, rekeying)
        with contextlib.ExitStack() as ears:
            for part in parts:
                ears.callback(self.hear(part.hear))
            self.leading = True
            ears.callback(setattr, self, "leading", False)
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part.lead(guard))

    def _resign(self) -> None:
        self._resigned = True
        self._settings.set()

    def _fresh_key(self) -> bytes:
        return bytes(self._tools.draw(256) for _ in range(32))

    # -- what follows from the state ---------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        for ear in tuple(self._ears):
            ear(event)

    def _follow(self, event: Event) -> None:
        """Where managers are; whom we believe, and no more; with what our key is sealed."""
        if event.kind == "cluster" or (event.kind == "nodes" and (event.after or event.before).serials):
            self._revoke()
        if event.kind == "nodes":
            self._dismiss(event.before, event.after)
            if event.after is not None and event.after.id == self.me and event.after.spec.role != "manager":
                self._demoted()
            if (event.before and event.before.manager) != (event.after and event.after.manager):
                self._heard.pop((event.after or event.before).id, None)
                self._credentials.note(managers=self.admission.managers())
                self._write_hosts()
        elif event.kind == "cluster" and event.after is not None:
            cluster: Cluster = event.after
            before: Cluster = event.before or cluster
            if _settings(before.spec) != _settings(cluster.spec):
                self._settings.set()
            self._credentials.note(era=cluster.era)
            if self._credentials.believe(cluster.trust.roots):
                self.rekeyed()
            locks = cluster.spec.encryption_config.auto_lock_managers
            self._credentials.seal(parse_unlock_key(cluster.unlock_key) if locks else b"")

    def _demoted(self) -> None:
        """While our etcd can still be told so, the next leader need not wait for our lease to end."""
        if self._standing is not None:
            self._standing.cancel()
        self.state.release()

    def _stays(self) -> bool:
        """Whether this node is a manager by its certificate, and for all that it has heard is to remain one."""
        node = self.state.nodes.get(self.me)
        return self._credentials.identity.role == "manager" and (node is None or node.spec.role == "manager")

    def rekeyed(self) -> None:
        """Our credentials have changed. etcd reads its certificate for every connection, the roots when it starts."""
        if self._credentials.files(self._place.certificates):
            self._reload.set()

    def _dismiss(self, before: Node | None, after: Node | None) -> None:
        """What it has open ends, as far as it may not begin it any more."""
        if before is not None and after is None:
            self.gate.dismiss(before.id)
        elif before is not None and after is not None and before.spec.role != after.spec.role:
            self.gate.dismiss(after.id, still=gate.NODES)

    def _revoke(self) -> None:
        self._revoking.look(self.cluster(), self.state.nodes.values())

    async def _stay_strict(self) -> None:
        """Certificates end with time, too."""
        while True:
            await asyncio.sleep(revoking.LOOK)
            try:
                self._revoke()
            except FairleadError as error:
                log.error("whom etcd may let in is written down later: %s", error.message)

    async def _follow_roots(self) -> None:
        """Starts etcd anew, one manager at a time, when it has to believe others."""
        while True:
            with contextlib.suppress(Conflict, Unavailable):
                await self._tell_belief()
                break
            await asyncio.sleep(PAUSE)
        while True:
            await self._reload.wait()
            try:
                lease = await self.ledger.lease(TURN)
                await self.ledger.put_if(RESTARTING, self.me.encode(), 0, lease)
            except (Conflict, Unavailable):
                await asyncio.sleep(PAUSE)
                continue
            self._reload.clear()
            log.info("the managers' store is started again, with the roots that are believed now")
            self._back_by = asyncio.get_running_loop().time() + SOON
            await self._etcd.restart()
            while True:
                await asyncio.sleep(PAUSE)
                with contextlib.suppress(Conflict, Unavailable):
                    await self.members.list()
                    self._back_by = 0.0
                    await self._tell_belief()
                    await lease.end()
                    break

    def resting(self) -> bool:
        """Whether our etcd, which does not answer, is about to."""
        return asyncio.get_running_loop().time() < self._back_by

    async def _tell_belief(self) -> None:
        """Which roots our etcd began with."""
        believed = belief(self._begun_with())

        def told() -> Iterable[Node]:
            node = self.state.nodes.get(self.me)
            if node and node.believes != believed:
                yield replace(node, believes=believed)

        await self.state.change(told)

    def move(self, address: str) -> None:
        """From now on others reach this manager there."""
        self.address = address
        self._write_hosts()
        self._moved.set()

    async def _tell_address(self) -> None:
        """Writes it down, now and whenever it changes."""
        while True:
            self._moved.clear()
            try:
                await self.admission.moved(self.me, self.address)
            except (Conflict, Unavailable) as error:
                log.debug("our address is not written down yet: %s", error.message)
                await asyncio.sleep(PAUSE)
                continue
            await self._moved.wait()

    def heard(self, node: str, address: str) -> None:
        """Another manager says itself where it is."""
        self._heard[node] = address
        self._write_hosts()

    def places(self) -> list[str]:
        """Where there may be nodes that have to know where we are."""
        nodes = [joined(node.address, gate.PORT) for node in self.state.nodes.values() if node.address]
        return [*nodes, *self._credentials.notes.managers.values()]

    async def majority(self) -> bool:
        """Whether it can decide anything, just now, or as soon as its store is back."""
        try:
            async with asyncio.timeout(SOON):
                await self.ledger.get(leader.KEY)
            return True
        except (Unavailable, TimeoutError):
            return self.resting()

    def _known(self) -> dict[str, str]:
        """Where every manager is."""
        return self._credentials.notes.managers | self.admission.managers() | self._heard | {self.me: self.address}

    def _others(self) -> dict[str, str]:
        return {node: address for node, address in self._known().items() if address and node != self.me}

    async def _sign(self, address: str) -> object:
        return await joining.era(address, self._credentials)

    def _write_hosts(self) -> None:
        """In place: it is mounted where etcd runs."""
        known = self._known()
        text = members.hosts({node: gate.parted(address)[0] for node, address in known.items() if address})
        if not self.hosts.exists() or self.hosts.read_text() != text:
            self.hosts.write_text(text)


def _settings(spec: ClusterSpec) -> tuple[object, ...]:
    """What the leader's parts are made with."""
    return spec.orchestration, spec.dispatcher
