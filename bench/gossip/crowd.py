"""Ten thousand real machines in one process.

A full member table on every node would be 100 million entries. All nodes of a quiet cluster know the same,
so they share one table, and each has on top of it only what it has come to see otherwise. The machines are
``core.swim``'s own; nothing of the protocol is simplified, and every packet is encoded and read.
"""

import gc
import random
from collections.abc import Iterator, MutableMapping

from fairlead.core.deck import Deck
from fairlead.core.gossip import Me
from fairlead.core.members import HERE, Member, SwimConfig
from fairlead.core.swim import Swim
from fairlead.core.swimwire import State
from lane.virtual import World


class Layered(MutableMapping[str, Member]):
    """A shared table and what one node sees otherwise."""

    def __init__(self, shared: dict[str, Member]) -> None:
        self._shared = shared
        self.own: dict[str, Member] = {}
        self._more = 0

    def __getitem__(self, name: str) -> Member:
        found = self.own.get(name)
        return found if found is not None else self._shared[name]

    def get(self, name: str, default: Member | None = None) -> Member | None:  # type: ignore[override]
        found = self.own.get(name)
        return found if found is not None else self._shared.get(name, default)

    def __setitem__(self, name: str, member: Member) -> None:
        if name not in self.own and name not in self._shared:
            self._more += 1
        self.own[name] = member

    def __delitem__(self, name: str) -> None:
        raise KeyError("nobody is forgotten within the minutes of a simulation")

    def __iter__(self) -> Iterator[str]:
        yield from self._shared
        yield from (name for name in self.own if name not in self._shared)

    def __len__(self) -> int:
        return len(self._shared) + self._more


def crowd(count: int, seed: int = 1, loss: float = 0.0, config: SwimConfig | None = None) -> World:
    """A cluster of so many nodes that know each other already."""
    gc.unfreeze()  # an earlier crowd may go
    config = config or SwimConfig()
    world = World(seed, loss, config=config, make=lambda me, dice: Swim(_member(me), config, dice))
    world.keep_facts = False
    shared: dict[str, Member] = {}
    for name in world.names(count):
        node = world.add(name)
        shared[name] = node.swim.me
    cards = list(shared)
    for name, node in world.nodes.items():
        members = node.swim.members
        members.table = Layered(shared)  # type: ignore[assignment]
        members.here = count
        members._deck = Deck(random.Random(world.dice.getrandbits(64)), cards)
        node.swim._broadcasts.drop(name)
        exchange = world.dice.random() * node.swim.between_exchanges()  # as in a cluster that has stood for long
        node.swim._alarms.set("exchange", exchange)
    gc.collect()
    gc.freeze()  # millions of objects that stay: not to be walked again and again
    return world


def _member(me: Me) -> Member:
    return Member(me.name, me.address, incarnation=1)


def think(world: World, whom: str, state: State) -> int:
    """How many of those that run see a node so."""
    found = 0
    for name, node in world.nodes.items():
        member = node.swim.members.table.get(whom)
        if name != whom and node.running and member is not None and member.state == state:
            found += 1
    return found


def false_suspicions(world: World) -> tuple[int, int]:
    """(times somebody had to say that it lives, opinions that a running node is dead)."""
    running = {name for name, node in world.nodes.items() if node.running}
    refuted = sum(node.swim.members.refutations for node in world.nodes.values())
    dead = 0
    for node in world.nodes.values():
        table = node.swim.members.table
        own = table.own if isinstance(table, Layered) else table
        dead += sum(1 for member in own.values() if member.state not in HERE and member.name in running)
    return refuted, dead
