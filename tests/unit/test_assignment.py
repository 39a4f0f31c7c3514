"""What nodes are told: everything first, then differences; nobody hears what is not for him; a change costs little."""

from collections import defaultdict
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.core import webmesh
from fairlead.core.assignment import Boards
from fairlead.core.cluster import Attachment, Service, State, Task, TaskStatus
from fairlead.core.model import Network
from fairlead.core.service import (
    ConfigReference,
    ContainerSpec,
    LogDriver,
    SecretReference,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.session import Assign
from fairlead.core.swarmspec import ConfigFile, FileSpec, Secret, SharedNetwork
from unit.worked import lines


class Hall:
    """The state and its boards, and for each node what it made of its assignments."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Any]] = defaultdict(dict)
        self.boards = Boards(lambda kind, id: self.things[kind].get(id))
        self.nodes: dict[str, dict[tuple[str, str], Any]] = {}
        self.last: dict[str, Assign] = {}

    def put(self, kind: str, thing: Any) -> list[str]:
        before, self.things[kind][thing.id] = self.things[kind].get(thing.id), thing
        return self.tell(self.boards.hear(kind, before, thing))

    def drop(self, kind: str, id: str) -> list[str]:
        return self.tell(self.boards.hear(kind, self.things[kind].pop(id), None))

    def open(self, node: str) -> None:
        self.boards.open(node)
        self.tell([node])

    def tell(self, nodes: Any) -> list[str]:
        told = []
        for node in nodes:
            assign = self.boards.take(node)
            if assign is None:
                continue
            told.append(node)
            self.last[node] = assign
            has = {} if assign.whole else self.nodes[node]
            for kind in ("tasks", "services", "networks", "secrets", "configs"):
                has |= {(kind, thing.id): thing for thing in getattr(assign, kind)}
            for ref in assign.drop:
                del has[ref]
            self.nodes[node] = has
        return told

    def refs(self, node: str) -> list[str]:
        return sorted(f"{kind}/{id}" for kind, id in self.nodes[node])


def task(id: str, node: str = "a", state: State = State.ASSIGNED, **fields: Any) -> Task:
    spec = TaskSpec(
        container_spec=ContainerSpec(
            image="x",
            secrets=tuple(SecretReference(secret_id=one) for one in fields.pop("secrets", ())),
            configs=tuple(ConfigReference(config_id=one) for one in fields.pop("configs", ())),
        )
    )
    networks = tuple(Attachment(network=one) for one in fields.pop("networks", ()))
    return Task(id=id, spec=spec, service="s", node=node, networks=networks, status=TaskStatus(state), **fields)


def network(id: str, **fields: Any) -> SharedNetwork:
    return SharedNetwork(id, Network(id=id, name=id, created="", driver="overlay", **fields))


@pytest.fixture
def hall() -> Hall:
    made = Hall()
    made.put("services", Service("s", ServiceSpec(name="web")))
    made.put("networks", network("n"))
    made.put("networks", network("any", attachable=True))
    for name in ("mine", "other"):
        made.put("secrets", Secret(name, FileSpec(name, data=name.encode())))
    made.put("configs", ConfigFile("c", FileSpec("c")))
    return made


def test_all_first_then_differences(hall: Hall) -> None:
    hall.put("tasks", task("t1", networks=["n"], secrets=["mine"], configs=["c"]))
    hall.open("a")
    assert hall.last["a"].whole
    assert hall.refs("a") == ["configs/c", "networks/any", "networks/n", "secrets/mine", "services/s", "tasks/t1"]
    hall.put("tasks", task("t2", networks=["n"], secrets=["mine"]))
    assert hall.last["a"] == Assign(tasks=(task("t2", networks=["n"], secrets=["mine"]),)), "the rest is known"


def test_nobody_hears_of_others(hall: Hall) -> None:
    hall.open("a"), hall.open("b")
    assert hall.put("tasks", task("t1", "a", secrets=["mine"])) == ["a"]
    assert hall.put("tasks", task("t2", "b", secrets=["other"])) == ["b"]
    assert hall.refs("a") == ["networks/any", "secrets/mine", "services/s", "tasks/t1"]
    assert hall.refs("b") == ["networks/any", "secrets/other", "services/s", "tasks/t2"]
    assert hall.put("secrets", Secret("other", FileSpec("other", data=b"new"))) == ["b"]


def test_what_ended_needs_nothing_and_what_is_forgotten_goes(hall: Hall) -> None:
    one = task("t1", networks=["n"], secrets=["mine"])
    hall.put("tasks", one)
    hall.open("a")
    assert hall.put("tasks", replace(one, status=TaskStatus(State.RUNNING), version=2)) == [], "the node told so"
    hall.put("tasks", replace(one, status=TaskStatus(State.FAILED)))
    assert hall.refs("a") == ["networks/any", "tasks/t1"]
    assert hall.put("tasks", replace(one, status=TaskStatus(State.FAILED), desired=State.SHUTDOWN)) == ["a"]
    hall.drop("tasks", "t1")
    assert hall.refs("a") == ["networks/any"]


def test_a_task_without_a_node_or_not_yet_assigned_is_told_to_nobody(hall: Hall) -> None:
    hall.open("a")
    assert hall.put("tasks", task("t1", "", State.PENDING)) == []
    assert hall.put("tasks", task("t2", "a", State.PENDING)) == [], "of a global service: its node, no addresses yet"
    assert hall.put("tasks", task("t2", "a")) == ["a"]


def test_attachable_networks_are_everywhere(hall: Hall) -> None:
    hall.open("a"), hall.open("b")
    assert sorted(hall.put("networks", network("more", attachable=True))) == ["a", "b"]
    assert hall.put("networks", network("inner")) == []
    assert sorted(hall.drop("networks", "any")) == ["a", "b"]
    assert hall.refs("a") == ["networks/more"]


def test_certificates_go_where_haproxy_is(hall: Hall) -> None:
    def shop(*secrets: str) -> Service:
        labels = {f"fairlead.http.{secret}": f"80=https://{secret}.b,certificate={secret}" for secret in secrets}
        return Service("shop", ServiceSpec(name="shop", labels=labels))

    spec = TaskSpec(container_spec=ContainerSpec(image=webmesh.IMAGE))
    proxy = replace(task("p1", "a"), spec=spec)
    hall.put("services", shop("mine"))
    hall.put("tasks", task("t1", "b"))
    hall.put("tasks", proxy)
    hall.open("a"), hall.open("b")
    assert hall.refs("a") == ["networks/any", "secrets/mine", "services/s", "tasks/p1"]
    assert hall.refs("b") == ["networks/any", "services/s", "tasks/t1"], "no HAProxy there"
    assert hall.put("services", shop("mine", "other", "missing")) == ["a"]
    assert "secrets/other" in hall.refs("a") and hall.put("services", shop("other")) == ["a"]
    assert hall.put("secrets", Secret("late", FileSpec("missing", data=b"x"))) == []
    assert hall.put("services", shop("missing")) == ["a"] and "secrets/other" not in hall.refs("a")
    ended = replace(proxy, status=TaskStatus(State.SHUTDOWN))
    hall.put("tasks", replace(proxy, id="p2"))
    hall.put("tasks", ended)
    assert "secrets/late" in hall.refs("a"), "the other one is there"
    hall.drop("tasks", "p2")
    assert hall.refs("a") == ["networks/any", "tasks/p1"]
    hall.put("tasks", replace(proxy, id="p3"))
    hall.drop("services", "shop")
    assert hall.refs("a") == ["networks/any", "services/s", "tasks/p1", "tasks/p3"]


def test_a_service_is_told_when_what_nodes_see_of_it_changes(hall: Hall) -> None:
    hall.put("tasks", task("t1"))
    hall.open("a")
    service = hall.things["services"]["s"]
    assert hall.put("services", replace(service, version=9, updated=5)) == []
    assert hall.put("services", replace(service, addresses=(Attachment("n", ("10.0.0.2/24",)),))) == ["a"]


def test_what_comes_after_its_name_is_told_then(hall: Hall) -> None:
    hall.put("tasks", task("t1", secrets=["late"]))
    hall.open("a")
    assert "secrets/late" not in hall.refs("a")
    hall.put("secrets", Secret("late", FileSpec("late")))
    assert "secrets/late" in hall.refs("a")


def test_the_log_driver_of_the_cluster_is_that_of_tasks_that_name_none(hall: Hall) -> None:
    hall.boards.log_driver = LogDriver("json-file", {"max-size": "1m"})
    hall.put("tasks", task("t1"))
    hall.open("a")
    assert hall.nodes["a"]["tasks", "t1"].spec.log_driver == hall.boards.log_driver


def test_a_node_that_comes_again_is_told_all_again(hall: Hall) -> None:
    hall.put("tasks", task("t1"))
    hall.open("a")
    hall.boards.close("a")
    assert hall.put("tasks", task("t2")) == []
    hall.open("a")
    assert hall.last["a"].whole and hall.refs("a") == ["networks/any", "services/s", "tasks/t1", "tasks/t2"]


def steps(hall: Hall, tasks: list[Task]) -> int:
    """Lines that were run to tell of those tasks."""
    return lines(lambda: [hall.put("tasks", one) for one in tasks])


def crowd(nodes: int, each: int) -> Hall:
    hall = Hall()
    hall.put("services", Service("s", ServiceSpec(name="web")))
    for number in range(nodes):
        hall.open(f"n{number}")
        for one in range(each):
            hall.put("tasks", task(f"t{number}.{one}", f"n{number}"))
    return hall


def test_a_change_costs_what_it_concerns_and_not_what_there_is() -> None:
    """As much among 5 nodes of 4 tasks as among 5,000 with 100,000."""
    small, large = crowd(5, 4), crowd(5000, 20)
    stop = [task(f"t3.{one}", "n3", State.RUNNING, desired=State.SHUTDOWN) for one in range(4)]
    assert steps(large, stop) == steps(small, stop)
    assert large.last["n3"].tasks == (stop[-1],)
