"""A root file system with busybox, and an ``Oci`` over temporary directories, for tests of processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fairlead.core.container import Config, Container, HostConfig, Mount
from fairlead.core.life import Ended
from fairlead.core.model import Sandbox
from fairlead.host.cgroups import Cgroups
from fairlead.host.conmon import Wire
from fairlead.host.oci import Oci

APPLETS = "cat chmod dd echo env false grep head hostname id ls mkdir mount ps pwd sh sleep stty tail touch true wc yes"
NOWHERE = Sandbox(id="s", container="c")
"""A network namespace that nobody prepared: the runtime makes an empty one."""


def make_rootfs(path: Path) -> Path:
    """Busybox, two users and a program that is not executable."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "sbin"):
        (path / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", path / "bin/busybox")
    for name in APPLETS.split():
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nann:x:1000:\nstaff:x:50:ann\n")
    (path / "etc/plain").write_text("not a program\n")
    return path


def container(*words: str, config: dict[str, Any] | None = None, **host: Any) -> Container:
    return Container(
        id=uuid.uuid4().hex * 2,
        name="box",
        created="2024-01-01T00:00:00Z",
        path=words[0],
        args=words[1:],
        config=Config(**{"hostname": "box", **(config or {})}),
        host=HostConfig(**host),
    )


class Bench:
    """An ``Oci`` with roots of its own; ``close`` ends what the test left running."""

    def __init__(self, top: Path, rootfs: Path, tasks: asyncio.TaskGroup) -> None:
        self.top = top
        self.rootfs = rootfs
        self.parent = f"/fairlead-test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.tasks = tasks
        self.oci = self.another()
        self.made: list[str] = []

    def another(self) -> Oci:
        """A returning engine: the same roots, nothing remembered."""
        oci = Oci(self.top / "run", self.top / "data", self.tasks, cgroup_parent=self.parent)
        oci.prepare()
        return oci

    async def create(self, box: Container, mounts: Sequence[Mount] = (), **more: Any) -> int:
        self.made.append(box.id)
        return await self.oci.create(box, NOWHERE, str(self.rootfs), mounts, **more)

    async def run(self, box: Container, mounts: Sequence[Mount] = (), **more: Any) -> Ended:
        """From create to its end."""
        await self.create(box, mounts, **more)
        await self.oci.start(box.id)
        return await self.end()

    async def end(self) -> Ended:
        async with asyncio.timeout(10):
            return await anext(self.oci.exits())

    def log(self, box: Container) -> str:
        """What it said, without time and stream."""
        text = (self.top / "data/containers" / box.id / f"{box.id}-json.log").read_text()
        return "".join(line.split(" ", 3)[3] + "\n" for line in text.splitlines())

    async def output(self, *words: str, mounts: Sequence[Mount] = (), config: Any = None, **host: Any) -> str:
        """What a command in a new container says, to the end."""
        box = container(*words, config=config, **host)
        await self.run(box, mounts)
        return self.log(box).rstrip("\n")

    async def another_attach(self, id: str) -> Wire:
        """Reach its streams without an engine."""
        return Wire(str(self.top / "run/containers" / id))

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        for id in self.made:
            await self.oci.delete(id, force=True)
        for place in Path("/sys/fs/cgroup").glob(f"**{self.parent}" if Cgroups().version == 2 else f"*{self.parent}"):
            with suppress(OSError):
                place.rmdir()


@asynccontextmanager
async def bench(rootfs: Path) -> AsyncIterator[Bench]:
    top = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    try:
        async with asyncio.TaskGroup() as tasks:
            made = Bench(top, rootfs, tasks)
            try:
                yield made
            finally:
                await made.close()
                made.oci.leave()
    finally:
        shutil.rmtree(top, ignore_errors=True)
