"""A program run elsewhere: in the network of a namespace, with files of ours in the place of some in the host's /etc.

    python -m fairlead.host.moved /run/…/netns/4f1e… /data/containers/4f1e… resolv.conf  buildah build …
                                  the namespace      the folder             its files    the program, takes our place

For programs that know only this machine's own network, such as the builder, or that shall know other names than it
(``hosts``), such as the managers' etcd. The files are mounted over those in ``/etc`` in a mount namespace of the
program's own: nobody else sees it, nothing is left behind. A file that is written in place changes for the program,
too.
Exit code 125 and a line on stderr when the way there is barred; else whatever the program says.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
RESOLV_CONF = "resolv.conf"

_libc = ctypes.CDLL(None, use_errno=True)


def command(namespace: str, folder: str, files: str = RESOLV_CONF) -> tuple[str, ...]:
    """The words to put before a program's own. ``namespace``: "" is our own; ``folder`` holds ``files``, with commas
    between them."""
    return (sys.executable, "-m", "fairlead.host.moved", namespace, folder, files)


def move(namespace: str, folder: Path, files: Sequence[str]) -> None:
    """This process goes there; ``OSError`` if it cannot. Threads would stay behind: call it first of all."""
    if namespace:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(there, CLONE_NEWNET), namespace)
        os.close(there)
    _check(_libc.unshare(CLONE_NEWNS), "a mount namespace")
    _mount("none", "/", MS_REC | MS_SLAVE)
    for name in files:
        if os.path.exists(f"/etc/{name}"):
            _mount(str(folder / name), f"/etc/{name}", MS_BIND)


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None), target)


def _check(code: int, what: str) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    try:
        move(sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(","))
        os.execvp(sys.argv[4], sys.argv[4:])
    except OSError as problem:
        print(f"cannot run {sys.argv[4]} in {sys.argv[1]}: {problem}", file=sys.stderr)
        sys.exit(125)
