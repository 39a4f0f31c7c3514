"""Builds: ``docker build`` the classic way. The builder builds; we give it its base images and take over its result.

    context ---> begin ---> bases (ours, or pulled) ---> run ---> adopt ---> tags

Rules
    1. What the Dockerfile starts from is looked up here first, as Docker's classic builder does.
    2. A build that fails leaves no image; its cache stays for the next try.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable

from fairlead.core import reference
from fairlead.core.imagespec import BuildRequest, Credentials
from fairlead.engine.images import Images
from fairlead.engine.storage import Builder, BuildRun
from fairlead.engine.transfers import Line, Transfers


class Builds:
    """Builds of this machine."""

    def __init__(self, images: Images, transfers: Transfers, builder: Builder) -> None:
        self._images = images
        self._transfers = transfers
        self._builder = builder

    async def build(
        self, request: BuildRequest, stream: AsyncIterable[bytes], credentials: Callable[[str], Credentials]
    ) -> AsyncIterator[Line]:
        """Docker's lines. ``credentials`` knows who we are to a registry (by its host)."""
        names = [reference.parse(tag).tagged() for tag in request.tags]
        async with self._builder.begin(request, stream) as run:
            async for line in self._offer(run, request, credentials):
                if not request.quiet:
                    yield line
            async for text in run.run():
                if not request.quiet:
                    yield {"stream": text}
            image = await self._transfers.adopt(await run.result(), names)
        for name in names:
            self._images.tell("tag", image.id, name.familiar)
        if request.quiet:
            yield {"stream": f"{image.id}\n"}
            return
        yield {"aux": {"ID": image.id}}
        yield {"stream": f"Successfully built {image.short}\n"}
        for name in names:
            yield {"stream": f"Successfully tagged {name.familiar}\n"}

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
            await run.offer(image, ref.normal)

    async def prune(self) -> int:
        """Throw the cache away; bytes freed."""
        return await self._builder.prune()

    def cache_size(self) -> int:
        """Bytes of the cache. Blocking."""
        return self._builder.size()
