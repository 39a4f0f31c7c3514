"""Containers: the story of ``run``, from a wish to a process with a network, and back.

    create   check everything -> remember
    start    root file system -> networks, names -> ports, process            each step says how it is undone
    (exit)   networks go -> file system goes -> told -> restart policy
    remove   forget

Rules
    1. One life at a time: everything that moves a container from state to state
       holds its lock; the end of its process is handled under the same lock.
    2. A failed start leaves the container as it was, with the reason in its
       state, and nothing of it on the machine.
    3. The record changes before we answer and after the deed: what a crash
       leaves in between is finished or undone by ``engine.restore``.
    4. Waiting for a process to end never holds the lock.

What it does not do: decide what a container gets (``engine.creation``), speak
HTTP (``api``), know networks (``engine.attachments``) or processes
(``engine.runtime``).
"""

from __future__ import annotations

import asyncio
import builtins
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from fairlead.core import links, restart, signals
from fairlead.core.container import Config, Container, Health, HostConfig
from fairlead.core.life import Ended
from fairlead.core.loglines import timestamp
from fairlead.core.model import Endpoint, EndpointSettings, Network, Sandbox
from fairlead.engine import ends, top
from fairlead.engine.attachments import Attachments
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.events import Events, facts
from fairlead.engine.filesystem import Filesystem
from fairlead.engine.health import Healths
from fairlead.engine.volumes import Volumes
from fairlead.errors import Conflict, FairleadError, NotFound, NotModified, Unavailable

if TYPE_CHECKING:
    from fairlead.engine.creation import Creation
    from fairlead.engine.runtime import Runtime


STOP_SECONDS = 10
"""How long ``stop`` waits between asking and killing, unless told otherwise. Docker's figure."""


class Life(msgspec.Struct):
    """What is going on with one container in this process: its lock, and who waits for what."""

    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    exits: list[asyncio.Future[Ended]] = msgspec.field(default_factory=list)
    removals: list[asyncio.Future[Ended]] = msgspec.field(default_factory=list)
    restart: asyncio.Task[None] | None = None


