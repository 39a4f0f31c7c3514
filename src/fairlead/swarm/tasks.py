"""A task on its node: from what was assigned to a container, and what becomes of that.

    accepted -> preparing -> ready -> starting -> running -> complete | failed
                image,       waits,   container    healthy     its process ended
                networks,    until it starts       first, if
                container    is wanted             it can be
                  '- rejected: it cannot be had       '- sick: stopped, failed
    to be stopped, at any time:  withdrawn from the others' tables -> signal -> killed after its grace -> shutdown
    forgotten:                   the container goes

Rules
    1. A state is written down before it is told, and told before what follows it begins: after a crash a task goes on
       from there. A container is started once; one that was started is only watched.
    2. States move forward. What was ended stays ended.
    3. A container is a task's by its id as we noted it, or by the name that we give it together with our label.
    4. What may come with time (a network, a registry that is away) is waited for; the status says for what.

What it does not do: decide anything; know networks (``Ground`` does), or how containers are made (``engine``).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from fairlead.core import reference
from fairlead.core.cluster import PortStatus, State, Task, TaskStatus, forward
from fairlead.core.container import Container, Health
from fairlead.core.imagespec import Credentials
from fairlead.engine.containers import Containers
from fairlead.engine.images import Images
from fairlead.errors import Conflict, FairleadError, Internal, NotFound, NotModified, Unavailable
from fairlead.swarm.taskspec import TASK, Around, grace, name, wish

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE = 1.0
"""seconds between two attempts at what may come with time"""
REGISTRY = 10.0
"""seconds in which a registry may tell of something newer than the image we have"""
UNHEALTHY = "dockerexec: unhealthy container"


class Files(Protocol):
    """``host.taskfiles``."""

    def write(self, task: str, files: Iterable[tuple[bytes, int, int, int]]) -> list[str]: ...

    def remove(self, task: str) -> None: ...

    def close(self) -> None: ...


class Ground(Protocol):
    """The networks that tasks are on (``swarm.shared``)."""

    async def ready(self, networks: Iterable[str]) -> None:
        """These (ids) can have containers of this node. Raises ``Unavailable`` when not yet."""

    async def serve(self, container: str) -> None:
        """Requests may be sent to it from now on."""

    async def withdraw(self, container: str) -> None:
        """They may not any more; returns when all others know, or should."""


class Hands(NamedTuple):
    """What a task takes of the engine. ``clock``: nanoseconds since 1970; ``turn``: so many start at once."""

    containers: Containers
    images: Images
    pull: Callable[[str, bool, Credentials], Awaitable[None]]
    """(image, whether there is one of that name here, who asks)"""
    files: Files
    ground: Ground
    clock: Callable[[], int]
    turn: asyncio.Semaphore


class _Stopped(Exception):
    """It is to run no longer."""


class _Failed(Exception):
    """It ended, or could not be started; the message is for its status."""


class Course:
    """One task's life here. ``around``: what it names; ``note``: writes down and tells what became of it."""

    def __init__(
        self, task: Task, hands: Hands, around: Callable[[Task], Around], note: Callable[[Task], Awaitable[None]]
    ) -> None:
        self.task = task
        self._hands, self._around, self._note = hands, around, note
        self._news, self._stop, self._dropped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.pulse = asyncio.Event()
        """something happened to its container"""
        self._code = 0
        """with which its process ended"""
        self.command(task)

    # -- what is told --------------------------------------------------------------------------------------

    def command(self, task: Task) -> None:
        """What a manager wants of it now."""
        desired = max(task.desired, self.task.desired)
        self.task = replace(task, desired=desired, status=forward(task.status, self.task.status), ran=self.task.ran)
        if desired > State.RUNNING:
            self._stop.set()
        self._news.set()

    def drop(self) -> None:
        """Nobody wants it any more, or wants to know of it."""
        self._stop.set()
        self._dropped.set()

    # -- life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """To its end; returns when nothing of it is left."""
        await self._until_done(self._live)
        await self._dropped.wait()
        await self._until_done(self._remove)

    async def _until_done(self, deed: Callable[[], Awaitable[bool]]) -> None:
        """What cannot be written down or taken away now (a full disk, a busy mount) is tried again."""
        while True:
            try:
                if await deed():
                    return
            except (FairleadError, OSError) as error:
                log.error("task %s: %s", self.task.id, error)
                await asyncio.sleep(PAUSE)

    async def _live(self) -> bool:
        """Whether it has ended."""
        if self.task.status.state.ended:
            return True
        try:
            await self._go()
        except _Stopped:
            await self._wind_down()
        except _Failed as failed:
            await self._become(State.FAILED, self.task.status.message, str(failed))
        except FairleadError as error:
            early = self.task.status.state < State.STARTING
            await self._become(State.REJECTED if early else State.FAILED, self.task.status.message, error.message)
        except Exception as error:
            log.exception("task %s cannot go on", self.task.id)
            await self._become(State.FAILED, self.task.status.message, f"internal error: {error}")
        return False

    async def _go(self) -> None:
        """From wherever it is, onwards."""
        self._unless_to_stop()
        await self._reach(State.ACCEPTED, "accepted")
        await self._reach(State.PREPARING, "preparing")
        if self.task.status.state < State.READY or self.container is None:
            await self._prepare()
        await self._reach(State.READY, "prepared")
        while self.task.desired < State.RUNNING:
            self._news.clear()
            await self._unless_stopped(self._news.wait())
        await self._reach(State.STARTING, "starting")
        if self.task.status.state < State.RUNNING:
            async with self._hands.turn:
                await self._start()
            await self._unless_stopped(self._healthy())
            await self._serve()
            await self._reach(State.RUNNING, "started")
        else:
            await self._serve()
        await self._unless_stopped(self._end())
        await self._become(State.COMPLETE, "finished")

    # -- preparing -----------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Its container exists. What is not there yet is waited for."""
        if self.task.status.state > State.STARTING:
            raise _Failed("the container of the task is gone")
        while True:
            try:
                await self._unless_stopped(self._find_image())
                await self._hands.ground.ready([held.network for held in self.task.networks])
                await self._create()
                return
            except Unavailable as error:
                await self._become(self.task.status.state, self.task.status.message, error.message)
                await self._unless_stopped(asyncio.sleep(PAUSE))

    async def _find_image(self) -> None:
        """What the registry has now; if it cannot be asked, what is here."""
        spec = self.task.spec.container_spec
        image = spec.image if spec else ""
        found = self._hands.images.find(image)
        if found is not None and reference.parse(image).digest:
            return
        try:
            async with asyncio.timeout(REGISTRY if found is not None else None):
                await self._hands.pull(image, found is not None, self.task.spec.registry or Credentials())
        except (FairleadError, TimeoutError) as error:
            log.info("image %s of task %s is not pulled: %s", image, self.task.id, error)

    async def _create(self) -> None:
        asked = wish(self.task, self._around(self.task))
        files = [(file.data, file.uid, file.gid, file.mode) for file in asked.files]
        paths = self._hands.files.write(self.task.id, files) if files else []
        mounts = [
            {"Type": "bind", "Source": path, "Target": file.target, "ReadOnly": True}
            for path, file in zip(paths, asked.files, strict=True)
        ]
        host = replace(asked.host, mounts=(*(asked.host.mounts or ()), *mounts) or None)
        try:
            container, _ = await self._hands.containers.create(asked.name, asked.config, host, asked.networks)
        except Conflict:
            if self.container is None:
                raise
        else:
            self._hold(container)

    def _hold(self, container: Container) -> None:
        self.task = replace(self.task, status=replace(self.task.status, container_id=container.id))

    @property
    def container(self) -> Container | None:
        """Its container, if it has one."""
        if self.task.status.container_id:
            with suppress(FairleadError):
                return self._hands.containers.get(self.task.status.container_id)
            return None
        with suppress(FairleadError):
            found = self._hands.containers.get("/" + name(self.task, self._around(self.task).service))
            if (found.config.labels or {}).get(TASK) == self.task.id:
                self._hold(found)
                return found
        return None

    def _mine(self) -> Container:
        container = self.container
        if container is None:
            raise NotFound(f"No such container: {self.task.status.container_id}")
        return container

    # -- running -------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._unless_to_stop()
        container = self._mine()
        if container.state.status != "created":
            return
        try:
            await self._hands.containers.start(container.id)
        except NotModified:
            log.debug("container %s was started already", container.id)
        except FairleadError as error:
            raise _Failed(f"starting container failed: {error.message}") from None

    async def _serve(self) -> None:
        container = self._mine()
        if container.state.running:
            await self._hands.ground.serve(container.id)

    async def _healthy(self) -> None:
        """Returns when it says that it is well, or has nothing to say, or ended well; raises when it is not."""
        await self._watch(lambda health: health is None or health.status == "healthy")

    async def _end(self) -> None:
        """Returns when it ended well."""
        await self._watch(lambda health: False)

    async def _watch(self, enough: Callable[[Health | None], bool]) -> None:
        """Until it has ended, or there is enough to see of its health."""
        ended = self._hands.containers.wait(self._mine().id)
        while not ended.done():
            self.pulse.clear()
            health = self._mine().state.health
            if enough(health):
                return
            if health is not None and health.status == "unhealthy":
                await self._end_the_sick()
            pulse = asyncio.ensure_future(self.pulse.wait())
            try:
                await asyncio.wait((ended, pulse), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pulse.cancel()
        self._code = ended.result().code
        if self._code:
            raise _Failed(f"task: non-zero exit ({self._code})")

    async def _end_the_sick(self) -> None:
        await self._halt()
        code = self._code = self._mine().state.exit_code
        raise _Failed(f"task: non-zero exit ({code}): {UNHEALTHY}" if code else UNHEALTHY)

    # -- stopping ------------------------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        try:
            await self._halt()
        except FairleadError as error:
            log.error("task %s does not stop: %s", self.task.id, error.message)
            await asyncio.sleep(PAUSE)
            return
        await self._become(State.SHUTDOWN, "shutdown")

    async def _halt(self) -> None:
        """Nobody sends it anything any more; then its process ends."""
        container = self.container
        if container is None or not container.state.running:
            return
        await self._hands.ground.withdraw(container.id)
        with suppress(NotModified, NotFound):
            await self._hands.containers.stop(container.id, math.ceil(grace(self.task)))

    async def _remove(self) -> bool:
        container = self.container
        if container is not None:
            with suppress(NotFound):
                await self._hands.containers.remove(container.id, force=True, volumes=True)
        self._hands.files.remove(self.task.id)
        return True

    # -- where it is ---------------------------------------------------------------------------------------

    def _unless_to_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    async def _unless_stopped(self, deed: Awaitable[T]) -> T:
        """What the deed gives; it is given up when the task is to stop."""
        doing, stop = asyncio.ensure_future(deed), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((doing, stop), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise _Stopped
            return doing.result()
        finally:
            doing.cancel()
            stop.cancel()
            await asyncio.gather(doing, stop, return_exceptions=True)

    async def _reach(self, state: State, message: str) -> None:
        if self.task.status.state < state:
            await self._become(state, message)

    async def _become(self, state: State, message: str, error: str = "") -> None:
        """Written down, and told."""
        before, container = self.task.status, self.container
        if (before.state, before.message, before.error) == (state, message, error):
            return
        if state < before.state:
            raise Internal(f"task {self.task.id} cannot go from {before.state.text} to {state.text}")
        now = self._hands.clock()
        status = TaskStatus(state, now, message, error, before.container_id)
        if container is not None and state >= State.STARTING:
            ports = self._ports(container) if state == State.RUNNING else before.ports
            self._code = self._code or container.state.exit_code
            status = replace(status, pid=container.state.pid, ports=ports)
        if state.ended:
            status = replace(status, exit_code=self._code)
        ran = self.task.ran or (now if state == State.RUNNING else 0)
        await self._note(replace(self.task, status=status, ran=ran, updated=now))
        self.task = replace(self.task, status=status, ran=ran, updated=now)  # its desired state may be another now

    def _ports(self, container: Container) -> tuple[PortStatus, ...]:
        """What of it is published on this node."""
        if not self.task.host_ports:
            return ()
        bindings = [one for endpoint in self._hands.containers.endpoints(container.id) for one in endpoint.published]
        return tuple(dict.fromkeys(PortStatus(one.protocol, one.port, one.host_port) for one in bindings))
