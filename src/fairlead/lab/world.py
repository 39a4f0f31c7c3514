"""World: pretend machines on this one, for the demo and the tests. Nothing of the real machine is touched.

    with World(Topology(("one", "two"))) as world:
        one = world["one"]
        one.start_daemon("--mtu", "1400")                    # returns when the engine answers _ping
        one.run("docker", "network", "create", "RED")        # typed on that machine
        world.outside.run("curl", "-s", one.address4 + ":8080")

Each machine is one process 1 (``lab.anchor``) in network, mount, uts and pid
namespaces of its own. Everything typed there is a child of it.

Rules
    1. Whatever is started in a world ends with it: killing process 1 of a pid
       namespace kills all the rest, conmons and containers too.
    2. If the maker dies, by any signal, its worlds end: the anchors read the end
       of their standard input. Only ``keep`` breaks that tie, on request.
    3. What is left to remove by hand are our folder and our cgroups. Both have
       names of this world; nothing is found by looking similar.

What it does not do: know Docker. ``run`` types what it is told.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from fairlead.errors import Forbidden, Internal, Unavailable
from fairlead.lab import anchor
from fairlead.lab.topology import OUTSIDE, Topology

UNDERLAY = "underlay"
SOURCE = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds an engine may take to answer its first _ping."""


