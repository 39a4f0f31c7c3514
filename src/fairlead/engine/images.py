"""Images: which there are, and what people call them.

    a name, a digest, an id or the start of one  ---- get ---->  ImageRecord

Rules
    1. A name belongs to one image; giving it to another takes it from the first,
       which stays, perhaps without a name ("dangling").
    2. The record in the store is the image: blobs without a record are rubbish,
       a record is written only when its blobs are complete.
    3. An image whose files a container needs keeps its unpacked files until the
       container is gone, even when the image itself was removed by force.
    4. Conflicts and their words are dockerd's.

What it does not do: bring images in or out (``engine.transfers``), build (``engine.builds``).
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from fairlead.core import imagespec, reference
from fairlead.core.container import Container
from fairlead.core.imagespec import Blob, ImageRecord
from fairlead.engine.events import Events
from fairlead.engine.records import Records
from fairlead.errors import Conflict, Invalid, NotFound
from fairlead.store.base import Store

if TYPE_CHECKING:
    from fairlead.engine.storage import ImageDisk


class Gone(msgspec.Struct, frozen=True):
    """One line of what a removal did: either a name or an id."""

    untagged: str = ""
    deleted: str = ""


class Images:
    """All images of this machine. ``containers`` are all there are now, running or not."""

    def __init__(
        self,
        store: Store,
        disk: ImageDisk,
        events: Events,
        now: Callable[[], str],
        containers: Callable[[], Iterable[Container]],
    ) -> None:
        self._records: Records[ImageRecord] = Records(store, "images", ImageRecord)
        self._disk = disk
        self._events = events
        self._now = now
        self._containers = containers
        self._names: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def restore(self) -> None:
        """At the start: read the records, clear away what no record names."""
        self._disk.open()
        await self._records.load()
        self._index()
        used = {container.image for container in self._containers()}
        self._disk.sweep(list(self._records), used)  # nobody is answered yet who could wait for it
        self._disk.write_index(self._records)

    def _index(self) -> None:
        self._names = {name: image.id for image in self._records for name in (*image.tags, *image.digests)}

    # -- asking ---------------------------------------------------------------------------

    def list(self) -> list[ImageRecord]:
        """Newest first."""
        return sorted(self._records, key=lambda image: image.created, reverse=True)

    def get(self, ref: str) -> ImageRecord:
        """The image meant; ``NotFound`` or ``Invalid`` in Docker's words."""
        exact = self._records.get(reference.image_id(ref))
        if exact is not None:
            return exact
        if reference.image_id(ref):
            raise NotFound(f"No such image: {ref}")
        named = self.find(ref)
        if named is not None:
            return named
        found = self._starting_with(ref)
        if len(found) == 1:
            return found[0]
        raise NotFound(f"No such image: {_shown(ref)}")

    def find(self, ref: str) -> ImageRecord | None:
        """The image of exactly this name; None if there is none. ``Invalid`` if it is no name."""
        wanted = reference.parse(ref).tagged()
        if wanted.digest:
            wanted = reference.Reference(wanted.domain, wanted.path, "", wanted.digest)
        return self._records.get(self._names.get(wanted.familiar, ""))

    def _starting_with(self, ref: str) -> builtins.list[ImageRecord]:
        digits = reference.id_prefix(ref)
        return self._records.starting_with(f"sha256:{digits}") if digits else []

    def __contains__(self, id: str) -> bool:
        return id in self._records

    def by_id(self, id: str) -> ImageRecord | None:
        return self._records.get(id)

    def parent(self, id: str) -> str:
        """The image that one was built on; "" if nobody knows."""
        image = self._records.get(id)
        return image.parent if image else ""

    def history(self, ref: str) -> builtins.list[imagespec.Step]:
        image = self.get(ref)
        return imagespec.history(image, self._parents(image))

    def _parents(self, image: ImageRecord) -> Iterator[ImageRecord]:
        """What it was built on, what that was built on, and so on, as far as it is here."""
        parent = self._records.get(image.parent)
        while parent is not None:
            yield parent
            parent = self._records.get(parent.parent)

    def users(self, id: str) -> builtins.list[Container]:
        """Containers made from this image, or with it mounted."""
        return [container for container in self._containers() if container.image == id or self._mounted(id, container)]

    def _mounted(self, id: str, container: Container) -> bool:
        root = self._disk.rootfs(id)
        return any(mount.type == "image" and Path(mount.source).is_relative_to(root) for mount in container.mounts)

    def children(self, id: str) -> builtins.list[ImageRecord]:
        return [image for image in self._records if image.parent == id]

    def built_on(self) -> set[str]:
        """Ids of those that others were built on."""
        return {image.parent for image in self._records}

    def blobs(self) -> dict[str, Blob]:
        """The layers that are here, by the digest of their content."""
        return {layer.diff_id: layer for image in self._records for layer in image.layers}

    def shared_size(self, image: ImageRecord) -> int:
        """Bytes of its layers that other images have too."""
        others = {layer.diff_id for other in self._records if other.id != image.id for layer in other.layers}
        return sum(layer.full_size for layer in image.layers if layer.diff_id in others)

    def layers_size(self) -> int:
        """Bytes of all layers, each once."""
        return sum({layer.diff_id: layer.full_size for image in self._records for layer in image.layers}.values())

    # -- adding and naming -------------------------------------------------------------------

    async def add(
        self, image: ImageRecord, names: Iterable[reference.Reference] = (), digests: Iterable[str] = ()
    ) -> ImageRecord:
        """Remember an image whose blobs are complete, and give it names; known already is fine."""
        async with self._lock:
            known = self._records.get(image.id)
            if known is None:
                image = replace(image, manifest=self._disk.manifest(image))
            else:
                image = replace(known, layers=known.layers or image.layers, parent=known.parent or image.parent)
            fresh = tuple(digest for digest in digests if digest not in image.digests)
            image = await self._records.put(replace(image, digests=image.digests + fresh))
            for name in names:
                image = await self._name(image, name)
            self._done()
        return image

    async def tag(self, ref: str, repo: str, tag: str = "") -> None:
        """Another name for an image."""
        image = self.get(ref)
        name = reference.parse(repo)
        if name.digest:
            raise Invalid("cannot import digest reference")
        name = name.with_tag(tag) if tag else name.tagged()
        async with self._lock:
            await self._name(self._records[image.id], name)
            self._done()
        self.tell("tag", image.id, name.familiar)

    async def _name(self, image: ImageRecord, name: reference.Reference) -> ImageRecord:
        """Move a name to an image. Under the lock."""
        text = name.familiar
        holder = self._records.get(self._names.get(text, ""))
        if holder is not None and holder.id == image.id:
            return image
        if holder is not None:
            await self._records.put(replace(holder, tags=tuple(tag for tag in holder.tags if tag != text)))
        image = await self._records.put(replace(image, tags=(*image.tags, text), tagged=self._now()))
        self._names[text] = image.id
        return image

    def _done(self) -> None:
        self._index()
        self._disk.write_index(self._records)

    def tell(self, action: str, id: str, name: str) -> None:
        image = self._records.get(id)
        self._events.publish("image", action, id, {**(image.labels if image else {}), "name": name})

    def tell_pruned(self, kind: str, freed: int) -> None:
        """Images, or the builder's cache, were cleared away; ``freed`` bytes."""
        self._events.publish(kind, "prune", "", {"reclaimed": str(freed)})

    def tell_of(self, container: Container, action: str, facts: dict[str, str]) -> None:
        """A fact about a container, in which an image has a part."""
        known = {**(container.config.labels or {}), "image": container.config.image, "name": container.name}
        self._events.publish("container", action, container.id, {**known, **facts})

    # -- removing ----------------------------------------------------------------------------

    async def remove(self, ref: str, force: bool = False, prune: bool = True) -> builtins.list[Gone]:
        """``docker rmi``: take a name away, and the image with its last one. What was done, in order."""
        image = self.get(ref)
        async with self._lock:
            image = self._records[image.id]
            gone = await self._remove(image, ref, force, prune)
            self._done()
        return gone

    async def _remove(self, image: ImageRecord, ref: str, force: bool, prune: bool) -> builtins.list[Gone]:
        if _is_id(ref, image):
            if _one_repository(image):
                self._refuse(image, hard_only=force, named_ok=True)
                gone = await self._untag(image, (*image.tags, *image.digests))
                return [*gone, *await self._delete(self._records[image.id], prune)]
            self._refuse(image, hard_only=force)
            gone = await self._untag(image, (*image.tags, *image.digests))
            return [*gone, *await self._delete(self._records[image.id], prune)]
        users = self.users(image.id)
        if users and not force and _one_repository(image):
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) -'
                f" container {users[0].short} is using its referenced image {image.short}"
            )
        gone = await self._untag(image, self._names_to_drop(image, ref))
        image = self._records[image.id]
        if image.tags or image.digests or self._conflict(image, hard_only=force):
            return gone
        return [*gone, *await self._delete(image, prune)]

    def _names_to_drop(self, image: ImageRecord, ref: str) -> tuple[str, ...]:
        """The name given, and the digests of the same repository when its last tag goes."""
        wanted = reference.parse(ref).tagged()
        name = f"{wanted.familiar_name}@{wanted.digest}" if wanted.digest else wanted.familiar
        if wanted.digest:
            return (name,)
        same = [tag for tag in image.tags if _repository(tag) == wanted.familiar_name and tag != name]
        digests = [digest for digest in image.digests if _repository(digest) == wanted.familiar_name]
        return (name,) if same else (name, *digests)

    def _refuse(self, image: ImageRecord, hard_only: bool, named_ok: bool = False) -> None:
        """``Conflict`` if something stands in the way of deleting an image."""
        reason = self._conflict(image, hard_only, named_ok)
        if reason:
            hard, words = reason
            how = "cannot be forced" if hard else "must be forced"
            raise Conflict(f"conflict: unable to delete {image.short} ({how}) - {words}")

    def _conflict(self, image: ImageRecord, hard_only: bool, named_ok: bool = False) -> tuple[bool, str] | None:
        """(cannot be forced, why) of the first thing in the way."""
        users = self.users(image.id)
        running = next((container for container in users if container.state.running), None)
        if self.children(image.id):
            return True, "image has dependent child images"
        if running is not None:
            return True, f"image is being used by running container {running.short}"
        if hard_only:
            return None
        if not named_ok and (image.tags or image.digests):
            return False, "image is referenced in multiple repositories"
        if users:
            return False, f"image is being used by stopped container {users[0].short}"
        return None

    async def _untag(self, image: ImageRecord, names: Iterable[str]) -> builtins.list[Gone]:
        drop = [name for name in names if name in image.tags or name in image.digests]
        await self._records.put(
            replace(
                image,
                tags=tuple(tag for tag in image.tags if tag not in drop),
                digests=tuple(digest for digest in image.digests if digest not in drop),
            )
        )
        for name in drop:
            self._names.pop(name, None)
            self.tell("untag", image.id, image.id)
        return [Gone(untagged=name) for name in drop]

    async def _delete(self, image: ImageRecord, prune: bool) -> builtins.list[Gone]:
        """The record, then what only it had. Parents without a name go along, as ``docker rmi`` does."""
        labels_of = image
        await self._records.drop(image.id)
        self._events.publish("image", "delete", image.id, {**labels_of.labels, "name": image.id})
        gone = [Gone(deleted=image.id), *(Gone(deleted=chain) for chain in self._chains_alone(image))]
        used = {container.image for container in self._containers()}
        await asyncio.to_thread(self._disk.sweep, list(self._records), used)
        parent = self._records.get(image.parent)
        if prune and parent is not None and not parent.tags and not self._conflict(parent, hard_only=False):
            gone += await self._delete(parent, prune)
        return gone

    def _chains_alone(self, image: ImageRecord) -> builtins.list[str]:
        """Chain ids of its layers that no other image has, topmost first."""
        others = {chain for other in self._records for chain in _chains(other)}
        return [chain for chain in reversed(_chains(image)) if chain not in others]

    async def prune(
        self, wanted: Callable[[ImageRecord], bool], dangling_only: bool = True
    ) -> tuple[builtins.list[Gone], int]:
        """Remove images that no container uses and that ``wanted`` accepts; and the bytes of layers freed."""
        before, gone = self.layers_size(), []
        async with self._lock:
            for image in self.list():
                if image.id not in self._records or not wanted(image) or self.users(image.id):
                    continue
                if (dangling_only and image.tags) or self.children(image.id):
                    continue
                gone += await self._untag(image, (*image.tags, *image.digests))
                gone += await self._delete(self._records[image.id], prune=True)
            self._done()
        freed = before - self.layers_size()
        self.tell_pruned("image", freed)
        return gone, freed

    async def released(self, id: str, container: str) -> None:
        """A container goes: if its image was removed by force meanwhile, its files may go now."""
        others = [user for user in self.users(id) if user.id != container]
        if id and id not in self._records and not others:
            await asyncio.to_thread(self._disk.drop_rootfs, id)


def _shown(ref: str) -> str:
    """How Docker names an image it does not have."""
    return reference.parse(ref).tagged().familiar


def _is_id(ref: str, image: ImageRecord) -> bool:
    digits = reference.id_prefix(ref)
    names = {name.rpartition(":")[0] for name in image.tags} | set(image.tags)
    return bool(digits) and image.id.startswith(f"sha256:{digits}") and ref not in names


def _repository(name: str) -> str:
    return reference.parse(name).familiar_name


def _one_repository(image: ImageRecord) -> bool:
    """At most one tag, and digests only of the same repository."""
    if len(image.tags) + len(image.digests) <= 1:
        return True
    names = {_repository(name) for name in (*image.tags, *image.digests)}
    return len(image.tags) <= 1 and len(names) == 1


def _chains(image: ImageRecord) -> list[str]:
    """Chain ids: what a layer is together with all below it."""
    chains: list[str] = []
    for layer in image.layers:
        text = f"{chains[-1]} {layer.diff_id}" if chains else layer.diff_id
        chains.append("sha256:" + hashlib.sha256(text.encode()).hexdigest() if chains else text)
    return chains
