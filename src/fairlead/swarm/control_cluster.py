"""The swarm as a whole: its settings, its tokens, its unlock key. See ``control``.

A ``force_rotate`` that grew, or another CA certificate, begins the exchange of the root (``rotation``).
"""

from __future__ import annotations

import datetime

from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.refusals import invalid
from fairlead.core.service import SECOND
from fairlead.core.swarmspec import Cluster, ClusterSpec
from fairlead.errors import Invalid
from fairlead.swarm import externalca, rotation
from fairlead.swarm.control_base import Change, Part, cluster_of, out_of_sequence

SHORTEST_LIFE = 3600 * SECOND
"""of a node's certificate"""
SECRET_BYTES = 16
LOOKS, LOOK = 80, 0.25
"""how often is looked whether a root is exchanged, and seconds between"""


class ClusterControl(Part):
    def cluster(self) -> Cluster:
        return cluster_of(self.state)

    async def update_cluster(
        self, version: int, spec: ClusterSpec, rotate_worker: bool, rotate_manager: bool, rotate_unlock: bool
    ) -> None:
        check(spec)

        def decide() -> Change:
            cluster = self.cluster()
            if not cluster.edited < version <= cluster.version:
                raise out_of_sequence()
            trust, bare = rotation.updated(cluster, spec, self._now())
            changed = replace(
                cluster,
                spec=bare,
                trust=trust,
                worker=self._secret() if rotate_worker else cluster.worker,
                manager=self._secret() if rotate_manager else cluster.manager,
                unlock_key=self._unlock_key(cluster, spec, rotate_unlock),
                updated=self.clock(),
                edited=cluster.version,
            )
            return Change((changed,))

        await self._exchanged(spec)
        root, signers = rotation.unseen(self.cluster(), spec)
        if signers and not await externalca.reachable(signers, root):
            raise invalid(rotation.NOBODY_SIGNS)
        await self.write(decide)

    async def _exchanged(self, spec: ClusterSpec) -> None:
        """Who wants another root while one is exchanged waits for that, as long as it gets on."""
        for _ in range(LOOKS):
            cluster = self.cluster()
            wants = rotation.asked(cluster, spec) and cluster.trust.next_root
            if not wants or any(node.state != "ready" for node in rotation.behind(cluster, self.state.nodes.values())):
                return
            await self.pause(LOOK)

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.clock() / SECOND, datetime.UTC)

    def _secret(self) -> str:
        return tokens.base36(self._bytes(SECRET_BYTES), tokens.SECRET_SIGNS)

    def _unlock_key(self, cluster: Cluster, spec: ClusterSpec, rotate: bool) -> str:
        """There is one exactly while managers lock themselves."""
        if not spec.encryption_config.auto_lock_managers:
            return ""
        if cluster.unlock_key and not rotate:
            return cluster.unlock_key
        return tokens.unlock_key(self._bytes(tokens.KEY_BYTES))

    def _bytes(self, count: int) -> bytes:
        return bytes(self.draw(256) for _ in range(count))


def check(spec: ClusterSpec) -> None:
    if spec.name not in ("", "default"):
        raise Invalid('swarm spec must be named "default"')
    for one in spec.ca_config.external_cas or ():
        externalca.check(one)
    if spec.dispatcher.heartbeat_period < 0:
        raise invalid("heartbeat time period cannot be a negative duration")
    life = spec.ca_config.node_cert_expiry
    if life and life < SHORTEST_LIFE:
        raise invalid("minimum certificate expiry time is: 1h0m0s")
