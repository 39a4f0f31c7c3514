"""An engine in memory with the facade's signatures: a test double for the HTTP layer, and nothing else.

Containers have states but no processes; networks have pools but no devices.
What dockerd's API decides before the engine is real code (``core.validate``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec

from fairlead.core import addresses, tokens, validate
from fairlead.core.container import Config, Container, HostConfig, LogConfig
from fairlead.core.findings import Finding
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, NetworkRequest, Sandbox, Subnet
from fairlead.engine.events import Events
from fairlead.engine.swarm import IN_NONE, NOT_A_MANAGER, Control, InitRequest, JoinRequest, Local
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound, NotModified, Unavailable

replace = msgspec.structs.replace
CREATED = "2026-01-02T03:04:05.000000006Z"


def ids() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"{next(counter):064x}"[::-1]


class FakeNetworks:
    def __init__(self, new_id: Callable[[], str], events: Events) -> None:
        self._new_id, self._events = new_id, events
        self.all: dict[str, Network] = {}
        self.attached: dict[str, list[Endpoint]] = {}
        bridge = Ipam(config=(Subnet("172.17.0.0/16", gateway="172.17.0.1"),))
        for name, driver, ipam in (("bridge", "bridge", bridge), ("host", "host", Ipam()), ("none", "null", Ipam())):
            self._put(Network(new_id(), name, CREATED, driver=driver, ipam=ipam, predefined=True))

    def _put(self, network: Network) -> Network:
        self.all[network.id] = network
        return network

    def elsewhere(self, network_id: str) -> list[Endpoint]:
        return []

    def networks(self) -> list[Network]:
        return list(self.all.values())

    def network(self, ref: str) -> Network:
        for network in self.all.values():
            if ref in (network.id, network.name) or (ref and network.id.startswith(ref)):
                return network
        raise NotFound(f"network {ref} not found")

    def endpoints(self, network_id: str) -> list[Endpoint]:
        return self.attached.get(network_id, [])

    async def create(self, request: NetworkRequest) -> Network:
        if not request.name.strip():
            raise Invalid("invalid name: name is empty")
        if any(network.name == request.name for network in self.all.values()):
            raise Conflict(f"network with name {request.name} already exists")
        ipam = request.ipam if request.ipam.config else Ipam(config=(Subnet("172.18.0.0/16", gateway="172.18.0.1"),))
        network = Network(
            self._new_id(),
            request.name,
            CREATED,
            ipam=ipam,
            labels=request.labels,
            options=request.options,
            config_only=request.config_only,
        )
        self._events.publish("network", "create", network.id, {"name": network.name, "type": network.driver})
        return self._put(network)

    async def remove(self, ref: str) -> None:
        network = self.network(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        del self.all[network.id]

    async def prune(self, wants: Callable[[Network], bool]) -> list[str]:
        gone = [network for network in self.networks() if not network.predefined and wants(network)]
        for network in gone:
            del self.all[network.id]
        return [network.name for network in gone]


class FakeContainers:
    def __init__(self, new_id: Callable[[], str], networks: FakeNetworks, events: Events) -> None:
        self._new_id, self._networks, self._events = new_id, networks, events
        self.all: dict[str, Container] = {}
        self.live: dict[str, list[Endpoint]] = {}
        self.waiting: dict[str, list[asyncio.Future[Any]]] = {}

    def list(self) -> list[Container]:
        return list(self.all.values())[::-1]

    def get(self, ref: str) -> Container:
        for container in self.all.values():
            if ref in (container.id, container.name) or (ref and container.id.startswith(ref)):
                return container
        raise NotFound(f"No such container: {ref}")

    def endpoints(self, id: str) -> list[Endpoint]:
        return self.live.get(id, [])

    def sandbox(self, id: str) -> Sandbox | None:
        return Sandbox(id, id, path=f"/run/netns/{id[:12]}") if self.all[id].state.running else None

    def needs(self, network: Network) -> bool:
        return any(network.name in container.networks for container in self.all.values())

    async def create(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings], platform: str = ""
    ) -> tuple[Container, list[str]]:
        name = name.removeprefix("/") or f"name{len(self.all)}"
        validate.container_name(name)
        warnings = validate.create(config, host, cpus=2)
        if config.image.split(":")[0] not in ("", "busybox"):
            raise NotFound(f"No such image: {config.image}")
        if not config.image:
            raise Invalid("no command specified")
        for other in self.all.values():
            if other.name == name:
                raise Conflict(
                    f'Conflict. The container name "/{name}" is already in use by container "{other.id}". You have to'
                    " remove (or rename) that container to be able to reuse that name."
                )
        mode = "bridge" if host.network_mode in ("", "default") else host.network_mode
        if not mode.startswith("container:"):
            networks = {mode: networks.get(mode, EndpointSettings()), **networks}
        else:
            networks = {}
        for asked, settings in networks.items():
            self._check(asked, settings)
        container = Container(
            id=self._new_id(),
            name=name,
            created=CREATED,
            image="sha256:" + "b" * 64,
            path=(config.cmd or ("sh",))[0],
            args=(config.cmd or ("sh",))[1:],
            config=config,
            host=replace(host, network_mode=mode, log_config=LogConfig("json-file", {})),
            networks=networks,
        )
        self.all[container.id] = container
        return container, warnings

    def _check(self, asked: str, settings: EndpointSettings) -> None:
        try:
            network = self._networks.network(asked)
        except NotFound:
            return
        try:
            self.check_wishes(network, settings)
        except Invalid as error:
            raise Invalid(f"invalid config for network {asked}: {error.message}") from error

    def check_wishes(self, network: Network, settings: EndpointSettings) -> None:
        validate.mac_address(settings.mac)
        addresses.check_wishes(network, settings)

    async def start(self, ref: str) -> None:
        container = self.get(ref)
        if container.state.running:
            raise NotModified("running")
        self._set(container, status="running", pid=99, started_at=CREATED)
        self.live[container.id] = [
            Endpoint(
                id=self._new_id(),
                network=self._networks.network(name).id,
                container=container.id,
                sandbox=container.id,
                name=container.name,
                ipv4="172.17.0.2/16",
                gateway4="172.17.0.1",
                mac=settings.mac or "02:42:ac:11:00:02",
                names=(container.name, *settings.aliases, container.short),
                settings=settings,
            )
            for name, settings in container.networks.items()
        ]

    async def stop(self, ref: str, timeout: int | None = None, signal: str = "") -> None:
        container = self.get(ref)
        if not container.state.running:
            raise NotModified("stopped")
        self._end(container, 137)

    async def kill(self, ref: str, signal: str = "") -> None:
        from fairlead.core import signals

        container = self.get(ref)
        signals.number(signal or "SIGKILL")
        if not container.state.running:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        self._end(container, 137)

    async def restart(self, ref: str, timeout: int | None = None, signal: str = "") -> None:
        container = self.get(ref)
        if not container.state.running:
            await self.start(ref)

    async def pause(self, ref: str) -> None:
        self._set(self.get(ref), status="paused")

    async def unpause(self, ref: str) -> None:
        self._set(self.get(ref), status="running")

    async def rename(self, ref: str, new: str) -> None:
        container = self.get(ref)
        validate.container_name(new)
        self.all[container.id] = replace(container, name=new)

    async def update(self, ref: str, changes: HostConfig) -> list[str]:
        container = self.get(ref)
        validate.changes(changes)
        self.all[container.id] = replace(container, host=validate.updated(container, changes))
        return []

    async def unlink(self, ref: str) -> None:
        self.get(ref)
        raise FairleadError("Conflict, cannot remove the default link name of the container")

    def wait(self, ref: str, condition: str) -> asyncio.Future[Any]:
        container = self.get(ref)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not container.state.running:
            future.set_result(SimpleNamespace(code=container.state.exit_code))
        else:
            self.waiting.setdefault(container.id, []).append(future)
        return future

    async def remove(self, ref: str, force: bool = False, volumes: bool = False) -> None:
        container = self.get(ref)
        if container.state.running and not force:
            raise Conflict(
                f'cannot remove container "{container.name}": container is running: stop the container before'
                " removing or force remove"
            )
        self._end(container, 137)
        del self.all[container.id]

    async def connect(self, network: str, ref: str, settings: EndpointSettings) -> None:
        found, container = self._networks.network(network), self.get(ref)
        self.check_wishes(found, settings)
        self.all[container.id] = replace(container, networks={**container.networks, found.name: settings})

    async def disconnect(self, network: str, ref: str, force: bool) -> None:
        self._networks.network(network)
        self.get(ref)

    def _set(self, container: Container, **changes: Any) -> None:
        self.all[container.id] = replace(container, state=replace(container.state, **changes))

    def _end(self, container: Container, code: int) -> None:
        self._set(container, status="exited", exit_code=code, finished_at=CREATED, pid=0)
        self.live.pop(container.id, None)
        for future in self.waiting.pop(container.id, []):
            if not future.done():
                future.set_result(SimpleNamespace(code=code))


class FakeFilesystem:
    driver = "overlay2"

    def graph(self, container: Container) -> dict[str, str]:
        return {"ID": container.id}

    async def sizes(self, container: Container) -> tuple[int, int]:
        return 1, 2

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        yield b"tar"


class FakeSwarm:
    """A node that is in none, and never will be."""

    def local(self) -> Local:
        return Local()

    def control(self) -> Control:
        raise Unavailable(NOT_A_MANAGER)

    def findings(self) -> tuple[Finding, ...]:
        return ()

    def unlock_key(self) -> str:
        raise Unavailable(NOT_A_MANAGER)

    async def init(self, request: InitRequest) -> str:
        raise Unavailable("this engine forms no swarms")

    async def rehearse(self, request: InitRequest) -> tuple[str, ...]:
        raise Unavailable(NOT_A_MANAGER)

    async def join(self, request: JoinRequest) -> None:
        try:
            tokens.parse(request.token)
        except Invalid as error:
            raise FairleadError(error.message) from None
        raise Unavailable("this engine joins no swarms")

    async def leave(self, force: bool) -> None:
        raise Unavailable(IN_NONE)

    async def unlock(self, key: str) -> None:
        raise Unavailable(NOT_A_MANAGER)

    async def rest(self) -> None:
        pass

    async def run(self) -> None:
        pass


def fake_engine() -> Any:
    events = Events(itertools.count(10**18).__next__)
    new_id = ids()
    networks = FakeNetworks(new_id, events)
    return SimpleNamespace(
        networks=networks,
        containers=FakeContainers(new_id, networks, events),
        filesystem=FakeFilesystem(),
        events=events,
        images=SimpleNamespace(get=lambda ref: SimpleNamespace(id="sha256:" + "b" * 64), parent=lambda id: ""),
        system=None,
        volumes=SimpleNamespace(),
        transfers=SimpleNamespace(),
        builds=SimpleNamespace(),
        streams=SimpleNamespace(),
        execs=SimpleNamespace(),
        logs=SimpleNamespace(),
        stats=SimpleNamespace(),
        swarm=FakeSwarm(),
    )
