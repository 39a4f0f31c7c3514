r"""Wiring: every part of the engine is built here, once, from the bottom up.

    store   host   runtime                       what remembers, what has hands, what runs
      \      |      /
       records   kernel                          what was asked, what should exist
          |        |
    networks - sandboxes - endpoints - ports     the packets
          |        |
        containers, images, volumes              what people ask for
          |
        engine ---> API

Reading it from top to bottom is reading who knows whom: a part is given what it
needs, and finds nothing by itself. ``daemon`` runs what is built here.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead import wiring_cluster, wiring_swarm
from fairlead.core import addresses, hostsfile
from fairlead.core.protocol import Protocol
from fairlead.engine import controlclient, relayclient, resolverclient
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.containers import Containers
from fairlead.engine.controller import Controller
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.engine import Engine
from fairlead.engine.events import Events
from fairlead.engine.filesystem import Filesystem
from fairlead.engine.healing import Healing
from fairlead.engine.health import Healths
from fairlead.engine.hostfiles import HostFiles, NameSettings
from fairlead.engine.images import Images
from fairlead.engine.kernel import Kernel
from fairlead.engine.late import awake, late
from fairlead.engine.links import Links
from fairlead.engine.logs import Logs
from fairlead.engine.machine import Machine, Wishes
from fairlead.engine.naming import Naming
from fairlead.engine.overlays import Overlays
from fairlead.engine.predefined import Predefined
from fairlead.engine.publisher import Publisher
from fairlead.engine.relayclient import RelayClient
from fairlead.engine.resolverclient import ResolverClient
from fairlead.engine.restore import Restore
from fairlead.engine.sandboxes import Sandboxes
from fairlead.engine.sharing import Sharing
from fairlead.engine.volumes import Volumes
from fairlead.errors import FairleadError
from fairlead.host import inotify
from fairlead.host.child import Child
from fairlead.host.images import Layout
from fairlead.host.layers import Layers
from fairlead.host.linux import LinuxHost
from fairlead.host.oci import Oci
from fairlead.host.programs import run
from fairlead.host.volumes import VolumeFolders
from fairlead.settings import Settings
from fairlead.store.sqlite import SqliteStore
from fairlead.wiring_late import Later, new_id

if TYPE_CHECKING:
    from fairlead.core.container import Health
    from fairlead.engine.cluster import Cluster
    from fairlead.engine.mesh import Mesh
    from fairlead.store.base import Store
    from fairlead.swarm.shared import Shared

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The time of day."""

    def nanoseconds(self) -> int: ...

    def text(self) -> str: ...


