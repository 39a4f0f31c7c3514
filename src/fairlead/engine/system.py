"""System: what kind of machine and engine this is. Facts only, each looked up where the kernel keeps it.

    info()      how ``docker info`` sees us: counts, kernel, cgroups, memory, settings
    version()   our number, and the Docker version whose words and shapes we keep
    usage()     what takes space: images, containers, volumes

Rules
    1. Nothing is claimed that does not work: drivers, log drivers and limits are
       listed when they are there, a missing one is a warning.
    2. What cannot change while we run (kernel, cpus, versions of programs) is
       looked up once; nothing here starts a program on every call.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead import __version__
from fairlead.core import generics
from fairlead.engine import abilities
from fairlead.engine.clusterstore import ClusterStore
from fairlead.engine.events import Events
from fairlead.engine.peers import NoPeers, Peers
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.containers import Containers

DOCKER_VERSION = "28.5.2"
"""The Docker whose API we answer with; clients compare it."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
LOG_DRIVERS = ("json-file", "local", "none")


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are."""

    number: str
    docker: str
    kernel: str
    arch: str
    language: str
    commit: str = ""
    built: str = ""
    parts: Mapping[str, str] = msgspec.field(default_factory=dict)
    """program -> version"""


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What ``info`` says, in our words. Sizes in bytes."""

    id: str
    running: int
    paused: int
    stopped: int
    images: int
    driver: str
    filesystem: str
    networks: tuple[str, ...]
    logs: tuple[str, ...]
    memory_limit: bool
    swap_limit: bool
    cpu_quota: bool
    cpu_shares: bool
    cpu_set: bool
    pids_limit: bool
    oom_kill_disable: bool
    cgroups: str
    forwarding: bool
    debug: bool
    open_files: int
    tasks: int
    time: str
    log_driver: str
    listeners: int
    kernel: str
    system: str
    system_version: str
    machine: str
    cpus: int
    memory: int
    root: str
    http_proxy: str
    https_proxy: str
    no_proxy: str
    name: str
    labels: tuple[str, ...]
    generics: tuple[dict[str, Any], ...]
    live_restore: bool
    docker: str
    runtime: str
    runtime_version: str
    security: tuple[str, ...]
    firewall: str
    mirrors: tuple[str, ...]
    insecure: tuple[str, ...]
    warnings: tuple[str, ...]
    cluster_store: str = ""
    cluster_advertise: str = ""


