"""Gossip from somebody who should not be heard, or says what is not his to say: strangers, replays, a member gone bad.

Real machines with real ciphers and signatures in virtual time; the attacker writes packets by hand."""

import random
from collections.abc import Iterator

import pytest

from fairlead.core import rows, serfkeys
from fairlead.core.effects import Address, Datagram, packed
from fairlead.core.envelope import Envelope
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.core.packing import pack
from fairlead.core.rows import Row
from fairlead.core.swimwire import Alive, Dead, Message, State, Suspect, User, encode
from fairlead.core.tables import Tables
from fairlead.swarm.cipher import seal_with
from fairlead.swarm.nodekeys import NodeKeys, new_private
from lane.virtual import World

KEY, OTHER = b"k" * 32, b"o" * 32
STRANGER = Address("203.0.113.66", 4242)


class Town:
    """Four nodes with keys that have network red; n3 is the member gone bad: it has the gossip key, and its own."""

    def __init__(self, label: str = "", sealed: bool = True) -> None:
        self.keys = {name: NodeKeys(name, new_private()) for name in World.names(4)}
        for name in self.keys:
            for other, theirs in self.keys.items():
                self.keys[name].know(other, theirs.public)
        self.label, self.sealed = label, sealed
        self.heard: list[tuple[Address, Address, bytes]] = []
        self.world = World(seed=4, make=self._make)
        self.world.watch = lambda sender, to, data: self.heard.append((sender, to, data))
        for name in self.keys:
            self.world.add(name)
        self.world.join_all()
        for name in self.keys:
            self.world.tables(name, Tables.join_network, "red")
        self.world.run(12)

    def _make(self, me: Me, dice: random.Random) -> Gossip:
        return Gossip(me, SwimConfig(), dice, self._envelope(KEY, self.label), keys=self.keys[me.name])

    def _envelope(self, key: bytes, label: str) -> Envelope:
        return Envelope(seal_with([key]) if self.sealed else None, label)

    def machine(self, name: str) -> Gossip:
        machine = self.world.nodes[name].machine
        assert isinstance(machine, Gossip)
        return machine

    def say(self, message: Message, to: str = "n2", key: bytes = KEY, label: str | None = None) -> None:
        """As n3, or with another key or label from wherever."""
        envelope = self._envelope(key, self.label if label is None else label)
        self.inject(to, envelope.packet(encode(message)))

    def inject(self, to: str, data: bytes) -> None:
        self.world.inject(to, data, self.machine("n3").swim.address)
        self.world.run(self.world.now + 1)

    def forge(self, owner: str, value: bytes | None, by: str = "n3") -> None:
        """A row in somebody's name, far in the future, signed with a key that is not the owner's."""
        row = Row("red", "endpoints", "web", owner, 1000, value)
        row = Row("red", "endpoints", "web", owner, 1000, value, self.keys[by].sign(row.signed))
        for message in rows.messages([rows.encode_row(row, 1000)]):
            self.say(User(message))

    def web(self, name: str = "n2") -> list[tuple[str, bytes | None]]:
        return [(row.owner, row.value) for row in self.machine(name).tables.standing("red", "endpoints")]

    def picture(self) -> object:
        """All that everybody believes."""
        return {
            name: (
                sorted((m.name, m.state, m.meta, m.address) for m, _ in self.machine(name).members()),
                self.web(name),
                self.machine(name).tables.nodes("red"),
            )
            for name in self.world.running()
        }


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town()
    made.world.tables("n1", Tables.put, "red", "endpoints", "web", b"10.0.0.1")
    made.world.run(made.world.now + 2)
    assert made.web() == [("n1", b"10.0.0.1")]
    yield made


@pytest.mark.proves(
    "memberlist",
    guard=("core/tables.py", "or not self._keys.verify(row.owner, row.signed, row.signature)", "or False"),
)
@pytest.mark.parametrize("value", [b"203.0.113.66", None], ids=["changed", "deleted"])
def test_a_row_is_its_owners_alone(town: Town, value: bytes | None) -> None:
    """n1's name cannot be taken over, or taken away, by a member that has the gossip key."""
    seen = [town.web()]
    town.world.watch = lambda *words: seen.append(town.web())
    town.forge("n1", value)
    assert all(web == [("n1", b"10.0.0.1")] for web in seen)
    assert town.machine("n2").tables.refused


