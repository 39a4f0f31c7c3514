"""Builds: ``docker build`` the classic way. The builder builds; we give it its base images and take over its result.

    context ---> begin ---> bases (ours, or pulled) ---> run ---> adopt ---> tags
                                                          |
                                       a place on a network, as a container has it (``engine.buildplaces``)

Rules
    1. What the Dockerfile starts from is looked up here first, as Docker's classic builder does.
    2. Containers of steps that stay (``engine.buildcontainers``) come then, too.
    3. Each step's image is an image here, without a name, built on the one before: what the story
       prints can be inspected, run and tagged. They come when the build ends, also when it fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from fairlead.core import reference
from fairlead.core.buildcache import Pruning
from fairlead.core.imagespec import BuildPlace, BuildRequest, Credentials, ImageRecord, StepContainer
from fairlead.core.narration import messages
from fairlead.core.reference import Reference
from fairlead.engine.images import Images
from fairlead.engine.storage import Builder, BuildRun
from fairlead.engine.transfers import Line, Transfers
from fairlead.errors import FairleadError

Places = Callable[[BuildRequest], AbstractAsyncContextManager[BuildPlace | None]]
"""Opens the place where the steps of a build run."""


def at_home(request: BuildRequest) -> AbstractAsyncContextManager[BuildPlace | None]:
    """No place of its own: steps run in the host's network."""
    return nullcontext()


Keep = Callable[[BuildRequest, StepContainer], Awaitable[object]]
"""Makes a container of what a step left."""


async def forgotten(request: BuildRequest, made: StepContainer) -> None:
    """Nobody lists containers here."""


class Builds:
    """Builds of this machine."""

    def __init__(
        self, images: Images, transfers: Transfers, builder: Builder, places: Places = at_home, keep: Keep = forgotten
    ) -> None:
        self._images = images
        self._transfers = transfers
        self._builder = builder
        self._places = places
        self._keep = keep

    async def build(
        self, request: BuildRequest, stream: AsyncIterable[bytes], credentials: Callable[[str], Credentials]
    ) -> AsyncIterator[Line]:
        """Docker's lines. ``credentials`` knows who we are to a registry (by its host).

        A quiet build says its image, and all when it fails."""
        lines = self._build(request, stream, credentials)
        if not request.quiet:
            async for line in lines:
                yield line
            return
        told: list[Line] = []
        try:
            async for line in lines:
                told.append(line)
        except FairleadError:
            for line in told:
                yield line
            raise
        yield {"stream": next(f"{line['aux']['ID']}\n" for line in told if "aux" in line and "ID" in line["aux"])}

    async def _build(
        self, request: BuildRequest, stream: AsyncIterable[bytes], credentials: Callable[[str], Credentials]
    ) -> AsyncIterator[Line]:
        names = [reference.parse(tag).tagged() for tag in request.tags]
        async with self._builder.begin(request, stream) as run:
            for text in run.opening():
                for message in messages(text):
                    yield {"stream": message}
            async for line in self._offer(run, request, credentials):
                yield line
            async with self._places(request) if run.runs else nullcontext() as place:
                try:
                    async for text in run.run(place):
                        for message in messages(text):
                            yield {"stream": message}
                except FairleadError:
                    with suppress(FairleadError):  # what is to be told is why the step failed
                        await self._adopt(run)
                        await self._keep_containers(run, request)
                    raise
            image = (await self._adopt(run, names))[-1]
            await self._keep_containers(run, request)
        for name in names:
            self._images.tell("tag", image.id, name.familiar)
        yield {"aux": {"ID": image.id}}
        yield {"stream": f"Successfully built {image.short}\n"}
        for name in names:
            yield {"stream": f"Successfully tagged {name.familiar}\n"}

    async def _adopt(self, run: BuildRun, names: Sequence[Reference] = ()) -> list[ImageRecord]:
        """Remember the images of its steps; the last one gets the names."""
        adopted: list[ImageRecord] = []
        made = await run.images(self._images.blobs())
        for number, fetched in enumerate(made, 1):
            known = fetched.config.digest in self._images
            image = await self._transfers.adopt_built(fetched, names if number == len(made) else ())
            if not known:
                self._images.tell("create", image.id, image.id)
            adopted.append(image)
        return adopted

    async def _keep_containers(self, run: BuildRun, request: BuildRequest) -> None:
        async with run.containers() as made:
            for container in made:
                await self._keep(request, container)

    async def _offer(
        self, run: BuildRun, request: BuildRequest, credentials: Callable[[str], Credentials]
    ) -> AsyncIterator[Line]:
        """Every image the Dockerfile starts from, pulled if it is not here or if asked."""
        for base in run.bases:
            ref = reference.parse(base).tagged()
            image = self._images.find(base)
            if image is None or request.pull:
                source = credentials(ref.domain)
                async for line in self._transfers.pull(ref.familiar, "", source, request.platform):
                    yield line
                image = self._images.get(base)
            await run.offer(image, base, ref.normal)

    async def prune(self, asked: Pruning) -> tuple[list[str], int]:
        """Throw the cache away, or what was asked of it; ids of what is gone, and bytes freed."""
        gone, freed = await self._builder.prune(asked)
        self._images.tell_pruned("builder", freed)
        return gone, freed
