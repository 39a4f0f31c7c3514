"""Runtime: what the engine asks of whoever runs processes. ``host.oci`` keeps the promises; tests have a fake.

    create   everything but the first instruction: namespaces, mounts, limits   -> process id
    start    the first instruction
    (exit)   ``exits`` tells, once per life, also for lives that ended while we were away (``recover``)
    delete   nothing is left

Rules
    1. A process and its keeper outlive the engine; so does its exit code.
    2. ``create`` leaves nothing behind when it fails. Its error carries
       ``exit_code`` where Docker has one: 127 not found, 126 not executable.
    3. ``when_created`` is awaited between ``create`` and ``start``: who
       attaches there misses no byte.
    4. ``delete`` of what is gone is fine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from fairlead.core.container import Container, Mount
from fairlead.core.life import UNKNOWN, Ended, ExecSpec, Recovered
from fairlead.core.model import Sandbox

if TYPE_CHECKING:
    from fairlead.core.usage import Machine, NetworkUse, Usage

__all__ = ["UNKNOWN", "Ended", "ExecProcess", "ExecSpec", "Recovered", "Runtime", "Wire"]


class Wire(Protocol):
    """Standard streams of one process, as its keeper hands them out."""

    async def read(self) -> tuple[int, bytes] | None:
        """(1 stdout or 2 stderr, bytes), or None at the end. A terminal's bytes all come as 1."""

    async def write(self, data: bytes) -> None:
        """Standard input; waits while the process does not read. ``BrokenPipeError`` when nobody ever will."""

    def end_input(self) -> None:
        """No more input. What has been written arrives first; output goes on."""

    def close(self) -> None: ...


class ExecProcess(Protocol):
    """A further process: made, not begun. ``wire`` is None for a detached one."""

    @property
    def pid(self) -> int: ...

    @property
    def wire(self) -> Wire | None: ...

    async def begin(self) -> int:
        """Let it run; its process id."""

    async def wait(self) -> int:
        """Its exit code."""

    async def resize(self, rows: int, columns: int) -> None: ...

    async def kill(self) -> None: ...

    def forget(self) -> None:
        """Release everything but the process itself."""


class Runtime(Protocol):
    """The contract; ids are container ids."""

    def expect(self) -> None:
        """A container will be created shortly: what takes a while may begin. Returns at once, promises nothing."""

    async def create(
        self,
        container: Container,
        sandbox: Sandbox,
        rootfs: str,
        mounts: Sequence[Mount],
        *,
        env: Sequence[str] = (),
        joined: Mapping[str, int] = {},
    ) -> int:
        """Process id of a container that waits for ``start``.

        ``env``: further variables (links), weaker than the container's own.
        ``joined``: kind of namespace (``pid``, ``ipc``) -> process whose namespace is shared (``container:`` modes).
        """

    async def start(self, id: str) -> None: ...

    async def kill(self, id: str, signal: int) -> None:
        """Send to process 1; ``Conflict`` in Docker's words when it is gone."""

    async def pause(self, id: str) -> None: ...

    async def resume(self, id: str) -> None: ...

    async def update(self, container: Container) -> None:
        """Put the limits of ``container.host`` in force."""

    async def delete(self, id: str, force: bool = False) -> None:
        """Forget a container; with ``force`` end it first."""

    async def resize(self, id: str, rows: int, columns: int) -> None: ...

    async def attach(self, id: str) -> Wire: ...

    async def exec(self, container: Container, exec_id: str, spec: ExecSpec, attached: bool) -> ExecProcess: ...

    def check_user(self, container: Container, user: str) -> None:
        """``FairleadError`` in Docker's words when there is nobody of that name in the container, which runs."""

    async def reopen_log(self, id: str) -> None:
        """The log file was renamed: write to a new one of the old name."""

    def pid(self, id: str) -> int:
        """Process id of process 1, 0 when there is none."""

    def when_created(self, call: Callable[[str], Awaitable[None]]) -> None: ...

    def when_over(self, call: Callable[[str], None]) -> None:
        """Called when a container's process ended, or could not be made."""

    def exits(self) -> AsyncIterator[Ended]: ...

    async def recover(self) -> Recovered: ...

    def usage(self, id: str) -> Usage:
        """What its control group counts now; ``Usage()`` when it is gone."""

    def processes(self, id: str) -> list[int]:
        """Process ids, as the host has them, of everything in its control group."""

    def networks(self, id: str) -> dict[str, NetworkUse]:
        """Counters of its interfaces by name."""

    def machine(self) -> Machine: ...

    async def top(self, id: str, arguments: str) -> tuple[list[str], list[list[str]]]:
        """``ps`` of what runs in it: titles and rows; ``arguments`` are ps's own."""
