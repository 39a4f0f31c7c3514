"""The HTTP mesh on this node: every HAProxy of it here is told what its network's rows say.

    rows of the mesh's network --heard--> tasks and their routes --core.webmesh--> commands --socket--> HAProxy
                                                                                   (in its container: /proc/PID/root)

Rules
    1. What HAProxy has is asked for each time, and only the difference is said: one that was just started, or one that
       somebody else has spoken to, ends up the same.
    2. What it would not do now (a server that still has requests) is tried again after ``AGAIN`` seconds.
    3. A new HAProxy is sent requests after it was told (``ready``).

What it does not do: start HAProxy: it is a service of the swarm like any other (``api.mesh``), with an image that each
node makes of its own binary (``host.proxyimage``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fairlead.core import webmesh
from fairlead.core.container import Container
from fairlead.core.model import ServicePart
from fairlead.core.serving import Backend
from fairlead.engine.catalog import Catalog
from fairlead.engine.endpoints import Endpoints
from fairlead.errors import Unavailable

log = logging.getLogger(__name__)

SERVICE = "com.docker.swarm.service.name"
AGAIN = 5.0
PATIENCE = 3.0
"""seconds for an answer"""
TRIES, PAUSE = 40, 0.05
"""for a new HAProxy to listen"""


class WebMesh:
    """``socket(pid)``: where the HAProxy of that process listens for commands."""

    def __init__(self, catalog: Catalog, endpoints: Endpoints, socket: Callable[[int], str]) -> None:
        self._catalog, self._endpoints, self._socket = catalog, endpoints, socket
        self._tasks: dict[str, tuple[str, Backend]] = {}
        """endpoint -> its network, the task it is"""
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    # -- what rows say ----------------------------------------------------------------------------

    def note(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None:
        """An endpoint is so now; without addresses, or when it is no task, it is gone."""
        before = self._tasks.pop(endpoint, None)
        if part and part.routes and (ipv4 or ipv6):
            self._tasks[endpoint] = network_id, Backend(part, ipv4, ipv6)
        if before != self._tasks.get(endpoint):
            self._news.set()

    async def heard(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None:
        self.note(network_id, endpoint, part, ipv4, ipv6)

    # -- what HAProxy is told -----------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            for container in self._proxies():
                if not await self._sync(container):
                    asyncio.get_running_loop().call_later(AGAIN, self._news.set)

    async def ready(self, container_id: str) -> None:
        """If that container is a HAProxy of ours: it knows what it shall know, or will not listen."""
        container = next((one for one in self._proxies() if one.id == container_id), None)
        if container is None:
            return
        for _ in range(TRIES):
            if await self._sync(container):
                return
            await asyncio.sleep(PAUSE)

    def _proxies(self) -> list[Container]:
        found = (one for one in self._catalog if (one.config.labels or {}).get(SERVICE) == webmesh.NAME)
        return [container for container in found if container.state.running]

    async def _sync(self, container: Container) -> bool:
        """Whether it has all that it should, and nothing else."""
        networks = {endpoint.network for endpoint in self._endpoints.of_sandbox(container.id)}
        web = webmesh.wanted(task for network, task in self._tasks.values() if network in networks)
        async with self._turn:
            try:
                told = webmesh.read(*[await self._say(container, question) for question in webmesh.QUESTIONS])
                commands = webmesh.difference(web, told)
                for command in commands:
                    answer = (await self._say(container, command)).strip()
                    if answer and not answer.startswith(("New server registered", "Server deleted")):
                        log.info("HAProxy %s: %s: %s", container.name, command, answer)
                if not commands:
                    return True
                told = webmesh.read(*[await self._say(container, question) for question in webmesh.QUESTIONS])
                return not webmesh.difference(web, told)
            except (OSError, TimeoutError, Unavailable) as problem:
                log.info("HAProxy %s cannot be told: %s", container.name, problem)
                return False

    async def _say(self, container: Container, command: str) -> str:
        """One command, one answer."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self._socket(container.state.pid))
            try:
                writer.write(command.encode() + b"\n")
                await writer.drain()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