class Machine:
    """One pretend machine: run things on it, start an engine on it."""

    def __init__(self, name: str, folder: Path, address4: str = "", address6: str = "", gateway: str = "") -> None:
        self.name, self.folder, self.address4, self.address6 = name, folder, address4, address6
        self.cgroup = f"/fairlead-{folder.parent.name}-{name}"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.anchor: subprocess.Popen[str] | None = None
        self.pid = 0
        """of process 1, as the real machine sees it"""
        self._background: list[subprocess.Popen[bytes]] = []
        for each in ("data", "log"):
            (folder / each).mkdir(parents=True)
        (folder / "resolv.conf").write_text(f"nameserver {gateway or '127.0.0.1'}\n")
        (folder / "hostname").write_text(f"{name}\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{address4 or '127.0.1.1'} {name}\n")

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

    def down(self) -> None:
        """End every process of the machine; return when the kernel has taken them all."""
        if self.anchor is None:
            return
        if self.pid:
            _kill(self.pid)
        for process in (self.daemon, *self._background):
            if process is not None:
                process.wait()
        if self.anchor.stdin and not self.anchor.stdin.closed:
            self.anchor.stdin.close()
        self.anchor.wait()
        if self.anchor.stdout:
            self.anchor.stdout.close()
        remove_cgroups(self.cgroup)
        self.anchor, self.daemon, self.pid = None, None, 0

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

    def start_daemon(self, *options: str, env: Mapping[str, str] | None = None, wait: bool = True) -> None:
        """Start the engine here with these options; return when it answers (``Unavailable`` with its log if not)."""
        places = [
            "--host=unix:///run/docker.sock", "--exec-root=/run/fairlead", "--pidfile=/run/fairlead.pid",
            f"--data-root={self.folder}/data",
        ]  # fmt: skip
        for mine in (f"--cgroup-parent={self.cgroup}", "--config-file=/dev/null"):
            if not any(option.startswith(mine.partition("=")[0]) for option in options):
                places.append(mine)
        argv = [sys.executable, "-m", "fairlead", "daemon", *places, *options]
        self.daemon = self.start(*argv, log="daemon", env=env)
        if wait:
            self.wait_ready()

    def wait_ready(self, patience: float = PATIENCE) -> None:
        """Return when the engine answers _ping; ``Unavailable`` with the end of its log when it died or is late."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.daemon is not None and self.daemon.poll() is not None:
                break
            if answers(self.socket):
                return
            time.sleep(0.02)
        raise Unavailable(f"the engine on {self.name} does not answer:\n" + "\n".join(self.log().splitlines()[-25:]))

    def signal_daemon(self, number: signal.Signals) -> None:
        """Send a signal to the engine itself (not to the nsenter that waits for it)."""
        if self.daemon is None:
            raise Unavailable(f"no engine was started on {self.name}")
        os.kill(_child_of(self.daemon.pid), number)

    def stop_daemon(self, number: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """Signal the engine and wait for its end; returns its exit code (minus the signal that killed it)."""
        if self.daemon is None or self.daemon.poll() is not None:
            return 0 if self.daemon is None else self.daemon.returncode
        self.signal_daemon(number)
        code = self.daemon.wait(patience)
        self._background.remove(self.daemon)
        self.daemon = None
        return code


class World:
    """Machines on one cable, as the topology says; a context manager that leaves nothing."""

    def __init__(self, topology: Topology | None = None, base: str | None = None) -> None:
        self.topology = topology or Topology()
        self._base = base
        self.folder = Path()
        self.machines: dict[str, Machine] = {}
        self.kept = False

    def __enter__(self) -> World:
        require_root()
        self.folder = Path(tempfile.mkdtemp(prefix="fl", dir=self._base))
        os.chmod(self.folder, 0o711)
        try:
            self._build()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.kept:
            self.down()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @property
    def outside(self) -> Machine:
        return self.machines[OUTSIDE]

    @property
    def hosts(self) -> list[Machine]:
        """The machines that may run an engine, in order."""
        return [self.machines[name] for name in self.topology.hosts]

    def _build(self) -> None:
        plan = self.topology
        gateway = plan.address4(OUTSIDE)
        self.machines[UNDERLAY] = Machine(UNDERLAY, self.folder / UNDERLAY)
        for node in plan.nodes:
            self.machines[node] = Machine(node, self.folder / node, plan.address4(node), plan.address6(node), gateway)
        for machine in self.machines.values():
            machine.up()
        self._ip(UNDERLAY, plan.cable({name: machine.pid for name, machine in self.machines.items()}))
        for node in plan.nodes:
            self._ip(node, plan.stack(node))

    def _ip(self, node: str, lines: Iterable[str]) -> None:
        """A batch of iproute2 in one machine's network, but with the real machine's process ids."""
        text = "\n".join(lines) + "\n"
        argv = ["nsenter", f"--target={self.machines[node].pid}", "--net", "--", "ip", "-batch", "-"]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Internal(f"laying the cable of {node} failed: {done.stderr.strip()}")

    def cut(self, node: str, up: bool = False) -> None:
        """Pull a node's cable out of the switch; ``up`` plugs it in again."""
        number = self.topology.nodes.index(node)
        self._ip(UNDERLAY, [f"link set port{number} {'up' if up else 'down'}"])

    def keep(self) -> dict[str, int]:
        """Let the world live on without its maker; returns name -> pid of each process 1 (kill them to end it)."""
        for machine in self.machines.values():
            if machine.anchor and machine.anchor.stdin:
                machine.anchor.stdin.write("keep\n")
                machine.anchor.stdin.close()
        self.kept = True
        return {name: machine.pid for name, machine in self.machines.items()}

    def down(self) -> None:
        """End all machines and remove what is left; keeps going and reports everything that would not go."""
        troubles: list[Exception] = []
        for machine in reversed(self.machines.values()):
            try:
                machine.down()
            except Exception as problem:
                troubles.append(problem)
        self.machines.clear()
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())
        if troubles:
            raise ExceptionGroup("the world would not go", troubles)


class _UnixHttp(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def answers(path: str) -> bool:
    """Whether an engine behind this unix socket says OK to _ping."""
    connection = _UnixHttp(path, timeout=5)
    try:
        connection.request("GET", "/_ping", headers={"Host": "engine"})
        return connection.getresponse().read() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def require_root() -> None:
    """Say what is missing before anything is made."""
    if os.geteuid():
        raise Forbidden("namespaces need root: run it with sudo")
    missing = [name for name in ("unshare", "nsenter", "ip") if not shutil.which(name)]
    if missing:
        raise Unavailable(f"missing: {', '.join(missing)} (scripts/setup installs them)")


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


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it went by itself: that is all we want
        os.kill(pid, signal.SIGKILL)


def _child_of(pid: int) -> int:
    """The only child of a process that forked once and waits (unshare, nsenter)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if int(fields[1]) == pid:
                return int(entry.name)
    raise Unavailable(f"process {pid} has no child any more")
