"""Bad weather is one nftables table, and shows on the map."""

import pytest

from fairlead.errors import Invalid
from fairlead.lab import picture, weather
from fairlead.lab.topology import one_cable
from fairlead.lab.weather import Weather

PLAN = one_cable("one", "two", "three")


def test_groups_are_parted_pair_by_pair() -> None:
    sky = Weather().parted("one,two", "three").parted("three", "one")
    assert sky.cuts == (("one", "three"), ("three", "two"))
    with pytest.raises(Invalid, match="one cannot be parted from itself"):
        sky.parted("one", "two,one")


def test_a_clear_sky_has_no_table() -> None:
    assert weather.rules(Weather(), PLAN) == "table bridge lab\ndelete table bridge lab"


def test_a_partition_holds_by_port_and_by_address() -> None:
    text = weather.rules(Weather().parted("one", "two"), PLAN)
    assert 'meta iifname "p0-1" meta oifname "p0-2" drop\n' in text
    assert 'meta iifname "p0-2" meta oifname "p0-1" drop\n' in text
    assert "ip saddr { 192.168.77.12 } ip daddr { 192.168.77.11 } drop\n" in text
    assert "ip6 saddr { fd77:77::b } ip6 daddr { fd77:77::c } drop\n" in text


def test_the_map_shows_containers_and_trouble() -> None:
    sky = Weather(cuts=(("one", "two"),), loss={"two": 125})
    one = picture.State("engine up", ("web  (RED 172.18.0.2)",), missed=("two",))
    states = {"one": one, "two": picture.State("off")}
    assert picture.draw(PLAN, sky, states).splitlines() == [
        "lan  192.168.77.0/24  fd77:77::/64",
        " |- outside  192.168.77.1     the world",
        " |- one      192.168.77.11    engine up   hears not: two; misses: two",
        " |     web  (RED 172.18.0.2)",
        " |- two      192.168.77.12    off         hears not: one; loses 12.5 %",
        " `- three    192.168.77.13",
    ]
