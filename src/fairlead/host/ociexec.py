"""Execs: a further process in a running container, by ``crun exec`` under a conmon of its own.

    start_exec ──> conmon --exec-attach   waits; its attach socket is there
    (attach)       not one byte is missed
    begin      ──> the process runs       -> pid
    wait       ──> its exit code, from conmon's sync pipe

Rules
    1. It gets the container's user, groups, rights and variables unless told otherwise.
    2. Its exit code is lost when we end before it does; the process is not.
    3. Its directory goes when it has ended, or could not begin.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core import capabilities, complaints
from fairlead.core.container import Container
from fairlead.core.life import UNKNOWN, ExecSpec
from fairlead.core.ocispec import Facts, caps_of, environment, parse_security, rights_of, user_of
from fairlead.errors import Conflict
from fairlead.host import bundles, conmon
from fairlead.host.bundles import Bundle
from fairlead.host.conmon import Launch, Wire


class Exec:
    """One further process. ``wire`` is None for a detached one."""

    def __init__(self, directory: Path, launched: Launch, program: str) -> None:
        self.pid = 0
        self.wire: Wire | None = None
        self._directory = directory
        self._launched = launched
        self._program = program

    async def connect(self) -> None:
        """Wait until its streams are there, and take hold of them."""
        pipe = self._launched.attached
        if pipe is not None:
            await pipe.next()
            self.wire = Wire(str(self._directory))

    async def begin(self) -> int:
        """Let it run; its process id. What the runtime refuses is an error with ``exit_code``."""
        self._launched.go()
        said = await self._launched.sync.next()
        await self._launched.settled()
        if said is None or said.data <= 0:
            self.forget()
            raise complaints.of_exec(said.message if said else "its keeper ended early", self._program)
        self.pid = said.data
        return self.pid

    async def wait(self) -> int:
        said = await self._launched.sync.next()
        self.forget()
        return said.data if said is not None and said.data >= 0 else UNKNOWN

    async def resize(self, rows: int, columns: int) -> None:
        try:
            conmon.control(str(self._directory), f"1 {rows} {columns}")
        except OSError:
            raise Conflict("cannot resize a stopped container") from None

    async def kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        self._launched.close()
        shutil.rmtree(self._directory, ignore_errors=True)


async def start_exec(
    program: Sequence[str],
    root: Path,
    bundle: Bundle,
    container: Container,
    exec_id: str,
    spec: ExecSpec,
    attached: bool,
    facts: Facts,
) -> Exec:
    """A process that is made and waits (attached), or runs at once. ``program``: conmon and its runtime."""
    directory = root / "execs" / exec_id
    directory.mkdir(parents=True, mode=0o700)
    try:
        document = _process(bundle, container, spec, facts)
        (directory / "process.json").write_bytes(msgspec.json.encode(document))
        words = [*program, "--exec", "--exec-process-spec", str(directory / "process.json")]
        words += ["--cid", container.id, "--cuuid", exec_id, "--name", container.name]
        words += ["--bundle", str(directory), "--container-pidfile", str(directory / "pid")]
        words += ["--full-attach", "--log-path", "none", "--no-sync-log", "--log-level", "error"]
        words += ["--terminal"] if spec.tty else []
        words += ["--stdin"] if spec.stdin and attached else []
        words += ["--exec-attach"] if attached else []
        launched = conmon.launch(words, str(directory), str(root), attach=attached)
        made = Exec(directory, launched, spec.args[0])
        await made.connect()
        return made
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _process(bundle: Bundle, container: Container, spec: ExecSpec, facts: Facts) -> dict[str, Any]:
    """The ``process`` part of a configuration, as the container's own but for what the exec asked."""
    config = msgspec.json.decode((bundle.path / "config.json").read_bytes())
    rootfs = config["root"]["path"]
    host = container.host
    who = bundles.identity(rootfs, spec.user or container.config.user, host.group_add)
    rights = capabilities.known(facts.capabilities) if spec.privileged else rights_of(host, facts)
    env = [item for item in config["process"]["env"] if not item.startswith("HOME=")]
    if spec.tty and not any(item.startswith("TERM=") for item in env):
        env.append("TERM=xterm")
    made: dict[str, Any] = {
        "terminal": spec.tty,
        "user": user_of(who),
        "args": list(spec.args),
        "env": environment(replace(container.config, env=(*env, *spec.env)), "", who.home),
        "cwd": spec.cwd or container.config.working_dir or "/",
        "capabilities": caps_of(who, rights),
        "noNewPrivileges": parse_security(host.security_opt).no_new_privileges,
    }
    for part in ("rlimits", "apparmorProfile", "oomScoreAdj"):
        if part in config["process"]:
            made[part] = config["process"][part]
    if spec.tty and all(spec.size):
        made["consoleSize"] = {"height": spec.size[0], "width": spec.size[1]}
    return made
