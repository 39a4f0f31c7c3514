"""Storage: what the engine asks of whoever has the disk. ``host`` keeps these promises.

    ImageDisk   blobs, and images unpacked            host.images.Layout
    Registry    registries and image archives         host.registry.Skopeo
    LayerDisk   a container's writable layer          host.layers.Layers
    FileAccess  files in and out of a container       host.archive (the module)
    VolumeDisk  volumes' directories                  host.volumes.VolumeFolders
    Builder     Dockerfile to image                   host.build.Buildah

Calls that may take long are async, or blocking and so marked.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol

from fairlead.core.buildcache import Pruning
from fairlead.core.files import Change, PathStat, Place
from fairlead.core.imagespec import Blob, BuildPlace, BuildRequest, Credentials, Fetched, ImageRecord, StepContainer
from fairlead.core.reference import Reference


class ImageDisk(Protocol):
    def open(self) -> None: ...
    def workspace(self) -> AbstractContextManager[Path]: ...
    def put(self, content: bytes) -> Blob: ...
    def read(self, digest: str) -> bytes: ...
    def manifest(self, image: ImageRecord) -> Blob: ...
    async def receive(self, stream: AsyncIterable[bytes], folder: Path) -> Blob: ...
    async def take_layer(self, place: Path, diff_id: str = "") -> Blob: ...
    async def unpack(self, image: ImageRecord) -> str: ...
    def rootfs(self, id: str) -> Path: ...
    def drop_rootfs(self, id: str) -> None: ...
    def write_index(self, images: Iterable[ImageRecord]) -> None: ...
    def sweep(self, images: Iterable[ImageRecord], used: Iterable[str] = ()) -> int: ...


class Registry(Protocol):
    async def digest(self, ref: Reference, credentials: Credentials) -> tuple[str, bytes]:
        """Digest and bytes of the manifest (or list) that a registry has under this name."""

    async def tags(self, ref: Reference, credentials: Credentials) -> list[str]: ...

    async def pull(self, ref: Reference, credentials: Credentials, platform: str) -> Fetched: ...

    def push(self, image: ImageRecord, ref: Reference, credentials: Credentials) -> AsyncIterator[str]:
        """The digest of what was pushed is the last thing told; layer digests before, as they are done."""

    async def login(self, credentials: Credentials) -> None: ...

    async def search(self, term: str, limit: int) -> list[dict[str, Any]]: ...

    def fetch(self, url: str) -> AsyncIterator[bytes]:
        """What is at an http(s) URL."""

    def load(self, stream: AsyncIterable[bytes]) -> AsyncIterator[Fetched]:
        """The images of a docker-archive or OCI archive."""

    def save(self, images: Sequence[tuple[ImageRecord, Sequence[str]]]) -> AsyncIterator[bytes]:
        """An archive that both Docker and OCI tools read: images with the names to give them."""


class LayerDisk(Protocol):
    driver: str

    def open(self, driver: str = "") -> None: ...
    def path(self, id: str) -> str: ...
    def known(self) -> list[str]: ...
    def mount(self, id: str, lower: str) -> str:
        """Blocking with ``vfs``."""

    def umount(self, id: str) -> None: ...
    def remove(self, id: str) -> None:
        """Blocking."""

    def take(self, id: str, files: str) -> None:
        """A layer that another made with the same driver becomes the container's own. Blocking."""

    def changes(self, id: str, lower: str) -> list[Change]:
        """Blocking."""

    def size(self, id: str, lower: str) -> int:
        """Blocking."""

    def pack(self, id: str, lower: str, out: IO[bytes]) -> bool:
        """Whether there was anything. Blocking."""


class FileAccess(Protocol):
    async def info(self, place: Place, path: str) -> PathStat: ...
    def get(self, place: Place, path: str) -> AsyncIterator[bytes]: ...
    def export(self, place: Place) -> AsyncIterator[bytes]: ...
    async def put(
        self,
        place: Place,
        path: str,
        stream: AsyncIterable[bytes],
        no_overwrite: bool = False,
        user: str = "",
    ) -> None: ...


class VolumeDisk(Protocol):
    def open(self) -> None: ...
    def path(self, name: str) -> str: ...
    def create(self, name: str) -> None: ...
    def remove(self, name: str) -> None: ...
    def known(self) -> list[str]: ...
    def fill(self, target: str, rootfs: str, path: str) -> None:
        """Copy what the image has at ``path`` into a volume that is empty. Blocking."""

    def mount(self, name: str, options: Mapping[str, str]) -> None: ...
    def umount(self, name: str) -> None: ...
    def size(self, name: str) -> int:
        """Blocking."""

    def spread(self, path: str) -> tuple[str, set[str]]:
        """The mount point that a path is below, and what it is of ``shared`` and ``master``."""

    def exists(self, path: str) -> bool: ...
    def make_directory(self, path: str) -> None: ...
    def inside(self, top: str, subpath: str) -> str:
        """The host path of a directory or file below ``top`` (a volume, an image), that no link leads out of."""


class BuildRun(Protocol):
    """One build under way: its context unpacked, its Dockerfile read."""

    bases: tuple[str, ...]
    """images the Dockerfile needs, as it names them, expanded"""
    runs: bool
    """whether any step runs a program"""

    def opening(self) -> Iterator[str]:
        """What is told before the first image is looked for."""

    async def offer(self, image: ImageRecord, base: str, name: str) -> None:
        """Give the builder one of our images, which the Dockerfile calls ``base``, under its full name."""

    def run(self, place: BuildPlace | None) -> AsyncIterator[str]:
        """What is told of the steps, which run at ``place`` (None: in the host's network).

        ``FairleadError`` with the reason if one fails."""

    async def images(self, known: Mapping[str, Blob]) -> list[Fetched]:
        """The image of each step there was so far, what is built on behind what it is built on; the result is the last.

        ``known``: blobs of layers that are here, by the digest of their content."""

    def containers(self) -> AbstractAsyncContextManager[list[StepContainer]]:
        """Those of its steps that stay, with what they wrote, until the block is left."""


class Builder(Protocol):
    def begin(self, request: BuildRequest, stream: AsyncIterable[bytes]) -> Any:
        """An async context manager of a ``BuildRun``."""

    async def prune(self, asked: Pruning) -> tuple[list[str], int]:
        """Ids of what is gone, and bytes freed."""
