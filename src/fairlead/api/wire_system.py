"""/version, /info and events in Docker's spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairlead.api import http, wire_swarm
from fairlead.engine.events import Event
from fairlead.engine.swarm import Local
from fairlead.engine.system import Info, Versions

MANY = ("container", "image", "network", "volume", "daemon", "plugin", "node", "service", "secret", "config")
"""Kinds of things one can filter events by, by name or id."""


def version(found: Versions, newest: str, oldest: str) -> dict[str, Any]:
    engine = {
        "ApiVersion": newest,
        "Arch": found.arch,
        "BuildTime": found.built,
        "Experimental": "false",
        "GitCommit": found.commit,
        "GoVersion": found.language,
        "KernelVersion": found.kernel,
        "MinAPIVersion": oldest,
        "Os": "linux",
    }
    parts = [{"Name": name, "Version": number, "Details": {"GitCommit": ""}} for name, number in found.parts.items()]
    return {
        "Platform": {"Name": f"Fairlead {found.number}"},
        "Components": [{"Name": "Engine", "Version": found.docker, "Details": engine}, *parts],
        "Version": found.docker,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": found.commit,
        "GoVersion": found.language,
        "Os": "linux",
        "Arch": found.arch,
        "KernelVersion": found.kernel,
        "BuildTime": found.built,
    }


def info(found: Info, version: tuple[int, int], swarm: Local) -> dict[str, Any]:
    shown = {**_counts(found), **_machine(found), **_engine(found, version, swarm)}
    if found.cluster_store:  # dockerd had these until 20.10 (API 1.41); it does not start with the options any more
        shown |= {"ClusterStore": found.cluster_store, "ClusterAdvertise": found.cluster_advertise}
    if version < (1, 50):
        shown |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    if version < (1, 49):
        shown.pop("FirewallBackend")
    return shown


def _counts(found: Info) -> dict[str, Any]:
    return {
        "ID": found.id,
        "Containers": found.running + found.paused + found.stopped,
        "ContainersRunning": found.running,
        "ContainersPaused": found.paused,
        "ContainersStopped": found.stopped,
        "Images": found.images,
        "Driver": found.driver,
        "DriverStatus": [["Backing Filesystem", found.filesystem], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": list(found.networks),
            "Authorization": None,
            "Log": list(found.logs),
        },
        "NFd": found.open_files,
        "NGoroutines": found.tasks,
        "NEventsListener": found.listeners,
    }


def _machine(found: Info) -> dict[str, Any]:
    return {
        "MemoryLimit": found.memory_limit,
        "SwapLimit": found.swap_limit,
        "CpuCfsPeriod": found.cpu_quota,
        "CpuCfsQuota": found.cpu_quota,
        "CPUShares": found.cpu_shares,
        "CPUSet": found.cpu_set,
        "PidsLimit": found.pids_limit,
        "IPv4Forwarding": found.forwarding,
        "OomKillDisable": found.oom_kill_disable,
        "SystemTime": found.time,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": found.cgroups,
        "KernelVersion": found.kernel,
        "OperatingSystem": found.system,
        "OSVersion": found.system_version,
        "OSType": "linux",
        "Architecture": found.machine,
        "NCPU": found.cpus,
        "MemTotal": found.memory,
        "GenericResources": list(found.generics) or None,
        "HttpProxy": found.http_proxy,
        "HttpsProxy": found.https_proxy,
        "NoProxy": found.no_proxy,
        "Name": found.name,
        "SecurityOptions": list(found.security),
    }


def _engine(found: Info, version: tuple[int, int], swarm: Local) -> dict[str, Any]:
    return {
        "Debug": found.debug,
        "LoggingDriver": found.log_driver,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(found, version),
        "DockerRootDir": found.root,
        "Labels": list(found.labels),
        "ExperimentalBuild": False,
        "ServerVersion": found.docker,
        "Runtimes": {"runc": {"path": found.runtime}},
        "DefaultRuntime": "runc",
        "Swarm": wire_swarm.info(swarm),
        "LiveRestoreEnabled": found.live_restore,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": found.runtime_version},
        "InitCommit": {"ID": ""},
        "FirewallBackend": {"Driver": found.firewall},
        "CDISpecDirs": [],
        "Warnings": list(found.warnings) or None,
    }


def _registries(found: Info, version: tuple[int, int]) -> dict[str, Any]:
    hub = {"Mirrors": list(found.mirrors), "Name": "docker.io", "Official": True, "Secure": True}
    others = {
        name: {"Mirrors": [], "Name": name, "Official": False, "Secure": False}
        for name in found.insecure
        if "/" not in name
    }
    shown: dict[str, Any] = {
        "IndexConfigs": {"docker.io": hub, **others},
        "InsecureRegistryCIDRs": [*(name for name in found.insecure if "/" in name), "::1/128", "127.0.0.0/8"],
        "Mirrors": list(found.mirrors) or None,
    }
    if version < (1, 47):
        shown |= {"AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None}
    return shown


# -- events ---------------------------------------------------------------------------------


def event(event: Event) -> dict[str, Any]:
    """One line of ``GET /events``; containers and images also in the shape of old clients."""
    shown: dict[str, Any] = {}
    if event.kind == "container":
        shown = {"status": event.action, "id": event.id, "from": event.attributes.get("image", "")}
    elif event.kind == "image":
        shown = {"status": event.action, "id": event.id}
    return {
        **shown,
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(sorted(event.attributes.items()))},  # as Go writes maps
        "scope": event.scope,
        "time": event.time // 1_000_000_000,
        "timeNano": event.time,
    }


def event_test(wanted: http.Filters) -> Callable[[Event], bool]:
    """Docker's event filters; names it does not know match nothing and break nothing."""

    def thing(kind: str, event: Event, values: list[str]) -> bool:
        name = event.attributes.get("name", "")
        if event.kind == kind:
            return any(v == event.id or v == name or (len(v) >= 4 and event.id.startswith(v)) for v in values)
        return kind in event.attributes and event.attributes[kind] in values

    def wants(event: Event) -> bool:
        word = event.action.partition(":")[0]
        tests = {
            "event": lambda values: event.action in values or word in values,
            "type": lambda values: event.kind in values,
            "scope": lambda values: event.scope in values,
            "label": lambda values: http.labels_match(values, event.attributes),
        }
        for name, values in wanted.items():
            if name in tests and not tests[name](values):
                return False
            if name in MANY and not thing(name, event, values):
                return False
        return True

    return wants
