"""A pretend host: a fresh network namespace for one test, with a last check that nothing leaked.

    def test_something(pretend_host):
        host = pretend_host.open()        # a LinuxHost; opening again is a restart
        host.make(...)
        pretend_host.run("ip", "link")    # a program in there

The test's own thread is in the namespace, and back in its old one afterwards. What a
test makes it removes; what is left then fails it.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fairlead.host.linux import LinuxHost
from fairlead.host.netns import HERE, in_new, inside

CLONE_FS, CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x200, 0x20000, 0x4000, 1 << 18
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root")


class PretendHost:
    """The namespace, and a short directory for what an engine keeps below its exec root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: list[LinuxHost] = []

    def open(self) -> LinuxHost:
        self._opened.append(LinuxHost(self.root))
        return self._opened[-1]

    def run(self, *command: str, ns: str = "") -> str:
        """A program's output, in the host or in one of its namespaces."""

        def call() -> str:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        if not ns:
            return call()
        with inside(str(self.root / "netns" / ns)):
            return call()

    def close(self) -> None:
        for host in self._opened:
            host.settle()
        left = self._left()
        for name in self._namespaces():
            subprocess.run(["umount", "-l", str(self.root / "netns" / name)], check=False)
            (self.root / "netns" / name).unlink()
        for host in self._opened:
            host.close()
        assert not left, f"the test left behind: {left}"

    def _namespaces(self) -> list[str]:
        directory = self.root / "netns"
        return sorted(os.listdir(directory)) if directory.is_dir() else []

    def _left(self) -> list[str]:
        devices = [line.split()[1].rstrip(":") for line in self.run("ip", "-o", "link").splitlines()]
        tables = self.run("nft", "list", "tables").splitlines()
        rules = [
            line for line in self.run("ip", "rule").splitlines() if line.split(":")[0] not in ("0", "32766", "32767")
        ]
        return [f"device {name}" for name in devices if name != "lo"] + tables + rules + self._namespaces()


@contextmanager
def own_mounts() -> Iterator[str]:
    """A mount namespace of this process's own: what others mount is neither seen nor heard in it. Where they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as files:

        def opened(path: str, flags: int) -> int:
            file = os.open(path, flags | os.O_CLOEXEC)
            files.callback(os.close, file)
            return file

        outside, root, here = (
            opened("/proc/thread-self/ns/mnt", os.O_RDONLY),
            opened("/", os.O_PATH),
            opened(".", os.O_PATH),
        )
        _check(libc.unshare(CLONE_NEWNS))
        try:
            _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
            yield f"/proc/{os.getpid()}/fd/{outside}"
        finally:
            _check(libc.unshare(CLONE_FS))  # threads begun meanwhile share our root, and would have to move with us
            _check(libc.setns(outside, CLONE_NEWNS))
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)


def _check(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def pretend_host() -> Iterator[PretendHost]:
    file = in_new(lambda: os.open(HERE, os.O_RDONLY | os.O_CLOEXEC))
    root = Path(tempfile.mkdtemp(prefix="fl-"))
    try:
        with inside(file):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            host = PretendHost(root)
            yield host
            host.close()
    finally:
        os.close(file)
        shutil.rmtree(root)


def eventually(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait for a condition, not for a time."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
