"""What a manager's doctor says of the swarm: for whom a change of the data key waits."""

import pytest

from fairlead.core.cluster import Description, Manager, Node, NodeSpec
from fairlead.core.datakeys import Ring
from fairlead.core.findings import Finding
from fairlead.core.service import SECOND
from fairlead.store.memory import MemoryStore
from fairlead.swarm.findings import PATIENCE, findings
from fairlead.swarm.state import State

MADE = 1_790_000_000 * SECOND
OLD, NEW = "0dd0" * 4, "1eef" * 4
WAITING = Ring(keys=(NEW, OLD), used=OLD, made=MADE)


def manager(id: str, *, holds: str = NEW, reachable: bool = True, hostname: str = "", role: str = "manager") -> Node:
    return Node(
        id,
        NodeSpec(role=role),
        Description(hostname=hostname or f"host-{id}"),
        state="ready" if reachable else "down",
        manager=Manager(False, "reachable" if reachable else "unreachable", f"{id}:2377"),
        since=MADE + SECOND,
        holds=holds,
    )


async def told(ring: Ring, *nodes: Node, after: int = 5 * SECOND) -> list[Finding]:
    state = State(MemoryStore())
    await state.commit([ring, *nodes])
    return list(findings(state, MADE + after))


async def test_who_is_away_is_named_with_the_way_out() -> None:
    (found,) = await told(WAITING, manager("a"), manager("b"), manager("c", holds=OLD, reachable=False))
    assert found.what == "missing" and found.object == "data key 1eef1eef on manager host-c"
    for words in (
        "since 2026-09-21T14:13:20Z",
        "down since 2026-09-21T14:13:21Z",
        "docker node demote host-c, then docker node rm host-c",
    ):
        assert words in found.why, found.why
    assert OLD not in str(found) and NEW not in str(found)


@pytest.mark.parametrize(("after", "count"), [(5 * SECOND, 0), (PATIENCE, 1)])
async def test_who_answers_has_time_to_fetch_it(after: int, count: int) -> None:
    found = await told(WAITING, manager("a"), manager("b", holds=""), after=after)
    assert len(found) == count and all("answers, and does not get it" in one.why for one in found)


async def test_who_is_not_waited_for_is_not_named() -> None:
    away = manager("c", holds=OLD, reachable=False)
    used = Ring(keys=(NEW, OLD), used=NEW, made=MADE)
    assert await told(used, manager("a"), away) == []
    assert await told(WAITING, manager("a"), manager("c", holds=OLD, reachable=False, role="worker")) == []
    joining = Node("d", NodeSpec(role="manager"), state="down")
    assert await told(WAITING, manager("a"), joining, after=2 * PATIENCE) == []
    assert list(findings(State(MemoryStore()), MADE)) == []


async def test_two_of_one_name_are_told_apart() -> None:
    two = [manager(id, holds=holds, reachable=id == "a", hostname="same") for id, holds in (("a", NEW), ("b", OLD))]
    (found,) = await told(WAITING, *two)
    assert "docker node rm b" in found.why
