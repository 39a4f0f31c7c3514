"""Nodes: what they are told to be, and which are forgotten. See ``control``.

A role is a wish: the node gets another certificate, and with it joins or leaves the managers' store (``manager``). What
must not be lost on the way is decided here: the last manager, and the managers' majority.
"""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.core import ownlabels, quorum, revoked
from fairlead.core.cluster import Node, NodeSpec
from fairlead.core.refusals import unmet
from fairlead.errors import Invalid
from fairlead.swarm.control_base import Change, Part, by_id, find, out_of_sequence

ROLES, AVAILABILITIES = ("worker", "manager"), ("active", "pause", "drain")


class NodeControl(Part):
    def nodes(self) -> list[Node]:
        return by_id(self.state.nodes)

    def node(self, ref: str) -> Node:
        """People call it by its host's name."""
        return find(self.state.nodes, ref, "node", lambda node: node.description.hostname)

    async def update_node(self, ref: str, version: int, spec: NodeSpec) -> None:
        if spec.role not in ROLES:
            raise Invalid(f'invalid Role: "{spec.role}"')
        if spec.availability not in AVAILABILITIES:
            raise Invalid(f'invalid Availability: "{spec.availability}"')
        ownlabels.node(spec.labels)

        def decide() -> Change:
            node = self.node(ref)
            if node.spec.role == "manager" and spec.role == "worker":
                self._may_go(node)
            if not node.edited < version <= node.version:  # what nodes tell of themselves is no reason to refuse
                raise out_of_sequence()
            changed = replace(node, spec=spec, updated=self.clock(), edited=node.version)
            return Change((changed,), read=self._witnesses(node, spec))

        await self.write(decide)

    async def remove_node(self, ref: str, force: bool) -> None:
        """Its tasks are nobody's then, and its certificate is worth nothing."""

        def decide() -> Change:
            node = self.node(ref)
            if node.spec.role == "manager":
                raise unmet(
                    f"node {node.id} is a cluster manager and is a member of the raft cluster. It must be demoted to"
                    " worker before removal"
                )
            if node.state == "ready" and not force:
                raise unmet(f"node {node.id} is not down and can't be removed")
            (cluster,) = self.state.cluster.values()
            without = revoked.without(cluster, node, self.clock())
            return Change((without,) if without is not cluster else (), delete=(node,))

        await self.write(decide)

    def _managers(self) -> list[Node]:
        return [node for node in self.nodes() if node.spec.role == "manager"]

    def _may_go(self, node: Node) -> None:
        managers = self._managers()
        if managers == [node]:
            raise unmet("attempting to demote the last manager of the swarm")
        why = quorum.refusal(
            len(managers),
            len([one for one in managers if reachable(one)]),
            node.description.hostname or node.id,
            leaver_reachable=reachable(node),
        )
        if why:
            raise unmet(f"can't remove member from the raft: this would result in a loss of quorum: {why}")

    def _witnesses(self, node: Node, spec: NodeSpec) -> tuple[Node, ...]:
        """Two demotions at once, each harmless alone, must not both be written."""
        demoted = node.spec.role == "manager" and spec.role == "worker"
        return tuple(other for other in self._managers() if other.id != node.id) if demoted else ()


def reachable(node: Node) -> bool:
    return node.manager is not None and node.manager.reachability == "reachable"
