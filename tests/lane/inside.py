"""The first process of a pretend machine: gives it a root, then buries its dead.

usage: inside.py HOSTNAME ROOT BASE RESOLV     (started in fresh mount, uts, pid and network namespaces)

Promise: after the line ``ready`` the machine has its own hostname, ``/proc``, ``/sys`` (of its own network), ``/run``,
``/etc/docker`` and ``/etc/resolv.conf``; ``ROOT`` is its root directory, seen through an overlay so that nothing ever
changes it (``/`` means: the root of the real machine, with the four folders replaced). ``BASE`` is visible at the same
path inside and outside, because sockets and data live there.

Everything is undone by the kernel when this process ends: mounts and processes belong to its namespaces.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True)


def furnish(root: Path, base: Path) -> None:
    """Mount what a machine needs into ``root``."""
    if root == Path("/"):
        mount("--rbind", "/sys/fs/cgroup", str(base / "cgroup"))
        mount("-t", "proc", "proc", "/proc")
        mount("-t", "sysfs", "sysfs", "/sys")
        mount("--move", str(base / "cgroup"), "/sys/fs/cgroup")
        mount("-t", "tmpfs", "tmpfs", "/run")
        return
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "sysfs", "sysfs", f"{root}/sys")
    mount("--rbind", "/sys/fs/cgroup", f"{root}/sys/fs/cgroup")
    mount("--rbind", "/dev", f"{root}/dev")
    mount("-t", "tmpfs", "tmpfs", f"{root}/run")
    inside = Path(f"{root}{base}")
    inside.mkdir(parents=True, exist_ok=True)
    mount("--rbind", str(base), str(inside))


def configure(root: Path, resolv: str) -> None:
    """An empty ``/etc/docker`` and a ``resolv.conf`` of its own, whatever they are outside."""
    for folder in ("run/lock", "run/netns"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    settings = root / "etc/docker"
    if root != Path("/"):
        settings.mkdir(parents=True, exist_ok=True)
    if settings.is_dir():
        mount("-t", "tmpfs", "tmpfs", str(settings))
    conf = root / "etc/resolv.conf"
    if conf.is_symlink():
        target = os.readlink(conf)
        conf = root / target.lstrip("/") if target.startswith("/") else (root / "etc" / target)
        conf = Path(os.path.normpath(conf))
    if not conf.exists():
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.touch()
    mount("--bind", resolv, str(conf))


def enter(root: Path, base: Path) -> Path:
    """Show ``root`` through an overlay whose changes vanish; returns where it is mounted."""
    layers, merged = base / "layers", base / "root"
    for folder in (layers, merged):
        folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "tmpfs", str(layers))
    for folder in ("upper", "work"):
        (layers / folder).mkdir()
    choices = f"lowerdir={root},upperdir={layers}/upper,workdir={layers}/work"
    mount("-t", "overlay", "overlay", "-o", choices, str(merged))
    return merged


def pivot(root: Path) -> None:
    """Make ``root`` the root directory of this mount namespace."""
    old = root / ".old"
    old.mkdir(exist_ok=True)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", ".old"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/.old"], check=True)


def main() -> None:
    hostname, root, base, resolv = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    mount("--make-rprivate", "/")
    socket.sethostname(hostname)
    (base / "cgroup").mkdir(exist_ok=True)
    if root != Path("/"):
        root = enter(root, base)
    furnish(root, base)
    configure(root, resolv)
    if root != Path("/"):
        pivot(root)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:  # orphans (shims, monitors) come here to be buried
        signal.sigwait({signal.SIGCHLD})
        bury()


def bury() -> None:
    """Collect every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
