"""Network coordinates: they come to tell the round trips, and nobody can push us off the map."""

import math
import random

import pytest

from fairlead.core import coordinates
from fairlead.core.coordinates import MOST, Coordinate, Coordinates
from fairlead.core.packing import Malformed, pack


def test_the_format_there_and_back() -> None:
    point = Coordinate((1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5), 0.7, 0.01, 0.002)
    assert coordinates.decode(coordinates.encode(point)) == point


def test_three_sites_come_to_know_how_far_they_are() -> None:
    """Two near each other, one far away, with a little noise."""
    dice = random.Random(1)
    trips = {("a", "b"): 0.002, ("a", "c"): 0.08, ("b", "c"): 0.085}
    nodes = {name: Coordinates(random.Random(ord(name))) for name in "abc"}
    for _ in range(400):
        for (one, other), rtt in trips.items():
            measured = rtt * dice.uniform(0.95, 1.1)
            nodes[one].observe(other, nodes[other].mine, measured)
            nodes[other].observe(one, nodes[one].mine, measured)
    for (one, other), rtt in trips.items():
        assert nodes[one].distance(other) == pytest.approx(rtt, rel=0.5, abs=0.003)
    assert nodes["a"].distance("b") < nodes["a"].distance("c")


def test_one_late_answer_moves_nothing() -> None:
    node = Coordinates(random.Random(1))
    for _ in range(50):
        node.observe("a", Coordinate(), 0.01)
    before = node.mine.vector
    node.observe("a", Coordinate(), 9.0)
    assert math.dist(before, node.mine.vector) < 0.01


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, None, b"1"])
def test_a_coordinate_far_from_anywhere_is_refused(value: object) -> None:
    good = {"Vec": [0.0] * 8, "Error": 1.0, "Adjustment": 0.0, "Height": 0.1}
    for bad in ({"Vec": [0.0] * 7 + [value]}, {"Height": value}, {"Error": value}):
        with pytest.raises(Malformed):
            coordinates.decode(b"\x01" + pack({**good, **bad}))
    for other in (b"", b"\x02", b"\x01\x80", b"\x01" + pack({**good, "Vec": [0.0] * 9})):
        with pytest.raises(Malformed):
            coordinates.decode(other)


def test_whatever_others_claim_we_stay_finite() -> None:
    dice = random.Random(2)
    node = Coordinates(dice)
    for number in range(3000):
        far = Coordinate(tuple(dice.uniform(-1000, 1000) for _ in range(8)), 1e-9, dice.uniform(-1000, 1000), 1000.0)
        node.observe(f"n{number % 20}", far, dice.choice([-1.0, 0.0, 1e-9, 0.5, 10.0, 1e9, math.inf, math.nan]))
    assert all(map(math.isfinite, [*node.mine.vector, node.mine.error, node.mine.height, node.mine.adjustment]))
    coordinates.decode(coordinates.encode(node.mine))


def test_peers_are_bounded_in_number() -> None:
    node = Coordinates(random.Random(1))
    for number in range(MOST + 50):
        node.observe(f"n{number}", Coordinate(), 0.01)
    assert len(node.others) <= MOST
