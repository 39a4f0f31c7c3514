"""A shelf: the rows of one network on one node, in order of their places.

    keep(row)   the newer version wins        compare(range)   what to answer to somebody's range

How two shelves come to agree, whoever begins (range-based set reconciliation):

    A  --- one range: everything, n rows, fingerprint --->  B    equal: nothing to say
    A  <-- eight smaller ranges --------------------------  B    unequal and large: cut it up
    A  --- rows of this one, and "that is all" ----------->  B    unequal and small: send them
    A  <-- rows that A lacked ----------------------------  B
    a range the other has nothing of: ``WINDOW`` rows and the range of the rest, until all is there

No message depends on an earlier one, so whichever is lost, the next exchange goes on from there, and
a node that has everything but one row learns it in a few datagrams, however many rows there are.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import NamedTuple

from fairlead.core.rows import LAST_PLACE, Range, Row

SMALL = 6
"""Ranges of so few rows are sent rather than cut up."""
PARTS = 8
WINDOW = 60
"""Rows sent at once to somebody who has none: a few datagrams."""


class Answer(NamedTuple):
    """What to send in answer to a range."""

    rows: list[Row]
    ranges: list[Range]


class Shelf:
    """One network's rows."""

    def __init__(self, network: str) -> None:
        self.network = network
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.of_owner: dict[str, set[tuple[str, str, str]]] = {}
        self._places: list[int] = []
        self._at: dict[int, Row] = {}
        self._hidden: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, name: tuple[str, str, str]) -> Row | None:
        return self.rows.get(name)

    def keep(self, row: Row) -> bool:
        """Put a version in place of the one that was there; False if another row stands in its place."""
        standing = self._at.get(row.place)
        if standing is None:
            bisect.insort(self._places, row.place)
        elif standing.name != row.name:
            return False
        self._at[row.place] = row
        self._hidden.discard(row.place)
        self.rows[row.name] = row
        self.of_owner.setdefault(row.owner, set()).add(row.name)
        return True

    def owned(self, owner: str) -> list[Row]:
        """All rows of one node."""
        return [self.rows[name] for name in sorted(self.of_owner.get(owner, ()))]

    def hide(self, row: Row, hidden: bool = True) -> None:
        """Compare without it from now on (or with it again)."""
        if hidden:
            self._hidden.add(row.place)
        else:
            self._hidden.discard(row.place)

    def drop(self, row: Row) -> None:
        """Forget it."""
        if self.rows.pop(row.name, None) is None:
            return
        del self._places[bisect.bisect_left(self._places, row.place)]
        del self._at[row.place]
        self._hidden.discard(row.place)
        names = self.of_owner[row.owner]
        names.discard(row.name)
        if not names:
            del self.of_owner[row.owner]

    def everything(self) -> Range:
        """The whole network as one range."""
        return self._range(0, LAST_PLACE, self._between(0, LAST_PLACE))

    def compare(self, theirs: Range, received: set[int]) -> Answer:
        """What the sender of a range should get. ``received``: prints of the rows that came with it."""
        mine = self._between(theirs.first, theirs.final)
        ours = self._range(theirs.first, theirs.final, mine)
        if ours.print == theirs.print and ours.size == theirs.size:
            return Answer([], [])
        if theirs.last:
            return Answer([row for row in mine if row.print not in received][:WINDOW], [])
        if theirs.size == 0:
            rest = mine[WINDOW:]
            more = [self._range(rest[0].place, theirs.final, rest)] if rest else []
            return Answer(mine[:WINDOW], more)
        if not mine:
            return Answer([], [ours])
        if len(mine) <= SMALL:
            return Answer(mine, [ours._replace(last=theirs.size <= SMALL)])
        return Answer([], list(self._cut(theirs, mine)))

    def _cut(self, theirs: Range, mine: list[Row]) -> Iterable[Range]:
        size = -(-len(mine) // PARTS)
        first = theirs.first
        for at in range(0, len(mine), size):
            part = mine[at : at + size]
            final = mine[at + size].place - 1 if at + size < len(mine) else theirs.final
            yield self._range(first, final, part)
            first = final + 1

    def _between(self, first: int, final: int) -> list[Row]:
        places = self._places[bisect.bisect_left(self._places, first) : bisect.bisect_right(self._places, final)]
        return [self._at[place] for place in places if place not in self._hidden]

    def _range(self, first: int, final: int, rows: list[Row]) -> Range:
        mark = 0
        for row in rows:
            mark ^= row.print
        return Range(self.network, first, final, mark, len(rows), False)
