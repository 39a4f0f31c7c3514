"""A leader's decisions as a whole: addresses, slots and nodes in one turn, taken back when they cannot be written."""

import gc
from collections import Counter
from itertools import count

import pytest
from msgspec.structs import replace

from fairlead.core.allocation import Desk
from fairlead.core.cluster import Loan, Node, Service, State, Task, TaskStatus
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.orchestrator import Orchestrator, Step
from fairlead.core.service import EndpointSpec, Mode, NetworkAttachment, Replicated, ServicePort, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import SharedNetwork
from unit.swarmtown import town_node

NOW = 1_000_000_000


def network(id: str, subnet: str, ingress: bool = False) -> SharedNetwork:
    gateway = subnet.rpartition(".")[0] + ".1"
    return SharedNetwork(id, Network(id, id, "", ipam=Ipam(config=(Subnet(subnet, gateway=gateway),)), ingress=ingress))


def service(number: int, id: str = "s", networks: str = "red", ports: tuple[ServicePort, ...] = ()) -> Service:
    template = TaskSpec(networks=(NetworkAttachment(networks),) if networks else None)
    mode = Mode(replicated=Replicated(number))
    return Service(
        id=id, spec=ServiceSpec(name=id, mode=mode, task_template=template, endpoint_spec=EndpointSpec(ports=ports))
    )


class Book:
    """What is written; the orchestrator hears of it."""

    def __init__(self, *things: object) -> None:
        ids = count(1)
        self.at = Orchestrator(lambda: f"t{next(ids):03}")
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, Task] = {}
        for thing in things:
            self.tell(thing)

    def tell(self, after: object, before: object = None) -> None:
        self.at.hear(before, after)  # type: ignore[arg-type]
        self.write([Step(before, after)])  # type: ignore[arg-type]

    def write(self, steps: list[Step]) -> None:
        for before, after in steps:
            kind = self.tasks if isinstance(after or before, Task) else self.services
            if after is None:
                kind.pop(before.id, None)  # type: ignore[union-attr]
            elif isinstance(after, Task | Service):
                kind[after.id] = after  # type: ignore[assignment]

    def settle(self) -> "Book":
        while steps := self.at.turn(NOW):
            self.write(steps)
        return self

    def end(self, *ids: str) -> None:
        for id in ids:
            ended = replace(self.tasks[id], status=TaskStatus(State.SHUTDOWN, at=NOW))
            self.tell(ended, self.tasks[id])

    def addresses(self) -> list[str]:
        held = [one for task in self.tasks.values() if not task.status.state.ended for one in task.networks]
        held += [one for service in self.services.values() for one in service.addresses]
        return sorted(address for one in held for address in one.addresses)


def test_one_turn_brings_a_service_from_nothing_to_its_nodes() -> None:
    book = Book(town_node("a"), town_node("b"), network("red", "10.0.1.0/24"), service(3))
    steps = book.at.turn(NOW)
    book.write(steps)
    assert [task.status.state for task in book.tasks.values()] == [State.ASSIGNED] * 3
    assert book.addresses() == ["10.0.1.2/24", "10.0.1.3/24", "10.0.1.4/24", "10.0.1.5/24"]
    assert len(steps) == 4, "each object once, however often it was touched"
    assert not book.settle().at.turn(NOW)


