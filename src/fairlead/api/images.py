"""/images, /commit, /distribution: which there are, and how they come and go."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.api import http, times, web, wire, wire_images
from fairlead.core import reference
from fairlead.core.container import Config
from fairlead.core.imagespec import Credentials, ImageRecord
from fairlead.errors import Conflict, Internal, Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

LIST_FILTERS = ("before", "dangling", "label", "label!", "reference", "since", "until")
PRUNE_FILTERS = ("dangling", "label", "label!", "until")
SEARCH_FILTERS = ("is-automated", "is-official", "stars")
TAR = "application/x-tar"

Wants = Callable[[ImageRecord], bool]


def routes(engine: Engine) -> list[web.Route]:
    here, there = Images(engine), Transfers(engine)
    return [
        web.get("/images/json", here.list),
        web.get("/images/search", there.search),
        web.get("/images/get", there.save),
        web.post("/images/create", http.abandonable(there.create)),
        web.post("/images/load", there.load),
        web.post("/images/prune", here.prune),
        web.get("/images/{name:.*}/get", there.save),
        web.get("/images/{name:.*}/history", here.history),
        web.get("/images/{name:.*}/json", here.inspect),
        web.post("/images/{name:.*}/push", http.abandonable(there.push)),
        web.post("/images/{name:.*}/tag", here.tag),
        web.delete("/images/{name:.*}", here.remove),
        web.post("/commit", there.commit),
        web.get("/distribution/{name:.*}/json", there.distribution),
    ]


def registry_auth(request: web.Request) -> Credentials:
    return wire_images.credentials(request.header("X-Registry-Auth", ""))


class Images:
    """What is here: the handlers over ``engine.images``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, LIST_FILTERS)
        if "filter" in request.query and http.version(request) < (1, 41):
            wanted.setdefault("reference", []).append(http.text(request, "filter"))
        check, version, images = self._matcher(wanted), http.version(request), self._engine.images
        hidden = set() if http.flag(request, "all") and not _switch(wanted, "dangling") else images.built_on()
        shared = http.flag(request, "shared-size")
        patterns = wanted.get("reference", ())
        return http.answer(
            [
                wire_images.summary(
                    _only_named(image, patterns),
                    version,
                    images.shared_size(image) if shared else -1,
                    len(images.users(image.id)),
                )
                for image in images.list()
                if check(image) and (image.tags or image.digests or image.id not in hidden)
            ]
        )

    def _matcher(self, wanted: http.Filters) -> Wants:
        """What the filters of ``docker images`` let through."""
        dangling = _switch(wanted, "dangling")
        created = {
            name: [times.nanoseconds(self._engine.images.get(ref).created) for ref in wanted.get(name, ())]
            for name in ("before", "since")
        }
        limit, patterns = times.until(wanted), wanted.get("reference", ())

        def check(image: ImageRecord) -> bool:
            moment = times.nanoseconds(image.created)
            named = not patterns or any(
                reference.matches(pattern, name) for pattern in patterns for name in (*image.tags, *image.digests)
            )
            return (
                named
                and (dangling is None or dangling is not bool(image.tags))
                and all(moment < other for other in created["before"])
                and all(moment > other for other in created["since"])
                and (limit is None or moment < limit)
                and _labelled(wanted, image)
            )

        return check

    async def inspect(self, request: web.Request) -> web.Response:
        image = self._engine.images.get(request.names["name"])
        driver = self._engine.filesystem.driver
        data = self._engine.filesystem.image_graph(image.id)
        return http.answer(wire_images.inspect(image, http.version(request), driver, data))

    async def history(self, request: web.Request) -> web.Response:
        return http.answer([wire_images.step(step) for step in self._engine.images.history(request.names["name"])])

    async def tag(self, request: web.Request) -> web.Response:
        repo, tag = http.text(request, "repo"), http.text(request, "tag")
        if not repo:
            return http.nothing(200)
        await self._engine.images.tag(request.names["name"], repo, tag)
        return http.nothing(201)

    async def remove(self, request: web.Request) -> web.Response:
        name = request.names["name"]
        if not name.strip():
            raise Invalid("image name cannot be blank")
        force, prune = http.flag(request, "force"), not http.flag(request, "noprune")
        return http.answer(wire_images.gone(await self._engine.images.remove(name, force, prune)))

    async def prune(self, request: web.Request) -> web.Response:
        wanted = http.filters(request, PRUNE_FILTERS)
        dangling, limit = _switch(wanted, "dangling", True), times.until(wanted)

        def check(image: ImageRecord) -> bool:
            return _labelled(wanted, image) and (limit is None or times.nanoseconds(image.created) < limit)

        return http.answer(wire_images.pruned(*await self._engine.images.prune(check, bool(dangling))))


