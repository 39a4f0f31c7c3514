"""This machine as a node: in no swarm, or in one. What people type comes in here (``engine.swarm.Swarm``).

    init, join  -->  credentials on disk, a Membership that runs      <data>/swarm/   node.json, etcd/
    leave       -->  goodbye, nothing of it is left                   <exec>/swarm/   what must not outlive a power cut
    a start     -->  the Membership that the disk says, or "locked"

Rules
    1. One of init, join, leave, unlock at a time.
    2. An init or a join that fails leaves this machine as it was. A join whose manager takes its time goes on by
       itself.
    3. What would cost the swarm its state or its majority is refused without ``--force``, in Docker's words.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core import nodeaddresses, quorum, tokens
from fairlead.engine.swarm import IN_NONE, NO_MANAGER, NOT_A_MANAGER, Control, InitRequest, JoinRequest, Local
from fairlead.errors import Conflict, FairleadError, Forbidden, Internal, Invalid, Unavailable
from fairlead.swarm import founding, joining, recovery
from fairlead.swarm.control_base import NO_LEADER
from fairlead.swarm.credentials import Credentials, Notes
from fairlead.swarm.manager import Beginning, Manager, Tools
from fairlead.swarm.members import Place
from fairlead.swarm.membership import AGAIN, Agent, Here, Membership, counted

if TYPE_CHECKING:
    from fairlead.core.findings import Finding

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""seconds until a join goes on without anybody waiting for it; an init fails"""
IN_ONE = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
LOCKED = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
)
TIMED_OUT = (
    "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the"
    ' "docker info" command to see the current swarm status of your node.'
)
AS_MANAGER = "You are attempting to leave the swarm on a node that is participating as a manager. "
LAST = "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
RESTORE = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use"
    " `--force` to suppress this message."
)


