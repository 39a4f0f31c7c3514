"""Services come to what was asked, whatever falls meanwhile; updates go by the rules. All in virtual time."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from fairlead.core.cluster import State
from fairlead.core.imagespec import Credentials
from fairlead.core.service import (
    SECOND,
    Global,
    Mode,
    Placement,
    Replicated,
    ReplicatedJob,
    RestartRule,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from unit.swarmtown import Town, replicated, version


def settled(spec: ServiceSpec, nodes: str = "abc") -> Town:
    town = Town(spec, nodes)
    town.run(30)
    return town


def rule(**settings_: object) -> TaskSpec:
    return TaskSpec(restart_policy=RestartRule(**settings_))  # type: ignore[arg-type]


# -- how many ----------------------------------------------------------------------------------------


def test_replicas_come_up_spread() -> None:
    town = settled(replicated(5))
    assert town.slots() == [1, 2, 3, 4, 5]
    assert sorted(town.spread().values()) == [1, 2, 2]
    assert town.state == "", "the first tasks are no update"


def test_scaling_up_and_down_keeps_it_even() -> None:
    town = settled(replicated(4))
    town.update(mode=Mode(replicated=Replicated(15)))
    town.run(30)
    assert town.spread() == {"a": 5, "b": 5, "c": 5}
    town.update(mode=Mode(replicated=Replicated(9)))
    town.run(30)
    assert town.spread() == {"a": 3, "b": 3, "c": 3}
    assert len(town.tasks) == 9, "what was scaled away leaves no history"


def test_scaling_down_takes_first_what_does_not_run() -> None:
    town = Town(replicated(2))
    town.run(5)
    town.starts = 100
    town.update(mode=Mode(replicated=Replicated(4)))
    town.run(5)
    town.update(mode=Mode(replicated=Replicated(2)))
    assert town.slots() == [1, 2]


def test_scaling_is_no_update() -> None:
    town = settled(replicated(2))
    before = {task.id for task in town.running()}
    town.update(mode=Mode(replicated=Replicated(3)))
    town.run(30)
    assert before < {task.id for task in town.running()}
    assert town.state == ""


# -- what falls --------------------------------------------------------------------------------------


def test_a_failed_task_is_followed_in_its_slot_after_the_delay() -> None:
    town = settled(replicated(2))
    fallen = town.running()[0]
    town.end(fallen.id)
    follower = next(task for task in town.tasks.values() if task.slot == fallen.slot and task.wanted)
    assert follower.desired == State.READY
    town.run(4.5)
    assert not town.tasks[follower.id].running
    town.run(2)
    assert town.tasks[follower.id].running


def test_everywhere_what_its_node_never_was_given_holds_nobody_up() -> None:
    """The follower on a paused node is out of date before the node takes tasks again."""
    how = UpdateConfig(parallelism=0, order="stop-first", failure_action="continue")
    town = settled(ServiceSpec(mode=Mode(everywhere=Global()), update_config=how, task_template=rule(delay=SECOND)))
    town.avail("b", "pause")
    town.end(next(task.id for task in town.running() if task.node == "b"))
    follower = next(task for task in town.tasks.values() if task.node == "b" and task.wanted)
    assert follower.status.state == State.PENDING
    town.update(template=version(1))
    town.avail("b")
    town.run(30)
    assert town.spread() == {"a": 1, "b": 1, "c": 1} and town.state == "completed"
    assert follower.id not in town.tasks


def test_what_cannot_even_be_made_ready_is_tried_once_a_delay() -> None:
    town = settled(replicated(2))
    before = len(town.tasks)
    for _ in range(100):
        for task in [task for task in town.tasks.values() if task.slot == 1 and task.desired <= State.RUNNING]:
            if not task.status.state.ended:
                town.end(task.id, State.REJECTED)
        town.run(0.1)
    assert 2 <= next(town.ids) - 1 - before <= 4, "ten seconds, five between two of them"
    assert len(town.running()) == 1 and town.running()[0].slot == 2, "and its slot is not given to another"


def test_on_failure_leaves_what_completed() -> None:
    town = settled(replicated(2, task_template=rule(condition="on-failure")))
    one, other = town.running()
    town.end(one.id, State.COMPLETE)
    town.end(other.id, State.FAILED)
    town.run(30)
    assert town.slots() == [other.slot]


def test_never_means_never() -> None:
    town = settled(replicated(2, task_template=rule(condition="none")))
    town.end(town.running()[0].id)
    town.run(60)
    assert len(town.running()) == 1
    town.update(mode=Mode(replicated=Replicated(3)))
    town.run(30)
    assert len(town.running()) == 2, "what had its run keeps its slot"


def test_no_more_attempts_than_allowed() -> None:
    town = Town(replicated(1, task_template=rule(max_attempts=3, delay=SECOND)))
    town.bad = lambda task: True
    town.run(300)
    assert next(town.ids) - 1 == 4, "the first and three more"


def test_attempts_outside_the_window_do_not_count() -> None:
    town = Town(replicated(1, task_template=rule(max_attempts=2, delay=SECOND, window=60 * SECOND)))
    for _ in range(6):
        town.run(90)
        town.end(town.running()[0].id)
    town.run(90)
    assert town.running()


def test_what_gave_up_is_not_revived_by_the_passing_of_time() -> None:
    town = Town(replicated(1, task_template=rule(max_attempts=1, delay=SECOND, window=10 * SECOND)))
    town.bad = lambda task: True
    town.run(9)
    town.run(100)
    town.update(labels={"unrelated": "change"})
    town.run(100)
    assert next(town.ids) - 1 == 2


def test_history_is_bounded() -> None:
    town = settled(replicated(1, task_template=rule(delay=0)))
    for _ in range(12):
        town.end(town.running()[0].id)
        town.run(5)
    assert len(town.tasks) == 5


# -- nodes -------------------------------------------------------------------------------------------


def test_a_drained_node_loses_its_tasks_and_gets_new_ones_later() -> None:
    town = settled(replicated(6))
    town.avail("b", "drain")
    town.run(30)
    assert town.spread() == {"a": 3, "c": 3}
    town.avail("b", "active")
    town.run(30)
    assert town.spread() == {"a": 3, "c": 3}, "nothing moves by itself"
    town.update(mode=Mode(replicated=Replicated(9)))
    town.run(30)
    assert town.spread() == {"a": 3, "b": 3, "c": 3}


def test_a_paused_node_keeps_what_it_has() -> None:
    town = settled(replicated(3))
    town.avail("b", "pause")
    town.update(mode=Mode(replicated=Replicated(6)))
    town.run(30)
    assert town.spread()["b"] == 1


def test_a_dead_node_is_not_waited_for() -> None:
    town = settled(replicated(3))
    town.avail("c", state="down")
    town.run(10)
    alive = [task for task in town.running() if task.wanted]
    assert len(alive) == 3 and all(task.node in "ab" for task in alive)
    town.avail("c", state="ready")
    town.run(10)
    assert sum(town.spread().values()) == 3 and len(town.running()) == 3, "what came back was shut down"


def test_what_a_node_never_said_that_it_has_goes_elsewhere_once_nobody_hears_the_node() -> None:
    town = settled(replicated(2))
    ran = {task.id for task in town.running()}
    town.deaf.add("c")
    town.update(mode=Mode(replicated=Replicated(3)))
    town.run(2)
    assert town.spread() == {"a": 1, "b": 1}, "c is dead, and nobody knows"
    town.avail("c", state="unknown")
    town.run(2)
    assert town.slots() == [1, 2, 3]
    town.avail("a", state="unknown")
    town.run(2)
    assert ran < {task.id for task in town.running()}, "what runs is waited for"
    town.deaf.clear()
    town.avail("c")
    town.run(10)
    assert len(town.running()) == 3 and len([task for task in town.tasks.values() if task.wanted]) == 3


def test_a_constraint_that_no_longer_holds_moves_the_task() -> None:
    east = Placement(constraints=("node.labels.zone==east",))
    town = Town(replicated(0, task_template=TaskSpec(placement=east)))
    for name in "ab":
        town.avail(name, labels={"zone": "east"})
    town.update(mode=Mode(replicated=Replicated(2)))
    town.run(20)
    assert town.spread() == {"a": 1, "b": 1}
    town.avail("a", labels={})
    town.run(20)
    assert town.spread() == {"b": 2}


def test_global_means_one_everywhere() -> None:
    town = settled(ServiceSpec(mode=Mode(everywhere=Global())))
    assert town.spread() == {"a": 1, "b": 1, "c": 1}
    town.avail("b", "drain")
    town.run(20)
    assert town.spread() == {"a": 1, "c": 1}
    town.avail("b")
    town.run(20)
    assert town.spread() == {"a": 1, "b": 1, "c": 1}


def test_an_update_leaves_a_paused_node_alone() -> None:
    town = settled(ServiceSpec(mode=Mode(everywhere=Global())))
    town.avail("b", "pause")
    town.update(template=version(1))
    town.run(60)
    assert {task.node: task.spec.force_update for task in town.running()} == {"a": 1, "b": 0, "c": 1}
    assert town.state == "updating"
    town.avail("b")
    town.run(60)
    assert (town.spread(), town.state) == ({"a": 1, "b": 1, "c": 1}, "completed")


# -- updates -----------------------------------------------------------------------------------------


def test_an_update_replaces_one_at_a_time() -> None:
    town = settled(replicated(4))
    town.history.clear()
    town.update(template=version(1))
    town.run(120)
    assert [task.spec.force_update for task in town.running()] == [1] * 4
    assert town.state == "completed"
    assert min(sum(counts.values()) for counts in town.history) == 3, "never more than one down"


def test_start_first_has_never_fewer() -> None:
    town = settled(replicated(4))
    town.history.clear()
    town.update(template=version(1), update_config=UpdateConfig(parallelism=2, order="start-first"))
    town.run(120)
    assert [task.spec.force_update for task in town.running()] == [1] * 4
    assert min(sum(counts.values()) for counts in town.history) == 4


def test_parallelism_and_delay() -> None:
    town = settled(replicated(6))
    town.update(template=version(1), update_config=UpdateConfig(parallelism=2, delay=10 * SECOND))
    town.run(5)
    assert sum(task.spec.force_update for task in town.running()) == 2
    town.run(10)
    assert sum(task.spec.force_update for task in town.running()) == 4
    town.run(40)
    assert (sum(task.spec.force_update for task in town.running()), town.state) == (6, "completed")


def test_all_at_once() -> None:
    town = settled(replicated(6))
    town.update(template=version(1), update_config=UpdateConfig(parallelism=0))
    assert sum(1 for task in town.tasks.values() if task.desired == State.SHUTDOWN) == 6


def test_a_bad_update_pauses() -> None:
    town = settled(replicated(4))
    town.bad = lambda task: task.spec.force_update == 1
    town.update(template=version(1))
    town.run(300)
    assert town.state == "paused"
    assert "update paused due to failure or early termination of task t" in town.service.update.message
    assert sum(1 for task in town.running() if task.spec.force_update == 0) == 3, "the others were let alone"


def test_a_bad_update_is_rolled_back() -> None:
    town = settled(replicated(4))
    town.bad = lambda task: task.spec.force_update == 1
    town.update(template=version(1), update_config=UpdateConfig(parallelism=1, failure_action="rollback"))
    town.run(300)
    assert town.state == "rollback_completed"
    assert [task.spec.force_update for task in town.running()] == [0] * 4
    assert town.service.spec.task_template == TaskSpec()


def test_some_failures_are_allowed() -> None:
    town = settled(replicated(4, task_template=rule(delay=SECOND)))
    broken: set[str] = set()

    def first_of_slot_one(task: object) -> bool:
        broken.add(task.id)  # type: ignore[attr-defined]
        return len(broken) == 1

    town.bad = first_of_slot_one
    town.update(
        template=version(1, restart_policy=RestartRule(delay=SECOND)),
        update_config=UpdateConfig(parallelism=1, max_failure_ratio=0.5),
    )
    town.run(300)
    assert (town.state, len(town.running())) == ("completed", 4)


def test_one_that_fails_after_the_monitor_is_no_failure_of_the_update() -> None:
    town = settled(replicated(2))
    town.update(template=version(1), update_config=UpdateConfig(parallelism=1, delay=60 * SECOND))
    town.run(20)
    new = next(task for task in town.running() if task.spec.force_update == 1)
    town.end(new.id)
    town.run(300)
    assert (town.state, len(town.running())) == ("completed", 2)


def test_a_manual_rollback() -> None:
    town = settled(replicated(3))
    town.update(template=version(1))
    town.run(60)
    town.roll_back()
    town.run(60)
    assert (town.state, [task.spec.force_update for task in town.running()]) == ("rollback_completed", [0] * 3)


def test_while_paused_what_falls_comes_back_as_it_was() -> None:
    town = settled(replicated(3))
    town.bad = lambda task: task.spec.force_update == 1
    town.update(template=version(1))
    town.run(60)
    old = next(task for task in town.running() if task.spec.force_update == 0)
    town.end(old.id)
    town.run(60)
    assert sum(1 for task in town.running() if task.spec.force_update == 0) == 2


def test_a_new_update_overtakes_the_one_under_way() -> None:
    town = settled(replicated(6))
    town.update(template=version(1), update_config=UpdateConfig(parallelism=1, delay=10 * SECOND))
    town.run(15)
    town.update(template=version(2), update_config=UpdateConfig(parallelism=2))
    town.run(120)
    assert ([task.spec.force_update for task in town.running()], town.state) == ([2] * 6, "completed")


def test_a_change_of_placement_moves_only_what_must() -> None:
    town = settled(replicated(3))
    before = {task.node: task.id for task in town.running()}
    town.update(template=TaskSpec(placement=Placement(constraints=("node.id!=c",))))
    town.run(60)
    after = {task.id for task in town.running()}
    assert {before["a"], before["b"]} < after and before["c"] not in after
    assert set(town.spread()) == {"a", "b"}


def test_another_password_for_the_registry_moves_nobody() -> None:
    town = settled(replicated(3))
    before = {task.id for task in town.running()}
    town.update(template=replace(town.service.spec.task_template, registry=Credentials("me", "hush")))
    town.run(60)
    assert {task.id for task in town.running()} == before


# -- jobs --------------------------------------------------------------------------------------------


def job(total: int, at_once: int) -> Town:
    mode = Mode(replicated_job=ReplicatedJob(max_concurrent=at_once, total_completions=total))
    return Town(ServiceSpec(mode=mode, task_template=rule(condition="on-failure", delay=SECOND)))


def test_a_job_ends() -> None:
    town = job(5, 2)
    most = 0
    for _ in range(20):
        town.run(2)
        most = max(most, len(town.running()))
        for task in town.running():
            town.end(task.id, State.COMPLETE)
    assert most == 2
    assert sum(task.status.state == State.COMPLETE for task in town.tasks.values()) == 5
    assert next(town.ids) - 1 == 5


def test_what_failed_of_a_job_is_tried_again() -> None:
    town = job(2, 1)
    town.run(5)
    town.end(town.running()[0].id, State.FAILED)
    for _ in range(5):
        town.run(5)
        for task in town.running():
            town.end(task.id, State.COMPLETE)
    assert sum(task.status.state == State.COMPLETE for task in town.tasks.values()) == 2


def test_a_job_that_never_began_begins_elsewhere_though_it_is_not_to_begin_twice() -> None:
    town = Town(ServiceSpec(mode=Mode(replicated_job=ReplicatedJob(1, 1)), task_template=rule(condition="none")))
    town.deaf.add("a")
    town.run(2)
    assert not town.running()
    town.avail("a", state="unknown")
    town.run(2)
    (begun,) = town.running()
    town.avail(begun.node, state="unknown")
    town.run(2)
    assert town.running() == [begun]


def test_a_job_runs_again_as_another_iteration() -> None:
    town = job(1, 1)
    town.run(5)
    town.end(town.running()[0].id, State.COMPLETE)
    town.again(iteration=1)
    town.run(5)
    assert [task.iteration for task in town.tasks.values()] == [1]


def test_a_job_everywhere() -> None:
    town = Town(ServiceSpec(mode=Mode(everywhere_job=Global()), task_template=rule(condition="on-failure")))
    town.run(5)
    assert town.spread() == {"a": 1, "b": 1, "c": 1}
    for task in town.running():
        town.end(task.id, State.COMPLETE)
    town.run(60)
    assert not town.running() and next(town.ids) - 1 == 3


# -- anything ----------------------------------------------------------------------------------------

STEPS = some.one_of(
    some.tuples(some.just("scale"), some.integers(0, 8)),
    some.tuples(some.just("update"), some.integers(0, 3)),
    some.tuples(some.just("fail"), some.integers(0, 7)),
    some.tuples(
        some.just("avail"), some.tuples(some.sampled_from("abcd"), some.sampled_from(["active", "drain", "pause"]))
    ),
    some.tuples(some.just("down"), some.sampled_from("abcd")),
    some.tuples(some.just("unknown"), some.sampled_from("abcd")),
    some.tuples(some.just("back"), some.sampled_from("abcd")),
    some.tuples(some.just("wait"), some.integers(0, 20)),
    some.tuples(some.just("elect"), some.none()),
)


@settings(max_examples=150)
@example([("avail", ("b", "pause")), ("wait", 1), ("fail", 1), ("update", 1)], "stop-first", 0, True, 0)
@given(
    some.lists(STEPS, max_size=14),
    some.sampled_from(["stop-first", "start-first"]),
    some.integers(0, 3),
    some.booleans(),
    some.integers(0, 99),
)
def test_it_always_comes_to_what_was_asked(
    steps: list, order: str, parallelism: int, everywhere: bool, luck: int
) -> None:
    """Whatever happens, whoever leads, and though one in three decisions cannot be written."""
    mode = Mode(everywhere=Global()) if everywhere else Mode(replicated=Replicated(3))
    how = UpdateConfig(parallelism=parallelism, order=order, failure_action="continue")
    town = Town(ServiceSpec(mode=mode, update_config=how, task_template=rule(delay=SECOND)), "abcd")
    dice = random.Random(luck)
    town.lost = lambda: dice.random() < 0.33
    for what, value in steps:
        match what:
            case "scale" if not everywhere:
                town.update(mode=Mode(replicated=Replicated(value)))
            case "update":
                town.update(template=version(value, restart_policy=RestartRule(delay=SECOND)))
            case "fail" if town.running():
                town.end(town.running()[value % len(town.running())].id)
            case "avail":
                town.avail(value[0], value[1], town.nodes[value[0]].state)
            case "down" | "unknown" | "back":
                town.avail(value, town.nodes[value].spec.availability, "ready" if what == "back" else what)
            case "wait":
                town.run(value)
            case "elect":
                town.elect()
    for name in "abcd":
        town.avail(name)
    town.run(600)
    wanted = 4 if everywhere else town.service.spec.mode.replicated.replicas
    running = town.running()
    assert len(running) == wanted
    assert all(task.spec == town.service.spec.task_template for task in running)
    assert len({task.place for task in running}) == wanted
    assert all(task.desired == State.RUNNING for task in running)
