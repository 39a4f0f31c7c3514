"""Transfers: images in and out. Every one of these is a stream of Docker's progress lines.

    import_  a tar of files           load   an archive of images        pull   a registry
    commit   a container              save                               push

Rules
    1. A transfer yields dictionaries (Docker's JSON progress messages). What it
       raises before the first is an ordinary error; after it, the API tells it in the stream.
    2. An image is remembered when all its blobs are here and its files could be
       unpacked (import, commit) or its layers matched their digests (pull, load).
    3. Blobs of a transfer are safe from sweeping until it is over: the disk's
       workspace stays open around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core import imagespec, instructions, reference
from fairlead.core.container import NEVER, Config, Container
from fairlead.core.imagespec import Blob, Credentials, Fetched, History, ImageRecord
from fairlead.core.reference import Reference
from fairlead.engine.images import Images
from fairlead.engine.storage import ImageDisk, LayerDisk, Registry
from fairlead.errors import Invalid, NotFound

Line = dict[str, Any]
NOBODY = Credentials()


class Transfers:
    """Images in and out. ``platform`` is this machine's ``os/architecture``, in Go's words."""

    def __init__(
        self,
        images: Images,
        disk: ImageDisk,
        layers: LayerDisk,
        registry: Registry,
        now: Callable[[], str],
        platform: str,
        version: str,
    ) -> None:
        self._images = images
        self._disk = disk
        self._layers = layers
        self._registry = registry
        self._now = now
        self._platform = platform
        self._version = version

    # -- from files -------------------------------------------------------------------------

    async def import_(
        self, stream: AsyncIterable[bytes], repo: str = "", tag: str = "", changes: Sequence[str] = (),
        message: str = "", platform: str = "",
    ) -> AsyncIterator[Line]:  # fmt: skip
        """A root file system as a tar stream, in any usual compression, becomes an image."""
        name = _target(repo, tag)
        config = instructions.apply(Config(), changes)
        with self._disk.workspace() as folder:
            layer = await self._disk.receive(stream, folder)
            now = self._now()
            os, architecture, variant = _platform(platform or self._platform)
            history = (History(now, comment=message or "Imported from -"),)
            image = self._made(
                ImageRecord(
                    "", config, layers=(layer,), created=now, os=os, architecture=architecture, variant=variant,
                    comment=message or "Imported from -", docker_version=self._version, history=history,
                )
            )  # fmt: skip
            await self._disk.unpack(image)
            image = await self._images.add(image, [name] if name else [])
        self._tagged(image, name)
        self._images.tell("import", image.id, image.id)
        yield {"status": image.id}

    def fetched(self, url: str) -> AsyncIterator[bytes]:
        """A stream to import: what is at a URL (``http://`` if nothing is said)."""
        return self._registry.fetch(url if url.startswith(("http://", "https://")) else f"http://{url}")

    def _made(self, image: ImageRecord) -> ImageRecord:
        """An image of our own making gets its configuration blob, and with it its id."""
        blob = self._disk.put(imagespec.write_config(image))
        size = sum(layer.full_size for layer in image.layers)
        return replace(image, id=blob.digest, config_size=blob.size, size=size)

    # -- from a container --------------------------------------------------------------------

    async def commit(
        self, container: Container, repo: str = "", tag: str = "", comment: str = "", author: str = "",
        changes: Sequence[str] = (), config: Config | None = None,
    ) -> ImageRecord:  # fmt: skip
        """What a container wrote, if anything, becomes a layer over its image. (Pausing it is the caller's.)"""
        name = _target(repo, tag)
        base = self._images.by_id(container.image)
        if base is None:
            raise NotFound(f"No such image: {container.image}")
        merged = _merged(config, container.config)
        settled = instructions.apply(replace(merged, image="", hostname="", domainname=""), changes)
        now = self._now()
        with self._disk.workspace() as folder:
            place = folder / "layer"
            with open(place, "wb") as file:
                wrote = await asyncio.to_thread(self._layers.pack, container.id, await self._disk.unpack(base), file)
            added = (await self._disk.take_layer(place),) if wrote else ()
            step = History(now, " ".join((container.path, *container.args)), author, comment, empty=not wrote)
            image = self._made(
                replace(
                    base, config=settled, layers=(*base.layers, *added), created=now, parent=base.id, author=author,
                    comment=comment, container=container.id, docker_version=self._version, tags=(), digests=(),
                    tagged=NEVER, history=(*_padded(base), step), manifest=None,
                )
            )  # fmt: skip
            image = await self._images.add(image, [name] if name else [])
        self._images.tell("create", image.id, image.id)
        self._tagged(image, name)
        facts = {"comment": comment, "imageID": image.id, "imageRef": name.familiar if name else ""}
        self._images.tell_of(container, "commit", facts)
        return image

    def _tagged(self, image: ImageRecord, name: Reference | None) -> None:
        if name:
            self._images.tell("tag", image.id, name.familiar)

    # -- archives ---------------------------------------------------------------------------

    async def load(self, stream: AsyncIterable[bytes], quiet: bool = False) -> AsyncIterator[Line]:
        """The images of an archive, with their names."""
        with self._disk.workspace():
            async for fetched in self._registry.load(stream):
                names = [reference.parse(name).tagged() for name in fetched.names]
                image = await self.adopt(fetched, names)
                self._images.tell("load", image.id, image.id)
                for name in names:
                    yield {"stream": f"Loaded image: {name.familiar}\n"}
                if not names:
                    yield {"stream": f"Loaded image ID: {image.id}\n"}

    async def adopt_built(self, fetched: Fetched, names: Sequence[Reference] = ()) -> ImageRecord:
        """Remember an image that was built here: it says of itself what one of dockerd's says."""
        return await self.adopt(fetched, names, version=self._version)

    async def adopt(
        self, fetched: Fetched, names: Sequence[Reference] = (), digests: Sequence[str] = (), version: str = ""
    ) -> ImageRecord:
        """Remember an image whose blobs have come from elsewhere; ``version``: of the engine that built it just now."""
        record, _ = imagespec.read_config(self._disk.read(fetched.config.digest))
        record = replace(
            record,
            id=fetched.config.digest,
            config_size=fetched.config.size,
            layers=fetched.layers,
            size=sum(layer.full_size for layer in fetched.layers),
            parent=fetched.parent,
        )
        if version:
            record = imagespec.as_built(record, version)
        return await self._images.add(record, names, digests)

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """One archive of several images; a bare repository name means all its tags."""
        chosen: dict[str, list[str]] = {}
        for name in names:
            for id, tag in self._chosen(name):
                chosen.setdefault(id, []).extend([tag] if tag else [])
        found = [(self._images.get(id), [reference.parse(tag).familiar for tag in tags]) for id, tags in chosen.items()]
        for image, _ in found:
            self._images.tell("save", image.id, image.id)
        return self._registry.save(found)

    def _chosen(self, name: str) -> list[tuple[str, str]]:
        """(image id, name to give it) of what a name in ``docker save`` means."""
        if not reference.id_prefix(name) or self._images.find(name) is not None:
            wanted = reference.parse(name)
            if not wanted.tag and not wanted.digest:
                tags = [
                    (image.id, tag)
                    for image in self._images.list()
                    for tag in image.tags
                    if reference.parse(tag).name == wanted.name
                ]
                if tags:
                    return tags
        try:
            image = self._images.get(name)
        except NotFound:
            raise NotFound(f"No such image: {name}") from None
        by_name = not image.id.removeprefix("sha256:").startswith(reference.id_prefix(name) or "-")
        return [(image.id, reference.parse(name).tagged().familiar if by_name and "@" not in name else "")]

    # -- registries -------------------------------------------------------------------------

    async def pull(
        self, name: str, tag: str = "", credentials: Credentials = NOBODY, platform: str = "", all_tags: bool = False
    ) -> AsyncIterator[Line]:
        """From a registry; ``all_tags``: everything the repository has."""
        wanted = _wanted(name, tag)
        names = [wanted.tagged()]
        if all_tags and not wanted.tag and not wanted.digest:
            names = [wanted.with_tag(found) for found in await self._registry.tags(wanted, credentials)]
        for one in names:
            async for line in self._pull(one, credentials, platform):
                yield line

    async def _pull(self, ref: Reference, credentials: Credentials, platform: str) -> AsyncIterator[Line]:
        digest, _ = await self._registry.digest(ref, credentials)
        path = ref.path if ref.domain == reference.DEFAULT_DOMAIN else ref.name
        yield {"status": f"Pulling from {path}", "id": ref.tag or ref.digest}
        known = self._images.find(ref.familiar)
        by_digest = f"{ref.familiar_name}@{digest}"
        fresh = known is None or by_digest not in known.digests
        if fresh:
            with self._disk.workspace():
                exact = Reference(ref.domain, ref.path, "", digest)
                fetched = await self._registry.pull(exact, credentials, platform)
                for layer in fetched.layers:
                    yield {"status": "Pull complete", "progressDetail": {}, "id": _short(layer)}
                await self.adopt(fetched, [ref] if ref.tag else [], [by_digest])
        yield {"status": f"Digest: {digest}"}
        words = "Downloaded newer image" if fresh else "Image is up to date"
        yield {"status": f"Status: {words} for {ref.familiar}"}
        self._images.tell("pull", ref.familiar, ref.familiar_name)

    async def push(self, name: str, tag: str = "", credentials: Credentials = NOBODY) -> AsyncIterator[Line]:
        """To a registry: one tag, or all of the repository when none is given."""
        wanted = reference.parse(name)
        wanted = wanted.with_tag(tag) if tag else wanted
        local = [
            (image, found)
            for image in self._images.list()
            for found in map(reference.parse, image.tags)
            if found.name == wanted.name and wanted.tag in ("", found.tag)
        ]
        yield {"status": f"The push refers to repository [{wanted.name}]"}
        if not local:
            raise NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}")
        for image, found in local:
            digest = ""
            async for digest in self._registry.push(image, found, credentials):
                if any(digest == layer.digest for layer in image.layers):
                    yield {"status": "Pushed", "progressDetail": {}, "id": digest.partition(":")[2][:12]}
            await self._images.add(image, digests=[f"{found.familiar_name}@{digest}"])
            size = len(imagespec.write_manifest(image, docker=True))
            yield {"status": f"{found.tag}: digest: {digest} size: {size}"}
            yield {"progressDetail": {}, "aux": {"Tag": found.tag, "Digest": digest, "Size": size}}
            self._images.tell("push", found.familiar, found.familiar_name)

    async def distribution(self, name: str, credentials: Credentials = NOBODY) -> Line:
        """What a registry has under a name: descriptor and platforms."""
        ref = reference.parse(name).tagged()
        digest, manifest = await self._registry.digest(ref, credentials)
        document = msgspec.json.decode(manifest)
        platforms = [entry["platform"] for entry in document.get("manifests") or () if entry.get("platform")]
        if not platforms:
            os, architecture, _ = _platform(self._platform)
            platforms = [{"architecture": architecture, "os": os}]
        kind = document.get("mediaType") or imagespec.OCI_MANIFEST
        return {"Descriptor": {"mediaType": kind, "digest": digest, "size": len(manifest)}, "Platforms": platforms}

    async def login(self, credentials: Credentials) -> None:
        await self._registry.login(credentials)

    async def search(self, term: str, limit: int = 25) -> list[Line]:
        """What Docker Hub finds, as it answers."""
        if not 0 <= limit <= 100:
            raise Invalid(f"limit {limit} is outside the range of [1, 100]")
        return await self._registry.search(term, limit or 25)


