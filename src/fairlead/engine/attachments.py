"""Attachments: a container on its networks, from the first interface to the last.

    open      namespace -> an endpoint on each network, in order -> hosts files
    publish   its ports, beside the making of its process
    connect   one more endpoint of a running container, or one more wish of a stopped one
    close     all of it goes, in one go

Rules
    1. ``open`` is all or nothing: the container has every network it asked for
       or none, and then no address, device, port or record is left.
    2. A stopped container holds wishes (``Container.networks``), a running one
       endpoints. ``connect`` and ``disconnect`` change both alike.
    3. ``host`` mode has the machine's stack and ``container:X`` has X's: neither
       can be connected anywhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from fairlead.core.container import Container
from fairlead.core.model import Endpoint, EndpointSettings, Network, Sandbox
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints, names_of
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.publisher import Publisher
from fairlead.engine.sandboxes import Sandboxes, Stack
from fairlead.engine.wayout import WayOut
from fairlead.errors import FairleadError, Forbidden, Invalid, NotFound, Unavailable
from fairlead.host.base import Host

SETTING_UP = "failed to set up container networking"
NOT_HOST = "cannot connect container to host network - container must be created in host network mode"
SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def mode_of(container: Container) -> str:
    """``own``, ``host`` or ``container``: whose network stack it uses."""
    mode = container.host.network_mode
    return "host" if mode == "host" else "container" if mode.startswith("container:") else "own"


class Attachments:
    """The networks of every container of this machine."""

    def __init__(
        self,
        host: Host,
        controller: Controller,
        endpoints: Endpoints,
        sandboxes: Sandboxes,
        publisher: Publisher,
        files: HostFiles,
    ) -> None:
        self._host = host
        self._controller = controller
        self._endpoints = endpoints
        self._sandboxes = sandboxes
        self._publisher = publisher
        self._files = files
        self._way_out = WayOut(controller, endpoints)
        self.services_only: Callable[[str], bool] = lambda name: False
        """Whether that is a network of this node's swarm that only services can bring here. (Set by who knows.)"""

    def stack(self, container: Container) -> Stack | None:
        """The container's own stack; None when it is not running or uses another's."""
        return self._sandboxes.get(container.id)

    def endpoints(self, container_id: str) -> list[Endpoint]:
        return self._endpoints.of_sandbox(container_id)

    # -- all networks -------------------------------------------------------------------------

    async def open(self, container: Container) -> Stack:
        """Every network ``container`` asked for, ready for its process; its ports are for ``publish``."""
        self._refuse_company(container)
        async with AsyncExitStack() as undo:
            resolving = self._files.resolving(container)
            stack = await self._sandboxes.open(self.sandbox(container), f"container {container.name}", resolving)
            undo.push_async_callback(self.close, stack)
            for name, settings in container.networks.items():
                await self._attach_at_start(container, stack, self._open_to(name, settings), settings)
            await self._way_out.settle(container, stack)
            self._files.write(container, stack)
            undo.pop_all()
        return stack

    async def _attach_at_start(
        self, container: Container, stack: Stack, network: Network, settings: EndpointSettings
    ) -> None:
        try:
            await self._endpoints.attach(container, stack, network, settings)
        except Unavailable as error:  # no address left
            raise type(error)(f"{SETTING_UP}: {error.message}") from error

    def rehearse(self, container: Container) -> Stack:
        """The stack that ``open`` would open now: addresses, names and ports as they would be chosen; nothing made."""
        self._refuse_company(container)
        stack = Stack(self.sandbox(container), f"container {container.name}", self._files.resolving(container))
        for name, settings in container.networks.items():
            network = self._open_to(name, settings)
            endpoint = self._endpoints.rehearse(container, stack, network, settings)
            stack.attached.append((network, endpoint))
        self._way_out.rehearse(container, stack)
        bindings = self._publisher.rehearse(container, stack) if mode_of(container) == "own" else {}
        stack.attached = [
            (network, msgspec.structs.replace(endpoint, bindings=bindings.get(endpoint.id, ())))
            for network, endpoint in stack.attached
        ]
        return stack

    def _refuse_company(self, container: Container) -> None:
        """A container in the host's own stack has no network besides: its devices would be the host's. Nor has one on
        none: nobody shall reach it."""
        if len(container.networks) > 1 and any(map(self._is_none, container.networks)):
            raise Invalid(f"{SETTING_UP}: {PRIVATE}")
        if mode_of(container) == "host" and any(self._find(name).driver != "host" for name in container.networks):
            raise Invalid(
                "failed to set up container networking: container sharing network namespace with another container"
                " or host cannot be connected to any other network"
            )

    async def close(self, stack: Stack, *, sticky: bool = False) -> None:
        """The whole stack goes; records last, so that a crash half way is finished by the next start.

        The relay gives up its ports while the kernel's objects go: with a thousand, either takes a while. Both go to
        their ends, then what went wrong is raised.
        """
        endpoints = list(stack.endpoints)
        ways = self._publisher.close(endpoints), self._take_down(stack, endpoints)
        for refusal in await asyncio.gather(*ways, return_exceptions=True):
            if refusal is not None:
                raise refusal
        self._publisher.flush(endpoints)
        for network, endpoint in stack.attached:
            await self._endpoints.forget(network, endpoint, sticky=sticky)

    async def _take_down(self, stack: Stack, endpoints: list[Endpoint]) -> None:
        await self._endpoints.give_back(*endpoints)
        await self._sandboxes.close(stack)

    def relink(self, target: Container) -> None:
        """``target`` runs (again), perhaps at another address: those who link to it have its line rewritten."""
        for container in self._files.linking_to(target):
            self.rewrite(container)

    def rewrite(self, container: Container) -> None:
        """Its files once more, if it runs: names in them have changed."""
        stack = self.stack(container)
        if stack is not None:
            self._files.write(container, stack)

    def adopt(self, container: Container, attached: list[tuple[Network, Endpoint]]) -> None:
        """After a restart: the container runs, and these endpoints are in its stack."""
        title, resolving = f"container {container.name}", self._files.resolving(container)
        stack = self._sandboxes.adopt(self.sandbox(container), title, resolving, attached)
        for network, endpoint in attached:
            self._endpoints.adopt_lease(container, stack, network, endpoint)

    def sandbox(self, container: Container) -> Sandbox:
        """The value of a container's own sandbox; its id is the container's, its namespace is named after it."""
        if mode_of(container) == "host":
            return Sandbox(container.id, container.id, "host", "", "/var/run/docker/netns/default")
        name = container.id[:12]
        return Sandbox(container.id, container.id, "own", name, self._host.namespace_path(name))

    async def publish(self, container: Container, stack: Stack | None) -> None:
        """The ports it asked for, all or none; nothing in the stack of another."""
        if stack is None or mode_of(container) != "own":
            return
        try:
            await self._publisher.publish(container, stack)
        except FairleadError as error:
            raise FairleadError(f"{SETTING_UP}: {error.message}") from error

    def _find(self, name: str) -> Network:
        try:
            return self._controller.network(name)
        except NotFound as error:
            if self.services_only(name):
                raise _by_hand(name, f"{SETTING_UP}: ") from error
            raise NotFound(f"{SETTING_UP}: {error.message}") from error

    def _open_to(self, name: str, settings: EndpointSettings) -> Network:
        network = self._find(name)
        _refuse_by_hand(network, settings, f"{SETTING_UP}: ")
        return network

    async def publish_beside(self, process: Awaitable[int], container: Container, stack: Stack | None) -> int:
        """``publish`` while other programs make the process, which then waits for our word; its pid.

        The relay is asked first: that is soon said, and then it is at work while we look for the process's programs.
        Both go to their ends, then what went wrong is raised: nothing is left half done.
        """
        refusal, pid = await asyncio.gather(self.publish(container, stack), process, return_exceptions=True)
        if isinstance(refusal, BaseException):
            raise refusal
        if isinstance(pid, BaseException):
            raise pid
        return pid

    # -- one network ----------------------------------------------------------------------------

    async def connect(self, container: Container, network: Network, settings: EndpointSettings) -> Container:
        """Connect now if it runs, else at its next start; returns the container's new value."""
        self._refuse_connect(container, network)
        stack = self.stack(container)
        if stack is not None:
            _refuse_by_hand(network, settings)
            before = self._publisher.where(stack)
            await self._endpoints.attach(container, stack, network, settings)
            await self._way_out.settle(container, stack)
            await self._publisher.moved(container, stack, before)
            self._files.write(container, stack)
        container = _with_network(container, network, settings)
        self._endpoints.promise(container)
        return container

    async def leave(self, container: Container, ref: str, force: bool = False) -> Container:
        """The opposite, by the network's name or id; it may be gone since, if the container does not run."""
        try:
            network = self._controller.network(ref)
        except NotFound:
            if container.state.running and not force:
                raise
            return without(container, ref)
        return await self.disconnect(container, network)

    async def disconnect(self, container: Container, network: Network) -> Container:
        """Raises when the container is not on that network."""
        asked = asked_name(container, network)
        stack = self.stack(container)
        endpoint = self._endpoint(stack, network)
        if network.name == "host" and mode_of(container) == "host":
            raise Invalid("cannot disconnect container from host network - container was created in host network mode")
        if asked is None or (stack is not None and endpoint is None):
            where = f"network {network.name}" if container.state.running else f"the network {network.name}"
            raise FairleadError(f"container {container.id} is not connected to {where}")
        if stack is not None and endpoint is not None:
            before = self._publisher.where(stack)
            await self._publisher.close([endpoint])
            await self._endpoints.detach(stack, network, endpoint)
            await self._way_out.settle(container, stack)
            await self._publisher.moved(container, stack, before)
            self._files.write(container, stack)
        self._endpoints.release_promises(container.id, asked)
        return without(container, asked)

    async def lease_changed(self, container: Container, endpoint_id: str, why: str) -> None:
        """A lent address came, went or became another one: routes, published ports, names and files follow."""
        stack = self.stack(container)
        for network, endpoint in stack.attached if stack else ():
            if stack is not None and endpoint.id == endpoint_id:
                before = self._publisher.where(stack)
                await self._endpoints.lease_changed(stack, network, endpoint, why)
                await self._publisher.moved(container, stack, before)
                self._files.write(container, stack)

    async def renamed(self, container: Container) -> None:
        """The container has another name: endpoints and names follow."""
        stack = self.stack(container)
        if stack is None:
            return
        changed = [
            msgspec.structs.replace(e, name=container.name, names=names_of(container, e.settings) if e.names else ())
            for e in stack.endpoints
            if not e.way_out
        ]
        await self._endpoints.change(stack, changed)

    def _refuse_connect(self, container: Container, network: Network) -> None:
        if mode_of(container) == "own" and network.driver == "host":
            raise Invalid(NOT_HOST)
        if mode_of(container) != "own":
            raise Invalid(SHARED)
        if network.driver == "null" or any(self._is_none(name) for name in container.networks):
            raise Invalid(PRIVATE)
        if network.config_only:
            raise Invalid(f"cannot connect container {container.name} to configuration-only network {network.name}")

    def _is_none(self, name: str) -> bool:
        return name == "none"

    def _endpoint(self, stack: Stack | None, network: Network) -> Endpoint | None:
        attached = stack.attached if stack else []
        return next((endpoint for other, endpoint in attached if other.id == network.id), None)


def _refuse_by_hand(network: Network, settings: EndpointSettings, context: str = "") -> None:
    """A network of a swarm is for its services, unless it was made for everybody."""
    if network.scope == "swarm" and not network.attachable and settings.part is None:
        raise _by_hand(network.name, context)


def _by_hand(name: str, context: str) -> Forbidden:
    return Forbidden(
        f"{context}Could not attach to network {name}: rpc error: code = PermissionDenied desc = network {name} not"
        " manually attachable"
    )


def asked_name(container: Container, network: Network) -> str | None:
    """Under which name (or id) the container asked for this network."""
    return next((name for name in container.networks if name == network.name or network.id.startswith(name)), None)


def without(container: Container, name: str) -> Container:
    """Not asking for that network any more, which may be gone; raises when it did not."""
    if name not in container.networks:
        raise FairleadError(f"container {container.id} is not connected to the network {name}")
    networks = {asked: settings for asked, settings in container.networks.items() if asked != name}
    return msgspec.structs.replace(container, networks=networks)


def _with_network(container: Container, network: Network, settings: EndpointSettings) -> Container:
    asked = asked_name(container, network) or network.name
    return msgspec.structs.replace(container, networks={**container.networks, asked: settings})