class Transfers:
    """What comes and goes: the handlers over ``engine.transfers``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, request: web.Request) -> web.Answer:
        """Pull or import, by which of ``fromImage`` and ``fromSrc`` is given."""
        tag, platform = http.text(request, "tag"), http.text(request, "platform")
        image = http.text(request, "fromImage")
        if image:
            lines = self._engine.transfers.pull(image, tag, registry_auth(request), platform, all_tags=not tag)
            return await http.progress(request, lines)
        source = http.text(request, "fromSrc")
        if not source:
            raise Internal('Get "http:": http: no Host in request URL')
        stream = request.pieces() if source == "-" else self._engine.transfers.fetched(source)
        lines = self._engine.transfers.import_(
            stream, http.text(request, "repo"), tag, http.texts(request, "changes"),
            http.text(request, "message"), platform,
        )  # fmt: skip
        return await http.progress(request, lines)

    async def load(self, request: web.Request) -> web.Answer:
        lines = self._engine.transfers.load(request.pieces(), http.flag(request, "quiet"))
        return await http.progress(request, lines, begun=True)

    async def save(self, request: web.Request) -> web.Answer:
        name = request.names.get("name", "")
        names = [name] if name else http.texts(request, "names")
        return await _send(request, self._engine.transfers.save(names))

    async def push(self, request: web.Request) -> web.Answer:
        lines = self._engine.transfers.push(request.names["name"], http.text(request, "tag"), registry_auth(request))
        return await http.progress(request, lines)

    async def commit(self, request: web.Request) -> web.Response:
        container = self._engine.containers.get(http.reference(http.text(request, "container")))
        body = await http.body(request, None)
        config = wire.read(Config, body) if body else None
        paused = http.flag(request, "pause", http.version(request) >= (1, 13)) and container.state.status == "running"
        if paused:
            await self._engine.containers.pause(container.id)
        try:
            image = await self._engine.transfers.commit(
                container, http.text(request, "repo"), http.text(request, "tag"), http.text(request, "comment"),
                http.text(request, "author"), http.texts(request, "changes"), config,
            )  # fmt: skip
        finally:
            if paused:
                with suppress(Conflict):
                    await self._engine.containers.unpause(container.id)
        return http.answer({"Id": image.id}, 201)

    async def search(self, request: web.Request) -> web.Response:
        wanted, limit = http.filters(request, SEARCH_FILTERS), http.number(request, "limit", 25)
        stars = [http.parse_int(value, "Atoi") for value in wanted.get("stars", ())]
        official = http.filter_flag(wanted, "is-official")
        found = await self._engine.transfers.search(http.text(request, "term"), limit or 25)
        return http.answer(
            [
                item
                for item in found
                if (official is None or bool(item.get("is_official")) is official)
                and all(int(item.get("star_count", 0)) >= least for least in stars)
            ]
        )

    async def distribution(self, request: web.Request) -> web.Response:
        name = request.names["name"]
        if re.fullmatch(r"[a-f0-9]{64}", name):
            raise Invalid(f"unknown image reference format: {name}")
        return http.answer(await self._engine.transfers.distribution(name, registry_auth(request)))


def _switch(wanted: http.Filters, name: str, default: bool | None = None) -> bool | None:
    return http.clear_flag(wanted, name, default)


def _only_named(image: ImageRecord, patterns: Sequence[str]) -> ImageRecord:
    """The image with those of its names that a ``reference`` filter asks for."""
    if not patterns:
        return image

    def kept(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if any(reference.matches(pattern, name) for pattern in patterns))

    return replace(image, tags=kept(image.tags), digests=kept(image.digests))


def _labelled(wanted: http.Filters, image: ImageRecord) -> bool:
    without = wanted.get("label!", ())
    return http.labels_match(wanted.get("label", ()), image.labels) and not any(
        http.labels_match([label], image.labels) for label in without
    )


async def _send(request: web.Request, pieces: AsyncIterator[bytes]) -> web.Answer:
    """A tar as it comes; an error before its first byte is an answer."""
    async with http.streaming(request, TAR) as out:
        async for piece in pieces:
            await out.write(piece)
        return out
