"""The swarm itself as a value: what it was told to be, and what joining it takes.

    ClusterSpec   what people set with ``swarm init`` and ``swarm update``, field for field as Docker's API has it
    Cluster       the one object of that kind: the spec, the root certificates, the secrets of the tokens
    SharedNetwork        a network of the swarm, with its identifiers and address pools
    Secret, ConfigFile   small files that tasks get

Durations are nanoseconds. ``Cluster`` and ``Secret`` hold secrets: they are never written to a log, and ``repr`` leaves
them out.
"""

from __future__ import annotations

import msgspec

from fairlead.core.model import Network
from fairlead.core.service import SECOND, LogDriver

HISTORY = 5
"""tasks of a slot that are kept, the one that runs included"""
HEARTBEAT = 5 * SECOND
CERTIFICATE_LIFE = 90 * 24 * 3600 * SECOND
ADDRESS_POOL, SUBNET_SIZE, DATA_PORT = "10.0.0.0/8", 24, 4789


class Orchestration(msgspec.Struct, frozen=True, omit_defaults=True):
    task_history_retention_limit: int | None = HISTORY


class Raft(msgspec.Struct, frozen=True, omit_defaults=True):
    """Docker's knobs of its own consensus; ours is etcd's, so they are kept and shown, no more."""

    snapshot_interval: int = 10000
    keep_old_snapshots: int | None = 0
    log_entries_for_slow_followers: int = 500
    election_tick: int = 10
    heartbeat_tick: int = 1


class Dispatcher(msgspec.Struct, frozen=True, omit_defaults=True):
    heartbeat_period: int = HEARTBEAT


class ExternalCa(msgspec.Struct, frozen=True, omit_defaults=True):
    """``protocol``: cfssl."""

    protocol: str = "cfssl"
    url: str = ""
    options: dict[str, str] | None = None
    ca_cert: str = ""


class CaConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """``force_rotate``: one more than before asks for a new root; with ``signing_ca_cert`` for that one."""

    node_cert_expiry: int = CERTIFICATE_LIFE
    external_cas: tuple[ExternalCa, ...] | None = None
    signing_ca_cert: str = ""
    signing_ca_key: str = ""
    force_rotate: int = 0


class TaskDefaults(msgspec.Struct, frozen=True, omit_defaults=True):
    log_driver: LogDriver | None = None


class Encryption(msgspec.Struct, frozen=True, omit_defaults=True):
    auto_lock_managers: bool = False


class ClusterSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = "default"
    labels: dict[str, str] | None = None
    orchestration: Orchestration = Orchestration()
    raft: Raft = Raft()
    dispatcher: Dispatcher = Dispatcher()
    ca_config: CaConfig = CaConfig()
    task_defaults: TaskDefaults = TaskDefaults()
    encryption_config: Encryption = Encryption()


class Trust(msgspec.Struct, frozen=True, omit_defaults=True):
    """The roots. ``next_root`` while they are exchanged: every node gets a certificate of it, then it is the root."""

    root: str
    key: str = ""
    next_root: str = ""
    next_key: str = ""
    bridge: str = ""
    """``next_root``'s key, signed by ``root``"""

    def __repr__(self) -> str:
        return f"Trust(rotating={bool(self.next_root)})"

    @property
    def roots(self) -> str:
        """PEM of all that are believed now."""
        return self.root + self.next_root


class Cluster(msgspec.Struct, frozen=True, omit_defaults=True):
    """``worker``, ``manager``: the secrets of the join tokens."""

    id: str
    trust: Trust
    spec: ClusterSpec = ClusterSpec()
    worker: str = ""
    manager: str = ""
    unlock_key: str = ""
    created: int = 0
    updated: int = 0
    version: int = 0
    address_pools: tuple[str, ...] = (ADDRESS_POOL,)
    subnet_size: int = SUBNET_SIZE
    data_port: int = DATA_PORT
    era: int = 0
    """How often it was begun anew by one manager alone. Managers of an earlier one have nothing to say any more."""
    edited: int = 0
    """as ``cluster.Node.edited``: what the leader makes of it since is no reason to refuse a change"""
    revoked: dict[str, int] = {}
    """certificates as managers of nodes that were removed, while they would be good: as ``Node.serials``"""

    def __repr__(self) -> str:
        return f"Cluster({self.id})"


class SharedNetwork(msgspec.Struct, frozen=True, omit_defaults=True):
    """``spec``: the network as every node has it, address pools and identifier decided."""

    id: str
    spec: Network
    version: int = 0


class Driver(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class FileSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret or a config as asked for; ``data`` up to 500 KiB (secret) or 1000 KiB (config)."""

    name: str = ""
    labels: dict[str, str] | None = None
    data: bytes = b""
    driver: Driver | None = None
    templating: Driver | None = None

    def __repr__(self) -> str:
        return f"FileSpec({self.name}, {len(self.data)} bytes)"


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    spec: FileSpec
    created: int = 0
    updated: int = 0
    version: int = 0


class ConfigFile(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    spec: FileSpec
    created: int = 0
    updated: int = 0
    version: int = 0
