"""A storage stack of its own in a folder: everything images, layers and volumes need, real disk and real tools."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.core.container import Config, Container, HostConfig
from fairlead.core.imagespec import ImageRecord
from fairlead.engine.events import Events
from fairlead.engine.filesystem import Filesystem
from fairlead.engine.images import Images
from fairlead.engine.transfers import Transfers
from fairlead.engine.volumes import Volumes
from fairlead.errors import NotFound
from fairlead.host import archive
from fairlead.host.images import Layout
from fairlead.host.layers import Layers
from fairlead.host.registry import Skopeo
from fairlead.host.volumes import VolumeFolders
from fairlead.store.memory import MemoryStore

Entry = tuple[str, bytes | str | None]
"""(name, content): bytes a file, text a symbolic link, None a directory."""


def tar(*entries: Entry, uid: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive_:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = uid
            info.mtime = 1_700_000_000
            info.mode = 0o755 if content is None or name.startswith("bin/") else 0o644
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            archive_.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive_:
        return sorted(member.name for member in archive_)


async def once(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 4096):
        yield data[start : start + 4096]


async def joined(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


@dataclass
class Disk:
    """All parts, wired as the daemon does it."""

    folder: Path
    driver: str = ""
    known: dict[str, Container] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        ticks = itertools.count(1)
        self.events = Events(lambda: next(ticks))
        numbers = itertools.count(1)

        def now() -> str:
            return f"2026-01-01T00:00:{next(ticks) % 60:02d}.000000000Z"

        def containers() -> Iterable[Container]:
            return list(self.known.values())

        self.layout = Layout(str(self.folder / "images"))
        self.layers = Layers(str(self.folder / "layers"))
        self.registry = Skopeo(self.layout)
        self.images = Images(self.store, self.layout, self.events, now, containers)
        self.filesystem = Filesystem(self.images, self.layout, self.layers, archive, containers, self.driver)
        self.transfers = Transfers(self.images, self.layout, self.layers, self.registry, now, "linux/amd64", "28.0.0")
        self.volumes = Volumes(
            self.store, VolumeFolders(str(self.folder / "volumes")), self.events, now,
            lambda: f"{next(numbers):064x}", containers, self.find, self.filesystem.image_root,
        )  # fmt: skip

    def find(self, ref: str) -> Container:
        if ref not in self.known:
            raise NotFound(f"No such container: {ref}")
        return self.known[ref]

    async def open(self) -> Disk:
        await self.images.restore()
        await self.filesystem.restore()
        await self.volumes.restore()
        return self

    async def image(self, name: str, *entries: Entry, changes: tuple[str, ...] = ()) -> ImageRecord:
        lines = [line async for line in self.transfers.import_(once(tar(*entries)), name, "", changes)]
        return self.images.get(lines[-1]["status"])

    def container(self, image: ImageRecord, host: HostConfig | None = None, config: Config | None = None) -> Container:
        id = f"{len(self.known) + 1:064d}"
        made = Container(id, f"c{id[-1]}", "2026", image.id, config=config or image.config, host=host or HostConfig())
        self.known[id] = made
        return made