class SwarmNode:
    """``data``, ``run``: folders of ours. ``created``: the time of day, as networks have it."""

    def __init__(
        self,
        data: Path,
        run: Path,
        tools: Tools,
        here: Here,
        agent: Callable[[Membership], Agent],
        created: Callable[[], str],
    ) -> None:
        self._data, self._tools, self._here, self._agent, self._created = data, tools, here, agent, created
        self._place = Place(data / "etcd", run / "etcd", run / "certificates")
        self._turn = asyncio.Lock()
        self._started = asyncio.Event()
        self._member: Membership | None = None
        self._life: asyncio.Task[None] | None = None
        self._locked: Credentials | None = None
        self._group: asyncio.TaskGroup | None = None
        self._error = ""

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: be the node that the disk says."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                if credentials := Credentials.read(self._file):
                    await self._resume(credentials)
            except FairleadError as error:
                self._error = error.message
                log.error("this node cannot be in its swarm: %s", error.message)
            self._started.set()
            await asyncio.Event().wait()

    @property
    def _file(self) -> Path:
        return self._data / "node.json"

    async def _resume(self, credentials: Credentials) -> None:
        if credentials.locked:
            self._locked = credentials
            await self.rest()
            log.warning("the swarm is locked: docker swarm unlock")
        else:
            self._begin(credentials)

    def _begin(self, credentials: Credentials, beginning: Beginning | None = None) -> Membership:
        assert self._group is not None, "run comes first"
        member = Membership(self._place, credentials, self._tools, self._here, self._agent, beginning)
        self._member, self._life = member, self._group.create_task(_live(member))
        return member

    async def _end(self) -> None:
        """The membership runs no more, and etcd neither."""
        life, self._life, self._member = self._life, None, None
        if life is not None:
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life
        await self.rest()

    async def _clear(self) -> None:
        """What an attempt that was cut short may have left is gone."""
        await self.rest()
        self._wipe()

    def _wipe(self) -> None:
        """Nothing of a swarm is left on this machine."""
        self._file.unlink(missing_ok=True)
        for folder in self._place:
            shutil.rmtree(folder, ignore_errors=True)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else comes or goes meanwhile, and what the disk says is so."""
        await self._started.wait()
        async with self._turn:
            yield

    async def rest(self) -> None:
        """Nothing of this goes on without us, and our key lies nowhere but in its file."""
        await self._tools.etcd(list, self._place).stop()
        shutil.rmtree(self._place.certificates, ignore_errors=True)

    # -- what is asked -----------------------------------------------------------------------------------------------

    def local(self) -> Local:
        if self._locked is not None:
            return Local(state="locked", node=self._locked.identity.node)
        member = self._member
        if member is None:
            return Local(state="error", error=self._error) if self._error else Local()
        manager = member.manager
        control = manager is not None and manager.ready.is_set()
        shown = Local(
            state="error" if member.error else "active" if control or not member.manages else "pending",
            node=member.node,
            address=member.address.rpartition(":")[0].strip("[]"),
            control=control,
            error=member.error
            or ("" if control or manager is None else manager.datakeys.trouble)
            or ("" if member.decides or not control else f"rpc error: code = Unknown desc = {NO_LEADER}"),
            managers=member.credentials.notes.managers,
        )
        if manager is None or not control:
            return shown
        managing = [node for node in manager.state.nodes.values() if node.spec.role == "manager"]
        return replace(
            shown,
            cluster=manager.cluster(),
            nodes=len(manager.state.nodes),
            managing=len(managing),
            warnings=_warnings(len(managing)),
        )

    def _managing(self) -> Membership:
        """``Unavailable`` in Docker's words, when this node manages nothing."""
        if self._locked is not None:
            raise Unavailable(LOCKED)
        if self._member is None:
            raise Unavailable(NOT_A_MANAGER)
        if not self._member.manages:
            raise Unavailable(NO_MANAGER)
        return self._member

    @property
    def manager(self) -> Manager:
        """``Unavailable`` until the swarm's state is known, too."""
        manager = self._managing().manager
        if manager is None or not manager.ready.is_set():
            raise Unavailable(f"rpc error: code = Unknown desc = {NO_LEADER}")
        return manager

    def control(self) -> Control:
        return self.manager.control

    def findings(self) -> Sequence[Finding]:
        from fairlead.swarm.findings import findings  # what only a doctor asks

        manager = self._member.manager if self._member else None
        known = manager is not None and manager.ready.is_set()
        return list(findings(manager.state, self._tools.clock())) if manager and known else ()

    def unlock_key(self) -> str:
        return self.manager.cluster().unlock_key

    # -- in and out --------------------------------------------------------------------------------------------------

    async def init(self, request: InitRequest) -> str:
        async with self._alone():
            if request.force_new_cluster and self._member is not None:
                return await self._recover()
            self._outside()
            here = list(self._here())
            listen = nodeaddresses.listen(request.listen, here)
            address = nodeaddresses.advertise(request.advertise, listen, here)
            data_path = nodeaddresses.data_path(request.data_path, here)
            first = founding.found(request, address, self._created(), self._tools)
            notes = Notes(
                certificate=first.certificate,
                key=first.key,
                data_keys=first.data_keys,
                roots=first.root,
                listen=listen,
                data_path=data_path,
                managers={first.node: address},
                advertise=request.advertise or address,
                device=nodeaddresses.device_of(request.advertise or address, here),
            )
            credentials = Credentials(self._file, notes)
            return await self._founded(credentials, Beginning(found=first.objects))

    async def _founded(self, credentials: Credentials, beginning: Beginning) -> str:
        await self._clear()
        member = self._begin(credentials, beginning)
        try:
            async with asyncio.timeout(PATIENCE):
                await member.tried()
            credentials.save()
        except (FairleadError, TimeoutError) as error:
            await self._end()
            self._wipe()
            raise error if isinstance(error, FairleadError) else Internal("the swarm's store did not start") from None
        if member.manager is not None:
            await counted(member.manager, member.node)
        return member.node

    async def rehearse(self, request: InitRequest) -> tuple[str, ...]:
        async with self._alone():
            return await recovery.would(self._managing().manager)

    async def _recover(self) -> str:
        """Alone again, with what this manager knows."""
        credentials = self._managing().credentials
        await self._end()
        member = self._begin(credentials, Beginning(recover=True))
        try:
            async with asyncio.timeout(PATIENCE):
                await member.tried()
                await recovery.alone(self.manager)
        except TimeoutError:
            raise Internal("the swarm's store did not start: see etcd.log") from None
        return member.node

    async def join(self, request: JoinRequest) -> None:
        async with self._alone():
            self._outside()
            here = list(self._here())
            listen = nodeaddresses.listen(request.listen, here)
            if request.advertise:
                nodeaddresses.advertise(request.advertise, listen, here)
            data_path = nodeaddresses.data_path(request.data_path, here)
            if not request.remotes:
                raise Invalid("at least 1 RemoteAddr is required to join")
            try:
                token = tokens.parse(request.token)
            except Invalid as error:
                raise FairleadError(error.message) from None
            joined = await self._admitted(request, token)
            issued = joined.issued
            notes = Notes(
                certificate=issued.certificate,
                key=joined.key.decode(),
                roots=issued.roots,
                listen=listen,
                data_path=data_path,
                managers={address: address for address in issued.managers},  # until somebody says who is where
                advertise=request.advertise or joined.here,
                device=nodeaddresses.device_of(request.advertise or joined.here, here),
            )
            credentials = Credentials(self._file, notes)
            await self._clear()
            credentials.save()
            member = self._begin(credentials)
            try:
                async with asyncio.timeout(PATIENCE):
                    await member.settled()
            except TimeoutError:
                raise Unavailable(TIMED_OUT) from None

    async def _admitted(self, request: JoinRequest, token: tokens.Token) -> joining.Joined:
        """By the first manager that can be reached."""
        trouble: FairleadError = Unavailable("")
        for address in request.remotes:
            try:
                return await joining.join(address, token, request.availability)
            except Unavailable as error:
                trouble = Unavailable(
                    'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing:'
                    f' dial tcp {address}: connect: {error.message.rpartition(": ")[2]}"'
                )
            except (Invalid, Forbidden) as error:
                raise FairleadError(error.message) from None
        raise trouble

    def _outside(self) -> None:
        """This node is in no swarm."""
        if self._locked is not None:
            raise Unavailable(LOCKED)
        if self._member is not None:
            raise Unavailable(IN_ONE)
        if self._error:
            raise Internal(self._error)

    async def leave(self, force: bool) -> None:
        async with self._alone():
            member = self._member
            if member is None and self._locked is None and not self._error:
                raise Unavailable(IN_NONE)
            if not force:
                self._may_leave()
            if member is not None:
                await member.leave()
            await self._end()
            self._wipe()
            self._locked, self._error = None, ""
            log.info("this node has left the swarm")

    def _may_leave(self) -> None:
        """Raises ``Unavailable`` where it takes a ``--force``."""
        if self._locked is not None:
            raise Unavailable(LOCKED)
        member = self._member
        if member is None or not member.manages:
            return
        said = AS_MANAGER
        if member.manager is not None and member.manager.ready.is_set():
            managers = [node.manager for node in member.manager.state.nodes.values() if node.manager]
            up = sum(manager.reachability == "reachable" for manager in managers)
            if len(managers) <= 1:
                raise Unavailable(said + LAST)
            if up - 1 < quorum.majority(len(managers)):
                said += (
                    f"Removing this node leaves {up - 1} managers out of {len(managers)}. Without a Raft quorum your"
                    " swarm will be inaccessible. "
                )
        else:
            said += "Doing so may lose the consensus of your cluster. "
        raise Unavailable(said + RESTORE)

    async def unlock(self, key: str) -> None:
        async with self._alone():
            if self._locked is None:
                if self._member is None:
                    raise Unavailable(IN_NONE)
                raise Conflict("swarm is not locked")
            self._locked.unlock(tokens.parse_unlock_key(key))
            credentials, self._locked = self._locked, None
            self._begin(credentials)


async def _live(member: Membership) -> None:
    """Until cancelled. A fault of ours ends no engine: the containers are none of the swarm's business."""
    while True:
        try:
            await member.run()
        except Exception:
            log.exception("this node's part in its swarm failed, and begins again")
            member.failed("internal error; the engine's log has the details")
            await asyncio.sleep(AGAIN)


def _warnings(managing: int) -> tuple[str, ...]:
    if managing == 2:
        return (
            "WARNING: Running Swarm in a two-manager configuration. This configuration provides no fault tolerance, and"
            " poses a high risk to lose control over the cluster. Refer to"
            " https://docs.docker.com/engine/swarm/admin_guide/ to configure the Swarm for fault-tolerance.",
        )
    return ()
