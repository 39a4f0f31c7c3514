"""When there is another data key, and which one is used: decisions of ``core.datakeys``. Lived through in
tests/swarm/test_rekeying.py."""

import pytest
from msgspec.structs import replace

from fairlead.core import datakeys
from fairlead.core.datakeys import LIFETIME, ZERO, Facts, Ring
from fairlead.core.service import SECOND
from fairlead.errors import Invalid

NOW = 10**18
RING = Ring(keys=("a",), used="a", made=NOW, root="R", given=("m1", "m2"))
FACTS = Facts("m1", {"a", "b"}, {"m1": "a", "m2": "a"}, "R", NOW)


def due(ring: Ring = RING, **other: object) -> str:
    return datakeys.due(ring, FACTS._replace(**other))  # type: ignore[arg-type]


def test_nothing_is_due_for_a_month() -> None:
    assert not due() and not due(now=NOW + LIFETIME - SECOND)
    assert LIFETIME == 30 * 24 * 3600 * SECOND
    assert due(now=NOW + LIFETIME) == "it is old"
    assert due(now=NOW - LIFETIME) == "it is old", "whoever made it had a clock that was far ahead"
    assert not due(now=NOW - SECOND), "clocks differ a little"


def test_another_is_due_when_somebody_who_had_it_manages_no_more() -> None:
    assert due(managers={"m1": "a"}) == "m2 had it, and manages no more"
    assert not due(managers={"m1": "a", "m2": "a", "m3": ""}), "a newcomer"
    assert not due(replace(RING, given=("m1",)), managers={"m1": "a"}), "who went never had this one"


def test_another_is_due_with_another_root_and_in_a_swarm_that_has_key_zero() -> None:
    assert "root" in due(root="S")
    assert "before there were several" in due(Ring())


def test_one_that_is_not_used_yet_is_its_maker_s() -> None:
    begun = replace(RING, keys=("b", "a"))
    assert not due(begun)
    assert due(begun, held={"a"}) == "who made it leads no more"
    again = datakeys.begun(begun, "c", FACTS._replace(held={"a"}, now=NOW + 1, root="S"))
    assert again == replace(RING, keys=("c", "a"), given=("m1",), made=NOW + 1, root="S")


def test_it_is_used_when_all_have_it_and_what_is_older_goes_after_that() -> None:
    begun = datakeys.begun(RING, "b", FACTS)
    assert (begun.keys, begun.used, begun.given) == (("b", "a"), "a", ("m1",))
    assert datakeys.awaited(begun, FACTS) == ["m1", "m2"]
    assert datakeys.awaited(begun, FACTS._replace(managers={"m1": "b", "m2": "a", "m3": ""})) == ["m2", "m3"]
    assert not datakeys.awaited(begun, FACTS._replace(managers={"m1": "b", "m2": "b"}))
    assert not datakeys.older(begun)
    changed = datakeys.changed(begun)
    assert changed.used == "b" and datakeys.older(changed) == ("a",)
    third = datakeys.begun(changed, "c", FACTS)
    assert third.keys == ("c", "b", "a") and datakeys.older(third) == ("a",)
    assert datakeys.without_older(third).keys == ("c", "b")
    assert datakeys.without_older(changed).keys == ("b",)


def test_an_id_tells_of_its_key_and_nothing_of_it() -> None:
    one, other = datakeys.name(b"k" * 32), datakeys.name(b"o" * 32)
    assert one != other and len(bytes.fromhex(one)) == datakeys.ID_BYTES and one != ZERO


def test_a_ring_that_makes_no_sense() -> None:
    assert datakeys.read(b'{"keys":["a"],"used":"a"}').keys == ("a",)
    for bad in (b"", b"\xff", b"[]", b'{"keys":1}'):
        with pytest.raises(Invalid):
            datakeys.read(bad)
