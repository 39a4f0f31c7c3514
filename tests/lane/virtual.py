"""A cluster in virtual time: real machines on a network that loses, delays, doubles and is cut as a test wants.

    world = World(seed=1, loss=0.05)
    for name in world.names(25): world.add(name)
    world.join_all()
    world.run(until=30)

Datagrams take a while and may get lost or come twice. Streams lose nothing but time: a lost first
packet costs a second, as Linux has it, and beyond their timeout they fail. Nothing happens but by
``run``; the same seed gives the same history.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterable
from typing import Any

from fairlead.core.effects import Address, Call, Datagram, Effects
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import HERE, SwimConfig
from fairlead.core.swim import Swim
from fairlead.core.swimwire import State
from fairlead.core.tables import TablesConfig

Machine = Gossip | Swim
FIRST_RETRY = 1.0


class Node:
    """A machine and what the world knows about it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.swim = machine.swim if isinstance(machine, Gossip) else machine
        self.address = self.swim.address
        self.wake_at = math.inf
        self.running = True
        self.bytes_out = 0
        self.stream_bytes = 0
        self.largest = 0
        """datagram, in bytes"""


class World:
    """Nodes, a network between them, a clock."""

    def __init__(
        self,
        seed: int = 1,
        loss: float = 0.0,
        delay: tuple[float, float] = (0.0005, 0.003),
        doubled: float = 0.0,
        config: SwimConfig | None = None,
        tables: TablesConfig | None = None,
        make: Callable[[Me, random.Random], Machine] | None = None,
    ) -> None:
        self.dice = random.Random(seed)
        self.loss, self.delay, self.doubled = loss, delay, doubled
        self.config = config or SwimConfig()
        self.tables_config = tables or TablesConfig()
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.facts: list[tuple[float, str, object]] = []
        self.keep_facts = True
        self.watch: Callable[[Address, Address, bytes], None] | None = None
        """Sees every datagram as it is sent."""
        self._make = make or self._gossip
        self._by_address: dict[Address, str] = {}
        self._side: dict[str, int] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def _gossip(self, me: Me, dice: random.Random) -> Machine:
        return Gossip(me, self.config, dice, tables=self.tables_config)

    # -- who is there ---------------------------------------------------------------------------------------------

    @staticmethod
    def names(count: int) -> list[str]:
        return [f"n{number}" for number in range(count)]

    def add(self, name: str) -> Node:
        """A node appears, or one that crashed is started again with nothing in its memory."""
        number = int(name.removeprefix("n"))
        address = Address(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 7946)
        node = Node(self._make(Me(name, address), random.Random(self.dice.getrandbits(64))))
        self.nodes[name] = node
        self._by_address[address] = name
        self._do(name, node.machine.start(self.now))
        return node

    def join(self, name: str, seeds: Iterable[str]) -> None:
        node = self.nodes[name]
        self._do(name, node.machine.join([self.nodes[seed].address for seed in seeds], self.now))

    def join_all(self) -> None:
        """Everybody through the first."""
        first = next(iter(self.nodes))
        for name in self.nodes:
            if name != first:
                self.join(name, [first])

    def crash(self, name: str) -> None:
        self.nodes[name].running = False

    def leave(self, name: str) -> None:
        self._do(name, self.nodes[name].machine.leave(self.now))

    def tables(self, name: str, step: Callable[..., Effects], *words: Any) -> None:
        """``step`` of a node's tables, as ``Tables.put``, with its words; the time is added."""
        machine = self.nodes[name].machine
        assert isinstance(machine, Gossip)
        self._do(name, machine.with_tables(lambda tables: step(tables, *words, self.now), self.now))

    def cut(self, *sides: Iterable[str]) -> None:
        """Who is in different sides cannot reach each other; whoever is in none is in the first."""
        self._side = {name: number for number, side in enumerate(sides) for name in side}

    def heal(self) -> None:
        self._side = {}

    def running(self) -> dict[str, Node]:
        return {name: node for name, node in self.nodes.items() if node.running}

    # -- what they think ------------------------------------------------------------------------------------------

    def state(self, by: str, whom: str) -> State | None:
        member = self.nodes[by].swim.members.table.get(whom)
        return member.state if member else None

    def all_agree(self, whom: str, *states: State) -> bool:
        """Whether everybody else that runs sees a node so."""
        return all(self.state(name, whom) in states for name in self.running() if name != whom)

    def complete(self) -> bool:
        """Whether everybody that runs sees all of those, and nobody else, as here."""
        here = set(self.running())
        return all(
            {m.name for m in node.swim.members.table.values() if m.state in HERE} == here
            for node in self.running().values()
        )

    # -- time -----------------------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, deed, words = heapq.heappop(self._events)
            deed(*words)
        self.now = until

    def run_until(self, condition: Callable[[], bool], limit: float, step: float = 0.05) -> float:
        """Let time pass until something is so; how long it took. Fails after ``limit`` seconds."""
        began = self.now
        while not condition():
            assert self.now - began < limit, f"not so after {limit} s"
            self.run(self.now + step)
        return self.now - began

    def at(self, when: float, deed: Callable[..., None], *words: Any) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, deed, words))

    def inject(self, to: str, datagram: bytes, sender: Address) -> None:
        """Somebody sends a node something."""
        self._receive(to, datagram, sender)

    # -- effects --------------------------------------------------------------------------------------------------

    def _do(self, name: str, effects: Effects) -> None:
        node = self.nodes[name]
        for item in effects.send:
            if isinstance(item, Datagram):
                node.bytes_out += len(item.data)
                node.largest = max(node.largest, len(item.data))
                self._throw(name, node.address, item)
            else:
                node.stream_bytes += len(item.data)
                self._dial(name, item)
        if self.keep_facts:
            self.facts += [(self.now, name, fact) for fact in effects.tell]
        if effects.wake_at != node.wake_at:
            node.wake_at = effects.wake_at
            if effects.wake_at < math.inf:
                self.at(max(effects.wake_at, self.now), self._wake, name, node, effects.wake_at)

    def _wake(self, name: str, node: Node, when: float) -> None:
        if node.running and self.nodes[name] is node and node.wake_at == when:
            node.wake_at = math.nan
            self._do(name, node.machine.wake(self.now))

    def _throw(self, name: str, sender: Address, item: Datagram) -> None:
        if self.watch:
            self.watch(sender, item.to, item.data)
        to = self._by_address.get(item.to)
        if to is None or not self._reach(name, to):
            return
        for _ in range(2 if self.dice.random() < self.doubled else 1):
            if self.dice.random() >= self.loss:
                self.at(self.now + self.dice.uniform(*self.delay), self._receive, to, item.data, sender)

    def _receive(self, to: str, data: bytes, sender: Address) -> None:
        node = self.nodes[to]
        if node.running:
            self._do(to, node.machine.receive(data, sender, self.now))

    def _reach(self, one: str, other: str) -> bool:
        return self._side.get(one, 0) == self._side.get(other, 0)

    def _dial(self, name: str, call: Call) -> None:
        to = self._by_address.get(call.to)
        took = self.dice.uniform(*self.delay) * 2
        while self.dice.random() > (1 - self.loss) ** 2:
            took += FIRST_RETRY
        if to is None or took > call.timeout:
            if call.ticket:
                self.at(self.now + call.timeout, self._answer, name, self.nodes[name], call.ticket, None)
            return
        self.at(self.now + took, self._arrive, name, self.nodes[name], to, call)

    def _arrive(self, name: str, caller: Node, to: str, call: Call) -> None:
        called = self.nodes[to]
        answer = None
        if called.running and self._reach(name, to):
            message = called.swim.envelope.reader(asking=False).feed(call.data)
            if message is not None:
                sender = Address(caller.address.ip, 40_000)
                reply, effects = called.machine.asked(message, sender, self.now)
                called.stream_bytes += len(reply)
                self._do(to, effects)
                answer = reply
        if call.ticket:
            self.at(self.now + self.dice.uniform(*self.delay), self._answer, name, caller, call.ticket, answer)

    def _answer(self, name: str, caller: Node, ticket: int, answer: bytes | None) -> None:
        if caller.running and self.nodes[name] is caller:
            message = caller.swim.envelope.reader(asking=True).feed(answer) if answer else None
            self._do(name, caller.machine.answered(ticket, message, self.now))
