"""What is said of a swarm that would begin anew with one manager."""

from types import SimpleNamespace

from fairlead.core.cluster import Description, Node, NodeSpec, Service
from fairlead.core.service import ServiceSpec
from fairlead.errors import Unavailable
from fairlead.store.memory import MemoryStore
from fairlead.swarm import recovery
from fairlead.swarm.state import State


class Cut(MemoryStore):
    """Reaches no majority."""

    async def get(self, key: str) -> object:
        raise Unavailable("no majority")


def manager(ledger: MemoryStore) -> SimpleNamespace:
    state = State(ledger)
    for name, role in (("one", "manager"), ("two", "manager"), ("three", "worker")):
        state.nodes[name] = Node(name, NodeSpec(role=role), description=Description(hostname=f"host-{name}"))
    state.services["s"] = Service("s", ServiceSpec())
    return SimpleNamespace(me="one", state=state, ledger=ledger)


async def test_what_would_be_kept_is_counted_and_who_becomes_a_worker_is_named() -> None:
    majority, kept, *others = await recovery.would(manager(Cut()))
    assert majority == "managers: 2; a majority, 2 of them, is not there"
    assert kept == ("kept: 3 nodes, 1 service, 0 tasks, 0 networks, 0 secrets, 0 configs, as this manager knows them")
    assert others[:-1] == ["becomes a worker: host-two (two)"]
    said = await recovery.would(manager(MemoryStore()))
    assert said[0].endswith("is there: this is not needed, and what is written meanwhile at the others is lost")


async def test_a_manager_that_has_read_nothing_says_so() -> None:
    assert "has not read its state" in (await recovery.would(None))[0]
