"""Gossip at 25 nodes, rows and all: how long news, a failure, changes under churn take to be known, in virtual seconds.

``bench/gossip`` measures and ``tests/unit/test_gossip_goals.py`` holds it to what was promised.
"""

import random
import statistics

from fairlead.core.gossip import Gossip
from fairlead.core.swimwire import State
from fairlead.core.tables import Tables
from lane.virtual import World

NODES = 25


def cluster(seed: int, loss: float = 0.0) -> World:
    """Everybody knows everybody and has network red."""
    world = World(seed=seed, loss=loss)
    world.keep_facts = False
    for name in world.names(NODES):
        world.add(name)
    world.join_all()
    world.run(5)
    for name in world.names(NODES):
        world.tables(name, Tables.join_network, "red")
    world.run(12)
    return world


def knows(world: World, name: str, owner: str, value: bytes) -> bool:
    machine = world.nodes[name].machine
    assert isinstance(machine, Gossip)
    return any((row.owner, row.value) == (owner, value) for row in machine.tables.standing("red", "endpoints"))


def quiet(seed: int) -> float:
    """Seconds until a new row, and new tags, are known to all."""
    world = cluster(seed)
    machine = world.nodes["n3"].machine
    assert isinstance(machine, Gossip)
    world._do("n3", machine.change_tags({"zone": "b"}, world.now))
    world.tables("n3", Tables.put, "red", "endpoints", "e", b"here")
    meta = world.nodes["n3"].swim.me.meta
    return world.run_until(
        lambda: all(
            node.swim.members.table["n3"].meta == meta and knows(world, name, "n3", b"here")
            for name, node in world.nodes.items()
        ),
        60,
        0.01,
    )


def failing(seed: int) -> float:
    """Seconds until the failure of a node is known to all."""
    world = cluster(seed)
    world.run(world.now + seed / 16)
    world.crash("n7")
    return world.run_until(lambda: world.all_agree("n7", State.DEAD), 60, 0.05)


def churn(seed: int, turns: int = 30) -> list[float]:
    """Every other second a node crashes or returns, with 2 % loss; how long until 15 others know of a change of one."""
    world = cluster(seed, loss=0.02)
    dice = random.Random(seed)
    watchers, restless = world.names(15), world.names(NODES)[15:]
    took = []
    for turn in range(turns):
        name = dice.choice(restless)
        if name in world.running():
            world.crash(name)
        else:
            world.add(name)
            world.tables(name, Tables.join_network, "red")
            world.join(name, ["n0", "n1"])
        owner, value = dice.choice(watchers), b"turn %d" % turn
        world.tables(owner, Tables.put, "red", "endpoints", "e", value)
        took.append(
            world.run_until(lambda o=owner, v=value: all(knows(world, who, o, v) for who in watchers), 60)  # type: ignore[misc]
        )
        world.run(world.now + 2)
    return took


def measured(seeds: int) -> dict[str, float]:
    """The worst of so many clusters; of churn the 90th percentile and the worst of all changes."""
    changes = [took for seed in range(seeds) for took in churn(seed)]
    return {
        "seeds": seeds,
        "quiet": max(quiet(seed) for seed in range(seeds)),
        "failure": max(failing(seed) for seed in range(seeds)),
        "churn90": statistics.quantiles(changes, n=10)[-1],
        "churn": max(changes),
        "changes": len(changes),
    }
