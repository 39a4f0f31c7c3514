"""What ``swarm init`` makes of what people say, and when it is done."""

import asyncio
from collections.abc import Callable
from math import inf
from types import SimpleNamespace

from fairlead.core.cluster import Node, NodeSpec
from fairlead.core.swarmspec import CaConfig, ClusterSpec, ExternalCa, Raft
from fairlead.engine.swarm import InitRequest
from fairlead.swarm.founding import settled
from fairlead.swarm.membership import COUNTED, counted
from unit.jumping import in_jumping_time


def test_what_is_said_is_kept_and_what_is_not_is_usual() -> None:
    theirs = (ExternalCa(url="https://ca"),)
    spec = ClusterSpec(raft=Raft(5, 3, election_tick=99), ca_config=CaConfig(external_cas=theirs))
    made = settled(InitRequest(spec=spec))
    assert made.raft == Raft(5, 3), "ticks are Docker's own consensus's"
    assert made.ca_config.external_cas == theirs
    assert settled(InitRequest(spec=ClusterSpec(raft=Raft(0, None, 0)))).raft == Raft()


class Fresh:
    """A manager whose leader calls the roll after a while, or never."""

    def __init__(self, after: float = inf, node: str = "me") -> None:
        self.after, self.node = after, node
        self.state, self.ears = SimpleNamespace(nodes={}), list[Callable[[], None]]()

    def hear(self, ear: Callable[[], None]) -> Callable[[], None]:
        self.ears.append(ear)
        return lambda: self.ears.remove(ear)

    def roll(self) -> None:
        self.state.nodes[self.node] = Node(self.node, NodeSpec(role="manager"), state="ready")
        for ear in tuple(self.ears):
            ear()

    async def founded(self) -> None:
        if self.after != inf:
            asyncio.get_running_loop().call_later(self.after, self.roll)
        await counted(self, "me")  # type: ignore[arg-type]
        assert not self.ears


def test_it_is_done_when_its_node_is_ready() -> None:
    assert in_jumping_time(Fresh(1.5).founded()) == 1.5
    there = Fresh()
    there.roll()
    assert in_jumping_time(there.founded()) == 0


def test_it_is_done_all_the_same_when_its_node_is_not_ready_for_long() -> None:
    assert in_jumping_time(Fresh().founded()) == COUNTED
    assert in_jumping_time(Fresh(1.5, "another").founded()) == COUNTED
