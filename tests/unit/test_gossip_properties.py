"""Whatever happens to a cluster of 2 to 25 nodes, once it is over everybody agrees with what is.

A history is a list of misfortunes and wishes with pauses between them, on a network that loses, delays and doubles.
The model is simple: who runs, which networks each has, which rows each has put. After the history the
network is mended and time passes; then every running node must see exactly the running nodes as here,
those that left as left, and exactly the model's rows of the networks that it has.
"""

from typing import Any

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from fairlead.core.gossip import Gossip
from fairlead.core.members import HERE
from fairlead.core.rows import ROOM
from fairlead.core.swimwire import PACKET
from fairlead.core.tables import Tables, TablesConfig
from lane.virtual import World

NETWORKS = ("red", "blue")
LIMIT = 45.0
"""Virtual seconds after which all must be well again; seldom more than ten are needed."""

deeds = st.one_of(
    st.tuples(st.just("run"), st.floats(0.1, 25.0)),
    st.tuples(st.just("crash"), st.integers(0, 24)),
    st.tuples(st.just("start"), st.integers(0, 24)),
    st.tuples(st.just("leave"), st.integers(0, 24)),
    st.tuples(st.just("cut"), st.integers(1, 24)),
    st.tuples(st.just("heal"), st.just(0)),
    st.tuples(st.just("have"), st.integers(0, 49)),
    st.tuples(st.just("give up"), st.integers(0, 49)),
    st.tuples(st.just("put"), st.integers(0, 499)),
    st.tuples(st.just("delete"), st.integers(0, 499)),
)


class Model:
    """What should be: and the world that should come to it."""

    def __init__(self, count: int, seed: int, loss: float, delay: float, doubled: float) -> None:
        config = TablesConfig(remember=600.0)
        self.world = World(seed, loss, (0.0005, delay), doubled, tables=config)
        self.names = self.world.names(count)
        self.rows: dict[str, dict[tuple[str, str], bytes]] = {}
        self.has: dict[str, set[str]] = {}
        self.left: set[str] = set()
        self.serial = 0
        for name in self.names:
            self._start(name)
        self.world.join_all()
        self.world.run(4)  # who has met nobody yet can find nobody

    def _start(self, name: str) -> None:
        self.world.add(name)
        self.rows[name], self.has[name] = {}, set()
        self.left.discard(name)

    def runs(self, name: str) -> bool:
        return name in self.world.running() and name not in self.left

    def do(self, deed: str, number: Any) -> None:
        world = self.world
        if deed == "run":
            world.run(world.now + number)
            return
        name = self.names[number % len(self.names)]
        rest = number // len(self.names)
        network, key = NETWORKS[rest % 2], f"e{rest // 2 % 3}"
        if deed == "cut":
            world.cut(self.names[: number % len(self.names)], self.names[number % len(self.names) :])
        elif deed == "heal":
            world.heal()
        elif deed == "start" and name not in world.running():
            self._start(name)
            world.join(name, [other for other in self.names if other != name][:3])
        elif self.runs(name):
            self._to_a_running_one(deed, name, network, key)

    def _to_a_running_one(self, deed: str, name: str, network: str, key: str) -> None:
        world, has, rows = self.world, self.has[name], self.rows[name]
        if deed == "crash":
            world.crash(name)
        elif deed == "leave" and sum(map(self.runs, self.names)) > 2:
            world.leave(name)
            world.run(world.now + 3)
            world.crash(name)
            self.left.add(name)
        elif deed == "have":
            has.add(network)
            world.tables(name, Tables.join_network, network)
        elif deed == "give up" and network in has:
            has.discard(network)
            world.tables(name, Tables.leave_network, network)
            for gone in [place for place in rows if place[0] == network]:
                del rows[gone]
        elif deed == "put" and network in has:
            self.serial += 1
            rows[network, key] = b"%d" % self.serial
            world.tables(name, Tables.put, network, "endpoints", key, rows[network, key])
        elif deed == "delete" and network in has:
            rows.pop((network, key), None)
            world.tables(name, Tables.delete, network, "endpoints", key)

    def wanted(self, network: str) -> dict[tuple[str, str], bytes]:
        here = [name for name in self.names if self.runs(name) and network in self.has[name]]
        return {(key, name): v for name in here for (net, key), v in self.rows[name].items() if net == network}

    def wrong(self) -> list[str]:
        """What is not as it should be."""
        found = []
        here = {name for name in self.names if self.runs(name)}
        for name in sorted(here):
            machine = self.world.nodes[name].machine
            assert isinstance(machine, Gossip)
            seen = {member.name for member in machine.swim.members.table.values() if member.state in HERE}
            if seen != here:
                found.append(f"{name} sees {sorted(seen)}, not {sorted(here)}")
            for network in self.has[name]:
                rows = {(row.key, row.owner): row.value for row in machine.tables.standing(network, "endpoints")}
                if rows != self.wanted(network):
                    found.append(f"{name} has {rows} in {network}, not {self.wanted(network)}")
        return found


@settings(max_examples=20, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))
@given(
    count=st.integers(2, 25),
    seed=st.integers(0, 1000),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    delay=st.sampled_from([0.002, 0.05]),
    doubled=st.sampled_from([0.0, 0.1]),
    history=st.lists(deeds, max_size=25),
)
def test_everybody_comes_to_agree_with_what_is(
    count: int, seed: int, loss: float, delay: float, doubled: float, history: list[tuple[str, Any]]
) -> None:
    model = Model(count, seed, loss, delay, doubled)
    for deed, number in history:
        model.do(deed, number)
    model.world.heal()
    model.world.loss = min(loss, 0.05)
    began = model.world.now
    while model.wrong() and model.world.now - began < LIMIT:
        model.world.run(model.world.now + 0.5)
    assert model.wrong() == [], f"{count} nodes, seed {seed}, {loss} {delay} {doubled}: {history}"
    event(f"agreed within {int((model.world.now - began) // 5 * 5 + 5)} s")
    assert max(node.largest for node in model.world.nodes.values()) <= PACKET
    assert ROOM < PACKET
