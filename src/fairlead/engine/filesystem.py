"""Filesystem: a container's root, ready for its process; and its files for ``cp``, ``diff``, ``export``.

    prepare   image unpacked (once), the container's own layer over it, mounted
    release   unmounted; what was written stays
    remove    gone

Rules
    1. ``prepare`` of what is prepared and ``release`` of what is released are fine;
       a mount that an earlier engine left is found again.
    2. Whoever looks at a stopped container's files holds it for that long: the
       last one to let go unmounts, unless its process has started meanwhile.
    3. Paths are the container's; nobody outside of ``host.archive`` opens them.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fairlead.core import files
from fairlead.core.container import Container
from fairlead.engine.images import Images
from fairlead.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from fairlead.engine.storage import FileAccess, ImageDisk, LayerDisk


class Filesystem:
    """Root file systems of all containers. ``containers`` are all there are now."""

    def __init__(
        self,
        images: Images,
        disk: ImageDisk,
        layers: LayerDisk,
        files: FileAccess,
        containers: Callable[[], Iterable[Container]],
        driver: str = "",
    ) -> None:
        self._images = images
        self._disk = disk
        self._layers = layers
        self._files = files
        self._containers = containers
        self._wanted_driver = driver
        self._held: Counter[str] = Counter()
        self._running: set[str] = set()

    async def restore(self) -> None:
        """At the start: find out what works here; remove layers of containers that are gone."""
        self._layers.open(self._wanted_driver)
        known = {container.id: container for container in self._containers()}
        self._running = {id for id, container in known.items() if container.state.running}
        for id in self._layers.known():
            if id not in known:
                await asyncio.to_thread(self._layers.remove, id)
            elif id not in self._running:
                self._layers.umount(id)

    @property
    def driver(self) -> str:
        """Docker's name of what is in use: ``overlay2`` or ``vfs``."""
        return self._layers.driver

    def graph(self, container: Container) -> dict[str, str]:
        """Where the parts are, as ``inspect`` shows them."""
        merged = self._layers.path(container.id)
        if self.driver != "overlay2":
            return {"Dir": merged}
        home = merged.removesuffix("/merged")
        lower = str(self._disk.rootfs(container.image))
        return {
            "ID": container.id,
            "LowerDir": lower,
            "MergedDir": merged,
            "UpperDir": f"{home}/upper",
            "WorkDir": f"{home}/work",
        }

    def image_graph(self, id: str) -> dict[str, str]:
        """The same for an image."""
        place = str(self._disk.rootfs(id))
        return {"Dir": place} if self.driver == "vfs" else {"UpperDir": place}

    async def image_root(self, ref: str) -> str:
        """Where the files of an image are; unpacked at the first call."""
        return await self._disk.unpack(self._images.get(ref))

    # -- for the process ----------------------------------------------------------------------

    async def prepare(self, container: Container) -> str:
        """The path of the container's root, ready to be its process's."""
        root = await self._mount(container)
        self._running.add(container.id)
        return root

    async def release(self, container: Container) -> None:
        self._running.discard(container.id)
        self._umount(container)

    async def remove(self, container: Container) -> None:
        """Everything the container wrote goes; and its image's files, if only it still needed them."""
        self._running.discard(container.id)
        await asyncio.to_thread(self._layers.remove, container.id)
        await self._images.released(container.image, container.id)

    async def _lower(self, container: Container) -> str:
        image = self._images.by_id(container.image)
        if image is not None:
            return await self._disk.unpack(image)
        place = self._disk.rootfs(container.image)
        if not place.exists():
            raise NotFound(f"No such image: {container.image}")
        return str(place)

    async def _mount(self, container: Container) -> str:
        lower = await self._lower(container)
        if self.driver == "overlay2":
            return self._layers.mount(container.id, lower)
        return await asyncio.to_thread(self._layers.mount, container.id, lower)

    def _umount(self, container: Container) -> None:
        if container.id not in self._running and not self._held[container.id]:
            del self._held[container.id]
            self._layers.umount(container.id)

    # -- for people ---------------------------------------------------------------------------

    @asynccontextmanager
    async def hold(self, container: Container) -> AsyncIterator[files.Place]:
        """The container's files for a while, whether it runs or not."""
        self._held[container.id] += 1
        try:
            root = await self._mount(container)
            pid = container.state.pid if container.state.running else 0
            yield files.Place(root, pid, container.mounts, container.id)
        finally:
            self._held[container.id] -= 1
            self._umount(container)

    async def changes(self, container: Container) -> list[files.Change]:
        """What differs from the image, sorted by path."""
        return await asyncio.to_thread(self._layers.changes, container.id, await self._lower(container))

    async def sizes(self, container: Container) -> tuple[int, int]:
        """Bytes the container wrote, and those together with its image."""
        own = await asyncio.to_thread(self._layers.size, container.id, await self._lower(container))
        image = self._images.by_id(container.image)
        return own, own + (image.size if image else 0)

    async def info(self, container: Container, path: str) -> files.PathStat:
        async with self.hold(container) as place:
            return await self._files.info(place, path)

    async def get(self, container: Container, path: str) -> AsyncIterator[bytes]:
        """A tar of what is at ``path``."""
        async with self.hold(container) as place:
            self._images.tell_of(container, "archive-path", {})
            async for piece in self._files.get(place, path):
                yield piece

    async def put(
        self, container: Container, path: str, stream: AsyncIterable[bytes], no_overwrite: bool = False,
        copy_ids: bool = False,
    ) -> None:  # fmt: skip
        """Unpack a tar at ``path``; with ``copy_ids`` everything becomes the user's that the container runs as."""
        if container.host.readonly_rootfs and not _on_writable_mount(container, path):
            raise Forbidden("container rootfs is marked read-only")
        async with self.hold(container) as place:
            await self._files.put(place, path, stream, no_overwrite, container.config.user if copy_ids else "")
        self._images.tell_of(container, "extract-to-dir", {})

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        """A tar of the whole root, without mounts."""
        async with self.hold(container) as place:
            self._images.tell_of(container, "export", {})
            async for piece in self._files.export(place):
                yield piece


def _on_writable_mount(container: Container, path: str) -> bool:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    places = [
        mount for mount in container.mounts if clean == mount.destination or clean.startswith(mount.destination + "/")
    ]
    return bool(places) and max(places, key=lambda mount: len(mount.destination)).rw
