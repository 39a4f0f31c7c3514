"""A LAN of pretend machines on this one machine, and ways to look out of their windows.

    Lan  192.168.90.1/24  (a bridge in a namespace of its own: router and "outside" in one)
      |---- Machine 192.168.90.11   namespaces: net, mount, uts, pid
      `---- Machine 192.168.90.12   ...

Promise: the real machine's own network gets no device, address or rule. All of it hangs on processes that we start;
when they end (or when the test process dies: they ask the kernel to follow it), it is gone.

What it does not do: start engines (``engines``).
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
SLOWER = 6 if "FULL_KERNEL" in os.environ else 1
"""What patience is multiplied by: without KVM, the machine of ``scripts/full-kernel`` is that slow, or worse."""
FOLLOW = ["setpriv", "--pdeathsig", "KILL", "--"]
"""A process started with this dies with the one that started it."""


class Result:
    """What a command printed and how it ended; reads like the string it printed, is true when it ended well."""

    def __init__(self, command: Sequence[str], code: int, out: str, err: str) -> None:
        self.command, self.code, self.out, self.err = list(command), code, out.strip(), err.strip()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def everything(self) -> str:
        return f"{self.out}\n{self.err}".strip()

    def __contains__(self, text: str) -> bool:
        return text in self.everything

    def __bool__(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        return self.out

    def __repr__(self) -> str:
        return f"$ {shlex.join(self.command)}\n{self.everything}\n(exit {self.code})"


def typed(command: str | Sequence[str]) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else list(command)


def run(
    command: Sequence[str],
    *,
    timeout: float = 60,
    env: dict[str, str] | None = None,
    stdin: str = "",
    cwd: str | None = None,
) -> Result:
    """Run to its end, whatever that is; never raises for an exit code."""
    patience = timeout * SLOWER * strain()
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, env=env, input=stdin, cwd=cwd)
    return Result(command, done.returncode, done.stdout, done.stderr)


def must(*command: str, **kwargs: object) -> Result:
    result = run([str(word) for word in command], **kwargs)  # type: ignore[arg-type]
    assert result.code == 0, repr(result)
    return result


def strain() -> float:
    """How many times more this machine has to do, of late, than it has processors; 1 where it has time."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def eventually(look: Callable[[], T], what: str = "the condition", timeout: float = 10) -> T:
    """Ask until the answer is true; return it. For what is asynchronous by nature, e.g. a server that starts.

    ``timeout``: seconds on a machine that has nothing else to do; on another, as many times longer (``strain``).
    """
    begun = time.monotonic()
    while True:
        answer = look()
        if answer:
            return answer
        waited = time.monotonic() - begun
        if waited > timeout * SLOWER * strain():
            raise AssertionError(f"{what}: not within {waited:.1f} s, last seen {answer!r}")
        time.sleep(0.02)