class Containers:
    """All containers of this machine."""

    def __init__(
        self,
        catalog: Catalog,
        creation: Creation,
        controller: Controller,
        attachments: Attachments,
        filesystem: Filesystem,
        volumes: Volumes,
        runtime: Runtime,
        healths: Healths,
        events: Events,
        now: Callable[[], str],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._catalog = catalog
        self._creation = creation
        self._controller = controller
        self._attachments = attachments
        self._filesystem = filesystem
        self._volumes = volumes
        self._runtime = runtime
        self._healths = healths
        self._events = events
        self._now = now
        self._tasks = tasks
        self.leaving = False  # the engine is ending (``engine.farewell``), so nothing starts again
        self._removed: list[Callable[[Container], None]] = []
        self._lives: defaultdict[str, Life] = defaultdict(Life)

    # -- asking ---------------------------------------------------------------------------

    def list(self) -> list[Container]:
        return self._catalog.newest_first()

    def get(self, ref: str) -> Container:
        return self._catalog.get(ref)

    def busy(self, container_id: str) -> bool:
        """Whether something is under way with it: what is seen of it now may be half of a deed."""
        return container_id in self._lives and self._lives[container_id].lock.locked()

    def turn(self, container_id: str) -> asyncio.Lock:
        """Held while something is under way with it: for those who change it besides us."""
        return self._lives[container_id].lock

    def endpoints(self, container_id: str) -> Sequence[Endpoint]:
        return self._attachments.endpoints(container_id)

    def sandbox(self, container_id: str) -> Sandbox | None:
        """The network stack of its own that a running container has; None when it is stopped or uses another's."""
        stack = self._attachments.stack(self._catalog[container_id])
        return stack.sandbox if stack else None

    # -- create ---------------------------------------------------------------------------

    async def create(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings], platform: str = ""
    ) -> tuple[Container, builtins.list[str]]:
        """A container that exists and does not run; with the warnings its wishes earned."""
        container, warnings = await self._creation.settle(name, config, host, networks, platform)
        await self._catalog.put(container)
        self.tell("create", container)
        return container, warnings

    def when_removed(self, call: Callable[[Container], None]) -> None:
        """Called with every container that is no more."""
        self._removed.append(call)

    # -- start ----------------------------------------------------------------------------

    async def start(self, ref: str) -> None:
        container = self.get(ref)
        async with self.turn(container.id):
            await self._start(self.get(container.id))

    async def _start(self, container: Container) -> None:
        self._refuse_start(container)
        try:
            pid = await self._bring_to_life(container)
        except FairleadError as error:
            code = getattr(error, "exit_code", 128)
            await self._become(container, status=container.state.status, exit_code=code, error=error.message)
            if container.host.auto_remove:
                await self._forget(container, volumes=True)
            raise
        await self._become(
            container,
            status="running",
            pid=pid,
            exit_code=0,
            error="",
            oom_killed=False,
            stopped_by_user=False,
            started_at=self._now(),
            health=self._healths.begin(replace(container, state=replace(container.state, health=None))),
        )
        self._attachments.relink(container)
        self.tell("start", container)

    async def _bring_to_life(self, container: Container) -> int:
        """The story of ``run``. Each deed is followed by the words that would take it back, should a later one fail."""
        self._runtime.expect()
        async with AsyncExitStack() as undo:
            # Its files: the image's layers, and what is mounted over them.
            rootfs = await self._filesystem.prepare(container)
            undo.push_async_callback(self._filesystem.release, container)
            mounts = await self._volumes.prepare(container, rootfs)
            undo.push_async_callback(self._volumes.release, container)

            # Its networks: addresses, names, the way out. One that joins another container has that one's.
            stack = None
            sandbox = await self._creation.sandbox(container)
            if sandbox.container == container.id:
                stack = await self._attachments.open(container)
                undo.push_async_callback(self._attachments.close, stack)

            # Its process, which is made and waits while its ports are published; then it runs.
            env, joined = self._creation.linked(container), self._creation.joined(container)
            undo.push_async_callback(self._runtime.delete, container.id)
            process = self._runtime.create(container, sandbox, rootfs, mounts, env=env, joined=joined)
            pid = await self._attachments.publish_beside(process, container, stack)
            await self._runtime.start(container.id)

            undo.pop_all()
        return pid

    def _refuse_start(self, container: Container) -> None:
        if container.state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.state.running:
            raise NotModified(f"container {container.id} is already running")
        if container.state.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")

    # -- the end of a process ----------------------------------------------------------------

    async def ended(self, end: Ended) -> None:
        """Process 1 of a container is gone: everything it held goes, then it is told, then it may start again."""
        if end.id not in self._catalog:
            return
        life = self._lives[end.id]
        async with life.lock:
            # Asked under the lock: a process may be gone before its start has been recorded.
            container = self._catalog.find(end.id)
            if container is None or not container.state.running:
                return
            container = await self._bury(container, end)
        ends.resolve(life.exits, end)
        if container.host.auto_remove:
            with suppress(NotFound):
                await self.remove(container.id, force=True, volumes=True)
        elif container.state.status == "restarting":
            life.restart = self._tasks.create_task(self._start_again(container))

    async def _bury(self, container: Container, end: Ended) -> Container:
        """Take away what a running container has; returns it as it is afterwards."""
        self._healths.end(container.id)
        stack = self._attachments.stack(container)
        if stack is not None:
            await self._attachments.close(stack, sticky=True)
        await self._runtime.delete(container.id)
        await self._volumes.release(container)
        await self._filesystem.release(container)
        verdict = restart.decide(container, end.code, self.leaving)
        container = await self._become(
            container,
            status="restarting" if verdict.again else "exited",
            pid=0,
            exit_code=end.code,
            oom_killed=end.oom,
            finished_at=timestamp(end.at) if end.at else self._now(),
            restart_count=container.state.restart_count + (1 if verdict.again else 0),
        )
        if end.oom:
            self.tell("oom", container)
        self.tell("die", container, exitCode=str(end.code), execDuration=str(restart.duration(container)))
        return container

    async def _start_again(self, container: Container) -> None:
        """The restart policy's doing: wait a growing while, then start. A refusal ends it; what is away may return."""
        pause = restart.delay(container)
        while True:
            await asyncio.sleep(pause)
            async with self.turn(container.id):
                current = self._catalog.find(container.id)
                if current is None or current.state.status != "restarting":
                    return
                try:
                    await self._start(current)
                    return
                except Unavailable:
                    pause = min(2 * pause, restart.AWAY)
                except FairleadError as error:
                    await self._become(current, status="exited", error=error.message)
                    return

    def resume(self, container: Container) -> None:
        """A container that went on while the engine was away: its health is watched again."""
        self._healths.begin(container)

    async def record_health(self, id: str, health: Health) -> None:
        """What the last probe said."""
        container = self._catalog.find(id)
        if container is not None and container.state.running:
            await self._become(container, health=health)

    async def finish(self, container: Container) -> None:
        """What the engine was about to do with a container when it ended: start it again, or remove it."""
        if container.state.status == "restarting":
            self._life(container).restart = self._tasks.create_task(self._start_again(container))
        elif container.state.status == "removing":
            await self._forget(container, volumes=container.host.auto_remove)

    # -- stop, kill, restart, pause --------------------------------------------------------------

    async def stop(self, ref: str, timeout: int | None = None, signal: str = "") -> None:
        """Ask (TERM or the container's own stop signal), wait, kill. A timeout of -1 waits for ever."""
        container = self.get(ref)
        if await self._cancel_restart(container):
            return
        if not container.state.running:
            raise NotModified(f"container {container.id} is not running")
        await self._become(container, stopped_by_user=not self.leaving)
        end = self._when_ended(container)
        seconds = next(s for s in (timeout, container.config.stop_timeout, STOP_SECONDS) if s is not None)
        number = signals.parse(signal or container.config.stop_signal or "SIGTERM")
        with suppress(Conflict):
            if signals.exists(number):
                await self._signal(container, number)
            if not await ends.within(end, ends.patience(seconds, heard=signals.exists(number))):
                await self._signal(container, signals.number("SIGKILL"))
        await end
        self.tell("stop", container)

    async def kill(self, ref: str, signal: str = "") -> None:
        """Send a signal; with KILL (the default) return when it is dead."""
        number = signals.number(signal or "SIGKILL")
        container = self.get(ref)
        if not container.state.running:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if signals.ends(number, container.config.stop_signal):
            container = await self._become(container, stopped_by_user=True)
        end = self._when_ended(container)
        await self._signal(container, number)
        if number == signals.number("SIGKILL"):
            await end

    async def restart(self, ref: str, timeout: int | None = None, signal: str = "") -> None:
        container = self.get(ref)
        if container.state.running:
            await self.stop(container.id, timeout, signal)
        await self.start(container.id)
        self.tell("restart", self.get(container.id))

    async def pause(self, ref: str) -> None:
        container = self.get(ref)
        async with self.turn(container.id):
            container = self.get(container.id)
            if container.state.status == "paused":
                raise Conflict(f"Container {container.id} is already paused")
            self._refuse_unless_running(container)
            await self._runtime.pause(container.id)
            await self._become(container, status="paused")
        self.tell("pause", container)

    async def unpause(self, ref: str) -> None:
        id = self.get(ref).id
        if not await self._go_on(id):
            raise FairleadError(f"Container {id} is not paused")

    async def _go_on(self, id: str) -> bool:
        """Whether it was paused until now."""
        async with self.turn(id):
            container = self._catalog.find(id)
            if container is None or container.state.status != "paused":
                return False
            await self._runtime.resume(id)
            await self._become(container, status="running")
        self.tell("unpause", container)
        return True

    async def _signal(self, container: Container, number: int) -> None:
        await self._runtime.kill(container.id, number)
        current = self._catalog.find(container.id)
        # Frozen processes of version 1 of control groups die when they go on; those of version 2 may be gone by now.
        if current is not None and current.state.status == "paused":
            await self._go_on(container.id)
        self.tell("kill", container, signal=str(number))

    async def _cancel_restart(self, container: Container) -> bool:
        """``stop`` of a container that only waits to be started again."""
        life = self._life(container)
        async with life.lock:
            current = self.get(container.id)
            if current.state.status != "restarting":
                return False
            if life.restart is not None:
                life.restart.cancel()
            await self._become(current, status="exited", stopped_by_user=True)
            return True

    # -- waiting -----------------------------------------------------------------------------

    def wait(self, ref: str, condition: str = "not-running") -> asyncio.Future[Ended]:
        """A future of the end: ``not-running`` (now, if it does not run), ``next-exit`` or ``removed``."""
        container = self.get(ref)
        if condition == "removed":
            return ends.wait_in(self._life(container).removals)
        if condition == "next-exit" or container.state.running:
            return self._when_ended(container)
        return ends.already(Ended(container.id, container.state.exit_code, container.state.oom_killed))

    def _when_ended(self, container: Container) -> asyncio.Future[Ended]:
        return ends.wait_in(self._life(container).exits)

    # -- its processes -----------------------------------------------------------------------

    async def top(self, ref: str, arguments: str = "") -> tuple[builtins.list[str], builtins.list[builtins.list[str]]]:
        """Titles and rows, as ``ps`` has them with these arguments."""
        return await top.top(self._catalog, self._runtime, self._events, ref, arguments)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """The size of its terminal."""
        container = self.get(ref)
        self._refuse_unless_running(container)
        await self._runtime.resize(container.id, rows, columns)
        self.tell("resize", container, height=str(rows), width=str(columns))

    # -- names, limits, networks ----------------------------------------------------------------

    async def rename(self, ref: str, new: str) -> None:
        before = self.get(ref)
        container = await self._catalog.put(self._creation.renamed(before, new))
        await self._attachments.renamed(container)
        self.tell("rename", container, oldName="/" + before.name)

    async def update(self, ref: str, changes: HostConfig) -> builtins.list[str]:
        """New limits or restart policy, of a running container at once; returns warnings."""
        self._creation.check_changes(changes)
        container = self.get(ref)
        async with self.turn(container.id):
            container = self.get(container.id)
            host, warnings = self._creation.updated(container, changes)
            container = replace(container, host=host)
            if container.state.running:
                await self._runtime.update(container)
            await self._catalog.put(container)
        self.tell("update", container)
        return warnings

    async def unlink(self, ref: str) -> None:
        """``rm --link parent/alias``: only the link, by which its parent knows the target from now on no more."""
        parent, _, alias = ref.removeprefix("/").partition("/")
        if not alias:
            self.get(parent)
            raise FairleadError("Conflict, cannot remove the default link name of the container")
        container = self._catalog.find(parent)
        host = container and replace(container.host, links=links.without(container.host.links or (), alias) or None)
        if container is None or host == container.host:
            raise NotFound(f"No such container: {ref}")
        self._attachments.rewrite(await self._catalog.put(replace(container, host=host)))

    async def connect(self, network_ref: str, ref: str, settings: EndpointSettings) -> None:
        container, network = self.get(ref), self._controller.network(network_ref)
        self._creation.check_endpoint(network, settings)
        async with self.turn(container.id):
            container = await self._attachments.connect(self.get(container.id), network, settings)
            await self._catalog.put(container)

    async def disconnect(self, network_ref: str, ref: str, force: bool = False) -> None:
        container = self._catalog.find(ref) if force else self.get(ref)
        if container is None:
            return await self._controller.strike(self._controller.network(network_ref), ref)
        async with self.turn(container.id):
            await self._catalog.put(await self._attachments.leave(self.get(container.id), network_ref, force))

    def needs(self, network: Network) -> bool:
        """Whether a container, running or not, asked for this network."""
        return any(network.name in c.networks or network.id in c.networks for c in self._catalog)

    # -- remove ------------------------------------------------------------------------------

    async def remove(self, ref: str, force: bool = False, volumes: bool = False) -> None:
        container = self.get(ref)
        await self._cancel_restart(container)
        if container.state.running:
            if not force:
                raise Conflict(
                    f'cannot remove container "{container.name}": container is {container.state.status}:'
                    " stop the container before removing or force remove"
                )
            with suppress(Conflict):
                await self.kill(container.id, "SIGKILL")
        async with self.turn(container.id):
            if self._catalog.find(container.id) is not None:
                await self._forget(self.get(container.id), volumes)

    async def _forget(self, container: Container, volumes: bool) -> None:
        """The container is no more; who waited for that is told."""
        container = await self._become(container, status="removing")
        await self._filesystem.remove(container)
        await self._volumes.forget(container, volumes)
        await self._creation.forget(container)
        await self._catalog.drop(container)
        for call in self._removed:
            call(container)
        self.tell("destroy", container)
        life = self._lives.pop(container.id, Life())
        ends.resolve(life.removals, Ended(container.id, container.state.exit_code, container.state.oom_killed))

    # -- inside ------------------------------------------------------------------------------

    def _life(self, container: Container) -> Life:
        return self._lives[container.id]

    def _refuse_unless_running(self, container: Container) -> None:
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")

    async def _become(self, container: Container, **changes: object) -> Container:
        """The container's record with its state changed; other parts as they are now."""
        current = self._catalog[container.id]
        return await self._catalog.put(replace(current, state=replace(current.state, **changes)))

    def tell(self, action: str, container: Container, **attributes: str) -> None:
        self._events.publish("container", action, container.id, {**facts(container), **attributes})
