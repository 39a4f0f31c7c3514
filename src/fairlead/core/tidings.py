"""What a change of the swarm's state is to people who listen to events: ``service update updatestate.new=paused``.

    before, after --> (kind, action, id, attributes)        create, update, remove; Docker's words, of scope swarm

Of a node only what matters to people is told: what it is to be, its state, whether it leads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fairlead.core import service
from fairlead.core.cluster import Manager, Node, Service
from fairlead.core.swarmspec import ConfigFile, Secret, SharedNetwork

Told = Node | Service | SharedNetwork | Secret | ConfigFile
KINDS: dict[type, str] = {
    Node: "node",
    Service: "service",
    SharedNetwork: "network",
    Secret: "secret",
    ConfigFile: "config",
}


class Tiding(NamedTuple):
    kind: str
    action: str
    id: str
    attributes: dict[str, str]


def tiding(before: Any, after: Any) -> Tiding | None:
    """None: nothing that people are told. ``before`` None: it is new; ``after`` None: it is gone."""
    thing = after if after is not None else before
    kind = KINDS.get(type(thing))
    if kind is None:
        return None
    attributes = {"name": name(thing)}
    if before is None or after is None:
        return Tiding(kind, "create" if before is None else "remove", thing.id, attributes)
    changes = _changes(before, after)
    if kind == "node" and not changes and before.spec == after.spec:
        return None
    return Tiding(kind, "update", thing.id, {**attributes, **changes})


def name(of: Told) -> str:
    """As people call it."""
    return (of.description.hostname or of.spec.name) if isinstance(of, Node) else of.spec.name


def _changes(before: Told, after: Told) -> dict[str, str]:
    old, new = _facts(before), _facts(after)
    changed = [fact for fact in new if old.get(fact) != new[fact]]
    told = {f"{fact}.old": old.get(fact, "") for fact in changed} | {f"{fact}.new": new[fact] for fact in changed}
    return {key: value for key, value in told.items() if value}


def _facts(of: Told) -> dict[str, str]:
    """Those whose change is told with what it was before."""
    match of:
        case Service():
            facts = {"updatestate": of.update.state} if of.update else {}
            return {**facts, "replicas": str(service.replicas(of.spec))} if of.mode.replicated else facts
        case Node():
            manager = of.manager or Manager(reachability="")
            return {
                "role": of.spec.role,
                "availability": of.spec.availability,
                "state": of.state,
                "leader": str(manager.leader).lower(),
                "reachability": manager.reachability,
            }
    return {}