class Place:
    """Somewhere on the LAN: commands and connections made from there. ``pid``: a process that lives there."""

    def __init__(self, pid: int, address: str) -> None:
        self.pid, self.address = pid, address
        self.network = f"/proc/{pid}/ns/net"

    def __call__(self, command: str | Sequence[str], **kwargs: object) -> Result:
        """Type a command there (in its network; the files are the real machine's). Never raises for its exit code."""
        return run(["nsenter", f"--net={self.network}", "--", *typed(command)], **kwargs)  # type: ignore[arg-type]

    def must(self, command: str | Sequence[str]) -> Result:
        result = self(command)
        assert result.code == 0, repr(result)
        return result

    def within(self, work: Callable[[], T]) -> T:
        """Call ``work`` in a thread that has moved there."""
        answer: list[T] = []
        failure: list[BaseException] = []

        def move_and_work() -> None:
            try:
                handle = os.open(self.network, os.O_RDONLY)
                try:
                    if _libc.setns(handle, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns {self.network}")
                finally:
                    os.close(handle)
                answer.append(work())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=move_and_work)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return answer[0]

    def connect(self, address: str, port: int, timeout: float = 2) -> socket.socket:
        return self.within(lambda: socket.create_connection((address, port), timeout))

    def reaches(self, address: str, port: int, timeout: float = 1) -> bool:
        """Does a TCP connection come about, now?"""
        try:
            self.connect(address, port, timeout).close()
        except OSError:
            return False
        return True

    def page(self, address: str, port: int = 80, path: str = "/", patience: float = 5) -> str:
        """The body that HTTP gives; tries again for ``patience`` seconds; empty when there is no answer."""
        end = time.monotonic() + patience
        while True:
            try:
                with self.connect(address, port) as peer:
                    peer.sendall(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                    parts = iter(lambda: peer.recv(65536), b"")
                    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
                    if head:
                        return body.decode()
            except OSError:
                pass
            if time.monotonic() > end:
                return ""
            time.sleep(0.05)

    def pings(self, address: str) -> Result:
        return self(["ping", "-c1", "-W1", address])

    def links(self) -> dict[str, str]:
        """Name of every device -> its master's name, or nothing."""
        found = {}
        for line in self.must("ip -o link show").lines:
            words = line.split()
            found[words[1].rstrip(":").split("@")[0]] = words[words.index("master") + 1] if "master" in words else ""
        return found


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def _answer(asked: bytes, address: str) -> bytes:
    """An A record for ``outside``, no such name for the rest."""
    end = asked.index(b"\0", 12) + 5
    question = asked[12:end]
    if question.lower().startswith(b"\7outside\0"):
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(address) if question[-3] == 1 else b""
        return asked[:2] + b"\x81\x80\0\1\0" + bytes([bool(record)]) + b"\0\0\0\0" + question + record
    return asked[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question


class Lan(Place):
    """The wire between the machines; itself a place, ``outside`` of all of them."""

    def __init__(self, net: str = "192.168.90") -> None:
        self.net = net
        self.holder = subprocess.Popen([*FOLLOW, "unshare", "--net", "--", "sleep", "infinity"])
        super().__init__(self.holder.pid, f"{net}.1")
        ours = os.readlink("/proc/self/ns/net")
        # A bridge without a MAC of its own takes that of a port: every cable plugged or pulled would change where
        # the router is, and the machines' next packets out would go to where it was.
        eventually(lambda: os.readlink(self.network) != ours, "a network namespace")
        for words in (
            "link set lo up",
            "link add lan0 address 02:00:5a:00:00:01 type bridge",
            f"addr add {self.address}/24 dev lan0",
            "link set lan0 up",
        ):
            self.must(f"ip {words}")
        self.answer_names()

    def answer_names(self) -> None:
        """A name server for all machines: ``outside`` is this place, nothing else exists."""
        self.names = self.within(lambda: _bound(self.address, 53))

        def serve() -> None:
            while True:
                try:
                    asked, peer = self.names.recvfrom(4096)
                    self.names.sendto(_answer(asked, self.address), peer)
                except OSError:  # a question of a machine that has gone; or we close
                    if self.names.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()

    def plug(self, pid: int, last: int) -> str:
        """A cable to the network of ``pid``, which becomes eth0 with the address ``last``."""
        port, address = f"port{last}", f"{self.net}.{last}"
        self.must(f"ip link add {port} type veth peer name eth0 netns {pid}")
        self.must(f"ip link set {port} master lan0 up")
        there = Place(pid, address)
        for words in (
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {self.address}",
        ):
            there.must(f"ip {words}")
        return address

    def unplug(self, last: int) -> None:
        self(f"ip link del port{last}")

    def close(self) -> None:
        self.names.close()
        self.holder.kill()
        self.holder.wait()


class Machine(Place):
    """One pretend machine: namespaces, a first process, a folder ``base`` that both sides see."""

    def __init__(self, lan: Lan, last: int, name: str = "", root: str = "/") -> None:
        self.lan, self.last, self.name = lan, last, name or f"host{last}"
        self.base = Path(tempfile.mkdtemp(prefix="fl-", dir="/var/tmp"))
        resolv = self.base / "resolv.conf"
        resolv.write_text(f"nameserver {lan.address}\n")
        script = str(Path(__file__).with_name("inside.py"))
        namespaces = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        command = [*FOLLOW, *namespaces, "--", sys.executable, script, self.name, root, str(self.base), str(resolv)]
        with open(self.base / "inside.log", "wb") as log:
            self.outer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        try:
            assert self.outer.stdout is not None
            ready = self.outer.stdout.readline()
            assert ready == b"ready\n", (self.base / "inside.log").read_text()
            children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
            super().__init__(int(children[0]), lan.plug(int(children[0]), last))
        except BaseException:
            self.close()
            raise

    def command(self, words: Sequence[str]) -> list[str]:
        """The command line that runs ``words`` inside, in all the machine's namespaces."""
        spaces = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", f"--target={self.pid}", *spaces, "--", *map(str, words)]

    def inside(self, command: str | Sequence[str], **kwargs: object) -> Result:
        """Type a command inside: its files, processes and network are the machine's."""
        return run(self.command(typed(command)), **kwargs)  # type: ignore[arg-type]

    def close(self) -> None:
        self.outer.send_signal(signal.SIGKILL)
        self.outer.wait()
        self.lan.unplug(self.last)  # the kernel takes its time to forget a network, and its cables
        if self.outer.stdout is not None:
            self.outer.stdout.close()
        self._forget_cgroups()
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def cgroup(self) -> str:
        return f"/{self.base.name}"

    def _forget_cgroups(self) -> None:
        """Remove the machine's control groups, emptiest first, once its processes are gone."""
        roots = [p for p in Path("/sys/fs/cgroup").glob(f"*{self.cgroup}")] + [Path(f"/sys/fs/cgroup{self.cgroup}")]
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for switch in (switch for root in roots for switch in root.glob(f"*/**/{name}")):
                with contextlib.suppress(OSError):  # it went meanwhile
                    switch.write_text(word)  # a paused container is dead only when it goes on
        for root in roots:
            folders = [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]
            for folder in folders:
                try:
                    eventually(lambda folder=folder: _remove(folder), f"removal of {folder}", 5)
                except AssertionError:
                    break


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True
