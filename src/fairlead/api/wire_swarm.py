"""The swarm and this node's part in it, in Docker's spelling."""

from __future__ import annotations

from typing import Any

from fairlead.api import wire, wire_services
from fairlead.core import tokens
from fairlead.core.swarmspec import (
    CERTIFICATE_LIFE,
    HEARTBEAT,
    HISTORY,
    Cluster,
    ClusterSpec,
    Raft,
)
from fairlead.engine.swarm import InitRequest, JoinRequest, Local

AVAILABILITIES = ("active", "pause", "drain")


def init_request(body: Any) -> InitRequest:
    given = wire.members(body, "", "swarm.InitRequest")
    where = "InitRequest"
    return InitRequest(
        **_places(given, where),
        data_port=wire.get(given, "DataPathPort", int, 0, where),
        pools=tuple(wire.get(given, "DefaultAddrPool", tuple[str, ...], (), where)),
        subnet_size=wire.get(given, "SubnetSize", int, 0, where),
        force_new_cluster=wire.get(given, "ForceNewCluster", bool, False, where),
        spec=spec(given.get("spec")),
        autolock=wire.get(given, "AutoLockManagers", bool, False, where),
        availability=wire.get(given, "Availability", str, "", where).lower(),
    )


def join_request(body: Any) -> JoinRequest:
    given = wire.members(body, "", "swarm.JoinRequest")
    where = "JoinRequest"
    return JoinRequest(
        **_places(given, where),
        remotes=tuple(wire.get(given, "RemoteAddrs", tuple[str, ...], (), where)),
        token=wire.get(given, "JoinToken", str, "", where),
        availability=wire.get(given, "Availability", str, "", where).lower() or "active",
    )


def _places(given: dict[str, Any], where: str) -> dict[str, str]:
    """Addresses of a node that comes in, either way."""
    words = {"listen": "ListenAddr", "advertise": "AdvertiseAddr", "data_path": "DataPathAddr"}
    return {name: wire.get(given, word, str, "", where) for name, word in words.items()}


def spec(body: Any) -> ClusterSpec:
    """What is 0, or not said, is the usual one."""
    if body is not None and not isinstance(body, dict):
        raise wire.wrong(body, "", "swarm.Spec")
    return wire.read(ClusterSpec, body or {}, "Spec")


def cluster(of: Cluster, *, secret: bool = False) -> dict[str, Any]:
    """``secret``: with the tokens to join."""
    from fairlead.api import wire_nodes  # it knows certificates

    shown = {
        **wire_services.head(of),
        "Spec": spec_shown(of.spec),
        "TLSInfo": wire_nodes.tls_info(of.trust.next_root or of.trust.root),
        "RootRotationInProgress": bool(of.trust.next_root),
        "DefaultAddrPool": list(of.address_pools),
        "SubnetSize": of.subnet_size,
        "DataPathPort": of.data_port,
    }
    if secret:
        digest = tokens.digest(of.trust.root.encode())
        shown["JoinTokens"] = {
            "Worker": tokens.Token(digest, of.worker).text,
            "Manager": tokens.Token(digest, of.manager).text,
        }
    return shown


def spec_shown(of: ClusterSpec) -> dict[str, Any]:
    history = of.orchestration.task_history_retention_limit
    raft, usual = of.raft, Raft()
    keep = usual.keep_old_snapshots if raft.keep_old_snapshots is None else raft.keep_old_snapshots
    config: dict[str, Any] = {"NodeCertExpiry": of.ca_config.node_cert_expiry or CERTIFICATE_LIFE}
    if of.ca_config.external_cas:
        config["ExternalCAs"] = [
            {"Protocol": one.protocol, "URL": one.url, **({"Options": one.options} if one.options else {})}
            | {"CACert": one.ca_cert}
            for one in of.ca_config.external_cas
        ]
    if of.ca_config.force_rotate:
        config["ForceRotate"] = of.ca_config.force_rotate
    defaults = of.task_defaults.log_driver
    return {
        "Name": of.name or "default",
        "Labels": of.labels or {},
        "Orchestration": {"TaskHistoryRetentionLimit": HISTORY if history is None else history},
        "Raft": {
            "SnapshotInterval": raft.snapshot_interval or usual.snapshot_interval,
            "KeepOldSnapshots": keep,
            "LogEntriesForSlowFollowers": raft.log_entries_for_slow_followers or usual.log_entries_for_slow_followers,
            "ElectionTick": raft.election_tick or usual.election_tick,
            "HeartbeatTick": raft.heartbeat_tick or usual.heartbeat_tick,
        },
        "Dispatcher": {"HeartbeatPeriod": of.dispatcher.heartbeat_period or HEARTBEAT},
        "CAConfig": config,
        "TaskDefaults": {"LogDriver": wire_services.sparse(defaults)} if defaults else {},
        "EncryptionConfig": {"AutoLockManagers": of.encryption_config.auto_lock_managers},
    }


def info(of: Local) -> dict[str, Any]:
    """The Swarm part of ``/info``."""
    shown: dict[str, Any] = {
        "NodeID": of.node,
        "NodeAddr": of.address,
        "LocalNodeState": of.state,
        "ControlAvailable": of.control,
        "Error": of.error,
        "RemoteManagers": [{"NodeID": node, "Addr": of.managers[node]} for node in sorted(of.managers)] or None,
    }
    if of.cluster is not None:
        shown |= {"Nodes": of.nodes, "Managers": of.managing, "Cluster": cluster(of.cluster)}
    if of.warnings:
        shown["Warnings"] = list(of.warnings)
    return shown
