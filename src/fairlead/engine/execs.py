"""Execs: further processes in running containers, from asking to exit code.

    create -> id          nothing runs yet
    start  -> Attached    its streams (None when detached); told as exec_start, later exec_die
    get    -> what it was asked to be, and what became of it

Rules
    1. An exec runs once. Its record outlives it, so that its exit code can be
       asked for; the oldest records of execs that do not run go when there are ``REMEMBERED``.
    2. A program that cannot be run ends the exec with 127 or 126, untold. Attached, the
       reason is its output (Docker's clients expect it there).
    3. Execs end with their container. They do not survive the engine's memory:
       a returning engine does not know them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from fairlead.core.container import Container
from fairlead.core.detach import Detector, parse
from fairlead.core.life import UNKNOWN, ExecSpec
from fairlead.engine.catalog import Catalog
from fairlead.engine.events import Events, facts
from fairlead.engine.runtime import ExecProcess, Runtime
from fairlead.engine.streams import Attached
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound

REMEMBERED = 1000
CANNOT = 126
SOON = 2.0
"""Seconds that the end of a process may come after the end of its output."""


class ExecConfig(msgspec.Struct, frozen=True):
    """An exec as asked for. ``size`` is rows and columns."""

    cmd: tuple[str, ...] = ()
    user: str = ""
    privileged: bool = False
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] = ()
    working_dir: str = ""
    size: tuple[int, int] = (0, 0)


class ExecRecord(msgspec.Struct):
    """An exec as it stands. ``exit_code`` is None until it ended."""

    id: str
    container: str
    config: ExecConfig
    running: bool = False
    exit_code: int | None = None
    pid: int = 0


class _Streams(Attached):
    """The client's end of an exec."""

    def __init__(self, config: ExecConfig, process: ExecProcess | None, left: Callable[[], None]) -> None:
        keys = parse(config.detach_keys)
        super().__init__(config.tty, Detector(keys) if config.tty and config.attach_stdin else None, left)
        self._process = process
        self._input = config.attach_stdin
        self._wants = {n for n, wanted in ((1, config.attach_stdout), (2, config.attach_stderr)) if wanted}

    async def serve(self, ending: asyncio.Task[None]) -> None:
        """Everything the process says; over when its end (``ending``) is known, for clients ask for the code next."""
        wire = self._process.wire if self._process is not None else None
        if wire is None:
            return
        try:
            with suppress(OSError):
                while (packet := await wire.read()) is not None:
                    if packet[0] in self._wants:
                        await self.give(*packet)
            await asyncio.wait({ending}, timeout=SOON)
        finally:
            self.finish()
            wire.close()

    async def _write(self, data: bytes) -> None:
        if self._input and self._process is not None and self._process.wire is not None:
            with suppress(BrokenPipeError):
                await self._process.wire.write(data)

    def _end_input(self) -> None:
        if not self._input:
            return
        if self.tty:
            self.finish()
        elif self._process is not None and self._process.wire is not None:
            self._process.wire.end_input()

    def close(self) -> None:
        super().close()
        self._end_input()


