"""Founding: what there is in a swarm that has just begun. One node, which manages it, and the ingress network."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core import datakeys, sharednetworks, tokens
from fairlead.core.cluster import Manager, Node, NodeSpec, new_id
from fairlead.core.swarmspec import (
    ADDRESS_POOL,
    CERTIFICATE_LIFE,
    DATA_PORT,
    SUBNET_SIZE,
    Cluster,
    ClusterSpec,
    Encryption,
    Raft,
    SharedNetwork,
    Trust,
)
from fairlead.engine.swarm import InitRequest
from fairlead.errors import FairleadError
from fairlead.swarm import ca
from fairlead.swarm.ca import Authority, Identity
from fairlead.swarm.control_cluster import check
from fairlead.swarm.manager import Tools
from fairlead.swarm.state import Thing

LONGEST_PREFIX = 29
PORTS = range(1024, 49152)
SECRET_BYTES = 16


class First(NamedTuple):
    """Of the first node. ``root``, ``certificate``, ``key``: PEM; ``data_keys``: of the managers' store, by id."""

    node: str
    root: str
    certificate: str
    key: str
    data_keys: dict[str, bytes]
    objects: tuple[Thing, ...]


def found(request: InitRequest, address: str, created: str, tools: Tools) -> First:
    """``address``: ``host:port`` of the first manager. Raises ``Invalid``, ``FairleadError``."""
    pools, size, port = settings(request)
    check(settled(request))
    at, now = tools.clock(), tools.now()
    authority = Authority.found(now)
    cluster = Cluster(
        new_id(tools.draw),
        Trust(authority.certificate.decode(), authority.key.decode()),
        settled(request),
        worker=secret(tools.draw),
        manager=secret(tools.draw),
        unlock_key=tokens.unlock_key(_bytes(tools.draw, tokens.KEY_BYTES)) if request.autolock else "",
        created=at,
        updated=at,
        address_pools=pools,
        subnet_size=size,
        data_port=port,
    )
    node = Node(
        new_id(tools.draw),
        NodeSpec(role="manager", availability=request.availability or "active"),
        address=address.rpartition(":")[0].strip("[]"),
        manager=Manager(address=address),
        created=at,
        updated=at,
        since=at,
    )
    key, signing = ca.new_request()
    valid = datetime.timedelta(microseconds=life(request.spec) // 1000)
    certificate = authority.issue(signing, Identity(node.id, "manager", cluster.id), now, valid)
    node = replace(node, serials=ca.serials(certificate))
    network = sharednetworks.settle(sharednetworks.ingress_request(), (), cluster, new_id(tools.draw), created)
    data_key = _bytes(tools.draw, datakeys.KEY_BYTES)
    id, root = datakeys.name(data_key), cluster.trust.root
    ring = datakeys.first(id, node.id, tokens.digest(root.encode()), at)
    objects = (cluster, replace(node, holds=id), SharedNetwork(network.id, network), ring)
    return First(node.id, root, certificate.decode(), key.decode(), {id: data_key}, objects)


def settled(request: InitRequest) -> ClusterSpec:
    """What was left out, or 0, is the usual one."""
    spec, usual = request.spec, ClusterSpec()
    limit = spec.orchestration.task_history_retention_limit
    return replace(
        spec,
        name=usual.name,
        orchestration=usual.orchestration if limit is None else spec.orchestration,
        raft=_raft(spec.raft),
        dispatcher=spec.dispatcher if spec.dispatcher.heartbeat_period else usual.dispatcher,
        ca_config=replace(spec.ca_config, node_cert_expiry=life(spec)),
        encryption_config=Encryption(request.autolock or spec.encryption_config.auto_lock_managers),
    )


def _raft(given: Raft) -> Raft:
    """How often there is a snapshot, and what is kept, may be said; the ticks are Docker's own consensus's."""
    usual = Raft()
    keep = usual.keep_old_snapshots if given.keep_old_snapshots is None else given.keep_old_snapshots
    return Raft(
        given.snapshot_interval or usual.snapshot_interval,
        keep,
        given.log_entries_for_slow_followers or usual.log_entries_for_slow_followers,
    )


def life(spec: ClusterSpec) -> int:
    """Of a node's certificate, in nanoseconds."""
    return spec.ca_config.node_cert_expiry or CERTIFICATE_LIFE


def settings(request: InitRequest) -> tuple[tuple[str, ...], int, int]:
    """Address pools, prefix length of what is cut from them, data port."""
    size, port = request.subnet_size or SUBNET_SIZE, request.data_port or DATA_PORT
    if size > LONGEST_PREFIX:
        raise FairleadError(f"subnet size is out of range: {size}")
    if port not in PORTS:
        raise FairleadError(f"Datapath port number is not in valid range (1024-49151) : {port}")
    return _pools(request.pools, size) or (ADDRESS_POOL,), size, port


def _pools(pools: Sequence[str], size: int) -> tuple[str, ...]:
    taken: list[ipaddress.IPv4Network] = []
    for text in pools:
        try:
            pool = ipaddress.IPv4Network(text, strict=False)
        except ValueError:
            raise FairleadError(f"invalid CIDR address: {text}") from None
        if pool.prefixlen > size:
            raise FairleadError(f"invalid CIDR: {text!r}. Subnet size is too small for pool: {size}")
        for other in taken:
            if pool.overlaps(other):
                raise FairleadError(f"invalid CIDR: {str(pool)!r}. it is overlapped with {other}")
        taken.append(pool)
    return tuple(map(str, taken))


def secret(draw: Callable[[int], int]) -> str:
    """Of a join token."""
    return tokens.base36(_bytes(draw, SECRET_BYTES), tokens.SECRET_SIGNS)


def _bytes(draw: Callable[[int], int], count: int) -> bytes:
    return bytes(draw(256) for _ in range(count))
