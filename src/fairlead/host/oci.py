"""Oci: containers as processes, by crun under conmon. Keeps the promises of ``engine.runtime.Runtime``.

    create ──> config.json ──> conmon ──> crun create     the process waits at a fifo
    start  ──> one byte into that fifo                    (what ``crun start`` does, without starting a program)
    kill   ──> a signal through a pidfd                   never to a later process of the same number
    (end)  ──> conmon writes the exit code and ends ──> its pidfd wakes us ──> ``exits``
    delete ──> crun delete: what is left of it, its control group, its state

Rules
    1. conmon and the container outlive us; ``recover`` finds them by ``life.json``.
    2. An end is told once: while we run by ``exits``, else by ``recover``. Not at all after ``delete``.
    3. A failed ``create`` leaves nothing. It says why in dockerd's words.

What it does not do: networks, file systems (they are there before), policies.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import select
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core import complaints, logoptions, ocimounts, ociresources, ocispec
from fairlead.core import usage as spent
from fairlead.core.container import Container, Mount
from fairlead.core.life import Ended, ExecSpec, Recovered
from fairlead.core.model import Sandbox
from fairlead.errors import Conflict, Internal, NotFound
from fairlead.host import bundles, conmon, ociexec, ps, seccomp
from fairlead.host.bundles import Bundle, Life
from fairlead.host.cgroups import Cgroups, machine
from fairlead.host.programs import Finished, parent_of, readable, run, started_at

HOST_FILES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}
SECONDS_TO_END = 5.0
"""How long a conmon whose process was killed may take to write down the end."""


class Running(msgspec.Struct):
    """One container that has a process."""

    bundle: Bundle
    life: Life
    pidfd: int
    keeper: int
    """pidfd of conmon"""
    watch: asyncio.Task[None] | None = None

    def close(self) -> None:
        for fd in (self.pidfd, self.keeper):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.keeper = -1


class Oci:
    """All processes of one engine. ``data_root`` holds containers/<id>/{hosts,…}; ``tasks`` owns the watchers."""

    def __init__(
        self,
        exec_root: Path,
        data_root: Path,
        tasks: asyncio.TaskGroup,
        *,
        cgroup_parent: str = "/fairlead",
        cgroups: Cgroups | None = None,
        crun: str = "/usr/bin/crun",
        conmon: str = "/usr/bin/conmon",
    ) -> None:
        self._root = exec_root
        self._data = data_root
        self._tasks = tasks
        self._cgroups = cgroups or Cgroups()
        self._cgroup_parent = cgroup_parent
        self._crun = crun
        self._conmon = conmon
        self._running: dict[str, Running] = {}
        self._ends: asyncio.Queue[Ended] = asyncio.Queue()
        self._created: list[Callable[[str], Awaitable[None]]] = []
        self._over: list[Callable[[str], None]] = []

    def prepare(self) -> None:
        """Once, before anything else: directories, and what the machine's control groups lack."""
        for name in ("containers", "exits", "crun"):
            (self._root / name).mkdir(parents=True, exist_ok=True, mode=0o711)
        self._cgroups.ready()

    @cached_property
    def _facts(self) -> ocispec.Facts:
        """What this machine is; who only comes back need not know."""
        return bundles.facts(self._cgroups.version, self._cgroup_parent)

    @cached_property
    def _filters(self) -> seccomp.Filters:
        return seccomp.Filters()

    # -- create, start --------------------------------------------------------------------

    def expect(self) -> None:
        self._cgroups.hurry()

    async def create(
        self,
        container: Container,
        sandbox: Sandbox,
        rootfs: str,
        mounts: Sequence[Mount],
        *,
        env: Sequence[str] = (),
        joined: Mapping[str, int] | None = None,
    ) -> int:
        self._cgroups.hurry()  # again: what came between may have taken longer than the kernel stays awake
        config = self._configure(container, sandbox, rootfs, mounts, env, joined or {})
        bundle = Bundle(self._root, container.id)
        bundle.make(config)
        if container.host.ipc_mode == "shareable":
            bundle.share_memory(container.host.shm_size or ocimounts.SHM_SIZE)
        try:
            pid = await self._keep(bundle, container)
            life = _life(pid, ocispec.cgroup_path(container, self._facts))
            bundle.remember(life)
            self._adopt(bundle, life)
            for call in self._created:
                await call(container.id)
        except BaseException:
            await self._undo(container.id, ocispec.cgroup_path(container, self._facts))
            raise
        return pid

    async def start(self, id: str) -> None:
        self._find(id)
        fifo = self._root / "crun" / id / "exec.fifo"
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # Another version's way of waiting: let it do that itself.
            done = await self._do("start", id)
            if done.code:
                raise Internal(complaints.of_start(done.words)) from None
            return
        try:
            fifo.unlink()
            os.write(fd, b"\0")
        finally:
            os.close(fd)

    def when_created(self, call: Callable[[str], Awaitable[None]]) -> None:
        self._created.append(call)

    def when_over(self, call: Callable[[str], None]) -> None:
        self._over.append(call)

    # -- while it runs ----------------------------------------------------------------------

    async def kill(self, id: str, signal: int) -> None:
        try:
            _send(self._find(id).pidfd, signal)
        except (ProcessLookupError, NotFound):
            raise Conflict(f"cannot kill container: {id}: container {id} is not running") from None

    async def pause(self, id: str) -> None:
        await self._must("pause", id)

    async def resume(self, id: str) -> None:
        """Who was killed when frozen need not go on where that is enough (version 2 of control groups)."""
        done = await self._do("resume", id)
        running = self._running.get(id)
        if done.code and running is not None and not _is_over(running.pidfd):
            raise Internal(f"cannot resume container {id}: {complaints.plain(done.words)}")

    async def update(self, container: Container) -> None:
        running = self._find(container.id)
        parts = ociresources.limits(container.host, bundles.disks(sorted(ociresources.disk_paths(container.host))))
        running.bundle.write("resources.json", parts)
        await self._must("update", "--resources", str(running.bundle.path / "resources.json"), container.id)
        if "pids" not in parts:
            self._cgroups.free_processes(running.life.cgroup)

    async def resize(self, id: str, rows: int, columns: int) -> None:
        self._control(id, f"1 {rows} {columns}")

    async def reopen_log(self, id: str) -> None:
        self._control(id, "2 0 0")

    async def attach(self, id: str) -> conmon.Wire:
        try:
            return conmon.Wire(str(self._find(id).bundle.path))
        except OSError:
            raise Conflict(f"container {id} is not running") from None

    async def exec(self, container: Container, exec_id: str, spec: ExecSpec, attached: bool) -> ociexec.Exec:
        running = self._find(container.id)
        program = [self._conmon, "--api-version", "1", *self._runtime_words()]
        return await ociexec.start_exec(
            program, self._root, running.bundle, container, exec_id, spec, attached, self._facts
        )

    def check_user(self, container: Container, user: str) -> None:
        bundles.identity(self._find(container.id).bundle.rootfs, user, container.host.group_add)

    def pid(self, id: str) -> int:
        running = self._running.get(id)
        return running.life.pid if running else 0

    def usage(self, id: str) -> spent.Usage:
        running = self._running.get(id)
        return self._cgroups.usage(running.life.cgroup) if running else spent.Usage()

    def processes(self, id: str) -> list[int]:
        running = self._running.get(id)
        return self._cgroups.processes(running.life.cgroup) if running else []

    def networks(self, id: str) -> dict[str, spent.NetworkUse]:
        """Counters of its interfaces, as it sees them."""
        try:
            return spent.interfaces(Path(f"/proc/{self.pid(id)}/net/dev").read_text()) if self.pid(id) else {}
        except OSError:
            return {}

    def machine(self) -> spent.Machine:
        return machine()

    async def top(self, id: str, arguments: str) -> tuple[list[str], list[list[str]]]:
        """``ps`` of what runs in it: titles and rows, with the host's process ids."""
        return await ps.table(self.processes(id), arguments)

    # -- the end ----------------------------------------------------------------------------

    async def exits(self) -> AsyncIterator[Ended]:
        while True:
            yield await self._ends.get()

    async def delete(self, id: str, force: bool = False) -> None:
        """Forget a container, ending it first if need be (a failed start takes back what ``create`` made)."""
        running = self._running.pop(id, None)
        if (self._root / "crun" / id).exists():
            await self._do("delete", "--force", id)
        if running is not None and running.watch is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(running.watch, SECONDS_TO_END)
            self._tell_over(id)
        Bundle(self._root, id).remove()

    def leave(self) -> None:
        """Let go of everything that runs, as an ending engine does; it runs on."""
        for running in self._running.values():
            if running.watch is not None:
                running.watch.cancel()
        self._running.clear()

    def keeper(self, id: str) -> int:
        """Process id of its conmon."""
        return self._find(id).life.keeper

    async def recover(self) -> Recovered:
        """Find what an earlier engine left: who runs, who ended meanwhile. Half-made ones are taken away."""
        found = Recovered()
        for path in sorted((self._root / "containers").iterdir()):
            bundle = Bundle(self._root, path.name)
            life = bundle.life()
            if life is None:
                await self.delete(bundle.id, force=True)
            elif not bundle.is_over and (life.kept or life.running):
                self._adopt(bundle, life)
                found.running[bundle.id] = life.pid
            else:
                found.ended[bundle.id] = bundle.ended()
        return found

    # -- inside -----------------------------------------------------------------------------

    def _configure(
        self,
        container: Container,
        sandbox: Sandbox,
        rootfs: str,
        mounts: Sequence[Mount],
        env: Sequence[str],
        joined: Mapping[str, int],
    ) -> dict[str, Any]:
        host = container.host
        directory = self._data / "containers" / (sandbox.container or container.id)
        place = ocispec.Place(
            rootfs=rootfs,
            network=None if sandbox.mode == "host" else sandbox.path,
            files={place: str(directory / name) for name, place in HOST_FILES.items() if (directory / name).exists()},
            joined=joined,
            shm=self._shm(container, joined.get("ipc", 0)),
            env=env,
            devices=bundles.devices(host),
            disks=bundles.disks(sorted(ociresources.disk_paths(host))),
            profile=bundles.seccomp_profile(host),
        )
        identity = bundles.identity(rootfs, container.config.user, host.group_add)
        bundles.make_working_directory(rootfs, container.config.working_dir or "/")
        config = ocispec.spec(container, identity, mounts, place, self._facts)
        profile = config["linux"].get("seccomp")
        compiled = self._filters.compile(profile) if profile else None
        if compiled:
            text = base64.b64encode(compiled).decode()
            config.setdefault("annotations", {})["run.oci.seccomp_bpf_data"] = text
        return config

    def _shm(self, container: Container, donor: int) -> str:
        """The /dev/shm it shares: its own, that of another (process ``donor``), or the host's if the other has that."""
        mode, _, other = container.host.ipc_mode.partition(":")
        if mode not in ("shareable", "container"):
            return ""
        place = Bundle(self._root, other or container.id).shm
        if not other or place.exists():
            return str(place)
        return "/dev/shm" if donor and os.path.samefile(f"/proc/{donor}/ns/ipc", "/proc/self/ns/ipc") else ""

    async def _keep(self, bundle: Bundle, container: Container) -> int:
        """Let conmon make it; its process id."""
        launched = conmon.launch(self._keeper_words(bundle, container), str(bundle.path), str(self._root))
        try:
            said = await launched.sync.next()
            await launched.settled()
        finally:
            launched.close()
        if said is None or said.data <= 0:
            words = said.message if said else "the keeper of the process ended early"
            raise complaints.of_create(words, container.path, folder=bundle.is_folder(container.path))
        return said.data

    def _keeper_words(self, bundle: Bundle, container: Container) -> list[str]:
        words = [self._conmon, "--api-version", "1", *self._runtime_words()]
        words += ["--cid", bundle.id, "--cuuid", bundle.id, "--name", container.name]
        words += ["--bundle", str(bundle.path), "--container-pidfile", str(bundle.path / "pid")]
        words += ["--exit-dir", str(self._root / "exits"), "--persist-dir", str(bundle.path)]
        words += ["--full-attach", "--no-sync-log", "--log-level", "error"]
        words += self._log_words(container)
        if container.config.tty:
            words.append("--terminal")
        if container.config.open_stdin:
            words.append("--stdin")
            if not container.config.stdin_once:
                words.append("--leave-stdin-open")
        return words

    def _log_words(self, container: Container) -> list[str]:
        limit = logoptions.settings(container.host.log_config)
        if not limit.kept:
            return ["--log-path", "none"]
        directory = self._data / "containers" / container.id
        directory.mkdir(parents=True, exist_ok=True)
        words = ["--log-path", f"k8s-file:{directory / (container.id + '-json.log')}"]
        # More than one file is the engine's affair (``engine.logs``): conmon would throw the old one away.
        if limit.largest and limit.files == 1:
            words.append(f"--log-size-max={limit.largest}")
        return words

    def _runtime_words(self) -> list[str]:
        words = ["--runtime", self._crun]
        for word in self._crun_words():
            words.append(f"--runtime-arg={word}")
        return words

    def _crun_words(self) -> list[str]:
        return [f"--root={self._root / 'crun'}", "--cgroup-manager=cgroupfs"]

    def _adopt(self, bundle: Bundle, life: Life) -> None:
        """Watch over a container that has a process."""
        keeper, pidfd = _open_process(life.keeper), _open_process(life.pid)
        running = Running(bundle, life, pidfd, keeper)
        self._running[bundle.id] = running
        running.watch = self._tasks.create_task(self._watch(running))

    async def _watch(self, running: Running) -> None:
        """Wait for conmon to end (it wrote the exit code before); should it have been killed, for the process.

        The descriptors are closed here and nowhere else: their numbers are soon somebody else's."""
        try:
            for fd in (running.keeper, running.pidfd):
                if fd >= 0:
                    await readable(fd)
        finally:
            running.close()
        id = running.bundle.id
        if self._running.get(id) is running:
            del self._running[id]
            self._tell_over(id)
            self._ends.put_nowait(running.bundle.ended())

    def _tell_over(self, id: str) -> None:
        for call in self._over:
            call(id)

    async def _undo(self, id: str, cgroup: str) -> None:
        """Take back a create; whoever waits for its streams hears that there will be none.

        crun takes its control group back by itself, unless it failed for want of open files (``--ulimit nofile=10``).
        """
        told = id in self._running
        await self.delete(id, force=True)
        self._cgroups.remove(cgroup)
        if not told:
            self._tell_over(id)

    def _find(self, id: str) -> Running:
        running = self._running.get(id)
        if running is None:
            raise Conflict(f"container {id} is not running")
        return running

    def _control(self, id: str, line: str) -> None:
        try:
            conmon.control(str(self._find(id).bundle.path), line)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                raise Conflict(f"container {id} is not running") from None
            raise

    async def _must(self, verb: str, *rest: str) -> None:
        done = await self._do(verb, *rest)
        if done.code:
            raise Internal(f"cannot {verb} container {rest[-1]}: {complaints.plain(done.words)}")

    async def _do(self, verb: str, *rest: str) -> Finished:
        return await run([self._crun, *self._crun_words(), verb, *rest])


def _life(pid: int, cgroup: str) -> Life:
    keeper = parent_of(pid)
    return Life(pid, started_at(pid), keeper, started_at(keeper), cgroup)


def _open_process(pid: int) -> int:
    """A pidfd, -1 when there is no such process."""
    try:
        return os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return -1


def _is_over(pidfd: int) -> bool:
    if pidfd < 0:
        return True
    look = select.poll()
    look.register(pidfd, select.POLLIN)
    return bool(look.poll(0))


def _send(pidfd: int, number: int) -> None:
    if pidfd < 0:
        raise ProcessLookupError
    signal.pidfd_send_signal(pidfd, number)
