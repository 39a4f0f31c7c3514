"""What was promised, in virtual time: how soon all know, and that nobody is taken for dead who is not.

``bench/gossip`` measures the same over sizes and losses; here are the lines that must not be crossed."""

import random
import statistics

import pytest

from fairlead.core.gossip import Gossip
from fairlead.core.members import HERE, Changed
from fairlead.core.swimwire import State
from fairlead.core.tables import Tables
from lane.virtual import World

pytestmark = pytest.mark.slow


def cluster(count: int, seed: int, loss: float = 0.0) -> World:
    world = World(seed=seed, loss=loss)
    for name in world.names(count):
        world.add(name)
    world.join_all()
    world.run(5)
    return world


def known(world: World, owner: str, value: bytes, among: list[str]) -> bool:
    """Whether all of these see that row."""
    for name in among:
        machine = world.nodes[name].machine
        assert isinstance(machine, Gossip)
        if value not in {row.value for row in machine.tables.standing("red", "endpoints") if row.owner == owner}:
            return False
    return True


def have_red(world: World, names: list[str]) -> None:
    for name in names:
        world.tables(name, Tables.join_network, "red")


@pytest.mark.parametrize("seed", range(5))
def test_quiet_convergence_at_25_nodes_within_a_second(seed: int) -> None:
    """Members (new tags) and rows alike."""
    world = cluster(25, seed)
    have_red(world, world.names(25))
    world.run(8)
    machine = world.nodes["n3"].machine
    assert isinstance(machine, Gossip)
    world._do("n3", machine.change_tags({"zone": "b"}, world.now))
    world.tables("n3", Tables.put, "red", "endpoints", "e", b"10.0.0.2")
    meta = world.nodes["n3"].swim.me.meta
    took = world.run_until(
        lambda: (
            all(node.swim.members.table["n3"].meta == meta for node in world.nodes.values())
            and known(world, "n3", b"10.0.0.2", world.names(25))
        ),
        30,
        0.01,
    )
    assert took < 1.0


@pytest.mark.parametrize("seed", range(8))
def test_a_failure_is_known_everywhere_within_8_seconds_at_25_nodes(seed: int) -> None:
    world = cluster(25, seed)
    world.run(5 + seed / 8)
    world.crash("n7")
    assert world.run_until(lambda: world.all_agree("n7", State.DEAD), 30) < 8


def test_under_churn_most_changes_are_known_within_3_seconds_and_all_within_30() -> None:
    """Every other second somebody crashes or returns or gives up a row, with 2 % loss; fifteen stay and watch."""
    world = cluster(25, seed=11, loss=0.02)
    dice = random.Random(3)
    watchers, restless = world.names(15), [f"n{number}" for number in range(15, 25)]
    have_red(world, world.names(25))
    world.run(10)
    took = []
    for turn in range(30):
        name = dice.choice(restless)
        if name in world.running():
            world.crash(name)
        else:
            world.add(name)
            world.tables(name, Tables.join_network, "red")
            world.join(name, ["n0", "n1"])
        owner, value = dice.choice(watchers), b"turn %d" % turn
        world.tables(owner, Tables.put, "red", "endpoints", "e", value)
        took.append(world.run_until(lambda o=owner, v=value: known(world, o, v, watchers), 30))  # type: ignore[misc]
        world.run(world.now + 2)
    assert statistics.quantiles(took, n=10)[-1] < 3


def test_nobody_is_taken_for_dead_with_5_percent_loss() -> None:
    """Four minutes at 30 nodes; the whole hour at 100 nodes is ``bench/gossip/simulate.py --only hour``."""
    world = cluster(30, seed=2, loss=0.05)
    world.run(240)
    dead = [fact for _, _, fact in world.facts if isinstance(fact, Changed) and fact.member.state not in HERE]
    assert dead == []


def test_nodes_that_all_restarted_while_cut_off_find_each_other_by_their_seeds_within_seconds() -> None:
    """Nobody remembers anybody, so nobody knocks at the dead's doors; half an hour in vain makes none loud or slow."""
    names = World.names(12)
    world = World(seed=8)
    world.cut(*([name] for name in names))
    for name in names:
        world.add(name)
    for name in names:
        world.join(name, names)
    world.run(1800)
    tried = sum(node.stream_bytes for node in world.nodes.values())
    world.heal()
    assert world.run_until(world.complete, 30) < 7
    assert tried < 12 * 1800 * 250


def test_what_a_node_sends_does_not_grow_with_the_cluster() -> None:
    rates = []
    for count in (5, 40):
        world = cluster(count, seed=1)
        world.run(20)
        before = sum(node.bytes_out for node in world.nodes.values())
        world.run(60)
        rates.append((sum(node.bytes_out for node in world.nodes.values()) - before) / 40 / count)
    assert rates[1] < 1.15 * rates[0]


def test_with_half_of_the_nodes_slow_the_others_do_not_lose_each_other() -> None:
    """Lifeguard's case: a node that hears everything late blames itself first."""
    world = cluster(16, seed=4)
    slow = {"n3", "n7"}
    deliver = world._receive

    def late(to: str, data: bytes, sender: object) -> None:
        if to in slow and world.dice.random() < 0.5:
            world.at(world.now + 1.5, deliver, to, data, sender)
        else:
            deliver(to, data, sender)  # type: ignore[arg-type]

    world._receive = late  # type: ignore[method-assign,assignment]
    world.run(120)
    dead = {f.member.name for _, _, f in world.facts if isinstance(f, Changed) and f.member.state not in HERE}
    assert dead - slow == set()