@pytest.mark.proves(
    "memberlist",
    guard=(
        "swarm/nodekeys.py",
        "if public is None:\n            return False",
        "if public is None:\n            return True",
    ),
)
def test_nobody_speaks_for_a_node_whose_key_is_not_known(town: Town) -> None:
    town.keys["n2"].forget("n0")
    assert not town.keys["n2"].verify("n0", b"words", town.keys["n0"].sign(b"words"))
    town.forge("n0", b"203.0.113.66")
    assert town.web() == [("n1", b"10.0.0.1")]
    town.keys["n2"].know("n0", town.keys["n0"].public)  # the key comes late: what n0 itself says is then believed
    town.world.tables("n0", Tables.put, "red", "endpoints", "web", b"10.0.0.0")
    town.world.run_until(lambda: ("n0", b"10.0.0.0") in town.web(), 30)


@pytest.mark.proves(
    "memberlist",
    guard=(
        "core/envelope.py",
        "payload = self._seal.open(payload, self._label)",
        "payload = self._seal.open(payload, self._label) if payload[:1] == b'\\x01' else payload",
    ),
)
def test_a_stranger_is_not_heard(town: Town) -> None:
    """In the clear, or sealed with another cluster's key."""
    before = town.picture()
    for message in (
        Alive(9, "mallory", STRANGER),
        Dead(99, "n1", "n1"),
        Suspect(99, "n1", "n0"),
    ):
        town.say(message, key=OTHER)
        town.inject("n2", encode(message))
    assert town.picture() == before


@pytest.mark.proves(
    "memberlist",
    guard=("core/envelope.py", "if not data.startswith(head) or (not head", "if (not head"),
)
@pytest.mark.parametrize("label", ["", "blue"], ids=["none", "another"])
def test_another_label_is_another_cluster(label: str) -> None:
    town = Town(label="red!", sealed=False)
    refused = town.machine("n2").swim.statistics().refused
    town.say(Alive(9, "mallory", STRANGER), label=label)
    assert "mallory" not in town.machine("n2").swim.members.table
    assert town.machine("n2").swim.statistics().refused == refused + 1


@pytest.mark.proves(
    "memberlist",
    guard=("core/tables.py", "if old and (old.time, old.print) >= (row.time, row.print):", "if False:"),
)
@pytest.mark.proves(
    "memberlist",
    guard=(
        "core/members.py",
        "elif said.incarnation > known.incarnation:\n            self._acquit",
        "else:\n            self._acquit",
    ),
)
def test_what_was_said_once_has_no_effect_again(town: Town) -> None:
    """Every packet of a minute in which rows and members changed, sent again to whom it was for."""
    tables, world = town.world.tables, town.world
    tables("n1", Tables.put, "red", "endpoints", "web", b"10.0.0.2")
    tables("n0", Tables.put, "red", "endpoints", "db", b"10.0.0.9")
    world.run(world.now + 5)
    tables("n0", Tables.delete, "red", "endpoints", "db")
    world.crash("n3")
    world.run(world.now + 30)
    before, recorded = town.picture(), list(town.heard)
    assert dict(town.web()) == {"n1": b"10.0.0.2"}
    assert world.all_agree("n3", State.DEAD)
    names = {node.address: name for name, node in world.nodes.items()}
    flickers = []
    world.watch = lambda *words: flickers.append(town.picture()) if town.picture() != before else None
    for sender, to, data in recorded:
        world.inject(names[to], data, sender)
    world.run(world.now + 5)
    assert town.picture() == before and not flickers


@pytest.mark.proves(
    "memberlist",
    guard=(
        "core/gossip.py",
        "not any(member.address == query.asker and member.state in HERE for member in members):",
        "False:",
    ),
)
def test_a_question_makes_nobody_throw_stones_at_a_stranger(town: Town) -> None:
    request = bytes((serfkeys.KEY_REQUEST,)) + pack({"Key": b""})
    fields = {
        "LTime": 7,
        "ID": 1,
        "Addr": packed(STRANGER.ip),
        "Port": STRANGER.port,
        "SourceNode": "n1",
        "Filters": [],
    }
    more = {"Flags": 1, "RelayFactor": 0, "Timeout": 1, "Name": "_serf_list-keys", "Payload": request}
    machine = town.machine("n2")
    query = encode(User(bytes((serfkeys.QUERY,)) + pack({**fields, **more})))
    effects = machine.receive(machine.swim.envelope.packet(query), town.machine("n3").swim.address, town.world.now)
    assert STRANGER not in {item.to for item in effects.send if isinstance(item, Datagram)}
