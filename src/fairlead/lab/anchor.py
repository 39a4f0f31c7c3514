"""Anchor: the first process of a pretend machine. It sets the scene and keeps it until told to stop.

    unshare --net --mount --uts --pid … python anchor.py NAME FOLDER
                                            |
        /proc  of its own (unshare does it)     /run   empty
        /sys   of its own network namespace,    /etc/resolv.conf, /etc/hostname, /etc/hosts  from FOLDER
               with the machine's cgroups

As process 1 it buries every orphan. It reads its standard input: at the end of
it (the maker is gone, even by SIGKILL) it exits, and the kernel takes the
processes, mounts and network with it. The word ``keep`` makes it stay.

It runs as a plain file with the standard library only, so it starts fast.
What it leaves behind: nothing on the machine outside FOLDER.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from pathlib import Path

BIND, RECURSIVE, MOVE = 4096, 16384, 8192

libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); raises OSError with the target."""
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def dress(name: str, folder: Path) -> None:
    """Give this mount namespace its own /run, /sys and names, seen by nobody else."""
    socket.sethostname(name)
    cgroups = folder / "cgroups"
    cgroups.mkdir(exist_ok=True)
    if os.path.ismount("/sys/fs/cgroup"):
        mount("/sys/fs/cgroup", str(cgroups), flags=BIND | RECURSIVE)
    mount("sysfs", "/sys", "sysfs")
    if os.path.ismount(cgroups):
        mount(str(cgroups), "/sys/fs/cgroup", flags=MOVE)
    # A link such as Ubuntu's resolv.conf points into the old /run: find out before covering it.
    places = {each: Path(f"/etc/{each}").resolve() for each in ("resolv.conf", "hostname", "hosts")}
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    for each in ("netns", "lock"):
        Path("/run", each).mkdir()
    for each, place in places.items():
        if place.is_relative_to("/run"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text((folder / each).read_text())
        elif place.exists():
            mount(str(folder / each), str(place), flags=BIND)
    overlay_cannot_hold_overlay(folder / "data")


def overlay_cannot_hold_overlay(data: Path) -> None:
    """Where FOLDER lies on an overlay (inside a container), give the layers memory to lie on instead."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holders = [line for line in lines if data.is_relative_to(line[1])]
    if max(holders, key=lambda line: len(line[1]))[2] == "overlay":
        mount("tmpfs", str(data), "tmpfs", data="mode=711")


def bury() -> None:
    """Wait for every child that is not ours, forever: that is what process 1 is for."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            signal.sigwait({signal.SIGCHLD})


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    dress(name, folder)
    os.chdir("/")
    print("ready", flush=True)
    threading.Thread(target=bury, daemon=True).start()
    word = sys.stdin.readline()
    while word and word.strip() != "keep":
        word = sys.stdin.readline()
    if word:
        threading.Event().wait()
    os._exit(0)


if __name__ == "__main__":
    main()
