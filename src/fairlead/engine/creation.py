"""Creation: from what somebody asked to a container that could start.

    asked --checks (core.validate)-- image (merge) -- defaults -- networks -- ports -- mounts --> Container

Everything is checked before anything exists. What can only be known at start
(whether a network of that name is there, whether a port is free) is left to the
start, as Docker does.

What it leaves behind on failure: nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from fairlead.core import addresses, bridgeoptions, logoptions, merge, ocimounts, ownoptions, petnames, ports, validate
from fairlead.core.container import Config, Container, HostConfig, LogConfig
from fairlead.core.imagespec import ImageRecord
from fairlead.core.model import EndpointSettings, Network, Sandbox
from fairlead.engine import abilities
from fairlead.engine.abilities import Abilities
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.images import Images
from fairlead.engine.links import Links
from fairlead.engine.volumes import Volumes
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound

MAC_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)
SHM_SIZE = 64 << 20
NODES = tuple(Path("/sys/devices/system/node").glob("node[0-9]*"))


class Creation:
    """What a container is before it first starts."""

    def __init__(
        self,
        catalog: Catalog,
        controller: Controller,
        endpoints: Endpoints,
        attachments: Attachments,
        images: Images,
        volumes: Volumes,
        links: Links,
        now: Callable[[], str],
        new_id: Callable[[], str],
        dice: Callable[[], int],
        defaults: HostConfig,
    ) -> None:
        self._catalog = catalog
        self._controller = controller
        self._endpoints = endpoints
        self._attachments = attachments
        self._images = images
        self._volumes = volumes
        self._links = links
        self._now = now
        self._new_id = new_id
        self._dice = dice
        self._defaults = defaults

    @functools.cached_property
    def _able(self) -> Abilities:
        return abilities.look()

    async def settle(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings], platform: str
    ) -> tuple[Container, list[str]]:
        """The container those wishes describe, not yet recorded; and warnings for the user."""
        container, image, warnings = self.draft(name, config, host, networks)
        _refuse_platform(config.image, image, platform)
        container = replace(container, mounts=await self._volumes.plan(container, image.config))
        self._endpoints.promise(container)
        return container, warnings

    def draft(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings]
    ) -> tuple[Container, ImageRecord, list[str]]:
        """The container without its mounts, its image, and warnings; every check passed, nothing made or promised."""
        host, dropped = abilities.supported(host, self._able)
        warned = validate.create(config, host, cpus=len(os.sched_getaffinity(0)), nodes=len(NODES))
        self._volumes.check(host)
        image = self._image(config)
        config = merge.merge(config, image.config)
        self._refuse_nothing_to_run(config)
        name = self._name(name)
        host = self._with_defaults(host)
        logoptions.check(host.log_config)
        id = self._new_id()
        networks, warnings = self._networks(config, host, networks)
        container = Container(
            id=id,
            name=name,
            created=self._now(),
            image=image.id,
            path=next(iter(merge.command(config)), ""),
            args=merge.command(config)[1:],
            config=replace(config, hostname=config.hostname or self._hostname(host, id)),
            host=host,
            networks=networks,
            ports=ports.parse_bindings(host.port_bindings, config.exposed_ports, host.publish_all_ports),
            platform="linux",
        )
        self._links.check(container)
        return container, image, [*dropped, *warned, *warnings, *_of_the_host()]

    def check_changes(self, changes: HostConfig) -> None:
        """What ``docker update`` refuses whatever container is meant, and before it is looked for."""
        changes, _ = abilities.supported(changes, self._able)
        validate.changes(changes, cpus=len(os.sched_getaffinity(0)), nodes=len(NODES))

    def updated(self, container: Container, changes: HostConfig) -> tuple[HostConfig, list[str]]:
        """The container's half about this machine after ``docker update``, and warnings."""
        changes, dropped = abilities.supported(changes, self._able)
        return validate.updated(container, changes), dropped

    def renamed(self, container: Container, new: str) -> Container:
        given, new = new, new.removeprefix("/")
        if not new:
            words = "Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            nothing = "Neither old nor new names may be empty"
            raise Invalid(f"Error when allocating new name: {words}" if given else nothing)
        if new == container.name:
            raise Invalid("Renaming a container with the same name as its current name")
        try:
            validate.container_name("/" + new)
            self._catalog.check_name(new, container.id)
        except FairleadError as error:
            raise type(error)(f"Error when allocating new name: {error.message}") from error
        return replace(container, name=new)

    async def forget(self, container: Container) -> None:
        """The container is being removed: nothing is promised to it any more."""
        self._endpoints.release_promises(container.id)

    async def sandbox(self, container: Container) -> Sandbox:
        """The network stack its process will live in: its own, the host's, or another container's."""
        if mode_of(container) != "container":
            return self._attachments.sandbox(container)
        ref = container.host.network_mode.partition(":")[2]
        try:
            other = self._catalog.get(ref)
        except NotFound as error:
            raise FairleadError(f"joining network namespace of container: {error.message}") from error
        if not other.state.running:
            raise Conflict(
                "cannot join network namespace of a non running container:"
                f" container {other.name} is {other.state.status}"
            )
        return await self.sandbox(other)

    def linked(self, container: Container) -> list[str]:
        """The variables that its legacy links put into its environment."""
        return self._links.environment(container)

    def joined(self, container: Container) -> dict[str, int]:
        """Kind of namespace -> process whose namespace it shares (``--pid container:X``, ``--ipc container:X``)."""
        modes = {"pid": container.host.pid_mode, "ipc": container.host.ipc_mode}
        return {
            kind: self._process_of(kind, mode.partition(":")[2])
            for kind, mode in modes.items()
            if mode.startswith("container:")
        }

    def _process_of(self, kind: str, ref: str) -> int:
        failed = f"failed to join {kind.upper()} namespace"
        try:
            other = self._catalog.get(ref)
        except NotFound as error:
            raise FairleadError(f"{failed}: {error.message}") from error
        if not other.state.running:
            refusal = Conflict if kind == "ipc" else FairleadError
            raise refusal(f"{failed}: container {other.id} is not running")
        if kind == "ipc" and other.host.ipc_mode in ("private", "none"):
            hint = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            raise Invalid(f"{failed}: container {other.id}: {hint}")
        return other.state.pid

    def check_endpoint(self, network: Network, settings: EndpointSettings) -> None:
        """Whether these wishes can come true on this network; ``Invalid`` in Docker's words."""
        addresses.check_wishes(network, settings)
        options = settings.driver_opts
        for complaint in (*bridgeoptions.endpoint_complaints(options), *ownoptions.of_endpoint(options)):
            raise Invalid(f"invalid endpoint settings:\n{complaint}")
        validate.mac_address(settings.mac)

    # -- inside ------------------------------------------------------------------------------

    def _image(self, config: Config) -> ImageRecord:
        if not config.image and not merge.command(config):
            raise Invalid("no command specified")
        return self._images.get(config.image)

    def _name(self, name: str) -> str:
        if name:
            validate.container_name(name)
            name = name.removeprefix("/")
            self._catalog.check_name(name)
            return name
        while self._catalog.find(name := petnames.petname(self._dice())) is not None:
            pass
        return name

    def _refuse_nothing_to_run(self, config: Config) -> None:
        if not merge.command(config):
            raise Invalid("no command specified")

    def _with_defaults(self, host: HostConfig) -> HostConfig:
        """The engine's defaults where the user left them open, as Docker shows them in ``inspect``."""
        defaults = self._defaults
        return replace(
            host,
            network_mode=self.mode(host.network_mode),
            shm_size=host.shm_size or defaults.shm_size or SHM_SIZE,
            log_config=_log_config(host.log_config, defaults.log_config),
            ulimits=host.ulimits or defaults.ulimits or host.ulimits,
            init=host.init if host.init is not None else defaults.init,
            runtime=host.runtime or "runc",
            ipc_mode=self._joining(host.ipc_mode) or "private",
            pid_mode=self._joining(host.pid_mode),
            cgroupns_mode=host.cgroupns_mode or defaults.cgroupns_mode or "host",
            masked_paths=_paths(host, host.masked_paths, ocimounts.MASKED),
            readonly_paths=_paths(host, host.readonly_paths, ocimounts.READONLY),
            restart_policy=replace(host.restart_policy, name=host.restart_policy.name or "no"),
            oom_kill_disable=None if defaults.oom_kill_disable is None else bool(host.oom_kill_disable),
            pids_limit=host.pids_limit if (host.pids_limit or 0) > 0 else None,
            memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
            memory_swap=2 * host.memory if host.memory > 0 and not host.memory_swap else host.memory_swap,
        )

    def mode(self, mode: str) -> str:
        """The network mode as it is kept: another container by its id, which stays when its name does not."""
        other = self._catalog.find(mode.removeprefix("container:")) if mode.startswith("container:") else None
        return f"container:{other.id}" if other else "bridge" if mode in ("", "default") else mode

    def _joining(self, mode: str) -> str:
        """The same for the other namespaces; who is to be joined must be there. ``Invalid`` if not."""
        kind, _, ref = mode.partition(":")
        try:
            return f"{kind}:{self._catalog.get(ref).id}" if kind == "container" else mode
        except NotFound as error:
            raise Invalid(error.message) from error

    def _hostname(self, host: HostConfig, id: str) -> str:
        """The name a container gets that asked for none: that of the stack it uses."""
        mode = host.network_mode
        if mode == "host" or host.uts_mode == "host":
            return os.uname().nodename
        other = self._catalog.find(mode.removeprefix("container:")) if mode.startswith("container:") else None
        return other.config.hostname if other else id[:12]

    def _networks(
        self, config: Config, host: HostConfig, asked: dict[str, EndpointSettings]
    ) -> tuple[dict[str, EndpointSettings], list[str]]:
        """Which networks, by name: the mode's first, then the others asked for; and what to warn about."""
        if mode_of_host(host) == "container":
            return {}, [MAC_DEPRECATED] if config.mac_address else []
        mode = "none" if config.network_disabled else host.network_mode
        asked = {"bridge" if name == "default" else name: settings for name, settings in asked.items()}
        main = asked.get(mode, EndpointSettings())
        warnings = []
        if config.mac_address:
            main = replace(main, mac=config.mac_address)
            warnings.append(MAC_DEPRECATED)
        networks = {mode: main, **{name: settings for name, settings in asked.items() if name != mode}}
        for name, settings in networks.items():
            self._check_settings(name, settings)
        return networks, warnings

    def _check_settings(self, name: str, settings: EndpointSettings) -> None:
        try:
            network = self._controller.network(name)
        except NotFound:
            return
        try:
            self.check_endpoint(network, settings)
        except Invalid as error:
            raise Invalid(f"invalid config for network {name}: {error.message}") from error


