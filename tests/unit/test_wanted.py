"""Wanted objects compare by what they are, not by who wants them and why."""

from __future__ import annotations

from fairlead.core.wanted import Address, Association, Link, Secret, owned


def test_owner_reason_and_secret_take_no_part_in_comparison() -> None:
    one, other = Address(link="eth0", address="10.0.0.2/24"), Address(link="eth0", address="10.0.0.2/24", owner="me")
    assert one == other and hash(one) == hash(other)
    assert (one != other) is False, "the other operator asks the same"
    assert one != Address(link="eth0", address="10.0.0.3/24")
    assert one != Link(name="eth0", kind="dummy")
    first = Association(source="a", target="b", spi=1, port=2, secret=Secret(b"x"))
    assert first == Association(source="a", target="b", spi=1, port=2, secret=Secret(b"y"))


def test_what_has_an_owner_keeps_it() -> None:
    mine, theirs = Link(name="a", kind="dummy"), Link(name="b", kind="dummy", owner="them")
    assert [item.owner for item in owned((mine, theirs), "me")] == ["me", "them"]


def test_a_line_tells_what_differs_from_the_usual() -> None:
    assert str(Link(name="a", kind="veth", options=(("isolated", "1"),), owner="me")) == (
        "link name=a kind=veth options=((isolated,1))"
    )