def test_what_a_task_holds_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again when it gets its node, when that is written, when it runs."""
    noted: Counter[str] = Counter()
    for what in ("hold", "release"):
        does = getattr(Desk, what)
        monkeypatch.setattr(Desk, what, lambda at, thing, does=does: (noted.update([thing.id]), does(at, thing)))
    book = Book(town_node("a"), network("red", "10.0.1.0/24"), service(3)).settle()
    task = book.tasks["t001"]
    book.tell(replace(task, status=TaskStatus(State.RUNNING, at=NOW)), task)
    assert [noted[id] for id in book.tasks] == [1, 1, 1]
    book.end("t001")
    assert noted["t001"] == 2


def test_tasks_alike_share_what_is_alike() -> None:
    """A hundred thousand of them fit no cache, and Python would look through them for circles."""
    tasks = list(Book(town_node("a"), network("red", "10.0.1.0/24"), service(3)).settle().tasks.values())
    assert len({id(task.status) for task in tasks}) == 1
    assert not any(gc.is_tracked(one) for task in tasks for one in (task, task.status, *task.networks))


def test_a_task_says_what_it_waits_for() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/29"), service(8)).settle()
    waiting = [task for task in book.tasks.values() if not task.node]
    assert len(waiting) == 4
    assert {task.status.error for task in waiting} == {
        "no available IPv4 addresses on this network's address pools: red"
    }
    alone = Book(network("red", "10.0.1.0/24"), service(1)).settle()
    assert [task.status.error for task in alone.tasks.values()] == ["no suitable node"]
    alone.tell(town_node("a"))
    alone.settle()
    assert [(task.node, task.status.error) for task in alone.tasks.values()] == [("a", "")]


def test_an_address_that_comes_free_goes_to_one_that_waits() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/29"), service(8)).settle()
    fewer = replace(book.services["s"], spec=replace(book.services["s"].spec, mode=Mode(replicated=Replicated(4))))
    running = [task.id for task in book.tasks.values() if task.node]
    book.tell(fewer, book.services["s"])
    book.settle()
    assert sorted(task.id for task in book.tasks.values() if task.node) == running, "those without a node went first"
    more = replace(book.services["s"], spec=replace(book.services["s"].spec, mode=Mode(replicated=Replicated(5))))
    book.tell(more, book.services["s"])
    book.settle()
    book.end(running[0])
    book.settle()
    assert len(set(book.addresses())) == len(book.addresses()) == 5


def test_a_network_that_comes_later() -> None:
    book = Book(town_node("a"), service(2)).settle()
    assert {task.status.error for task in book.tasks.values()} == {"network red not found"}
    book.tell(network("red", "10.0.1.0/24"))
    book.settle()
    assert {task.node for task in book.tasks.values()} == {"a"}
    assert book.services["s"].addresses


def test_what_could_not_be_written_is_decided_anew() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/29"), service(3))
    for _ in range(5):
        book.at.undo(book.at.turn(NOW))
    book.settle()
    assert len(book.addresses()) == 4, "nothing was lost to what was never written"
    assert all(task.node == "a" for task in book.tasks.values())


def test_the_tasks_of_a_removed_service_go() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/24"), service(3)).settle()
    book.tell(None, book.services["s"])
    book.settle()
    assert {task.desired for task in book.tasks.values()} == {State.REMOVE}
    book.end(*list(book.tasks))
    book.settle()
    assert not book.tasks and not book.at.tasks and not book.addresses()
    assert not book.at.desk.fields["red"][0].taken - Book(network("red", "10.0.1.0/24")).at.desk.fields["red"][0].taken


def test_an_ended_task_gives_its_address_back_once() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/29"), service(4)).settle()
    first = book.tasks["t001"]
    book.end("t001")
    book.settle()
    follower = next(task for task in book.tasks.values() if task.slot == first.slot and task.id != first.id)
    assert follower.networks == first.networks, "the only one left"
    seen_again = replace(book.tasks["t001"], updated=NOW + 1)
    book.tell(seen_again, book.tasks["t001"])
    other = Service(id="o", spec=service(1).spec)
    book.tell(other)
    book.settle()
    assert len(set(book.addresses())) == len(book.addresses())


def test_a_new_leader_decides_nothing_that_was_decided() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/24"), service(3, ports=())).settle()
    later = Orchestrator(lambda: "never")
    for thing in (town_node("a"), *book.services.values(), network("red", "10.0.1.0/24"), *book.tasks.values()):
        later.hear(None, thing)
    assert later.turn(NOW) == []


def test_node_news_that_change_nothing_cost_nothing() -> None:
    book = Book(town_node("a"), network("red", "10.0.1.0/24"), service(3)).settle()
    node: Node = town_node("a")
    book.tell(replace(node, updated=7, message="hello"), node)
    assert not book.at.dirty and not book.at.retry


def test_each_node_has_an_address_on_ingress_of_its_own_and_keeps_it() -> None:
    ingress = network("ingress", "10.0.0.0/29", ingress=True)
    book = Book(*(town_node(name) for name in "abcdef"), ingress).settle()
    held = {node.id: node.attachments[0].addresses for node in book.at.nodes.values() if node.attachments}
    assert held == {name: (f"10.0.0.{number}/29",) for number, name in enumerate("abcde", 2)}, "f goes without"
    book.tell(replace(book.at.nodes["a"], state="down"), book.at.nodes["a"])
    assert not book.at.turn(NOW), "nobody takes the address of one that is only away"
    book.tell(None, book.at.nodes["a"])
    book.settle()
    assert book.at.nodes["f"].attachments[0].addresses == ("10.0.0.2/29",)
    other = network("other", "10.7.0.0/24", ingress=True)
    book.tell(None, ingress)
    book.tell(other)
    assert {one.addresses[0][:5] for node in book.settle().at.nodes.values() for one in node.attachments} == {"10.7."}


def test_a_new_leader_takes_no_address_that_a_node_has() -> None:
    ingress = network("ingress", "10.0.0.0/24", ingress=True)
    first = Book(town_node("a"), town_node("b"), ingress).settle()
    heard = list(first.at.nodes.values())
    second = Book(ingress, *heard, town_node("c")).settle()
    assert [node.attachments[0].addresses for node in second.at.nodes.values()] == [
        ("10.0.0.2/24",), ("10.0.0.3/24",), ("10.0.0.4/24",),
    ]  # fmt: skip


def test_a_loan_gets_an_address_that_no_task_gets_and_ends_with_its_node() -> None:
    red = network("red", "10.0.1.0/29")
    book = Book(town_node("a"), red, service(1), Loan("e1", "a", "red"), Loan("e2", "a", "red", "10.0.1.6")).settle()
    lent = [address for loan in book.at.loans.values() for address in loan.addresses]
    assert len({*lent, *book.addresses()}) == 4 and "10.0.1.6/29" in lent
    book.tell(Loan("e3", "a", "red", "10.0.1.6"))
    book.tell(Loan("e4", "a", "blue"))
    book.settle()
    assert book.at.loans["e3"].error == "Address already in use" and "not found" in book.at.loans["e4"].error
    successor = Book(town_node("a"), red, *book.at.loans.values(), service(4, "other")).settle()
    assert successor.addresses() == ["10.0.1.2/29", "10.0.1.4/29", "10.0.1.5/29"], "no more is left"
    book.tell(None, book.at.nodes["a"])
    assert not book.settle().at.loans
