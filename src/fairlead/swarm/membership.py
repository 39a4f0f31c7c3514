"""A node's life in a swarm, from its certificate to its leaving: what it runs follows from what the certificate says.

    worker       agent                                   a session with any manager
    manager      agent, and etcd, gate, ... (manager)    joins the managers' etcd when it has no data of its own yet

    Command.renew, or time --> another certificate --> another role? the manager's part begins or ends

Rules
    1. A certificate is renewed after between half and four fifths of its life, at a moment drawn anew each time, and
       tried again every few seconds if nobody gives one.
    2. Who is a manager no more ends etcd and forgets its data; who is locked runs nothing that needs the key.
    3. The address that others use follows the machine: what was given as an interface, or not at all, is looked at
       again and again; an address that was this machine's and is no more, too.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from fairlead.core import nodeaddresses, quorum
from fairlead.core.datakeys import ZERO
from fairlead.core.session import Command, Issued
from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.swarm import ca, gate, joining
from fairlead.swarm.beacon import HERE, SEEK, Beacon
from fairlead.swarm.ca import Identity
from fairlead.swarm.credentials import Credentials
from fairlead.swarm.gate import Stream
from fairlead.swarm.manager import Beginning, Manager, Tools
from fairlead.swarm.members import Place
from fairlead.swarm.state import Event

log = logging.getLogger(__name__)

AGAIN, SOON = 3.0, 0.3
"""seconds between attempts; and where others only have to be done first"""
LOOK = 2.0
"""seconds between looks at our addresses"""
TELL = 30.0
"""seconds for which a manager that moved says so"""
BRIEF, LOOK_ROUND = 2.0, 20.0
"""seconds for another manager to answer; between rounds of asking all of them"""
LONGEST = 600.0
"""seconds between looks at the certificate: clocks may jump"""
GOODBYE = 8.0
COUNTED = 5.0
"""seconds that a new swarm may take to see that its first node is there"""

EXPIRED = "Swarm certificates have expired. To replace them, leave the swarm and join again."

Here = Callable[[], Iterable[tuple[str, str]]]
"""(device, "192.0.2.1/24") of this machine."""


class Agent(Protocol):
    """The node's side of a session, and what it runs (``swarm.agent``)."""

    async def run(self) -> None: ...

    def renewed(self) -> None:
        """There is another certificate: say hello with it."""

    async def leave(self) -> None:
        """Say goodbye, and take away what was assigned."""

    async def connected(self) -> None:
        """Returns when there is a session."""

    @property
    def trouble(self) -> str:
        """Why there is none."""


