"""Sharing: the cluster that this host is in, if it is in one; while the engine runs it may come and go.

A cluster of a store (``--cluster-store``) is there from the first moment to the last; a swarm's begins with ``init`` or
``join`` and ends with ``leave``. Never are there two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.engine.cluster import Cluster


class Sharing:
    """Asked by whoever deals with networks of many hosts."""

    def __init__(self, cluster: Cluster | None = None, lacks: str = "") -> None:
        """``lacks``: why there is no cluster of the store that was asked for."""
        self.cluster = cluster
        self.lacks = lacks

    def scope(self) -> str:
        """Of the networks that are shared now; "" when there are none."""
        return self.cluster.scope if self.cluster else ""
