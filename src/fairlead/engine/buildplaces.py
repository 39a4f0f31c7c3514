"""Where the steps of a build run: on a network, as a container would be.

    docker build                   the default network
    docker build --network RED     RED: its addresses, its names
    --network none, host           only ``lo``; the host's own stack
    --network container:WEB        the stack of a running container

A build is given a stack as a container is, by the same parts, under a name such as ``build-4f1e22a80c31``; there is no
container of that name. The stack is gone when the build ends, however it ends; one that an engine leaves behind when
it is killed belongs to nobody, and the next start takes it away (``engine.restore``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fairlead.core.container import Config, Container, HostConfig
from fairlead.core.imagespec import BuildPlace, BuildRequest
from fairlead.core.model import EndpointSettings
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.creation import Creation
from fairlead.engine.hostfiles import HostFiles


class BuildPlaces:
    """Opens places. ``forget`` removes the folder of a container's files."""

    def __init__(
        self,
        creation: Creation,
        attachments: Attachments,
        files: HostFiles,
        forget: Callable[[Container], None],
        new_id: Callable[[], str],
    ) -> None:
        self._creation = creation
        self._attachments = attachments
        self._files = files
        self._forget = forget
        self._new_id = new_id
        self._open: set[str] = set()

    def busy(self, id: str) -> bool:
        """Whether this id, though no container's, has a container's belongings for now."""
        return id in self._open

    @asynccontextmanager
    async def open(self, request: BuildRequest) -> AsyncIterator[BuildPlace]:
        """The place a build asks for, until the block is left; ``FairleadError`` in Docker's words if there is none."""
        id = self._new_id()
        mode = self._creation.mode(request.network)
        networks: dict[str, EndpointSettings] = {} if mode.startswith("container:") else {mode: EndpointSettings()}
        host = HostConfig(network_mode=mode, extra_hosts=request.extra_hosts or None)
        build = Container(id, f"build-{id[:12]}", "", config=Config(hostname=id[:12]), host=host, networks=networks)
        self._open.add(id)
        try:
            yield await self._joined(build) if mode_of(build) == "container" else await self._opened(build)
        finally:
            stack = self._attachments.stack(build)
            if stack is not None:
                await self._attachments.close(stack)
            self._forget(build)
            self._open.discard(id)

    async def _opened(self, build: Container) -> BuildPlace:
        stack = await self._attachments.open(build)
        return self._place(stack.sandbox.path if mode_of(build) == "own" else "", build.id)

    async def _joined(self, build: Container) -> BuildPlace:
        """In the stack of another, with its files."""
        sandbox = await self._creation.sandbox(build)
        return self._place(sandbox.path if sandbox.mode == "own" else "", sandbox.container)

    def _place(self, namespace: str, id: str) -> BuildPlace:
        return BuildPlace(namespace, str(self._files.paths(id)["hosts"].parent))
