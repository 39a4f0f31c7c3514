"""Containers of a build's steps that stay: ``docker build --rm=false``, and that of the step that failed.

    docker build .        … The command '/bin/sh -c make' returned a non-zero code: 2
    docker commit $(docker ps -lq) look && docker run -it look sh

They are containers like others: with the step's image below, the command it ran, what it wrote, and how it ended;
they can be looked at, copied from, committed, started again and removed. They come when the build ends.

What it does not do: keep one that began with nothing (``FROM scratch``, before the first file), as no image is its.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from fairlead.core.container import NEVER, Config, Container, Healthcheck, HostConfig, LogConfig, State
from fairlead.core.imagespec import BuildRequest, StepContainer
from fairlead.engine.catalog import Catalog
from fairlead.engine.creation import Creation
from fairlead.engine.storage import LayerDisk


class BuildContainers:
    """Takes them over from the builder. ``tell`` makes an event of one."""

    def __init__(
        self, creation: Creation, catalog: Catalog, layers: LayerDisk, tell: Callable[[str, Container], None]
    ) -> None:
        self._creation = creation
        self._catalog = catalog
        self._layers = layers
        self._tell = tell

    async def keep(self, request: BuildRequest, made: StepContainer) -> Container:
        """One of the step's image, which is here; its record and its files."""
        config = Config(image=made.image, cmd=made.command, entrypoint=("",), env=made.env or None)
        if made.started != NEVER or made.error:
            config = replace(config, healthcheck=Healthcheck(test=("NONE",)))
        host = HostConfig(
            network_mode=request.network, extra_hosts=request.extra_hosts or None, shm_size=request.shm_size,
            memory=request.memory, log_config=LogConfig("none", {}),
        )  # fmt: skip
        settled, _ = await self._creation.settle("", config, host, {}, "")
        own = settled.config.hostname == settled.id[:12]
        container = replace(
            settled,
            id=made.id,
            created=made.created,
            config=replace(settled.config, hostname=made.id[:12]) if own else settled.config,
            state=State(
                status="created" if made.started == NEVER else "exited",
                exit_code=made.code,
                error=made.error,
                started_at=made.started,
                finished_at=made.finished,
            ),
        )
        if made.files:
            await asyncio.to_thread(self._layers.take, container.id, made.files)
        await self._catalog.put(container)
        self._tell("create", container)
        return container
