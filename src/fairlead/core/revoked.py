"""Revoked: managers' certificates that are good by themselves, of nodes that manage no more.

    given to a manager  -->  Node.serials          demoted, and off the members' list: revoked, for as long as it is so
    the node is removed -->  Cluster.revoked       until they would be over by themselves

A worker's certificate needs no list: it opens nothing but the gate, and the gate looks for the node.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.core.cluster import Node
from fairlead.core.swarmspec import Cluster


def unexpired(serials: dict[str, int], now: int) -> dict[str, int]:
    """Those that would still be good. ``now``: nanoseconds since 1970."""
    return {serial: end for serial, end in serials.items() if end > now}


def without(cluster: Cluster, node: Node, now: int) -> Cluster:
    """The cluster as it is when that node is removed."""
    serials = unexpired(cluster.revoked | node.serials, now)
    return cluster if serials == cluster.revoked else replace(cluster, revoked=serials)


def revoked(cluster: Cluster, nodes: Iterable[Node]) -> set[str]:
    """Serial numbers, in hexadecimal."""
    dismissed = (node.serials for node in nodes if node.spec.role != "manager" and node.manager is None)
    return {serial for serials in (cluster.revoked, *dismissed) for serial in serials}