class System:
    """Looks things up. ``parts``: versions of the programs we start, asked once (``wiring``)."""

    def __init__(
        self,
        settings: Settings,
        containers: Containers,
        images: Any,
        volumes: Any,
        filesystem: Any,
        events: Events,
        network_drivers: tuple[str, ...],
        now: Callable[[], str],
        parts: Mapping[str, str] | None = None,
        cluster: ClusterStore | None = None,
        advertised: str = "",
        peers: Peers | None = None,
        doubt: str = "",
    ) -> None:
        """``doubt``: what is wrong with how other hosts are told to reach this one."""
        self._settings = settings
        self._containers = containers
        self._images = images
        self._volumes = volumes
        self._filesystem = filesystem
        self._events = events
        self._drivers = network_drivers
        self._now = now
        self._parts = {} if parts is None else parts
        self._cluster = cluster
        self._advertised = advertised
        self._peers = peers or NoPeers()
        self._doubt = doubt
        self._id = ""

    def version(self) -> Versions:
        return Versions(
            number=__version__,
            docker=DOCKER_VERSION,
            kernel=platform.release(),
            arch=ARCHITECTURES.get(platform.machine(), platform.machine()),
            language=f"python{sys.version_info.major}.{sys.version_info.minor}",
            parts=self._parts,
        )

    def info(self) -> Info:
        states = [container.state.status for container in self._containers.list()]
        running = sum(status in ("running", "restarting") for status in states)
        paused = states.count("paused")
        system, system_version = _operating_system()
        settings = self._settings
        return Info(
            id=self._engine_id(),
            running=running,
            paused=paused,
            stopped=len(states) - running - paused,
            images=len(self._images.list()),
            driver=self._filesystem.driver,
            filesystem=_filesystem_of(settings.data_root),
            networks=tuple(sorted(self._drivers)),
            logs=LOG_DRIVERS,
            **_limits(),
            forwarding=_read("/proc/sys/net/ipv4/ip_forward") == "1",
            debug=settings.debug,
            open_files=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            time=self._now(),
            log_driver=settings.log_driver,
            listeners=self._events.listeners,
            kernel=platform.release(),
            system=system,
            system_version=system_version,
            machine=platform.machine(),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            root=settings.data_root,
            http_proxy=os.environ.get("HTTP_PROXY", ""),
            https_proxy=os.environ.get("HTTPS_PROXY", ""),
            no_proxy=os.environ.get("NO_PROXY", ""),
            name=socket.gethostname(),
            labels=settings.labels,
            generics=generics.parse(settings.node_generic_resources),
            live_restore=settings.live_restore,
            docker=DOCKER_VERSION,
            runtime="crun",
            runtime_version=self._parts.get("crun", ""),
            security=_security(settings),
            firewall="nftables" if settings.iptables else "none",
            mirrors=settings.registry_mirrors,
            insecure=settings.insecure_registries,
            warnings=self._warnings(),
            cluster_store=str(settings.cluster_store or ""),
            cluster_advertise=self._advertised,
        )

    def _engine_id(self) -> str:
        """The engine's own id: made once, kept below the data root, like Docker's ``engine-id``."""
        if not self._id:
            path = Path(self._settings.data_root) / "engine-id"
            try:
                self._id = str(uuid.UUID(path.read_text().strip()))
            except (OSError, ValueError):
                self._id = str(uuid.uuid4())
                path.write_text(self._id)
        return self._id

    def _warnings(self) -> tuple[str, ...]:
        limits = _limits()
        words = (
            ("memory_limit", "WARNING: No memory limit support"),
            ("swap_limit", "WARNING: No swap limit support"),
            ("cpu_quota", "WARNING: No cpu cfs quota support"),
            ("cpu_shares", "WARNING: No cpu shares support"),
            ("cpu_set", "WARNING: No cpuset support"),
            ("pids_limit", "WARNING: No pids limit support"),
        )
        found = [text for name, text in words if not limits[name]]
        if _read("/proc/sys/net/ipv4/ip_forward") != "1":
            found.append("WARNING: IPv4 forwarding is disabled")
        if any(host.startswith("tcp://") for host in self._settings.hosts) and not self._settings.tlsverify:
            found.append("[DEPRECATION NOTICE]: API is accessible over TCP without client certificates: root for all")
        if self._doubt:
            found.append(f"WARNING: {self._doubt}")
        if self._cluster and not self._cluster.up:
            found.append(f"WARNING: {self._cluster.complaint}")
        found += [f"WARNING: {warning}" for warning in self._peers.warnings()]
        return tuple(found)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _limits() -> dict[str, Any]:
    """Which limits the control groups of this machine can set."""
    able = abilities.look()
    return {
        "cgroups": str(able.version),
        "memory_limit": able.memory,
        "swap_limit": able.swap,
        "oom_kill_disable": able.oom_kill_disable,
        "cpu_quota": able.cpu,
        "cpu_shares": able.cpu,
        "cpu_set": able.cpuset,
        "pids_limit": able.pids,
    }


def _operating_system() -> tuple[str, str]:
    """Name and version out of os-release."""
    pairs = (line.partition("=") for path in ("/etc/os-release",) for line in _read(path).splitlines())
    values = {name: value.strip('"') for name, _, value in pairs}
    return values.get("PRETTY_NAME", "Linux"), values.get("VERSION_ID", "")


def _filesystem_of(path: str) -> str:
    """Kind of the file system that holds ``path``, in Docker's word for it."""
    best, kind = "", "unknown"
    for line in _read("/proc/self/mounts").splitlines():
        _, place, found, *_ = line.split(" ")
        if (path + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(best):
            best, kind = place, found
    return "extfs" if kind.startswith("ext") else kind


def _security(settings: Settings) -> tuple[str, ...]:
    found = [f"name=seccomp,profile={settings.seccomp_profile}"]
    if settings.no_new_privileges:
        found.append("name=no-new-privileges")
    return tuple(found)
