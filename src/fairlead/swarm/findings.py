"""Findings: what a manager's doctor says of the swarm, besides the machine: what waits for somebody who may never come.

    the ring: another key, not used yet --> every member that has not said that it has it, once it is away or late

Any manager can say so, and every one does: all that it takes is in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from fairlead.core.cluster import Node
from fairlead.core.datakeys import RING
from fairlead.core.findings import Finding
from fairlead.core.service import SECOND
from fairlead.swarm.state import State

PATIENCE = 60 * SECOND
"""in which a manager that answers has fetched a key"""


def findings(state: State, now: int) -> Iterator[Finding]:
    """``now``: nanoseconds since 1970."""
    ring = state.datakeys.get(RING)
    if ring is None or ring.keys[0] == ring.used:
        return
    names = Counter(node.description.hostname for node in state.nodes.values())
    for node in sorted(state.nodes.values(), key=lambda node: node.id):
        if node.spec.role != "manager" or node.manager is None or node.holds == ring.keys[0]:
            continue
        away = node.manager.reachability != "reachable"
        if away or now - ring.made >= PATIENCE:
            named = node.description.hostname
            yield _lacks(node, named if named and names[named] == 1 else node.id, ring.keys[0], ring.made, away)


def _lacks(node: Node, name: str, key: str, since: int, away: bool) -> Finding:
    way = f"if it never comes back: docker node demote {name}, then docker node rm {name}"
    if away:
        why = f"which does not answer ({node.state} since {_clock(node.since)}). Start its engine, or unlock it; {way}"
    else:
        why = f"which answers, and does not get it: its engine's log says why; {way}"
    return Finding(
        "missing",
        f"data key {key[:8]} on manager {name}",
        "the swarm",
        f"what managers keep is sealed with another key as soon as all have it; since {_clock(since)} that waits for"
        f" {name}, {why}",
        "everything is sealed with the key before",
    )


def _clock(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"
