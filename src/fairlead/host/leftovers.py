"""Leftovers: what containers have on this machine, as it is found there and not as it is remembered.

    <data root>/containers/<id>   <data root>/layers/<id>       while there is such a container
    <exec root>/containers/<id>   a conmon   a control group    while it runs
    a mount below <data root>/layers/<id>                       while there is such a container

Looking only: who is the owner, and whether it should be so, is the doctor's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fairlead.core.life import Belonging
from fairlead.host.cgroups import ROOT

_ID = re.compile(r"[0-9a-f]{64}")


class Leftovers:
    """One engine's. ``parent``: the control group above those of its containers."""

    def __init__(self, data_root: Path, exec_root: Path, parent: str, cgroups: Path = ROOT) -> None:
        self._data, self._exec = data_root, exec_root
        self._parent, self._cgroups = parent.strip("/"), cgroups

    def found(self) -> list[Belonging]:
        """Everything there is that bears a container's id."""
        return [*self._folders(), *self._mounts(), *self._groups(), *self._keepers()]

    def _folders(self) -> Iterator[Belonging]:
        for place, running in (
            (self._data / "containers", False),
            (self._data / "layers", False),
            (self._exec / "containers", True),
        ):
            for name in _names(place):
                yield Belonging("folder", name, str(place / name), running)

    def _mounts(self) -> Iterator[Belonging]:
        layers = str(self._data / "layers")
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place = line.split()[4]
            if place.startswith(layers + "/"):
                id = place[len(layers) + 1 :].partition("/")[0]
                if _ID.fullmatch(id):
                    yield Belonging("mount", id, place, False)

    def _groups(self) -> Iterator[Belonging]:
        """Of each hierarchy that is mounted; a container's group is told once."""
        tops = [self._cgroups, *(self._cgroups / name for name in _listed(self._cgroups))]
        for id in dict.fromkeys(id for top in tops for id in _names(top / self._parent)):
            yield Belonging("control group", id, f"/{self._parent}/{id}", True)

    def _keepers(self) -> Iterator[Belonging]:
        ours = str(self._exec / "exits").encode()
        for pid in filter(str.isdigit, _listed(Path("/proc"))):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if ours in words and b"--cid" in words and b"--exec" not in words:
                    id = words[words.index(b"--cid") + 1].decode()
                    yield Belonging("process", id, f"conmon, process {pid}", True)


def _names(place: Path) -> list[str]:
    return sorted(filter(_ID.fullmatch, _listed(place)))


def _listed(place: Path) -> list[str]:
    try:
        return os.listdir(place)
    except OSError:
        return []
