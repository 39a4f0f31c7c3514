r"""Restore: the engine comes back, and finds the world as it left it, or puts it so.

    records (store)   processes (conmon)   kernel
          \                 |               /
           what should be, what runs, what is there
                            |
        runs and is known to run    its stack is adopted: nothing is touched
        known to run, but ended     buried as if we had been there (restart policy and all)
        runs, but is not known      it was half started when we died: it is ended, nobody was told of it
        endpoint without a runner   the intent of a deed that never came about: forgotten
        endpoint not asked for      a connect that its container never heard of: forgotten, too
        asked for, no endpoint      a disconnect that was nearly done: finished

Then one repair makes the kernel agree: what is missing is made, what nobody
wants is removed. Running containers do not notice any of it.

Rules
    1. Doing it twice is harmless.
    2. One broken container does not keep the others, or the engine, down: its
       trouble is logged and told, and it is left stopped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from fairlead.core import restart
from fairlead.core.container import Container
from fairlead.core.model import Endpoint
from fairlead.core.wanted import Plan
from fairlead.engine.attachments import Attachments, asked_name, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.containers import Containers
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.kernel import Kernel
from fairlead.engine.publisher import Publisher
from fairlead.engine.sandboxes import Sandboxes
from fairlead.errors import FairleadError, Unavailable

if TYPE_CHECKING:
    from fairlead.core.life import Recovered
    from fairlead.engine.mesh import Mesh
    from fairlead.engine.runtime import Runtime

log = logging.getLogger(__name__)


class Restore:
    """Everything a returning engine does before it answers."""

    def __init__(
        self,
        kernel: Kernel,
        catalog: Catalog,
        controller: Controller,
        endpoints: Endpoints,
        sandboxes: Sandboxes,
        attachments: Attachments,
        publisher: Publisher,
        containers: Containers,
        runtime: Runtime,
        mesh: Mesh | None = None,
    ) -> None:
        self._kernel = kernel
        self._catalog = catalog
        self._controller = controller
        self._endpoints = endpoints
        self._sandboxes = sandboxes
        self._attachments = attachments
        self._publisher = publisher
        self._containers = containers
        self._runtime = runtime
        self._mesh = mesh

    async def run(self) -> None:
        """After the records were loaded and the predefined networks ensured; before the API answers."""
        found = await self._runtime.recover()
        for network in self._controller.networks():
            if not network.predefined:
                self._controller.adopt(network)
        running = [container for container in self._catalog if self._adopt(container, found)]
        running = [await self._finish_disconnecting(container) for container in running]
        standing = self._mesh.load() if self._mesh else set()
        kept = {endpoint.id for container in running for endpoint in self._mine(container)}
        await self._forget_orphans(kept | standing)
        await self._sandboxes.resume()
        if self._mesh:
            self._mesh.adopt()
        make, surplus = self._repair()
        for item in (*make, *surplus):
            log.info("put right after a restart: %s (%s)", " ".join(item.key), item.owner)
        await self._end_strangers(found)
        await self._publisher.resume()
        for container in running:
            self._containers.resume(container)
        await self._bury(found)

    def _repair(self) -> tuple[Plan, Plan]:
        """What can be put right is; what cannot (a device of the host is gone) is told, and tried again by healing."""
        try:
            return self._kernel.repair()
        except FairleadError as error:
            log.error("not everything could be put right: %s", error)
            return (), ()

    def _adopt(self, container: Container, found: Recovered) -> bool:
        """Note the stack of a container that runs; False when it does not."""
        self._endpoints.promise(container)
        if not container.state.running or container.id not in found.running:
            return False
        if mode_of(container) != "container":
            attached = [(self._controller.network(endpoint.network), endpoint) for endpoint in self._mine(container)]
            attached.sort(key=lambda pair: (len(pair[1].interface), pair[1].interface))
            self._attachments.adopt(container, attached)
            self._publisher.adopt(attached)
        return True

    def _mine(self, container: Container) -> list[Endpoint]:
        """Endpoints of a container on the networks it asked for, and its way out, which nobody asks for."""
        endpoints = [endpoint for endpoint in self._endpoints.everything() if endpoint.container == container.id]
        return [e for e in endpoints if e.way_out or asked_name(container, self._controller.network(e.network))]

    async def _finish_disconnecting(self, container: Container) -> Container:
        """A running container is on every network it asked for; one it is not on any more, it asks for no longer."""
        if mode_of(container) != "own":
            return container
        there = {asked_name(container, self._controller.network(e.network)) for e in self._mine(container)}
        networks = {name: settings for name, settings in container.networks.items() if name in there or name == "none"}
        if networks != container.networks:
            container = msgspec.structs.replace(container, networks=networks)
            await self._catalog.put(container)
        return container

    async def _forget_orphans(self, kept: set[str]) -> None:
        for endpoint in list(self._endpoints.everything()):
            if endpoint.id not in kept:
                await self._endpoints.forget(None, endpoint, sticky=True)

    async def _end_strangers(self, found: Recovered) -> None:
        known = {container.id for container in self._catalog if container.state.running}
        for id in set(found.running) - known:
            log.warning("container %s was half started when the engine ended: taking it down", id[:12])
            await self._runtime.delete(id, force=True)

    async def _bury(self, found: Recovered) -> None:
        """Those that ended while we were away, and those whose turn to start again it is."""
        for container in self._catalog:
            if container.state.running and container.id not in found.running:
                await self._containers.ended(found.end_of(container.id))
            elif container.state.status in ("restarting", "removing"):
                await self._containers.finish(container)
            elif container.state.status == "exited" and restart.at_start(container):
                await self._start(container)

    async def _start(self, container: Container) -> None:
        """A refusal is told; the others start all the same."""
        try:
            await self._containers.start(container.id)
        except Unavailable as error:
            log.warning("container %s will be started when that is there: %s", container.name, error)
            state = msgspec.structs.replace(container.state, status="restarting", error=error.message)
            await self._containers.finish(await self._catalog.put(msgspec.structs.replace(container, state=state)))
        except FairleadError as error:
            log.error("container %s is to run again, but cannot be started: %s", container.name, error)