class Build(Later):
    """All parts of one engine, wired. ``start`` brings them to life."""

    def __init__(self, settings: Settings, clock: Clock, undo: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        self.settings = settings
        self.clock = clock
        self.tasks = tasks
        self.data, self.exec = Path(settings.data_root), Path(settings.exec_root)
        for folder in (self.data, self.exec):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.store: Store = SqliteStore(self.data / "state.db")
        undo.push_async_callback(self.store.close)
        self.host = LinuxHost(self.exec)
        undo.callback(self.host.close)
        self.events = Events(clock.nanoseconds)
        self.kernel = Kernel(self.host)
        self.machine = Machine(
            self.kernel, self.host, self.exec / "forwarding", _text(BOOT).strip(), self._machine_wishes()
        )
        self.cluster = wiring_cluster.store(settings, undo)
        self.advertised, self.doubt = wiring_cluster.advertised(settings, self.host)
        node = self._seed().hex()
        self.peers = wiring_cluster.peers(settings, self.cluster, self.advertised, self.events, node, self.data)
        self.facts = self._facts()
        self.overlay = Overlay()
        rare = {name: late(partial(self.make_driver, name)) for name in ("host", "ipvlan", "macvlan", "null")}
        self.drivers: dict[str, Driver] = {"bridge": Bridge(), "overlay": self.overlay, **rare}
        self.catalog = Catalog(self.store)
        self.parts: dict[str, str] = {}
        self.swarm = wiring_swarm.swarm(self)
        self.ground: Shared | None = None
        self.mesh: Mesh | None = None
        self._build_helpers()
        self._build_networks()
        self._build_attachments()
        self._build_storage()
        self._build_processes()
        self._build_containers()
        self._build_streams()
        self.engine = self._build_engine()

    def _machine_wishes(self) -> Wishes:
        settings = self.settings
        return Wishes(firewall=settings.iptables, forward=settings.ip_forward, confine=not settings.ip_forward_no_drop)

    def _facts(self) -> Facts:
        settings = self.settings
        mtu, vtep = self.host.link_mtu() or 1500, self.advertised.where if self.advertised else ""
        return Facts(
            default_mtu=mtu,
            firewall=settings.iptables,
            firewall6=settings.iptables and settings.ip6tables,
            forward=settings.ip_forward,
            masquerade=settings.ip_masq,
            userland_proxy=settings.userland_proxy,
            allow_direct_routing=settings.allow_direct_routing,
            bridge=settings.bridge,
            bridge_netfilter=_text(Path("/proc/sys/net/bridge/bridge-nf-call-iptables")).strip() == "1",
            has_ipv6=Path("/proc/sys/net/ipv6").is_dir(),
            vtep=vtep,
            underlay_mtu=wiring_cluster.mtu(self.host, vtep) if vtep else mtu,
        )

    # -- packets ------------------------------------------------------------------------------

    def _build_helpers(self) -> None:
        """Processes that go on while the engine is away, and who speaks to them."""
        resolver, relay = str(self.exec / "resolver.sock"), str(self.exec / "relay.sock")
        self.leases_path = str(self.exec / "leases.sock")
        self.resolver = ResolverClient(resolver)
        self.relay = RelayClient(relay)
        self.leases = late(self.make_leases)
        self.resolver_process = Child("resolver", resolverclient.command(resolver), self.exec, outlives=True)
        self.relay_process = Child("relay", relayclient.command(relay), self.exec, outlives=True)
        lends = controlclient.command("leases", self.leases_path)
        self.leases_process = Child("leases", lends, self.exec, outlives=True)

    def _build_networks(self) -> None:
        self.naming = Naming(self.resolver, self.drivers)
        encryption = wiring_cluster.encryption(
            self.settings, self.cluster, self.advertised, self._seed, self.store, self.kernel, self.host
        )
        self.overlays = Overlays(self.store, self.kernel, self.overlay, self.facts, self.resolver, encryption)
        self.sandboxes = Sandboxes(self.kernel, self.drivers, self.facts, self.naming, self.overlays)
        lenders = {"dhcp": self.leases}
        self.shared = self._shared()
        self.sharing = Sharing(self.shared, "" if self.advertised else self.doubt)
        self.endpoints = Endpoints(
            self.store, self.sandboxes, self.drivers, self.events, new_id, lenders, self.sharing, self.overlays.services
        )
        self.pools = self._pools()
        self.controller = Controller(
            self.store, self.host, self.kernel, self.machine, self.drivers, self.facts, self.endpoints, self.events,
            self.pools, self.clock.text, new_id, lenders, self.sharing,
        )  # fmt: skip
        self.kernel.inhabited_by(self._inhabitant)
        self.predefined = Predefined(
            self.controller, self.host, self.settings, self.pools, self.clock.text, new_id, self.facts.default_mtu
        )

    def _build_attachments(self) -> None:
        self.publisher = Publisher(
            self.host, self.controller, self.endpoints, self.sandboxes, self.relay, self.facts, self._keep_relay
        )
        self.links = Links(self.catalog, self.controller, self.endpoints)
        self.files = HostFiles(
            self.data / "containers", self.host, self.links, self._name_settings(), self._default_gateways
        )
        self.attachments = Attachments(
            self.host, self.controller, self.endpoints, self.sandboxes, self.publisher, self.files
        )
        self.attachments.services_only = lambda name: wiring_swarm.knows(self.swarm, name)

    def _shared(self) -> Cluster | None:
        """Networks over several hosts need a store that all reach, and an address at which others reach this one."""
        if self.cluster is None or self.advertised is None:
            return None
        from fairlead.engine.cluster import Cluster

        node = self._seed().hex()
        return Cluster(self.cluster, self.overlays, node, socket.gethostname(), self.advertised.where)

    def _inhabitant(self, namespace: str) -> int:
        """The first process of the running container whose sandbox that is."""
        running = (c for c in self.catalog if c.state.running and c.id.startswith(namespace))
        return next((c.state.pid for c in running if mode_of(c) == "own"), 0)

    def _keep_relay(self) -> None:
        self.tasks.create_task(self.relay_process.run())
        self.tasks.create_task(self.relay.keep())

    def _pools(self) -> addresses.PoolPlan:
        given = tuple(addresses.AddressPool(pool.base, pool.size) for pool in self.settings.default_address_pools)
        resolv = hostsfile.parse_resolv_conf(_text(Path("/etc/resolv.conf")))
        outside = tuple(server for server in resolv.servers if not server.startswith("127."))
        plan = addresses.PoolPlan(ula=addresses.ula_prefix(self._seed()), resolvers=outside)
        return addresses.PoolPlan(given, plan.ula, outside) if given else plan

    def _seed(self) -> bytes:
        """Bytes that are this engine's own and stay: made at the first start."""
        place = self.data / "engine-id"
        if not place.exists():
            place.write_text(secrets.token_hex(16))
        return bytes.fromhex(place.read_text().strip())

    def _name_settings(self) -> NameSettings:
        settings = self.settings
        return NameSettings(
            dns=settings.dns, search=settings.dns_search, options=settings.dns_opts, gateways=settings.host_gateway_ips
        )

    def _default_gateways(self) -> tuple[str, ...]:
        networks = [network for network in self.controller.networks() if network.name == "bridge"]
        return tuple(pool.gateway for network in networks for pool in network.ipam.config if pool.gateway)

    # -- disk, processes, containers ----------------------------------------------------------------

    def _build_storage(self) -> None:
        self.layers = Layers(str(self.data / "layers"))
        self.layout = Layout(str(self.data / "images"))
        self.images = Images(self.store, self.layout, self.events, self.clock.text, lambda: self.catalog)
        archive = late(self.make_archive)
        self.filesystem = Filesystem(self.images, self.layout, self.layers, archive, lambda: self.catalog)
        self.skopeo = late(self.make_skopeo)
        self.transfers = late(self.make_transfers)
        self.builds = late(self.make_builds)
        self.volumes = Volumes(
            self.store,
            VolumeFolders(str(self.data / "volumes")),
            self.events,
            self.clock.text,
            new_id,
            lambda: self.catalog,
            self.catalog.get,
            self.filesystem.image_root,
        )

    def _build_processes(self) -> None:
        parent = self.settings.cgroup_parent or "/docker"
        self.runtime = Oci(self.exec, self.data, self.tasks, cgroup_parent=parent)
        self.execs = late(self.make_execs)
        probe = lambda *asked: self.execs.run(*asked)  # noqa: E731
        self.healths = Healths(probe, self._record_health, self.events, self.clock.text, self.tasks)

    async def _record_health(self, id: str, health: Health) -> None:
        await self.containers.record_health(id, health)

    def _build_containers(self) -> None:
        self.creation = late(self.make_creation)
        self.containers = Containers(
            self.catalog,
            self.creation,
            self.controller,
            self.attachments,
            self.filesystem,
            self.volumes,
            self.runtime,
            self.healths,
            self.events,
            self.clock.text,
            self.tasks,
        )

    def _build_streams(self) -> None:
        self.logs = Logs(
            self.data / "containers",
            self.runtime,
            lambda path: inotify.Changes(path),
            lambda id: self.containers.wait(id),
            self.tasks,
        )
        self.streams = late(self.make_streams)
        self.runtime.when_created(self._watch_log)
        self.containers.when_removed(self.logs.forget)
        self.places = late(self.make_places)

    async def _watch_log(self, id: str) -> None:
        """A container has a process: its log grows from now on."""
        self.logs.keep_small(self.catalog[id])

    async def _ask_versions(self) -> None:
        """Which programs do the work, for ``info`` and ``version``. Nobody waits for it, and first answers go first."""
        await asyncio.sleep(0.1)
        for program in ("crun", "conmon"):
            with suppress(FairleadError):
                said = (await run([program, "--version"])).out.decode(errors="replace")
                if found := re.search(r"\d+(\.\d+)+", said):
                    self.parts[program] = found[0]

    def _build_engine(self) -> Engine:
        return Engine(
            networks=self.controller,
            containers=self.containers,
            streams=self.streams,
            logs=self.logs,
            stats=late(self.make_stats),
            execs=self.execs,
            images=self.images,
            transfers=self.transfers,
            builds=self.builds,
            volumes=self.volumes,
            filesystem=self.filesystem,
            events=self.events,
            system=late(self.make_system),
            kernel=self.kernel,
            doctor=late(self.make_doctor),
            explainer=late(self.make_explainer),
            peers=self.peers,
            swarm=self.swarm,
            rehearsal=late(self.make_rehearsal),
        )

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Restore the world, then keep it so. On return the API may answer."""
        if self.cluster:
            self.tasks.create_task(self.cluster.run())
        self.tasks.create_task(self.peers.run())
        self.runtime.prepare()
        self.tasks.create_task(self.resolver_process.run())
        if wiring_swarm.was_shared(self):
            wiring_swarm.ground(self)
        await self._remember()
        self.machine.declare()
        self.machine.resume()
        await self.predefined.ensure()
        await self._recover()
        self.tasks.create_task(self._bury_the_dead())
        self.tasks.create_task(self._ask_versions())
        self.tasks.create_task(self.resolver.keep())
        if self.shared:
            self.tasks.create_task(self.shared.run(self.controller))
        self.tasks.create_task(self.swarm.run())
        self.tasks.create_task(Healing(self.kernel, self.host.monitor(), self.events, self.machine.declare).run())

    async def _remember(self) -> None:
        """What is written: networks, containers, images, volumes. Nothing of the machine's network is touched."""
        for part in (self.controller, self.endpoints, self.overlays, self.catalog):
            await part.load()
        self.logs.sweep(container.id for container in self.catalog)
        await self.images.restore()
        await self.filesystem.restore()
        await self.volumes.restore()

    async def _recover(self) -> None:
        """What went on without us: containers with their networks, ports, leases and logs."""
        await Restore(
            self.kernel,
            self.catalog,
            self.controller,
            self.endpoints,
            self.sandboxes,
            self.attachments,
            self.publisher,
            self.containers,
            self.runtime,
            self.mesh,
        ).run()
        if awake(self.leases) or Path(self.leases_path).exists():
            self.leases.resume()
        for container in self.catalog:
            if container.state.running:
                await self._watch_log(container.id)

    async def leave(self) -> bool:
        """Let go of what goes on without us, and say whether there is any; where nothing does, nothing stays."""
        self.runtime.leave()
        if any(container.state.running for container in self.catalog):
            return True
        await self.peers.leave()
        await self.swarm.rest()
        for child in (self.resolver_process, self.relay_process, self.leases_process):
            await child.stop()
        return False

    async def _bury_the_dead(self) -> None:
        """Until cancelled: what follows the end of each container's process."""
        async for end in self.runtime.exits():
            self.tasks.create_task(self.containers.ended(end))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
