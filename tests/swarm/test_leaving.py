"""A manager that leaves takes its vote with it."""

import asyncio
from types import SimpleNamespace

import pytest

from fairlead.core.cluster import Manager, Node, NodeSpec
from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.swarm.members import Member
from fairlead.swarm.membership import take_off
from unit.jumping import in_jumping_time


class Leaving:
    """m1, of three. ``closed``: how often its etcd, which is started again, does not answer."""

    def __init__(self, closed: int = 0, reachable: int = 3, resting: bool = True) -> None:
        self.closed, self.is_resting, self.struck = closed, resting, list[str]()
        names = ("m1", "m2", "m3")
        manages = {name: "reachable" if at < reachable else "unreachable" for at, name in enumerate(names)}
        nodes = {name: Node(name, NodeSpec(role="manager"), manager=Manager(False, manages[name])) for name in names}
        self.state = SimpleNamespace(nodes=nodes)
        self.members = self.admission = self

    async def list(self) -> list[Member]:
        if self.closed:
            self.closed -= 1
            raise (
                Conflict("etcd refused: grpc: the client connection is closing") if self.closed % 2 else Unavailable("")
            )
        return [Member(name, name, False, True) for name in self.state.nodes]

    async def strike(self, node: str) -> None:
        self.struck.append(node)

    def resting(self) -> bool:
        return self.is_resting


@pytest.mark.parametrize("closed", [0, 5])
def test_its_vote_goes_with_it_though_its_etcd_is_just_started_again(closed: int) -> None:
    leaving = Leaving(closed)
    in_jumping_time(take_off(leaving, "m1"))  # type: ignore[arg-type]
    assert leaving.struck == ["m1"]


async def test_without_an_etcd_nobody_waits() -> None:
    with pytest.raises(FairleadError):
        async with asyncio.timeout(1):
            await take_off(Leaving(closed=99, resting=False), "m1")  # type: ignore[arg-type]


async def test_where_the_others_are_no_majority_it_stays_a_member() -> None:
    leaving = Leaving(reachable=1)
    await take_off(leaving, "m1")  # type: ignore[arg-type]
    assert not leaving.struck
