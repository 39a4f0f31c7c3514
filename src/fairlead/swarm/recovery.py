"""Recovery: a swarm that has lost its majority goes on with what one manager knows.

    init --force-new-cluster    etcd begins again with this member alone; the other managers are workers from now on,
                                so that those who come back get a worker's certificate and no vote. It is another
                                *era*: before they begin to vote, and now and then, managers ask the others for it
    the same, rehearsed         what it would do, and what would be lost by it

What was written while this manager was cut off is lost: the majority that agreed on it is the one that is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized

from msgspec.structs import replace

from fairlead.core import quorum
from fairlead.core.cluster import Node
from fairlead.errors import Unavailable
from fairlead.swarm.leader import KEY
from fairlead.swarm.manager import Manager
from fairlead.swarm.state import State, Thing


async def would(manager: Manager | None) -> tuple[str, ...]:
    """In lines for people."""
    nodes = manager.state.nodes if manager else {}
    if manager is None or not nodes:
        return (
            "this manager has not read its state since it was started: it would go on with what it has on its disk",
            "every other manager would become a worker",
        )
    others = _others(manager)
    try:
        await manager.ledger.get(KEY)
        majority = "is there: this is not needed, and what is written meanwhile at the others is lost"
    except Unavailable:
        majority = "is not there"
    return (
        f"managers: {len(others) + 1}; a majority, {quorum.majority(len(others) + 1)} of them, {majority}",
        f"kept: {_counted(manager.state)}, as this manager knows them",
        *(f"becomes a worker: {node.description.hostname or node.id} ({node.id})" for node in others),
        "lost: whatever the others agreed on and this manager has not heard",
    )


async def alone(manager: Manager) -> None:
    """The other managers are none any more."""

    def told() -> Iterable[Thing]:
        yield replace(manager.cluster(), era=manager.cluster().era + 1)
        for node in _others(manager):
            yield replace(node, spec=replace(node.spec, role="worker"), manager=None, edited=node.version)

    await manager.state.change(told)


def _counted(state: State) -> str:
    """``3 nodes, 1 service, …``."""
    kinds: dict[str, Sized] = {
        "node": state.nodes, "service": state.services, "task": state.tasks,
        "network": state.networks, "secret": state.secrets, "config": state.configs,
    }  # fmt: skip
    return ", ".join(f"{len(all_)} {kind}{'' if len(all_) == 1 else 's'}" for kind, all_ in kinds.items())


def _others(manager: Manager) -> list[Node]:
    return [node for node in manager.state.nodes.values() if node.spec.role == "manager" and node.id != manager.me]
