"""Machine: one pretend machine: run things on it, start an engine on it.

    unshare --net --mount --uts --pid            process 1 (``lab.anchor``) holds the namespaces;
        `- process 1                             everything typed here is a child of it
             `- engine, conmons, shells …

Rules
    1. Whatever is started on a machine ends with it: killing process 1 of a pid
       namespace kills all the rest, conmons and containers too.
    2. A machine is down when its process 1 is. Its folder (the engine's data, the
       logs) stays, so that it can come up again: that is a reboot.
    3. Processes are ended by pidfd, and only after their command line has told
       that they are still the ones we noted (numbers are used again).

What it does not do: know Docker. ``run`` types what it is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import Internal, Unavailable
from fairlead.lab import anchor

SOURCE = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds an engine may take to answer its first _ping, or a machine to end."""
LONGEST_SOCKET = 108
"""Bytes that the kernel takes as the path of a socket, with the one that ends it."""


class Machine:
    """``address4`` and ``address6``: on its first wire, without prefix length; may be empty.

    ``resolver``: address of its name server; ``hosts``: whom it knows without asking, as lines of /etc/hosts.
    """

    def __init__(
        self, name: str, folder: Path, address4: str = "", address6: str = "", resolver: str = "", hosts: str = ""
    ) -> None:
        self.name, self.folder, self.address4, self.address6 = name, folder, address4, address6
        digest = hashlib.sha256(str(folder.parent).encode()).hexdigest()[:8]  # two labs of one name, in two places
        self.cgroup = f"/fairlead-{folder.parent.name}-{digest}-{name}"
        self.anchor: subprocess.Popen[str] | None = None
        self.pid = 0
        """of process 1, as the real machine sees it"""
        self._background: list[subprocess.Popen[bytes]] = []
        for each in ("data", "log"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(f"nameserver {resolver or '127.0.0.1'}\n")
        (folder / "hostname").write_text(f"{name}\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts or f'127.0.1.1 {name}'}\n")

    def up(self) -> None:
        """Start process 1 and return when the scene is set."""
        spaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        log = (self.folder / "log" / "anchor").open("wb")
        self.anchor = subprocess.Popen(
            ["unshare", *spaces, sys.executable, "-I", anchor.__file__, self.name, str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        log.close()
        if self.anchor.stdout is None or self.anchor.stdout.readline() != "ready\n":
            self.down()
            raise Internal(f"machine {self.name} did not come up: {self.log('anchor').strip()}")
        self.pid = _child_of(self.anchor.pid)
        link = self.folder / "docker.sock"
        link.unlink(missing_ok=True)
        link.symlink_to(self.socket)

    def keep(self) -> None:
        """Let the machine live on without its maker."""
        if self.anchor and self.anchor.stdin:
            self.anchor.stdin.write("keep\n")
            self.anchor.stdin.close()

    @property
    def alive(self) -> bool:
        """Whether process 1 runs, and is the one we noted."""
        try:
            return str(self.folder) in Path(f"/proc/{self.pid}/cmdline").read_text()
        except OSError:
            return False

    def down(self) -> None:
        """End every process of the machine, as a power cut does; return when the kernel has taken them all."""
        if self.alive:
            _end(self.pid)
        for process in self._background:
            process.wait()
        if self.anchor is not None:
            for pipe in (self.anchor.stdin, self.anchor.stdout):
                if pipe and not pipe.closed:
                    pipe.close()
            self.anchor.wait()
        remove_cgroups(self.cgroup)
        self.anchor, self.pid, self._background = None, 0, []

    def enter(self, *argv: str) -> list[str]:
        """The command line that types ``argv`` on this machine (in our chroot, if we stand in one)."""
        spaces = ["--net", "--mount", "--uts", "--pid", "--root", "--wd"]
        return ["nsenter", f"--target={self.pid}", *spaces, "--", *argv]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a root shell on this machine has in its environment: both command lines find the engine."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inherited = {name: os.environ[name] for name in ("TERM", "LANG", "LC_ALL") if name in os.environ}
        ours = {"PATH": path, "HOME": "/root", "PYTHONPATH": str(SOURCE), "DOCKER_HOST": "unix:///run/docker.sock"}
        return {**inherited, **ours, **(more or {})}

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60, input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Type a command here and wait for it. ``check``: a bad exit code raises ``Internal`` with its words."""
        done = subprocess.run(
            self.enter(*argv), input=input, capture_output=True, text=True, timeout=timeout, env=self.environment(env),
            stdin=subprocess.DEVNULL if input is None else None, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise Internal(f"{self.name}: {' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *argv: str, log: str = "", env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command here that goes on; its output goes to ``log`` (a name), it ends with the machine."""
        with (self.folder / "log" / (log or Path(argv[0]).name)).open("ab") as output:
            process = subprocess.Popen(
                self.enter(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=self.environment(env), start_new_session=True,
            )  # fmt: skip
        self._background.append(process)
        return process

    def log(self, name: str = "daemon") -> str:
        """What a background command has said so far."""
        path = self.folder / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""

    # The engine

    @property
    def socket(self) -> str:
        """Path of the engine's socket as seen from the real machine (for SDKs that run there)."""
        return f"/proc/{self.pid}/root/run/docker.sock"

    @property
    def door(self) -> str:
        """The same by a path that a reboot does not change; where it would be too long for a socket, ``socket``."""
        path = str(self.folder / "docker.sock")
        return path if len(path) < LONGEST_SOCKET else self.socket

    def start_daemon(
        self, *options: str, env: Mapping[str, str] | None = None, wait: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start the engine here with these options; return when it answers (``Unavailable`` with its log if not)."""
        places = [
            "--host=unix:///run/docker.sock", "--exec-root=/run/fairlead", "--pidfile=/run/fairlead.pid",
            f"--data-root={self.folder}/data",
        ]  # fmt: skip
        for mine in (f"--cgroup-parent={self.cgroup}", "--config-file=/dev/null"):
            if not any(option.startswith(mine.partition("=")[0]) for option in options):
                places.append(mine)
        argv = [sys.executable, "-m", "fairlead", "daemon", *places, *options]
        starting = self.start(*argv, log="daemon", env=env)
        if wait:
            self.wait_ready(starting)
        return starting

    def wait_ready(self, starting: subprocess.Popen[bytes] | None = None, patience: float = PATIENCE) -> None:
        """Return when the engine answers _ping; ``Unavailable`` with the end of its log when it died or is late."""
        until = time.monotonic() + patience
        while time.monotonic() < until and (starting is None or starting.poll() is None):
            if self.answers:
                return
            time.sleep(0.02)
        raise Unavailable(f"the engine on {self.name} does not answer:\n" + "\n".join(self.log().splitlines()[-25:]))

    @property
    def answers(self) -> bool:
        """Whether the engine here says OK to _ping."""
        try:
            return self.ask("/_ping") == b"OK"
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """What the engine answers to GET ``path``, or to POST of a ``body``; OSError, HTTPException: there is none."""
        connection = _UnixHttp(self.socket, timeout=5 if body is None else PATIENCE)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers={"Host": "engine"})
            return connection.getresponse().read()
        finally:
            connection.close()

    def stop_daemon(self, number: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> None:
        """Signal the engine (which leaves its containers alone) and return when it has ended; done already is done."""
        pid, until = self._engine(), time.monotonic() + patience
        if not pid:
            return
        self.run("kill", f"-{number.value}", pid, check=False)
        while Path(f"/proc/{self.pid}/root/proc/{pid}").exists():
            if time.monotonic() > until:
                raise Unavailable(f"the engine on {self.name} does not end within {patience:g} s of {number.name}")
            time.sleep(0.02)

    def _engine(self) -> str:
        """Number of the engine's process as this machine sees it, whether it answers or not; "" when none runs."""
        root = Path(f"/proc/{self.pid}/root")
        try:
            pid = (root / "run/fairlead.pid").read_text().strip()
            return pid if b"fairlead" in (root / "proc" / pid / "cmdline").read_bytes() else ""
        except OSError:
            return ""


class _UnixHttp(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def remove_cgroups(name: str, patience: float = 10.0) -> None:
    """Remove our cgroup, with all below it, from every hierarchy; its processes are dying or dead."""
    until = time.monotonic() + patience
    for tree in [Path(f"/sys/fs/cgroup{name}"), *Path("/sys/fs/cgroup").glob(f"*{name}")]:
        while tree.is_dir():
            for folder, _, _ in os.walk(tree, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    if time.monotonic() > until:
                        raise Internal(f"cgroup {folder} is still in use") from None
            if tree.is_dir():
                time.sleep(0.02)


def _end(pid: int) -> None:
    """Kill a process and wait until it is gone, and everything in its pid namespace with it."""
    with contextlib.suppress(ProcessLookupError):  # it went by itself: that is all we want
        watcher = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watcher, signal.SIGKILL)
            select.select([watcher], [], [], PATIENCE)
        finally:
            os.close(watcher)


def _child_of(pid: int) -> int:
    """The only child of a process that forked once and waits (unshare)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise Unavailable(f"process {pid} has no child any more")
    return int(children[0])
