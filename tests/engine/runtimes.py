"""A runtime without processes: keeps the promises of ``engine.runtime`` with queues, for tests of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fairlead.core.container import Container
from fairlead.core.life import Ended, ExecSpec, Recovered
from fairlead.core.usage import Machine, NetworkUse, Usage
from fairlead.errors import Conflict


class PaperWire:
    """Streams of a process that a test plays."""

    def __init__(self) -> None:
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.input = b""
        self.input_ended = False
        self.closed = False

    def say(self, data: bytes, stream: int = 1) -> None:
        self.output.put_nowait((stream, data))

    def end(self) -> None:
        self.output.put_nowait(None)

    async def read(self) -> tuple[int, bytes] | None:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        if self.input_ended:
            raise BrokenPipeError
        self.input += data

    def end_input(self) -> None:
        self.input_ended = True

    def close(self) -> None:
        self.closed = True


class PaperExec:
    def __init__(self, spec: ExecSpec, attached: bool) -> None:
        self.spec = spec
        self.pid = 0
        self.wire = PaperWire() if attached else None
        self.sizes: list[tuple[int, int]] = []
        self.killed = self.forgotten = False
        self.refusal: Exception | None = None
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def exit(self, code: int) -> None:
        if self.wire is not None:
            self.wire.end()
        self._code.set_result(code)

    async def begin(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.pid = 42
        return self.pid

    async def wait(self) -> int:
        return await self._code

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def kill(self) -> None:
        self.killed = True

    def forget(self) -> None:
        self.forgotten = True


class PaperRuntime:
    """``play(exec)`` is called with every exec that is made."""

    def __init__(self) -> None:
        self.wires: dict[str, PaperWire] = {}
        self.started: list[str] = []
        self.expected = 0
        self.reopened: list[str] = []
        self.execs: list[PaperExec] = []
        self.play: Callable[[PaperExec], None] = lambda made: None
        self.use = Usage(version=2, cpu=5)
        self._ends: asyncio.Queue[Ended] = asyncio.Queue()
        self._created: list[Callable[[str], Awaitable[None]]] = []
        self._over: list[Callable[[str], None]] = []

    def expect(self) -> None:
        self.expected += 1

    async def create(self, container: Container, *rest: Any, **more: Any) -> int:
        self.wires[container.id] = PaperWire()
        for call in self._created:
            await call(container.id)
        return 1

    async def start(self, id: str) -> None:
        self.started.append(id)

    def end(self, id: str, code: int = 0) -> None:
        self.wires.pop(id).end()
        for call in self._over:
            call(id)
        self._ends.put_nowait(Ended(id, code))

    async def kill(self, id: str, signal: int) -> None:
        if id not in self.wires:
            raise Conflict(f"cannot kill container: {id}: container {id} is not running")
        self.end(id, 128 + signal)

    async def pause(self, id: str) -> None: ...

    async def resume(self, id: str) -> None: ...

    async def update(self, container: Container) -> None: ...

    async def delete(self, id: str, force: bool = False) -> None:
        self.wires.pop(id, None)
        for call in self._over:
            call(id)

    async def resize(self, id: str, rows: int, columns: int) -> None: ...

    async def attach(self, id: str) -> PaperWire:
        if id not in self.wires:
            raise Conflict(f"container {id} is not running")
        return self.wires[id]

    def check_user(self, container: Container, user: str) -> None: ...

    async def exec(self, container: Container, exec_id: str, spec: ExecSpec, attached: bool) -> PaperExec:
        made = PaperExec(spec, attached)
        self.execs.append(made)
        self.play(made)
        return made

    async def reopen_log(self, id: str) -> None:
        self.reopened.append(id)

    def pid(self, id: str) -> int:
        return 1 if id in self.wires else 0

    def when_created(self, call: Callable[[str], Awaitable[None]]) -> None:
        self._created.append(call)

    def when_over(self, call: Callable[[str], None]) -> None:
        self._over.append(call)

    async def exits(self) -> AsyncIterator[Ended]:
        while True:
            yield await self._ends.get()

    async def recover(self) -> Recovered:
        return Recovered()

    def usage(self, id: str) -> Usage:
        return self.use if id in self.wires else Usage()

    def processes(self, id: str) -> list[int]:
        return [1] if id in self.wires else []

    def networks(self, id: str) -> dict[str, NetworkUse]:
        return {"eth0": NetworkUse(1)}

    def machine(self) -> Machine:
        return Machine(100, 2, 1 << 30)

    async def top(self, id: str, arguments: str) -> tuple[list[str], list[list[str]]]:
        return ["PID", "CMD"], [["1", arguments]]
