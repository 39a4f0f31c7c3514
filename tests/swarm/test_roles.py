"""Who is to manage gets its vote as soon as its part of the managers' store has caught up."""

import asyncio

from fairlead.core.cluster import Node, NodeSpec
from fairlead.errors import Conflict
from fairlead.store.memory import MemoryStore
from fairlead.swarm.members import Member
from fairlead.swarm.roles import Roles
from fairlead.swarm.state import State
from unit.jumping import in_jumping_time

CATCHES_UP = 0.7
"""seconds"""


class Etcd:
    """The list of members: the second one is a learner, and behind for a while."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.learns_until, self.voted = self.now() + CATCHES_UP, 0.0

    async def list(self) -> list[Member]:
        return [Member("1", "m1", False, True), Member("2", "m2", not self.voted, True)]

    async def promote_now(self, id: str) -> None:
        if self.now() < self.learns_until:
            raise Conflict("can only promote a learner member which is in sync with leader")
        self.voted = self.now()


def test_who_joins_as_manager_is_not_waited_for_in_turn_with_its_vote() -> None:
    """Without a vote it has no state, without a state no session: nobody has seen it yet when it is promoted."""

    async def tell() -> None:
        ledger, etcd = MemoryStore(), Etcd()
        state = State(ledger)
        await state.commit([Node("m1", NodeSpec(role="manager"), state="ready"), Node("m2", NodeSpec(role="manager"))])
        version = await ledger.put_if("leader", b"m1")
        leading = asyncio.ensure_future(Roles(state, etcd).lead(("leader", version)))  # type: ignore[arg-type]
        await asyncio.sleep(20)
        leading.cancel()
        assert 0 <= etcd.voted - etcd.learns_until < 0.5

    in_jumping_time(tell())
