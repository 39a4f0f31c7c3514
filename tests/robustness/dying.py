"""The daemon with a death in it: at the n-th thing it does to the world, it is killed instead of doing it.

usage: python dying.py FOLDER daemon ...

    FOLDER/death    a number: from when this file is there, steps are counted, and that many-th one is its end
    FOLDER/steps    what was done since, a line a step

A step is one write to the store, one netlink batch, one nft transaction, a namespace, a file, a setting, a mount, a
program started, a word to the relay or the resolver. They are wrapped from here, so the daemon itself knows nothing.
Of the same step many times over (the settings of a device) the first two are counted.
"""

import functools
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.engine import controlclient
from fairlead.host import bundles, files, layers, netlink, netns, nft, oci, sysctls
from fairlead.store import sqlite

STEPS: list[tuple[Any, tuple[str, ...]]] = [
    (sqlite.SqliteStore, ("put_if", "delete_if")),
    (netlink.Netlink, ("do",)),
    (nft.Nft, ("run", "change")),
    (netns.Namespaces, ("create", "destroy")),
    (files, ("write", "remove")),
    (sysctls, ("write",)),
    (layers.Layers, ("mount", "umount", "remove")),
    (bundles.Bundle, ("make", "remember", "remove")),
    (controlclient.ControlClient, ("say",)),
    (oci.Oci, ("start", "kill")),
    (subprocess.Popen, ("__init__",)),
    (os, ("unlink", "rename")),
]


class Death:
    """Counts steps from when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._at, self._steps = folder / "death", folder / "steps"
        self._count = 0
        self._before = ("", "")

    def step(self, name: str) -> None:
        try:
            last = int(self._at.read_text())
        except (OSError, ValueError):
            self._count, self._before = 0, ("", "")
            return
        if self._before == (name, name):
            return
        self._before = (self._before[1], name)
        self._count += 1
        with self._steps.open("a" if self._count > 1 else "w") as file:
            file.write(f"{name}\n")
        if self._count >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    def stands_before(self, deed: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(deed)
        def done(*words: Any, **more: Any) -> Any:
            self.step(name)
            return deed(*words, **more)

        return done


def main() -> int:
    death = Death(Path(sys.argv.pop(1)))
    for owner, names in STEPS:
        for name in names:
            deed = inspect.getattr_static(owner, name)
            assert not isinstance(deed, staticmethod | classmethod)
            title = f"{getattr(owner, '__qualname__', None) or owner.__name__}.{name}"
            setattr(owner, name, death.stands_before(deed, title))
    from fairlead import __main__

    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
