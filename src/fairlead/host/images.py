"""Images on disk: blobs by digest, and each image's files unpacked once.

    <data root>/images/
        oci-layout  index.json      an OCI layout that any tool can read
        blobs/sha256/<hex>          configs, manifests, layers: each once, whoever uses it
        rootfs/<hex of image id>/   all layers of one image unpacked: the lower directory of its containers
        work/<n>/                   a workspace of one operation, with ``blobs`` linked in
        policy.json registries.conf ours, so that nothing in /etc matters

Rules
    1. A blob appears under its digest by rename, complete and verified, or not at
       all; a rootfs likewise. What a crash leaves is in ``work`` and is removed
       by ``open``, or is a blob nobody names, which ``sweep`` removes.
    2. Which images there are is the store's knowledge, not the layout's:
       ``index.json`` is written from it, as a courtesy to other tools.
    3. umoci unpacks. A layer's uncompressed digest is checked against the
       configuration before it is trusted.

What it does not do: registries and archives (``host.registry``), names (``engine.images``).
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import itertools
import lzma
import os
import shutil
import threading
import zlib
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from fairlead.core.imagespec import Blob, ImageRecord, write_index, write_manifest
from fairlead.errors import Internal, Invalid
from fairlead.host import command, rooted, weight

CHUNK = 1 << 20
LAYOUT = '{"imageLayoutVersion":"1.0.0"}'
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
REGISTRIES = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n'

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}

_INIT_FOLDERS = ("/dev/pts", "/dev/shm", "/proc", "/sys", "/etc")
_INIT_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/dev/console", "/.dockerenv")
"""What the engine mounts something on in every container: there from the start, so no container's diff shows it."""


