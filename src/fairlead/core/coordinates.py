"""Network coordinates: how far is everybody, learnt from the pings that are sent anyway (Vivaldi).

Every node is a point in eight dimensions, above which it hangs at a height (its own last mile). The
distance of two points, plus both heights, tells the round trip between them. Each measured round
trip pulls or pushes the point a little, the more the surer the other is of itself and the less we are.
Acks carry the point in serf's format, so stock agents and we learn from each other.

Rules
    1. A coordinate that is not finite, has another number of dimensions or is absurdly far away is
       ``Malformed``; a round trip of more than ten seconds is not used.
    2. Of each peer the median of the last three round trips counts: one late ack moves nothing.
    3. All points drift towards the origin a little, so that a cluster does not wander off.
    4. At most ``MOST`` peers are remembered.

Sources: Dabek, Cox, Kaashoek, Morris, "Vivaldi" (SIGCOMM 2004); Ledlie, Gardner, Seltzer, "Network
Coordinates in the Wild" (NSDI 2007) for filter, height and gravity; Lee, Guha, Sankaralingam, "On
Suitability of Euclidean Embedding for Host-Based Network Coordinate Systems" for the adjustment.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any, NamedTuple

from fairlead.core.effects import Dice
from fairlead.core.packing import Malformed, pack, unpack

DIMENSIONS = 8
WORST_ERROR = 1.5
LEAST_HEIGHT = 1e-5
MOST = 4096
_STEP = 0.25
_LEARN = 0.25
_FILTER = 3
_WINDOW = 20
_GRAVITY = 150.0
_LONGEST = 10.0
_FARTHEST = 1000.0
"""Seconds; light has been to the moon and back in three."""
_VERSION = 1


class Coordinate(NamedTuple):
    """A point. All in seconds, ``error`` is a ratio."""

    vector: tuple[float, ...] = (0.0,) * DIMENSIONS
    error: float = WORST_ERROR
    adjustment: float = 0.0
    height: float = LEAST_HEIGHT

    def distance(self, other: Coordinate) -> float:
        """The round trip to expect, in seconds."""
        plain = self.raw_distance(other)
        adjusted = plain + self.adjustment + other.adjustment
        return adjusted if adjusted > 0 else plain

    def raw_distance(self, other: Coordinate) -> float:
        """The same without the adjustments."""
        return math.dist(self.vector, other.vector) + self.height + other.height


def encode(point: Coordinate) -> bytes:
    """As the payload of an ack."""
    vector, error, adjustment, height = point
    fields = {"Vec": list(vector), "Error": error, "Adjustment": adjustment, "Height": height}
    return bytes((_VERSION,)) + pack(fields)


def decode(payload: bytes) -> Coordinate:
    """The payload of somebody's ack."""
    if payload[:1] != bytes((_VERSION,)):
        raise Malformed("no coordinate we know")
    fields = unpack(payload[1:])
    if not isinstance(fields, dict) or not isinstance(fields.get(b"Vec"), list) or len(fields[b"Vec"]) != DIMENSIONS:
        raise Malformed(f"a coordinate has {DIMENSIONS} dimensions")
    point = Coordinate(
        tuple(_seconds(value) for value in fields[b"Vec"]),
        min(abs(_seconds(fields.get(b"Error"))), WORST_ERROR),
        _seconds(fields.get(b"Adjustment")),
        max(_seconds(fields.get(b"Height")), LEAST_HEIGHT),
    )
    return point


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not abs(value) <= _FARTHEST:  # NaN is not <= anything
        raise Malformed("a coordinate far from anywhere")
    return float(value)


class Coordinates:
    """Our point, and the last ones of the others."""

    def __init__(self, dice: Dice) -> None:
        self.mine = Coordinate()
        self.others: dict[str, Coordinate] = {}
        self._dice = dice
        self._latest: dict[str, deque[float]] = {}
        self._misses: deque[float] = deque(maxlen=_WINDOW)

    def observe(self, name: str, other: Coordinate, rtt: float) -> None:
        """A peer that says it is at ``other`` answered after ``rtt`` seconds."""
        if not 0 < rtt <= _LONGEST:
            return
        if name not in self._latest and len(self._latest) >= MOST:
            self.forget(next(iter(self._latest)))
        self.others[name] = other
        latest = self._latest.setdefault(name, deque(maxlen=_FILTER))
        latest.append(rtt)
        self._move(other, median(latest))
        self._adjust(other, rtt)
        self.mine = _pushed(self.mine, -_pull(self.mine), Coordinate(), self._dice)

    def distance(self, name: str) -> float:
        """The round trip to expect to a peer, in seconds; infinite while unknown."""
        other = self.others.get(name)
        return self.mine.distance(other) if other else math.inf

    def forget(self, name: str) -> None:
        """The peer is gone."""
        self._latest.pop(name, None)
        self.others.pop(name, None)

    def _move(self, other: Coordinate, rtt: float) -> None:
        mine = self.mine
        expected = mine.distance(other)
        wrong = abs(expected - rtt) / rtt
        total = max(mine.error + other.error, 1e-6)
        weight = mine.error / total
        error = min(_LEARN * weight * wrong + mine.error * (1 - _LEARN * weight), WORST_ERROR)
        self.mine = _pushed(mine._replace(error=error), _STEP * weight * (rtt - expected), other, self._dice)

    def _adjust(self, other: Coordinate, rtt: float) -> None:
        missed = rtt - self.mine.raw_distance(other)
        self._misses.append(min(max(missed, -_FARTHEST), _FARTHEST))
        self.mine = self.mine._replace(adjustment=sum(self._misses) / (2 * _WINDOW))


def _pull(point: Coordinate) -> float:
    return (point.distance(Coordinate()) / _GRAVITY) ** 2


def _pushed(point: Coordinate, force: float, away: Coordinate, dice: Dice) -> Coordinate:
    """The point moved by ``force`` away from another, its height too; in a direction of chance if they coincide."""
    apart = [mine - other for mine, other in zip(point.vector, away.vector, strict=True)]
    length = math.hypot(*apart)
    height = point.height
    if length > 1e-6:
        height = max((height + away.height) * force / length + height, LEAST_HEIGHT)
    else:
        apart = [dice.random() - 0.5 for _ in apart]
        length = math.hypot(*apart) or 1.0
    limit = _FARTHEST / 2
    vector = tuple(
        min(max(at + side / length * force, -limit), limit) for at, side in zip(point.vector, apart, strict=True)
    )
    return point._replace(vector=vector, height=min(height, limit))
