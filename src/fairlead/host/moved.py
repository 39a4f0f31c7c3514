"""A program run elsewhere: in the network of a namespace, with its resolv.conf in the place of the host's.

    python -m fairlead.host.moved /run/…/netns/4f1e… /data/containers/4f1e…  buildah build …
                                  the namespace      holds resolv.conf        the program, which takes our place

For programs that know only this machine's own network, such as the builder. The file is mounted over
``/etc/resolv.conf`` in a mount namespace of the program's own: nobody else sees it, nothing is left behind.
Exit code 125 and a line on stderr when the way there is barred; else whatever the program says.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
RESOLV_CONF = "/etc/resolv.conf"

_libc = ctypes.CDLL(None, use_errno=True)


def command(namespace: str, folder: str) -> tuple[str, ...]:
    """The words to put before a program's own. ``namespace``: "" is our own; ``folder`` holds the file."""
    return (sys.executable, "-m", "fairlead.host.moved", namespace, folder)


def move(namespace: str, folder: Path) -> None:
    """This process goes there; ``OSError`` if it cannot. Threads would stay behind: call it first of all."""
    if namespace:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(there, CLONE_NEWNET), namespace)
        os.close(there)
    _check(_libc.unshare(CLONE_NEWNS), "a mount namespace")
    _mount("none", "/", MS_REC | MS_SLAVE)
    if os.path.exists(RESOLV_CONF):
        _mount(str(folder / "resolv.conf"), RESOLV_CONF, MS_BIND)


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None), target)


def _check(code: int, what: str) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    try:
        move(sys.argv[1], Path(sys.argv[2]))
        os.execvp(sys.argv[3], sys.argv[3:])
    except OSError as problem:
        print(f"cannot run {sys.argv[3]} in {sys.argv[1]}: {problem}", file=sys.stderr)
        sys.exit(125)