def _refuse_platform(ref: str, image: ImageRecord, asked: str) -> None:
    """``--platform`` names another machine than the image is for. Parts that are not named agree with everything."""
    here = (image.os, image.architecture, image.variant)
    if any(part != found for part, found in zip(asked.split("/"), here, strict=False) if asked):
        found = "/".join(part for part in here if part)
        raise NotFound(
            f"image with reference {ref} was found but its platform ({found}) does not match the specified platform"
            f" ({asked})"
        )


def mode_of_host(host: HostConfig) -> str:
    return (
        "container" if host.network_mode.startswith("container:") else "host" if host.network_mode == "host" else "own"
    )


def _of_the_host() -> list[str]:
    """What of this host will disappoint every container."""
    try:
        forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    except OSError:
        return []
    return ["IPv4 forwarding is disabled. Networking will not work."] if forwarding == "0" else []


def _log_config(asked: LogConfig, default: LogConfig) -> LogConfig:
    """The engine's driver unless another was asked for; its options where the same driver got none of its own."""
    usual = default.type or "json-file"
    if asked.type not in ("", usual):
        return LogConfig(asked.type, asked.config or {})
    return LogConfig(usual, {**(default.config or {}), **(asked.config or {})})


def _paths(host: HostConfig, asked: tuple[str, ...] | None, usual: Sequence[str]) -> tuple[str, ...] | None:
    """Paths hidden or read-only in the container: as asked, else the usual ones; none when it is privileged."""
    return asked if asked is not None else None if host.privileged else tuple(usual)
