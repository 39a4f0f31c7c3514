"""The page of ``info``: the engine's facts, in Docker's words and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.cli import tables


def lines(facts: Mapping[str, Any], version: str) -> Iterator[str]:
    """The page, line by line; without facts, there is no engine to tell of."""
    yield "Client:"
    yield f" Version:    {version}"
    yield " Context:    default"
    yield " Debug Mode: false"
    yield ""
    yield "Server:"
    if not facts:
        return
    yield from _counts(facts)
    yield from _plugins(facts)
    yield from _runtimes(facts)
    yield from _machine(facts)
    yield from _registries(facts)
    yield f" Live Restore Enabled: {_yes(facts.get('LiveRestoreEnabled'))}"
    if facts.get("ProductLicense"):
        yield f" Product License: {facts['ProductLicense']}"
    if facts.get("DefaultAddressPools"):
        yield " Default Address Pools:"
        yield from (f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in facts["DefaultAddressPools"])
    if (facts.get("FirewallBackend") or {}).get("Driver"):
        yield f" Firewall Backend: {facts['FirewallBackend']['Driver']}"
        yield from (f"  {key}: {value}" for key, value in facts["FirewallBackend"].get("Info") or [])
    yield ""


def _yes(value: Any) -> str:
    return str(bool(value)).lower()


def _counts(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f" Containers: {facts['Containers']}"
    for word in ("Running", "Paused", "Stopped"):
        yield f"  {word}: {facts[f'Containers{word}']}"
    yield f" Images: {facts['Images']}"
    for word, key in (("Server Version", "ServerVersion"), ("Storage Driver", "Driver")):
        if facts.get(key):
            yield f" {word}: {facts[key]}"
    for key, value in facts.get("DriverStatus") or []:
        yield f"  {key}: {value}"
    for word, key in (
        ("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"), ("Cgroup Version", "CgroupVersion"),
    ):  # fmt: skip
        if facts.get(key):
            yield f" {word}: {facts[key]}"


def _plugins(facts: Mapping[str, Any]) -> Iterator[str]:
    plugins = facts.get("Plugins") or {}
    yield " Plugins:"
    yield f"  Volume: {' '.join(plugins.get('Volume') or [])}"
    yield f"  Network: {' '.join(plugins.get('Network') or [])}"
    if plugins.get("Authorization"):
        yield f"  Authorization: {' '.join(plugins['Authorization'])}"
    yield f"  Log: {' '.join(plugins.get('Log') or [])}"
    if facts.get("CDISpecDirs"):
        yield " CDI spec directories:"
        yield from (f"  {name}" for name in facts["CDISpecDirs"])
    yield f" Swarm: {(facts.get('Swarm') or {}).get('LocalNodeState') or 'inactive'}"


def _runtimes(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("Runtimes"):
        yield f" Runtimes: {' '.join(sorted(facts['Runtimes']))}"
        yield f" Default Runtime: {facts.get('DefaultRuntime', '')}"
    yield f" Init Binary: {facts.get('InitBinary', '')}"
    for word, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        yield f" {word} version: {(facts.get(key) or {}).get('ID', '')}"
    if facts.get("SecurityOptions"):
        yield " Security Options:"
        for text in facts["SecurityOptions"]:
            pairs = [pair.partition("=") for pair in text.split(",")]
            name = next((value for key, _, value in pairs if key == "name"), text)
            yield f"  {name}"
            for key, _, value in pairs:
                if key == "profile":
                    yield f"   Profile: {value}"
                elif key != "name":
                    yield f"   {key}: {value}"


def _machine(facts: Mapping[str, Any]) -> Iterator[str]:
    for word, key in (
        ("Kernel Version", "KernelVersion"), ("Operating System", "OperatingSystem"), ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ):  # fmt: skip
        if facts.get(key):
            yield f" {word}: {facts[key]}"
    yield f" CPUs: {facts['NCPU']}"
    yield f" Total Memory: {tables.bytes_of(facts['MemTotal'], 4, 1024.0)}"
    for word, key in (("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir")):
        yield f" {word}: {facts.get(key, '')}"
    yield f" Debug Mode: {_yes(facts.get('Debug'))}"
    if facts.get("Debug"):
        yield f"  File Descriptors: {facts.get('NFd', 0)}"
        yield f"  Goroutines: {facts.get('NGoroutines', 0)}"
        yield f"  System Time: {facts.get('SystemTime', '')}"
        yield f"  EventsListeners: {facts.get('NEventsListener', 0)}"
    for word, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        if facts.get(key):
            yield f" {word}: {facts[key]}"
    if facts.get("Labels"):
        yield " Labels:"
        yield from (f"  {label}" for label in facts["Labels"])
    yield f" Experimental: {_yes(facts.get('ExperimentalBuild'))}"


def _registries(facts: Mapping[str, Any]) -> Iterator[str]:
    registries = facts.get("RegistryConfig") or {}
    insecure = [name for name, one in sorted((registries.get("IndexConfigs") or {}).items()) if not one.get("Secure")]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    if insecure:
        yield " Insecure Registries:"
        yield from (f"  {name}" for name in insecure)
    if registries.get("Mirrors"):
        yield " Registry Mirrors:"
        yield from (f"  {name}" for name in registries["Mirrors"])


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the engine warns of."""
    return list(facts.get("Warnings") or [])