class Layout:
    """The image folder of one data root. Build first, ``open`` later."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.blobs = self.folder / "blobs" / "sha256"
        self._work = self.folder / "work"
        self._rootfs = self.folder / "rootfs"
        self._numbers = itertools.count(1)
        self._unpacking: dict[str, asyncio.Lock] = {}
        self._busy = 0
        self._fresh: set[str] = set()
        self._fresh_lock = threading.Lock()

    def open(self) -> None:
        """Make the folders and files that must be there; clear away what a crash left half done."""
        if self._work.is_dir() and any(self._work.iterdir()):
            shutil.rmtree(self._work, ignore_errors=True)
        for folder in (self.blobs, self._work, self._rootfs):
            folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)
        self._write("oci-layout", LAYOUT.encode())
        self._write("policy.json", msgspec.json.encode(POLICY))
        self._write("registries.conf", REGISTRIES.encode())

    def _write(self, name: str, content: bytes) -> None:
        """The file ``name`` with this content; nothing happens when it has it."""
        place = self.folder / name
        if place.exists() and place.read_bytes() == content:
            return
        fresh = self._work / f"{next(self._numbers)}.{name}"
        fresh.write_bytes(content)
        fresh.replace(place)

    def environment(self) -> dict[str, str]:
        """Variables by which the container tools find our files instead of the machine's."""
        return {
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "HOME": str(self._work),
            "XDG_RUNTIME_DIR": str(self._work),
            "TMPDIR": str(self._work),
        }

    @property
    def policy(self) -> str:
        return str(self.folder / "policy.json")

    # -- workspaces -------------------------------------------------------------------------

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder of one operation, on the same file system as the blobs; gone afterwards.

        A blob that is put while any workspace is open is not swept before all are
        closed: its record may still be on the way.
        """
        folder = self._work / f"op{next(self._numbers)}"
        folder.mkdir(mode=0o700)
        self._busy += 1
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._busy -= 1
            if not self._busy:
                self._fresh.clear()

    def keep(self, digest: str) -> None:
        """Do not sweep this blob before all workspaces are closed."""
        with self._fresh_lock:
            if self._busy:
                self._fresh.add(digest)

    def layout_in(self, folder: Path, image: ImageRecord, name: str = "image") -> None:
        """Make ``folder`` an OCI layout that holds this one image."""
        (folder / "oci-layout").write_text(LAYOUT)
        (folder / "blobs").symlink_to(os.path.relpath(self.folder / "blobs", folder))
        (folder / "index.json").write_bytes(write_index([(self.manifest(image), name)]))

    def manifest(self, image: ImageRecord) -> Blob:
        """The image's OCI manifest as a blob (written if it was not there)."""
        return self.put(write_manifest(image))

    def write_index(self, images: Iterable[ImageRecord]) -> None:
        """Tell other tools which images there are."""
        entries = [(image.manifest, name) for image in images if image.manifest for name in image.tags or ("",)]
        self._write("index.json", write_index(entries))

    # -- blobs ------------------------------------------------------------------------------

    def path(self, digest: str) -> Path:
        """Where a blob is. ``Invalid`` for what is no digest (it would be a path)."""
        algorithm, _, digits = digest.partition(":")
        if algorithm != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise Invalid(f"invalid digest: {digest}")
        return self.blobs / digits

    def read(self, digest: str) -> bytes:
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise Internal(f"the blob {digest} is missing from the image store") from None

    def put(self, content: bytes) -> Blob:
        """A small blob (configuration, manifest)."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        place = self.path(digest)
        self.keep(digest)
        if not place.exists():
            fresh = self._work / f"{next(self._numbers)}.blob"
            fresh.write_bytes(content)
            fresh.replace(place)
        return Blob(digest, len(content))

    async def receive(self, stream: AsyncIterable[bytes], folder: Path) -> Blob:
        """A layer that arrives as a tar stream, plain or compressed with gzip, xz, bzip2 or zstd."""
        place = folder / "layer"
        with open(place, "wb") as file:
            async for piece in stream:
                file.write(piece)
        return await self.take_layer(place)

    async def take_layer(self, place: Path, diff_id: str = "") -> Blob:
        """Move a tar file into the blobs. With ``diff_id`` its content must have that digest."""
        with open(place, "rb") as file:
            kind = _compression(file.read(6))
        if kind == "zstd":
            plain = place.with_suffix(".tar")
            done = await command.run(
                ["zstd", "-dqf", "--no-progress", place.name, "-o", plain.name], cwd=str(place.parent)
            )
            if done.code:
                raise Invalid(f"invalid zstd data: {done.err.strip()}")
            place, kind = plain, ""
        return await asyncio.to_thread(self._take_layer, place, kind, diff_id)

    def _take_layer(self, place: Path, kind: str, diff_id: str) -> Blob:
        if kind in ("xz", "bzip2"):
            place, kind = _decompressed(place, kind), ""
        digest, full = _digest(place)
        try:
            content, full = _digest(place, gzip.open) if kind else (digest, full)
        except (OSError, EOFError, zlib.error) as error:
            raise Invalid(f"invalid {kind} data in layer: {error}") from None
        if diff_id and content != diff_id:
            raise Invalid(
                f"layer {digest} does not hold what the image's configuration says: {content} is not {diff_id}"
            )
        blob = Blob(digest, place.stat().st_size, kind, content, full)
        os.chmod(place, 0o600)
        self.keep(digest)
        place.replace(self.path(digest))
        return blob

    def sweep(self, images: Iterable[ImageRecord], used: Iterable[str] = ()) -> int:
        """Remove blobs and root file systems that none of these images has; bytes freed of blobs.

        ``used``: ids of images whose unpacked files are needed though the images are gone.
        """
        images = tuple(images)
        kept = {image.id for image in images} | {image.manifest.digest for image in images if image.manifest}
        kept |= {layer.digest for image in images for layer in image.layers}
        freed = 0
        for place in self.blobs.iterdir():
            with self._fresh_lock:
                if f"sha256:{place.name}" not in kept | self._fresh:
                    freed += place.stat().st_size
                    place.unlink()
        for place in self._rootfs.iterdir():
            if f"sha256:{place.name}" not in kept.union(used):
                self.drop_rootfs(f"sha256:{place.name}")
        return freed

    # -- files ------------------------------------------------------------------------------

    def rootfs(self, id: str) -> Path:
        """Where the image's files are, or will be."""
        return self._rootfs / self.path(id).name

    def drop_rootfs(self, id: str) -> None:
        """Take the unpacked files away: out of sight at once, then gone."""
        doomed = self._work / f"{next(self._numbers)}.rootfs"
        with suppress(FileNotFoundError):
            self.rootfs(id).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    async def unpack(self, image: ImageRecord) -> str:
        """The image's files on disk; unpacked at the first call. Path of the directory."""
        place = self.rootfs(image.id)
        if place.exists():
            return str(place)
        async with self._unpacking.setdefault(image.id, asyncio.Lock()):
            if not place.exists():
                await self._unpack(image, place)
        self._unpacking.pop(image.id, None)
        return str(place)

    async def _unpack(self, image: ImageRecord, place: Path) -> None:
        with self.workspace() as folder:
            self.layout_in(folder, image)
            words = ["umoci", "--log=error", "raw", "unpack", "--image", ".:image", "rootfs"]
            done = await command.run(words, cwd=str(folder), env=self.environment())
            if done.code:
                why = _last(done.err)
                raise Invalid(
                    "unexpected EOF" if "unexpected EOF" in why else f"cannot unpack image {image.short}: {why}"
                )
            await asyncio.to_thread(prepare, str(folder / "rootfs"))
            (folder / "rootfs").rename(place)


def prepare(rootfs: str) -> None:
    """Make the places that every container has mounts on; an image in which one cannot be made does without."""
    with rooted.root(rootfs) as top:
        for folder in _INIT_FOLDERS:
            with suppress(OSError):
                rooted.make_directories(top, folder)
        for file in _INIT_FILES:
            with suppress(OSError):
                rooted.make_file(top, file, 0o755 if file == "/.dockerenv" else 0o644)
        with suppress(OSError), rooted.opened(top, "/etc", os.O_PATH | os.O_DIRECTORY) as etc:
            os.symlink("/proc/mounts", "mtab", dir_fd=etc)


def _compression(head: bytes) -> str:
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def _decompressed(place: Path, kind: str) -> Path:
    plain = place.with_suffix(".tar")
    opener = lzma.open if kind == "xz" else bz2.open
    try:
        with opener(place, "rb") as source, open(plain, "wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise Invalid(f"invalid {kind} data: {error}") from None
    return plain


def _digest(place: Path, opener: object = open) -> tuple[str, int]:
    """sha256 of a file's bytes, or of what they decompress to, and what the files in it weigh."""
    digest, weighed = hashlib.sha256(), weight.Weight()
    source: IO[bytes] = opener(place, "rb")  # type: ignore[operator]
    with source:
        while piece := source.read(CHUNK):
            digest.update(piece)
            weighed.feed(piece)
    return f"sha256:{digest.hexdigest()}", weighed.total


def _last(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
