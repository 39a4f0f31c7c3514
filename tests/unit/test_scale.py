"""What happens to one thing costs as much in a swarm of 500 nodes as in one of 50. Work is counted, not timed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from bench.scale import Swarm
from msgspec.structs import replace

from fairlead.core.allocation import Field
from fairlead.core.cluster import Service, State, Task, TaskStatus
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.service import Mode, NetworkAttachment, Replicated, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import SharedNetwork
from unit.worked import lines


@dataclass
class Town:
    swarm: Swarm

    def task(self, number: int) -> Task:
        return list(self.swarm.kept["tasks"].values())[number]

    def tell(self, task: Task, state: State) -> None:
        self.swarm.put(replace(task, status=TaskStatus(state, self.swarm.now)))


@pytest.fixture(scope="module")
def towns() -> tuple[Town, Town]:
    """Everything is placed, and every node was told."""
    return town(50), town(500)


def town(nodes: int) -> Town:
    swarm = Swarm(nodes)
    swarm.put(*swarm.things)
    for node in swarm.kept["nodes"]:
        swarm.boards.open(node)
    swarm.settle()
    swarm.take()
    return Town(swarm)


def same(towns: tuple[Town, Town], work: Callable[[Town], object]) -> None:
    small, large = (lines(lambda town=town: work(town)) for town in towns)
    assert 0 < large <= 1.05 * small, f"{small} lines among 50 nodes, {large} among 500"


def test_a_service_is_placed(towns: tuple[Town, Town]) -> None:
    """Its addresses, its tasks and theirs, their nodes; and then it goes."""
    template = TaskSpec(networks=(NetworkAttachment("net"),))
    service = Service("new", ServiceSpec(name="new", mode=Mode(replicated=Replicated(20)), task_template=template))

    def comes(town: Town) -> None:
        town.swarm.put(service)
        town.swarm.settle()
        town.swarm.take()

    def goes(town: Town) -> None:
        town.swarm.drop(town.swarm.kept["services"]["new"])
        town.swarm.settle()

    same(towns, comes)
    assert all(len([one for one in town.swarm.kept["tasks"].values() if one.node]) % 100 == 20 for town in towns)
    same(towns, goes)


def test_a_task_gets_on(towns: tuple[Town, Town]) -> None:
    """Nobody looks at its service: nothing follows from that."""
    tasks = {id(town): town.task(3) for town in towns}

    def runs(town: Town) -> None:
        town.tell(tasks[id(town)], State.RUNNING)
        town.swarm.settle()

    same(towns, runs)
    assert lines(lambda: runs(towns[0])) < 300, "its service was looked at, all of it"


def test_a_task_falls(towns: tuple[Town, Town]) -> None:
    def falls(town: Town) -> None:
        town.tell(tasks[id(town)], State.FAILED)
        town.swarm.settle()
        town.swarm.now = town.swarm.leader.wake_at or 0
        town.swarm.settle()
        assert town.swarm.take()

    for number in (5, 55):
        tasks = {id(town): town.task(number) for town in towns}
        same(towns, falls)


def test_a_node_goes_away(towns: tuple[Town, Town]) -> None:
    nodes = {id(town): list(town.swarm.kept["nodes"].values())[7] for town in towns}

    def goes(town: Town) -> None:
        town.swarm.put(replace(nodes[id(town)], state="down"))
        town.swarm.settle()
        assert town.swarm.take() == 40

    same(towns, goes)


def test_a_network_comes(towns: tuple[Town, Town]) -> None:
    """What others hold is not gone through. (Each service is asked whether it waited for it.)"""
    pools = (Subnet("10.200.0.0/24", gateway="10.200.0.1"),)
    network = SharedNetwork("late", Network("late", "late", "", ipam=Ipam(config=pools)))
    counted = [lines(lambda town=town: (town.swarm.put(network), town.swarm.settle())) for town in towns]
    more = len(towns[1].swarm.kept["services"]) - len(towns[0].swarm.kept["services"])
    assert counted[1] - counted[0] < 20 * more


def test_an_address_is_given() -> None:
    def give(field: Field, many: int) -> Iterator[str]:
        return (field.give() for _ in range(many))

    field = Field(Subnet("10.0.0.0/16"), "net")
    first = lines(lambda: list(give(field, 100)))
    list(give(field, 5000))
    assert lines(lambda: list(give(field, 100))) <= first + 1