def _target(repo: str, tag: str) -> Reference | None:
    """The name a new image is to get; None for none."""
    if not repo:
        return None
    name = reference.parse(repo)
    if name.digest:
        raise Invalid("cannot import digest reference")
    return name.with_tag(tag) if tag else name.tagged()


def _wanted(name: str, tag: str) -> Reference:
    """``fromImage`` and ``tag`` of a pull; the tag may be a digest. With a digest, a tag besides says nothing."""
    ref = reference.parse(name)
    if not tag:
        return replace(ref, tag="") if ref.digest else ref
    return reference.parse(f"{ref.name}@{tag}") if ":" in tag else ref.with_tag(tag)


def _platform(text: str) -> tuple[str, str, str]:
    os, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    return os or "linux", architecture, variant


def _short(layer: Blob) -> str:
    return layer.digest.partition(":")[2][:12]


def _padded(image: ImageRecord) -> tuple[History, ...]:
    """A history that has one step per layer at least: some tools refuse an image whose history is too short."""
    missing = len(image.layers) - sum(not step.empty for step in image.history)
    return (*image.history, *(History(image.created) for _ in range(max(0, missing))))


def _merged(asked: Config | None, container: Config) -> Config:
    """The container's configuration, with what the commit call says itself on top."""
    if asked is None:
        return container
    given = {
        name: value
        for name in Config.__struct_fields__
        if (value := getattr(asked, name)) not in (None, "", False, (), {})
    }
    return replace(container, **given)
