"""Where tasks go, and what is said when they can go nowhere."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from fairlead.core import constraints, generics
from fairlead.core.cluster import Description, Node, NodeSpec, Plugin, State, Task, TaskStatus
from fairlead.core.placement import LATELY, Roster, place
from fairlead.core.service import (
    LogDriver,
    Placement,
    Platform,
    Preference,
    ResourceRequirements,
    Resources,
    ServicePort,
    Spread,
    TaskSpec,
)
from fairlead.errors import Invalid

GIB = 1 << 30


def node(
    name: str, *, zone: str = "", availability: str = "active", memory: int = 8 * GIB, arch: str = "x86_64"
) -> Node:
    return Node(
        id=name,
        spec=NodeSpec(labels={"zone": zone} if zone else {}, availability=availability),
        description=Description(
            hostname=name,
            platform=Platform(architecture=arch, os="linux"),
            resources=Resources(cpus=4_000_000_000, memory_bytes=memory),
            plugins=(Plugin("Log", "json-file"),),
        ),
        state="ready",
        address=f"10.1.0.{ord(name[-1])}",
    )


def tasks(count: int, service: str = "web", first: int = 1, **spec: object) -> list[Task]:
    return [
        Task(id=f"{service}{n}", service=service, slot=n, spec=TaskSpec(**spec)) for n in range(first, first + count)
    ]


def where(roster: Roster, group: list[Task], now: int = 0) -> dict[str, int]:
    """How many came to each node."""
    return Counter(verdict.node for verdict in place(group, roster, now).values())


def why(roster: Roster, task: Task) -> str:
    return place([task], roster, 0)[task.id].reason


GPUS = ("gpu=2", "FPGA=a", "FPGA=b")


def has(*texts: str, name: str = "a") -> Node:
    bare = node(name)
    resources = replace(bare.description.resources, generic_resources=generics.parse(texts))
    return replace(bare, description=replace(bare.description, resources=resources))


def needs(count: int, *texts: str, service: str = "web", first: int = 1) -> list[Task]:
    asked = Resources(generic_resources=generics.parse(texts))
    return tasks(count, service, first, resources=ResourceRequirements(reservations=asked))


def test_generic_resources_are_given_out_and_come_back() -> None:
    roster = Roster([node("b"), has(*GPUS)])
    group = needs(3, "gpu=1")
    verdicts = place(group, roster, 0)
    assert [verdicts[task.id].node for task in group] == ["a", "a", ""]
    assert verdicts["web3"].reason == "no suitable node (insufficient resources on 2 nodes)"
    assert verdicts["web1"].generic == generics.parse(["gpu=1"])
    roster.put(replace(group[0], node="a", generic=verdicts["web1"].generic, status=TaskStatus(State.FAILED, at=1)))
    assert place(needs(1, "gpu=1", first=4), roster, 0)["web4"].node == "a"


def test_generic_resources_with_names() -> None:
    roster = Roster([has(*GPUS)])
    found = place(needs(3, "FPGA=1"), roster, 0)
    assert [verdict.generic for verdict in found.values()] == [generics.parse([f"FPGA={name}"]) for name in "ab"] + [()]
    assert generics.variables(generics.parse(GPUS)) == ("DOCKER_RESOURCE_GPU=2", "DOCKER_RESOURCE_FPGA=a,b")
    asked = generics.parse(["FPGA=b"])
    assert generics.claim(asked, generics.parse(GPUS), ()) == asked
    assert generics.claim(asked, generics.parse(GPUS), asked) is None


def test_a_global_service_gets_generic_resources_where_there_are_some() -> None:
    roster = Roster([has("gpu=1"), node("b")])
    group = [replace(task, slot=0, node=name) for task, name in zip(needs(2, "gpu=1"), "ab", strict=True)]
    found = place(group, roster, 0)
    assert [found[task.id].node for task in group] == ["a", ""] and found["web1"].generic == generics.parse(["gpu=1"])
    assert place(group[:1], roster, 0)["web1"].node == "a", "what it has itself is no reason to refuse it"


def test_tasks_are_spread_evenly() -> None:
    roster = Roster([node("a"), node("b"), node("c")])
    assert where(roster, tasks(15)) == {"a": 5, "b": 5, "c": 5}


def test_the_service_itself_counts_more_than_the_rest() -> None:
    roster = Roster(
        [node("a"), node("b")], [Task(id=f"x{n}", service="x", node="a", spec=TaskSpec()) for n in range(9)]
    )
    assert where(roster, tasks(4)) == {"a": 2, "b": 2}


def test_the_rest_decides_between_equals() -> None:
    roster = Roster([node("a"), node("b")], [Task(id="x", service="x", node="a", spec=TaskSpec())])
    assert where(roster, tasks(1)) == {"b": 1}


def test_drained_and_paused_nodes_take_none() -> None:
    roster = Roster([node("a", availability="drain"), node("b", availability="pause"), node("c")])
    assert where(roster, tasks(3)) == {"c": 3}


def test_a_task_that_ended_weighs_nothing() -> None:
    ended = Task(id="x", service="web", node="a", spec=TaskSpec(), status=TaskStatus(State.COMPLETE, at=1))
    roster = Roster([node("a"), node("b")], [ended])
    assert where(roster, tasks(2)) == {"a": 1, "b": 1}


def test_a_node_on_which_it_keeps_failing_comes_last() -> None:
    roster = Roster([node("a"), node("b")])
    for n in range(5):
        roster.put(
            Task(id=f"f{n}", service="web", node="a", spec=TaskSpec(), status=TaskStatus(State.FAILED, at=1 + n))
        )
    assert where(roster, tasks(3), now=10) == {"b": 3}
    assert where(roster, tasks(3, first=10), now=10 + LATELY) == {"a": 3}


def test_zones_first_then_nodes() -> None:
    roster = Roster([node("a", zone="east"), node("b", zone="west"), node("c", zone="west"), node("d", zone="west")])
    preference = (Preference(Spread("node.labels.zone")),)
    assert where(roster, tasks(6, placement=Placement(preferences=preference))) == {"a": 3, "b": 1, "c": 1, "d": 1}


def test_a_full_zone_leaves_the_rest_to_the_other() -> None:
    roster = Roster([node("a", zone="east"), node("b", zone="west")])
    placement = Placement(
        preferences=(Preference(Spread("node.labels.zone")),), constraints=("node.labels.zone==east",)
    )
    assert where(roster, tasks(2, placement=placement)) == {"a": 2}


def test_reservations_fill_a_node() -> None:
    roster = Roster([node("a", memory=2 * GIB), node("b", memory=1 * GIB)])
    need = ResourceRequirements(reservations=Resources(memory_bytes=GIB))
    group = tasks(4, resources=need)
    assert where(roster, group) == {"a": 2, "b": 1, "": 1}
    assert why(roster, tasks(1, first=9, resources=need)[0]) == "no suitable node (insufficient resources on 2 nodes)"


def test_at_most_so_many_on_a_node() -> None:
    roster = Roster([node("a"), node("b")])
    assert where(roster, tasks(5, placement=Placement(max_replicas=2))) == {"a": 2, "b": 2, "": 1}


def test_a_host_port_is_taken_once_on_a_node() -> None:
    roster = Roster([node("a"), node("b")])
    port = (ServicePort(target_port=80, published_port=8080, publish_mode="host"),)
    group = [Task(id=f"t{n}", service="web", spec=TaskSpec(), host_ports=port) for n in range(3)]
    verdicts = place(group, roster, 0)
    assert sorted(v.node for v in verdicts.values()) == ["", "a", "b"]
    assert verdicts["t2"].reason == "no suitable node (host-mode port already in use on 2 nodes)"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"placement": Placement(constraints=("node.role==manager",))},
            "scheduling constraints not satisfied on 2 nodes",
        ),
        ({"placement": Placement(platforms=(Platform("arm64", "linux"),))}, "unsupported platform on 2 nodes"),
        ({"log_driver": LogDriver("splunk")}, "missing plugin on 2 nodes"),
    ],
)
def test_the_reason_counts_the_nodes(spec: dict[str, object], reason: str) -> None:
    roster = Roster([node("a"), node("b"), node("c", availability="drain")])
    told = why(roster, tasks(1, **spec)[0])
    assert told == f"no suitable node ({reason}; 1 node not available for new tasks)"


def test_no_node_at_all() -> None:
    assert why(Roster(), tasks(1)[0]) == "no suitable node"


def test_names_of_architectures_are_one() -> None:
    roster = Roster([node("a", arch="aarch64"), node("b", arch="x86_64")])
    assert where(roster, tasks(2, placement=Placement(platforms=(Platform("arm64", "linux"),)))) == {"a": 2}


def test_a_task_whose_node_is_given_is_judged_there() -> None:
    roster = Roster([node("a", memory=GIB), node("b")])
    need = ResourceRequirements(reservations=Resources(memory_bytes=2 * GIB))
    on_a = Task(id="g1", service="agent", node="a", spec=TaskSpec(resources=need))
    assert place([on_a], roster, 0)["g1"].reason == "no suitable node (insufficient resources on 1 node)"
    on_b = Task(id="g2", service="agent", node="b", spec=TaskSpec(resources=need))
    assert place([on_b], roster, 0)["g2"].node == "b"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node.id==a", True),
        ("node.id != a", False),
        ("node.hostname==A", True),
        ("node.role==worker", True),
        ("node.platform.os==linux", True),
        ("node.labels.zone==east", True),
        ("node.labels.disk!=ssd", True),
        ("node.labels.disk==ssd", False),
        ("node.ip==10.1.0.0/24", True),
        ("node.ip!=10.1.0.97", False),
    ],
)
def test_constraints(text: str, holds: bool) -> None:
    assert constraints.hold(node("a", zone="east"), [text]) is holds


@pytest.mark.parametrize("text", ["node.role=manager", "==x", "node.role==", "zone==east", "node.id==a;rm"])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        constraints.parse(text)


@given(some.lists(some.integers(0, 4), min_size=1, max_size=8), some.integers(1, 40))
def test_spread_differs_by_one_at_most(zones: list[int], count: int) -> None:
    nodes = [node(f"n{chr(97 + at)}", zone=f"z{zone}") for at, zone in enumerate(zones)]
    roster = Roster(nodes)
    placed = place(tasks(count, placement=Placement(preferences=(Preference(Spread("node.labels.zone")),))), roster, 0)
    by_zone = Counter(roster.seats[v.node].node.spec.labels["zone"] for v in placed.values())
    loads = [by_zone[f"z{zone}"] for zone in set(zones)]
    assert max(loads) - min(loads) <= 1
    assert sum(len(seat.tasks) for seat in roster.seats.values()) == count


MOVES = some.tuples(some.sampled_from(["web", "db", "gone"]), some.sampled_from("abcdef"), some.integers(0, 5))


@given(some.lists(MOVES, max_size=40), some.integers(1, 12), some.integers(0, 2), some.integers(0, 10))
def test_the_order_that_is_kept_is_the_order_that_there_is(
    moves: list[tuple[str, str, int]], count: int, most: int, late: int
) -> None:
    """Who takes a task is who would be chosen by looking at all of them."""
    roster, load = Roster([node(name) for name in "abcdef"]), {}
    for number, (service, at, how) in enumerate(moves):
        task = Task(id=f"{at}{number}", service=service, node=at, spec=TaskSpec())
        if service == "gone":
            roster.drop_node(at)
            roster.put_node(node(at))
            load = {key: held for key, held in load.items() if held.node != at}
        elif how > 2:
            fell = TaskStatus(State.FAILED, at=LATELY * (number % 2) + number)
            for one in range(how):
                roster.put(replace(task, status=replace(fell, at=fell.at + one)))
        else:
            roster.put(task)
            load[task.id] = task
            if how == 2:
                roster.drop(load.pop(task.id))
        if how == 1:
            place(tasks(1, "other"), roster, 0)
            roster.drop(next(t for seat in roster.seats.values() for t in seat.tasks.values() if t.service == "other"))
    group = tasks(count, placement=Placement(max_replicas=most))
    now = LATELY + late
    got = [verdict.node for verdict in place(group, roster, now).values()]
    fresh = Roster([node(name) for name in "abcdef"], load.values())
    for name, seat in fresh.seats.items():
        seat.failures = roster.seats[name].failures
    for task, chosen in zip(group, got, strict=True):
        assert chosen == _chosen(fresh, task, most, now)
        fresh.put(replace(task, node=chosen))


def _chosen(roster: Roster, task: Task, most: int, now: int) -> str:
    """By looking at all of them."""
    fit = [seat for seat in roster.seats.values() if not most or seat.of[task.service] < most]
    keys = [(s.failing(task.service, now), s.of[task.service], len(s.tasks), s.node.id) for s in fit]
    return min(keys)[-1] if keys else ""


@given(some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=30))
def test_putting_and_dropping_leaves_nothing(steps: list[tuple[str, bool]]) -> None:
    need = ResourceRequirements(reservations=Resources(cpus=7, memory_bytes=3))
    port = (ServicePort(published_port=80, publish_mode="host"),)
    roster = Roster([node("a")])
    for name, present in steps:
        task = Task(id=name, service="s", node="a", spec=TaskSpec(resources=need), host_ports=port)
        if present:
            roster.put(task)
        else:
            roster.drop(task)
    seat = roster.seats["a"]
    held = len(seat.tasks)
    assert (seat.cpus, seat.memory, seat.of["s"], seat.ports["tcp", 80]) == (7 * held, 3 * held, held, held)
