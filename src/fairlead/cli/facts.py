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
    yield from _swarm(facts.get("Swarm") or {})


def _swarm(swarm: Mapping[str, Any]) -> Iterator[str]:
    state = swarm.get("LocalNodeState") or "inactive"
    yield f" Swarm: {state}"
    if state in ("inactive", "locked"):
        return
    yield f"  NodeID: {swarm.get('NodeID', '')}"
    if swarm.get("Error"):
        yield f"  Error: {swarm['Error']}"
    yield f"  Is Manager: {_yes(swarm.get('ControlAvailable'))}"
    if swarm.get("Cluster") and swarm.get("ControlAvailable") and not swarm.get("Error"):
        yield from _cluster(swarm, swarm["Cluster"])
    yield f"  Node Address: {swarm.get('NodeAddr', '')}"
    managers = sorted(one["Addr"] for one in swarm.get("RemoteManagers") or [])
    if managers:
        yield "  Manager Addresses:"
        yield from (f"   {address}" for address in managers)


def _cluster(swarm: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    spec = cluster["Spec"]
    raft, authority = spec.get("Raft") or {}, spec.get("CAConfig") or {}
    yield f"  ClusterID: {cluster['ID']}"
    yield f"  Managers: {swarm.get('Managers', 0)}"
    yield f"  Nodes: {swarm.get('Nodes', 0)}"
    if cluster.get("DefaultAddrPool"):
        yield f"  Default Address Pool: {''.join(f'{pool}  ' for pool in cluster['DefaultAddrPool'])}"
        yield f"  SubnetSize: {cluster.get('SubnetSize', 0)}"
    if cluster.get("DataPathPort"):
        yield f"  Data Path Port: {cluster['DataPathPort']}"
    history = (spec.get("Orchestration") or {}).get("TaskHistoryRetentionLimit")
    yield "  Orchestration:"
    yield f"   Task History Retention Limit: {0 if history is None else history}"
    yield "  Raft:"
    yield f"   Snapshot Interval: {raft.get('SnapshotInterval', 0)}"
    if raft.get("KeepOldSnapshots") is not None:
        yield f"   Number of Old Snapshots to Retain: {raft['KeepOldSnapshots']}"
    yield f"   Heartbeat Tick: {raft.get('HeartbeatTick', 0)}"
    yield f"   Election Tick: {raft.get('ElectionTick', 0)}"
    yield "  Dispatcher:"
    yield f"   Heartbeat Period: {_span((spec.get('Dispatcher') or {}).get('HeartbeatPeriod', 0))}"
    yield "  CA Configuration:"
    yield f"   Expiry Duration: {_span(authority.get('NodeCertExpiry', 0))}"
    yield f"   Force Rotate: {authority.get('ForceRotate', 0)}"
    if (authority.get("SigningCACert") or "").strip():
        yield f"   Signing CA Certificate: \n{authority['SigningCACert'].strip()}\n"
    if authority.get("ExternalCAs"):
        yield "   External CAs:"
        yield from (f"     {one['Protocol']}: {one['URL']}" for one in authority["ExternalCAs"])
    yield f"  Autolock Managers: {_yes((spec.get('EncryptionConfig') or {}).get('AutoLockManagers'))}"
    yield f"  Root Rotation In Progress: {_yes(cluster.get('RootRotationInProgress'))}"


def _span(nanoseconds: int) -> str:
    return tables.span(nanoseconds / 10**9)


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
