"""The HTTP mesh on this node: every HAProxy of it here is told what its network's rows say.

    rows of the mesh's network --heard--> tasks, routes --core.webmesh, core.proxywords--> commands --socket--> HAProxy
    managers --assign--> secrets named by routes --'                               (in its container: /proc/PID/root)

Rules
    1. What HAProxy has is asked for each time, and only the difference is said: one that was just started, or one that
       somebody else has spoken to, ends up the same.
    2. What it would not do now (a server that still has requests, or has nobody to take its place) is tried again
       after ``AGAIN`` seconds.
    3. A new HAProxy is sent requests after it was told (``ready``).
    4. Secrets are in memory and go to HAProxy's socket; no log has them. Those that are not known (no manager was found
       yet) change nothing: HAProxy goes on with the certificates that it has.
    5. A node has heard that a task comes or goes when its HAProxy has (``told``): before that it thanks nobody.

What it does not do: start HAProxy: it is a service of the swarm like any other (``api.mesh``), with an image that each
node makes of its own binary (``host.proxyimage``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from fairlead.core import proxyconfig, proxywords, webmesh
from fairlead.core.container import Container
from fairlead.core.model import ServicePart
from fairlead.core.proxywords import Told
from fairlead.core.serving import Backend
from fairlead.core.session import Assign
from fairlead.core.webmesh import File, Key
from fairlead.engine.catalog import Catalog
from fairlead.engine.endpoints import Endpoints
from fairlead.errors import Unavailable

log = logging.getLogger(__name__)

SERVICE = "com.docker.swarm.service.name"
AGAIN = 5.0
PATIENCE = 3.0
"""seconds for an answer"""
BOUND = 3.0
"""seconds that anybody waits for HAProxy to follow"""
READY = 10.0
"""seconds for a new HAProxy to listen"""
PAUSE = 0.1


class WebMesh:
    """``socket(pid)``: where the HAProxy of that process listens for commands."""

    def __init__(self, catalog: Catalog, endpoints: Endpoints, socket: Callable[[int], str]) -> None:
        self._catalog, self._endpoints, self._socket = catalog, endpoints, socket
        self._tasks: dict[str, tuple[str, Backend]] = {}
        """endpoint -> its network, the task it is"""
        self._secrets: dict[str, File] = {}
        """by name"""
        self._seen: dict[str, Told] = {}
        """container -> what it had when it was asked last"""
        self._left: set[str] = set()
        """containers"""
        self._left_out: set[Key] = set()
        """what was told of already"""
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

    def assigned(self, assign: Assign) -> None:
        """Secrets that this node has: certificates may be among them."""
        gone = {id for kind, id in assign.drop if kind == "secrets"}
        kept = {} if assign.whole else {name: file for name, file in self._secrets.items() if file.id not in gone}
        self._secrets = {**kept, **{one.spec.name: File(one.id, one.spec.data) for one in assign.secrets}}
        if assign.secrets:
            self._news.set()

    # -- what HAProxy is told -----------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        done = True
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if done else AGAIN):
                    await self._news.wait()
            self._news.clear()
            done = all([await self._sync(container) for container in self._proxies()])

    def minds(self, endpoint: str) -> bool:
        """Whether a HAProxy here is to follow that task."""
        return endpoint in self._tasks and any(
            self._tasks[endpoint][0] in self._networks(one) for one in self._proxies()
        )

    async def told(self, endpoint: str) -> None:
        """Returns when every HAProxy here has followed that task, or should have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while self.minds(endpoint) and not all(self._follows(one, endpoint) for one in self._proxies()):
                    self._news.set()
                    await asyncio.sleep(PAUSE)

    def _follows(self, container: Container, endpoint: str) -> bool:
        network, task = self._tasks[endpoint]
        if network not in self._networks(container):
            return True
        told = self._seen.get(container.id)
        return told is not None and proxywords.follows(told, task.part.task, task.part.serving)

    async def ready(self, container_id: str) -> None:
        """If that container is a HAProxy of ours: it knows what it shall know, or will not listen."""
        container = next((one for one in self._proxies() if one.id == container_id), None)
        if container is None:
            return
        await self._until(container, READY, lambda finished: finished)
        await self._until(container, BOUND, lambda _: self._has_met(container))

    async def _until(self, container: Container, bound: float, enough: Callable[[bool], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(bound):
                while True:
                    if enough(await self._sync(container)):
                        return
                    await asyncio.sleep(PAUSE)

    def _has_met(self, container: Container) -> bool:
        """Of each service at least one answers, if one should."""
        told = self._seen.get(container.id)
        ready = [[one.up for one in there.values() if one.serving] for there in told.servers.values()] if told else []
        return all(any(ups) for ups in ready if ups)

    def leaves(self, container_id: str) -> None:
        """If that container is a HAProxy of ours: nobody comes to it any more, and it need not be told."""
        self._left.add(container_id)

    def _networks(self, container: Container) -> set[str]:
        return {endpoint.network for endpoint in self._endpoints.of_sandbox(container.id)}

    def _proxies(self) -> list[Container]:
        found = [one for one in self._catalog if (one.config.labels or {}).get(SERVICE) == webmesh.NAME]
        self._left &= {container.id for container in found}
        return [container for container in found if container.state.running and container.id not in self._left]

    async def _sync(self, container: Container) -> bool:
        """Whether it has all that it should, and nothing else."""
        networks = self._networks(container)
        async with self._turn:
            tasks = [task for network, task in self._tasks.values() if network in networks]
            web = webmesh.wanted(tasks, self._secrets)
            try:
                told = await self._ask(container)
                self._tell_of(proxywords.without_place(web, told), container)
                commands = proxywords.difference(web, told)
                for command in commands:
                    if complaint := proxywords.complaint(await self._say(container, command)):
                        log.warning("HAProxy %s: %s: %s", container.name, proxywords.shown(command), complaint)
                return proxywords.finished(web, await self._ask(container) if commands else told)
            except (OSError, TimeoutError, Unavailable) as problem:
                self._seen.pop(container.id, None)
                log.info("HAProxy %s cannot be told: %s", container.name, problem)
                return False

    def _tell_of(self, left_out: set[Key], container: Container) -> None:
        """Each once, as long as it is so."""
        for key in left_out - self._left_out:
            log.error(
                "port %s of service %s has no place in the HTTP mesh: HAProxy %s holds %s at most, and %s whose TLS it"
                " does not end; remove a service from the mesh, or enter this one's port by -p",
                key.port, key.service, container.name, proxyconfig.BACKENDS, proxyconfig.RAW_BACKENDS,
            )  # fmt: skip
        self._left_out = left_out

    async def _ask(self, container: Container) -> Told:
        told = proxywords.read(*[await self._say(container, question) for question in proxywords.QUESTIONS])
        self._seen[container.id] = told
        return told

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
