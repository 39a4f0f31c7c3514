"""Keys by query: asked by one, done and answered by all, in serf's words; and who is not answered."""

import base64
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import serfkeys
from fairlead.core.effects import Address, Datagram, packed
from fairlead.core.envelope import Envelope
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.core.packing import Malformed, pack
from fairlead.core.sealing import Keyring
from fairlead.core.serfkeys import INSTALL, LIST, MOST_KEYS, REMOVE, USE, KeyAnswer, KeyAnswered, RingChanged
from fairlead.core.swimwire import User, encode
from fairlead.swarm.cipher import seal_with
from lane.virtual import World

OLD, NEW = b"o" * 32, b"n" * 32
STRANGER = Address("203.0.113.66", 4242)


def sealed(me: Me, dice: random.Random) -> Gossip:
    return Gossip(me, SwimConfig(), dice, Envelope(seal_with([OLD])))


@pytest.fixture
def world() -> World:
    world = World(make=sealed)
    for name in world.names(5):
        world.add(name)
    world.join_all()
    world.run(5)
    return world


def ask(world: World, who: str, id: int, deed: str, key: bytes = b"") -> dict[str, KeyAnswer]:
    machine = world.nodes[who].machine
    assert isinstance(machine, Gossip)
    world._do(who, machine.ask_keys(id, deed, key, world.now))
    world.run(world.now + 2)
    told = [fact for _, by, fact in world.facts if by == who and isinstance(fact, KeyAnswered) and fact.id == id]
    assert len({fact.node for fact in told}) == len(told), "each answers once"
    return {fact.node: fact.answer for fact in told}


def rings(world: World) -> set[tuple[bytes, ...]]:
    found = set()
    for node in world.nodes.values():
        ring = node.swim.envelope.ring
        assert ring is not None
        found.add(ring.keys)
    return found


def test_a_key_is_added_used_and_the_old_one_removed_by_asking(world: World) -> None:
    for id, (deed, key, ring) in enumerate(
        [(INSTALL, NEW, (OLD, NEW)), (USE, NEW, (NEW, OLD)), (REMOVE, OLD, (NEW,))], start=1
    ):
        answers = ask(world, "n3", id, deed, key)
        assert answers == dict.fromkeys(world.names(5), KeyAnswer(True))
        assert rings(world) == {ring}
    changed = [by for _, by, fact in world.facts if fact == RingChanged(REMOVE, OLD)]
    assert sorted(changed) == world.names(5)
    listed = ask(world, "n0", 9, LIST)
    text = base64.b64encode(NEW).decode()
    assert set(listed.values()) == {KeyAnswer(True, "", (text,), text)} and len(listed) == 5
    world.run(world.now + 20)
    assert world.complete()


def test_what_cannot_be_done_is_said_and_changes_nothing(world: World) -> None:
    for id, (deed, key, why) in enumerate(
        [(USE, NEW, "has not been added"), (REMOVE, OLD, "in use"), (INSTALL, b"short", "16, 24 or 32")], start=1
    ):
        answers = ask(world, "n1", id, deed, key)
        assert len(answers) == 5
        assert all(not answer.done and why in answer.message for answer in answers.values())
    assert rings(world) == {(OLD,)}


def test_without_a_seal_there_is_nothing_to_change() -> None:
    assert serfkeys.obey(None, INSTALL, NEW) == KeyAnswer(False, "No keyring to modify (encryption not enabled)")


def test_a_ring_does_not_grow_without_end() -> None:
    ring = Keyring([OLD])
    for number in range(3 * MOST_KEYS):
        serfkeys.obey(ring, INSTALL, number.to_bytes(16, "big"))
    assert len(ring.keys) == MOST_KEYS


def query(asker: Address, **more: object) -> bytes:
    request = bytes((serfkeys.KEY_REQUEST,)) + pack({"Key": b""})
    fields = {"LTime": 7, "ID": 1, "Addr": packed(asker.ip), "Port": asker.port, "SourceNode": "n1", "Filters": []}
    name = {"Flags": 1, "RelayFactor": 0, "Timeout": 1, "Name": "_serf_list-keys", "Payload": request}
    return bytes((serfkeys.QUERY,)) + pack({**fields, **name, **more})


def answers_to(world: World, data: bytes) -> list[Address]:
    """To whom n2 sends something at once when it hears a query."""
    swim = world.nodes["n2"].swim
    machine, sender = world.nodes["n2"].machine, world.nodes["n1"].address
    effects = machine.receive(swim.envelope.packet(encode(User(data))), sender, world.now)
    return [item.to for item in effects.send if isinstance(item, Datagram)]


def test_a_member_is_answered_with_a_word_that_it_came_and_the_answer(world: World) -> None:
    asker = world.nodes["n1"].address
    assert answers_to(world, query(asker)) == [asker, asker]
    assert answers_to(world, query(asker)) == []  # once


@pytest.mark.parametrize(
    ("asker", "more"),
    [
        (STRANGER, {}),
        (Address("10.0.0.1", 99), {}),
        (Address("10.0.0.1", 7946), {"Filters": [b"\x00" + pack(["n4"])]}),
        (Address("10.0.0.1", 7946), {"Filters": [b"\x01" + pack({"Tag": "role", "Expr": "(a+)+$"})]}),
        (Address("10.0.0.1", 7946), {"Name": "_serf_conflict", "Flags": 0}),
        (Address("10.0.0.1", 7946), {"Name": "deploy", "Flags": 0}),
    ],
    ids=["a stranger", "another port", "not meant", "a program of theirs", "another of serf's", "no key"],
)
def test_nobody_else_is_answered(world: World, asker: Address, more: dict[str, object]) -> None:
    assert answers_to(world, query(asker, **more)) == []


def test_answers_to_others_are_not_believed(world: World) -> None:
    swim = world.nodes["n2"].swim
    told = serfkeys.response(
        serfkeys.read_query(query(STRANGER), "n2"), "n4", serfkeys.answer(KeyAnswer(True, "", ("x",)))
    )
    effects = world.nodes["n2"].machine.receive(swim.envelope.packet(encode(User(told))), STRANGER, world.now)
    assert effects.tell == ()


@given(st.binary(max_size=120))
def test_anything_at_all(data: bytes) -> None:
    for read in (lambda d: serfkeys.read_query(b"\x04" + d, "me"), lambda d: serfkeys.read_response(b"\x05" + d)):
        with suppress(Malformed):
            read(data)
