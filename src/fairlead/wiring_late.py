"""Wiring of what a returning engine does not need for its first answers: each part is imported and built when asked.

    wiring:  self.builds = late(self.make_builds)         nothing is imported yet
    here:    def make_builds(self): from ... import ...   everything it needs is

``Build`` (``wiring``) is one of these; what is asked of ``self`` here are its parts.
"""

from __future__ import annotations

import platform
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead import __version__
from fairlead.core.container import HostConfig, LogConfig, Ulimit
from fairlead.engine.late import late

if TYPE_CHECKING:
    from fairlead.engine.buildplaces import BuildPlaces
    from fairlead.engine.builds import Builds
    from fairlead.engine.creation import Creation
    from fairlead.engine.doctor import Doctor
    from fairlead.engine.drivers.base import Driver
    from fairlead.engine.execs import Execs
    from fairlead.engine.explain import Explainer
    from fairlead.engine.leasesclient import Dhcp
    from fairlead.engine.rehearsal import Rehearsal
    from fairlead.engine.stats import Stats
    from fairlead.engine.storage import FileAccess
    from fairlead.engine.streams import Streams
    from fairlead.engine.system import System
    from fairlead.engine.transfers import Transfers
    from fairlead.host.registry import Skopeo

CGROUP2 = Path("/sys/fs/cgroup/cgroup.controllers")


def new_id() -> str:
    """64 hex digits; never digits alone at the front, so that no short id looks like a number (Docker's rule)."""
    while (id := secrets.token_hex(32))[:12].isdigit():
        pass
    return id


class Later:
    """The late parts of an engine."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The parts that ``Build`` has."""

    def make_driver(self, name: str) -> Driver:
        """One of which most engines have no network, or none but the predefined one."""
        if name == "ipvlan":
            from fairlead.engine.drivers.ipvlan import Ipvlan

            return Ipvlan()
        if name == "macvlan":
            from fairlead.engine.drivers.macvlan import Macvlan

            return Macvlan()
        if name == "host":
            from fairlead.engine.drivers.host import Host

            return Host()
        from fairlead.engine.drivers.none import Null

        return Null()

    # -- images and files -----------------------------------------------------------------------

    def make_archive(self) -> FileAccess:
        from fairlead.host import archive

        return archive

    def make_skopeo(self) -> Skopeo:
        from fairlead.host.registry import Skopeo

        return Skopeo(self.layout, self.settings.insecure_registries)

    def make_transfers(self) -> Transfers:
        from fairlead.engine.system import ARCHITECTURES
        from fairlead.engine.transfers import Transfers

        machine = platform.machine()
        here = f"linux/{ARCHITECTURES.get(machine, machine)}"
        return Transfers(self.images, self.layout, self.layers, self.skopeo, self.clock.text, here, __version__)

    def make_builds(self) -> Builds:
        from fairlead.engine.buildcontainers import BuildContainers
        from fairlead.engine.builds import Builds
        from fairlead.host.build import Buildah

        driver, now = lambda: self.layers.driver, self.clock.text
        builder = Buildah(str(self.data / "build"), self.layout, self.skopeo, driver, now)
        keep = BuildContainers(self.creation, self.catalog, self.layers, self.containers.tell).keep
        return Builds(self.images, self.transfers, builder, lambda request: self.places.open(request), keep)

    def make_places(self) -> BuildPlaces:
        from fairlead.engine.buildplaces import BuildPlaces

        return BuildPlaces(self.creation, self.attachments, self.files, self.logs.forget, new_id)

    # -- containers and their processes ---------------------------------------------------------

    def make_creation(self) -> Creation:
        from fairlead.engine.creation import Creation

        return Creation(
            self.catalog,
            self.controller,
            self.endpoints,
            self.attachments,
            self.images,
            self.volumes,
            self.links,
            self.clock.text,
            new_id,
            lambda: secrets.randbelow(1 << 32),
            self._container_defaults(),
        )

    def _container_defaults(self) -> HostConfig:
        settings = self.settings
        limits = tuple(Ulimit(name, u.hard, u.soft) for name, u in settings.default_ulimits.items())
        return HostConfig(
            shm_size=settings.default_shm_size,
            log_config=LogConfig(settings.log_driver, dict(settings.log_opts)),
            ulimits=limits or None,
            init=settings.init or None,
            oom_kill_disable=None if CGROUP2.exists() else False,
            cgroupns_mode=settings.default_cgroupns_mode or ("private" if CGROUP2.exists() else "host"),
        )

    def make_rehearsal(self) -> Rehearsal:
        from fairlead.engine.rehearsal import Rehearsal

        return Rehearsal(self.controller, self.creation, self.attachments, self.sandboxes, self.files)

    def make_execs(self) -> Execs:
        from fairlead.engine.execs import Execs

        return Execs(self.catalog, self.runtime, self.events, self.tasks, new_id)

    def make_streams(self) -> Streams:
        from fairlead.engine.streams import Streams

        return Streams(self.catalog, self.runtime, self.logs, self.events, self.tasks)

    def make_stats(self) -> Stats:
        from fairlead.engine.stats import Stats

        return Stats(self.catalog, self.runtime, self.clock.nanoseconds)

    # -- addresses that the LAN lends -----------------------------------------------------------

    def make_leases(self) -> Dhcp:
        from fairlead.engine.leasesclient import Dhcp

        return Dhcp(self.leases_path, self.host, self._keep_leases, self._lease_changed)

    def _keep_leases(self) -> None:
        self.tasks.create_task(self.leases_process.run())
        self.tasks.create_task(self.leases.keep())

    async def _lease_changed(self, endpoint: str, why: str) -> None:
        container = self.catalog.find(self.endpoints.holder(endpoint))
        if container is not None:
            async with self.containers.turn(container.id):
                await self.attachments.lease_changed(container, endpoint, why)

    # -- telling --------------------------------------------------------------------------------

    def make_system(self) -> System:
        from fairlead.engine.system import System

        return System(
            self.settings,
            self.containers,
            self.images,
            self.volumes,
            self.filesystem,
            self.events,
            tuple(self.drivers),
            self.clock.text,
            self.parts,
            self.cluster,
            str(self.advertised or ""),
            self.peers,
            self.doubt,
        )

    def make_explainer(self) -> Explainer:
        from fairlead.engine.explain import Explainer  # with all it knows of rules and roads
        from fairlead.engine.explainservices import Directory
        from fairlead.engine.machine import SWITCHES

        return Explainer(
            self.kernel, self.host, self.catalog, self.controller, self.attachments,
            self.publisher, self.naming, self.files,
            Directory(self.controller, self.overlays, lambda: self.swarm.control(), lambda: self.mesh),
            lambda family: self.host.sysctl(SWITCHES[family]) != "0",
        )  # fmt: skip

    def make_doctor(self) -> Doctor:
        from fairlead.engine.doctor import Doctor, Witnesses
        from fairlead.host.leftovers import Leftovers

        explainer = late(self.make_explainer)
        return Doctor(
            self.kernel, self.catalog, self.controller, self.endpoints, self.attachments,
            self.publisher, self.naming, self.files, self.events,
            lambda id: self.containers.busy(id) or self.places.busy(id),
            Witnesses(
                held=self.relay.held,
                resolving=self.resolver.statistics,
                lent=self.leases.held,
                elsewhere=self.overlays.named,
                belongings=Leftovers(self.data, self.exec, self.settings.cgroup_parent or "/docker").found,
                obstacles=lambda: explainer.obstacles(),
                hosts=self.peers.list,
                swarm=self.swarm.findings,
            ),
        )  # fmt: skip