class Membership:
    """``beginning``: how etcd starts, where this start is a special one."""

    def __init__(
        self,
        place: Place,
        credentials: Credentials,
        tools: Tools,
        here: Here,
        agent: Callable[[Membership], Agent],
        beginning: Beginning | None = None,
    ) -> None:
        self.credentials, self.node = credentials, credentials.identity.node
        self._place, self._tools, self._here, self._beginning = place, tools, here, beginning
        self.manager: Manager | None = None
        self.agent = agent(self)
        self.address = ""
        self.error = ""
        self.decides = True
        """a majority of managers could be asked a moment ago"""
        self._role_changed = asyncio.Event()
        self._renew = asyncio.Event()
        self._tried = asyncio.Event()
        """the manager's part is ready, or has failed once"""
        self._moved = -TELL
        """when we came to our address, by the loop's clock"""
        self.beacon = Beacon(credentials, here, tools.clock, self._heard)
        self._find_address()

    @property
    def manages(self) -> bool:
        return self.credentials.identity.role == "manager"

    async def run(self) -> None:
        """Until cancelled; etcd goes on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._be())
            group.create_task(self._stay_valid())
            group.create_task(self._stay_reachable())
            group.create_task(self._stay_current())
            group.create_task(self.beacon.run())
            group.create_task(self._be_found())
            group.create_task(self.agent.run())

    async def tried(self) -> None:
        """Until the manager's part is ready; raises why it is not."""
        await self._tried.wait()
        if self.error:
            raise Unavailable(self.error)

    def failed(self, why: str) -> None:
        self.error = why
        self._tried.set()

    async def settled(self) -> None:
        """Until this node is what its certificate says; raises why it is not."""
        if self.manages:
            await self.tried()
        await self.agent.connected()

    # -- being a manager, or not -------------------------------------------------------------------------------------

    async def _be(self) -> None:
        while True:
            self._role_changed.clear()
            if not self.manages:
                await self._forget()
                self.credentials.keep_data_keys({})
                await self._role_changed.wait()
                continue
            try:
                await self._manage()
            except* Conflict as group:
                log.info("not a manager yet, others come first: %s", _first(group).message)
                await asyncio.sleep(SOON)
            except* FairleadError as group:
                self.failed(_first(group).message)
                log.error("this node cannot manage its swarm now: %s", self.error)
                await asyncio.sleep(AGAIN)

    async def _manage(self) -> None:
        """Until the role changes."""
        beginning, self._beginning = self._beginning, None
        if beginning is None and await self._outlived():
            return
        if beginning is None:
            beginning = Beginning() if any(self._place.data.glob("member")) else await self._enrolled()
        manager = Manager(self.credentials, self.address, self._place, self._tools)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(manager.run(beginning))
            self.manager = manager
            waiting = group.create_task(self._ready(manager))
            try:
                while self.manages:
                    await self._role_changed.wait()
                    self._role_changed.clear()
                await manager.stop()
            finally:
                self.manager = None
                running.cancel()
                waiting.cancel()

    async def _outlived(self) -> bool:
        """Whether the swarm was begun anew without us; then this node is what the others say."""
        addresses = self._others()
        eras = await asyncio.gather(*(self._era(address) for address in addresses))
        newer = [address for address, era in zip(addresses, eras, strict=True) if era > self.credentials.notes.era]
        if not newer:
            return False
        log.warning("the swarm was begun anew while this manager was away")
        await self._take(*await joining.renew(newer, self.credentials))
        return not self.manages

    async def _era(self, address: str) -> int:
        try:
            async with asyncio.timeout(BRIEF):
                return await joining.era(address, self.credentials)
        except (FairleadError, TimeoutError):
            return 0

    async def _stay_current(self) -> None:
        """Managers that were cut off while the swarm was begun anew hear of it when they are not any more."""
        while True:
            await asyncio.sleep(LOOK_ROUND)
            if self.manager is not None:
                try:
                    await self._outlived()
                except FairleadError as error:
                    log.info("the swarm was begun anew, but has nothing to say to this manager: %s", error.message)

    async def _ready(self, manager: Manager) -> None:
        await manager.ready.wait()
        self.error = ""
        self._tried.set()

    async def _enrolled(self) -> Beginning:
        """How etcd is to start, once the other managers know of us."""
        found = await joining.enroll(self._others(), self.address, self.credentials)
        self.credentials.note(managers=found.members)
        self.credentials.keep_data_keys(found.keys | ({ZERO: found.key} if found.key else {}))
        return Beginning(others=tuple(node for node in found.members if node != self.node))

    async def _forget(self) -> None:
        """What a manager leaves behind when it is none any more."""
        await self.rest()
        for folder in self._place:
            shutil.rmtree(folder, ignore_errors=True)

    async def rest(self) -> None:
        """etcd, of this life or of one before, runs no more."""
        await self._tools.etcd(list, self._place).stop()

    # -- certificates ------------------------------------------------------------------------------------------------

    async def _stay_valid(self) -> None:
        share = self._share()
        while True:
            now = self._tools.now()
            if self.error == EXPIRED and not self.credentials.expired(now):
                self.error = ""
            if self._renew.is_set() or self.credentials.outdated(now, share):
                self._renew.clear()
                try:
                    await self._take(*await self._renewed())
                    share = self._share()
                except FairleadError as error:
                    log.warning("no other certificate yet: %s", error.message)
                    if self.credentials.expired(now):
                        self.failed(EXPIRED)
                    self._renew.set()
                    await asyncio.sleep(AGAIN)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self.credentials.seconds_left(now, share, LONGEST)):
                    await self._renew.wait()

    async def _renewed(self) -> tuple[Issued, bytes]:
        """From other managers, whose clocks are theirs. The only one there is asks itself, without a word on the wire:
        it has to get one though its clock was wrong when it got its last."""
        manager = self.manager
        if manager is None or not manager.ready.is_set() or self._others():
            return await joining.renew(self._others(), self.credentials)
        key, request = ca.new_request()
        return await manager.admission.renewed(self.credentials.identity, request.decode()), key

    async def _take(self, issued: Issued, key: bytes) -> None:
        before = self.manages
        self.credentials.renewed(issued, key)
        if self.manager is not None:
            self.manager.rekeyed()
        if before != self.manages:
            log.info("this node is a %s from now on", self.credentials.identity.role)
            self._role_changed.set()
        self.agent.renewed()

    def _share(self) -> float:
        return 0.5 + self._tools.draw(300) / 1000

    def commanded(self, command: Command) -> None:
        """A manager says how things are."""
        if command.managers:
            self.credentials.note(managers=command.managers)
        if self.credentials.believe(command.roots) and self.manager is not None:
            self.manager.rekeyed()
        if command.renew:
            self._renew.set()

    # -- addresses ---------------------------------------------------------------------------------------------------

    async def _stay_reachable(self) -> None:
        while True:
            before = self.address
            self._find_address()
            if before != self.address:
                self._moved = asyncio.get_running_loop().time()
            if self.manager is not None and (before != self.address or self.manager.address != self.address):
                log.info("this manager is at %s from now on", self.address)
                self.manager.move(self.address)
            await asyncio.sleep(LOOK)

    async def _be_found(self) -> None:
        """Says where we are, or asks where managers are, for as long as that is not known."""
        while True:
            await asyncio.sleep(LOOK)
            manager = self.manager
            if manager is not None:
                moved = asyncio.get_running_loop().time() - self._moved < TELL
                self.decides = await manager.majority()
                if moved or not self.decides:
                    self.beacon.say(HERE, self.address, manager.places())
            elif self.agent.trouble:
                self.beacon.say(SEEK, self.address, self._others())

    def _heard(self, kind: str, who: Identity, address: str, sender: tuple[str, int]) -> None:
        if kind == SEEK and self.manager is not None:
            self.beacon.answer(self.address, sender)
        known = self.credentials.notes.managers
        if kind != HERE or who.role != "manager" or who.node not in known:  # it may have been removed
            return
        if known[who.node] != address:
            log.info("manager %s is at %s now", who.node, address)
            self.credentials.note(managers={**known, who.node: address})
        if self.manager is not None:
            self.manager.heard(who.node, address)

    def _find_address(self) -> None:
        """Where others reach this node; as before, while that is not clear."""
        notes, here = self.credentials.notes, list(self._here())
        gone = notes.device and not nodeaddresses.device_of(notes.advertise, here)
        for wish in (notes.device, "") if gone else (notes.advertise,):
            try:
                self.address = nodeaddresses.advertise(wish, notes.listen, here)
                return
            except FairleadError as error:
                log.debug("where others reach this node is not clear: %s", error.message)
        self.address = self.address or notes.managers.get(self.node, "")

    def _others(self) -> list[str]:
        """Addresses of other managers, in an order drawn anew."""
        known = self.credentials.notes.managers
        places = [address for node, address in known.items() if node != self.node]
        for at in range(len(places) - 1, 0, -1):
            other = self._tools.draw(at + 1)
            places[at], places[other] = places[other], places[at]
        return places

    async def connect(self) -> Stream:
        """A stream to a manager: to ourselves if we are one, else to any."""
        if self.manages:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._tried.wait()
        own = self.manager is not None and self.manager.ready.is_set()
        trouble: FairleadError = Unavailable("this node knows no manager of its swarm")
        for address in [*([self.address] if own else []), *self._others()]:
            try:
                return await gate.open(address, self.credentials)
            except FairleadError as error:
                trouble = error
        raise trouble

    # -- the end -----------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Says goodbye, as far as anybody listens. (``run`` goes on: it is cancelled after this, then ``erase``.)"""
        with suppress(FairleadError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self.agent.leave()
        manager = self.manager
        if manager is None:
            return
        await manager.resign()
        with suppress(FairleadError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await take_off(manager, self.node)


async def counted(manager: Manager, node: str) -> None:
    """Until the list of nodes has this one as ready, or ``COUNTED`` seconds: whoever asks next is told so."""
    ready = asyncio.Event()

    def look(event: Event | None = None) -> None:
        found = manager.state.nodes.get(node)
        if found is not None and found.state == "ready":
            ready.set()

    deaf = manager.hear(look)
    look()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(COUNTED):
                await ready.wait()
    finally:
        deaf()


async def take_off(manager: Manager, node: str) -> None:
    """Its vote goes with it, unless the others would have no majority then. Raises as etcd does; that our own is being
    started again is waited for: a vote that nobody has would be missed by everybody."""
    while True:
        try:
            voters = [member.node for member in await manager.members.list() if not member.learner]
            nodes = manager.state.nodes
            others = [nodes[voter] for voter in voters if voter in nodes and voter != node]
            up = 1 + sum(bool(other.manager and other.manager.reachability == "reachable") for other in others)
            if len(voters) > 1 and not quorum.refusal(len(voters), up, "", leaver_reachable=True):
                await manager.admission.strike(node)
            return
        except (Conflict, Unavailable):
            if not manager.resting():
                raise
        await asyncio.sleep(SOON)


def _first(group: BaseException) -> FairleadError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, FairleadError) else Unavailable(str(error))