class Execs:
    """All execs since the engine began."""

    def __init__(
        self,
        catalog: Catalog,
        runtime: Runtime,
        events: Events,
        tasks: asyncio.TaskGroup,
        new_id: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._runtime = runtime
        self._events = events
        self._tasks = tasks
        self._new_id = new_id
        self._records: dict[str, ExecRecord] = {}
        self._processes: dict[str, ExecProcess] = {}

    # -- asking -----------------------------------------------------------------------------

    def get(self, id: str) -> ExecRecord:
        record = self._records.get(id)
        if record is None:
            raise NotFound(f"No such exec instance: {id}")
        if self._catalog.find(record.container) is None:
            raise NotFound(f"No such container: {record.container}")
        return record

    def of(self, container_id: str) -> list[str]:
        """Ids of a container's execs that have not ended."""
        return [
            record.id
            for record in self._records.values()
            if record.container == container_id and record.exit_code is None
        ]

    # -- doing ------------------------------------------------------------------------------

    async def create(self, ref: str, config: ExecConfig) -> str:
        container = self._active(ref)
        if not config.cmd:
            raise Invalid("No exec command specified")
        if config.user:
            try:
                self._runtime.check_user(container, config.user)
            except FairleadError as error:
                raise Invalid(error.message) from error
        parse(config.detach_keys)
        self._make_room()
        record = ExecRecord(self._new_id(), container.id, config)
        self._records[record.id] = record
        self._tell(record, f"exec_create: {_command(config)}")
        return record.id

    def check_container(self, id: str) -> Container:
        """The container it would start in; ``Conflict`` when nothing starts there now."""
        record = self.get(id)
        container = self._catalog.get(record.container)
        if container.state.status == "paused":
            raise Conflict(f"Container {container.id} is paused, unpause the container before exec")
        return self._active(record.container)

    async def start(
        self, id: str, *, detach: bool = False, tty: bool | None = None, size: tuple[int, int] = (0, 0)
    ) -> Attached | None:
        """Run it. The streams of an attached one, even when the program cannot be run; None of a detached one."""
        record = self.get(id)
        if record.exit_code is not None:
            raise Conflict(f"exec command {id} has already run")
        if record.running:
            raise Conflict(f"exec command {id} is already running")
        container = self.check_container(id)
        config = record.config if all(record.config.size) else replace(record.config, size=size)
        record.running = True
        self._tell(record, f"exec_start: {_command(config)}")
        try:
            process = await self._runtime.exec(container, id, _spec(config, tty), attached=not detach)
            self._processes[id] = process
            record.pid = await process.begin()
        except FairleadError as error:
            self._failed(record, getattr(error, "exit_code", CANNOT))
            if detach:
                raise
            return await self._explained(record, error)
        except BaseException:
            self._failed(record, CANNOT)
            raise
        ending = self._tasks.create_task(self._wait(record, process))
        if detach:
            return None
        streams = self._streams(record, process)
        self._tasks.create_task(streams.serve(ending))
        return streams

    async def run(self, container: Container, spec: ExecSpec, largest: int) -> tuple[int, bytes]:
        """Run a program to its end and hear it out (health checks): exit code, at most ``largest`` bytes of output.

        No record, no streams; told like every exec. Cancelling ends the program."""
        record = ExecRecord(self._new_id(), container.id, ExecConfig(spec.args), running=True)
        self._tell(record, f"exec_create: {_command(record.config)}")
        self._tell(record, f"exec_start: {_command(record.config)}")
        process = await self._runtime.exec(container, record.id, spec, attached=True)
        try:
            await process.begin()
            output = bytearray()
            while process.wire is not None and (packet := await process.wire.read()) is not None:
                output += packet[1][: largest - len(output)]
            code = await process.wait()
        except BaseException:
            await process.kill()
            process.forget()
            raise
        finally:
            if process.wire is not None:
                process.wire.close()
        self._tell(record, "exec_die", exitCode=str(code))
        return code, bytes(output)

    async def resize(self, id: str, rows: int, columns: int) -> None:
        record = self.get(id)
        process = self._processes.get(id)
        if process is None or not record.running:
            if record.exit_code is not None:
                raise NotFound(f"NotFound: process does not exist {id}: not found")
            raise Conflict(f"exec {id} is not running")
        await process.resize(rows, columns)

    # -- inside -----------------------------------------------------------------------------

    def _active(self, ref: str) -> Container:
        container = self._catalog.get(ref)
        if container.state.status == "paused":
            raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
        if container.state.status == "restarting":
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        return container

    def _streams(self, record: ExecRecord, process: ExecProcess | None) -> _Streams:
        return _Streams(record.config, process, lambda: self._tell(record, "exec_detach"))

    async def _explained(self, record: ExecRecord, error: FairleadError) -> Attached:
        """Streams that say why, and end."""
        streams = self._streams(record, None)
        await streams.give(1, error.message.encode() + b"\r\n")
        streams.finish()
        return streams

    async def _wait(self, record: ExecRecord, process: ExecProcess) -> None:
        try:
            code = await process.wait()
        except FairleadError:
            code = UNKNOWN
        self._ended(record, code)

    def _failed(self, record: ExecRecord, code: int) -> None:
        """It never ran, so nobody is told of its death."""
        record.running = False
        record.exit_code = code
        self._processes.pop(record.id, None)

    def _ended(self, record: ExecRecord, code: int) -> None:
        self._failed(record, code)
        self._tell(record, "exec_die", exitCode=str(code))

    def _make_room(self) -> None:
        ended = [record.id for record in self._records.values() if not record.running]
        for id in ended[: max(0, len(ended) - REMEMBERED + 1)]:
            del self._records[id]

    def _tell(self, record: ExecRecord, action: str, **attributes: str) -> None:
        container = self._catalog.find(record.container)
        known = facts(container) if container is not None else {}
        self._events.publish("container", action, record.container, {**known, "execID": record.id, **attributes})


def _command(config: ExecConfig) -> str:
    """As the events tell it: the program, a blank, its arguments."""
    return f"{config.cmd[0]} {' '.join(config.cmd[1:])}"


def _spec(config: ExecConfig, tty: bool | None) -> ExecSpec:
    return ExecSpec(
        args=config.cmd,
        env=config.env,
        cwd=config.working_dir,
        user=config.user,
        tty=config.tty if tty is None else tty,
        stdin=config.attach_stdin,
        privileged=config.privileged,
        size=config.size,
    )
