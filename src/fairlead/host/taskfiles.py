"""Task files: secrets and configs of tasks, where their containers can read them; in memory only.

    <exec root>/swarm/files      a tmpfs that only root may enter
        <task id>/0, 1, ...      mounted one by one into the task's container, read-only

Rules
    1. Nothing of it is ever on a disk. (What the kernel swaps out is encrypted or not as the machine is set up.)
    2. It stays while the engine is away: containers go on. A reboot takes it, and them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from fairlead.errors import Internal
from fairlead.host import layers

NOSUID, NODEV, NOEXEC = 2, 4, 8


class TaskFiles:
    """Below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, task: str, files: Iterable[tuple[bytes, int, int, int]]) -> list[str]:
        """(content, owner, group, mode) of each -> their paths. What there was of that task is replaced."""
        try:
            self._open()
            self.remove(task)
            place = self._root / task
            place.mkdir(mode=0o711)
            return [self._write(place / str(number), *file) for number, file in enumerate(files)]
        except OSError as error:
            self.remove(task)
            raise Internal(f"the files of task {task} cannot be written: {error.strerror}") from None

    def _open(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not layers.is_mounted(str(self._root)):
            layers.mount("tmpfs", str(self._root), "tmpfs", NOSUID | NODEV | NOEXEC, "mode=0700")

    def _write(self, path: Path, data: bytes, uid: int, gid: int, mode: int) -> str:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
        return str(path)

    def remove(self, task: str) -> None:
        shutil.rmtree(self._root / task, ignore_errors=True)

    def close(self) -> None:
        """Nothing of it is left. (What containers have mounted stays theirs.)"""
        layers.umount(str(self._root))
        shutil.rmtree(self._root, ignore_errors=True)
