"""What was promised, in virtual time: how soon all know, and that nobody is taken for dead who is not.

``bench/gossip`` measures the same over sizes and losses; here are the lines that must not be crossed."""

import statistics

import pytest

from fairlead.core.members import HERE, Changed
from lane import gossiping
from lane.virtual import World

pytestmark = pytest.mark.slow


def cluster(count: int, seed: int, loss: float = 0.0) -> World:
    world = World(seed=seed, loss=loss)
    for name in world.names(count):
        world.add(name)
    world.join_all()
    world.run(5)
    return world


@pytest.mark.parametrize("seed", range(5))
def test_quiet_convergence_at_25_nodes_within_a_second(seed: int) -> None:
    """Members (new tags) and rows alike."""
    assert gossiping.quiet(seed) < 1


@pytest.mark.parametrize("seed", range(8))
def test_a_failure_is_known_everywhere_within_8_seconds_at_25_nodes(seed: int) -> None:
    assert gossiping.failing(seed) < 8


def test_under_churn_most_changes_are_known_within_3_seconds_and_all_within_30() -> None:
    """Every other second somebody crashes or returns, with 2 % loss; fifteen stay and watch."""
    took = gossiping.churn(seed=11)
    assert statistics.quantiles(took, n=10)[-1] < 3
    assert max(took) < 30


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
