"""Seeds: places where members may be, and when to try them again.

    alone         a few of them at a time; the pauses grow from ``first`` to ``longest``, each by chance
                  between half of it and all of it, so that hosts that lost each other at once do not come at once
    not alone     all of us together try about one in a ``longest``: two halves that know nothing of each other meet

Whoever was a member and failed is asked after anyway, every second (``core.probing``); seeds are for
those who know nobody: the first start, and a start while the network was cut.

Rule: more seeds or other seeds are news, and the pauses begin anew.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from fairlead.core.effects import Address, Dice

AT_ONCE = 4
"""Seeds tried at a time. Any of them tells of all the others."""


class Seeds:
    """``first``, ``longest``: seconds."""

    def __init__(self, dice: Dice, first: float, longest: float) -> None:
        self._dice = dice
        self._first = self._pause = first
        self._longest = longest
        self._known: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._known)

    def become(self, seeds: Iterable[Address]) -> None:
        """These, and no others."""
        known = tuple(dict.fromkeys(seeds))
        if set(known) != set(self._known):
            self._pause = self._first
        self._known = known

    def some(self, count: int, but: Container[Address]) -> list[Address]:
        """Up to ``count`` by chance, none of ``but``."""
        left = [seed for seed in self._known if seed not in but]
        while len(left) > count:
            left.pop(self._dice.randrange(len(left)))
        return left

    def pause(self, alone: bool) -> float:
        """Seconds until the next try; alone, twice as many each time."""
        if not alone:
            self._pause = self._first
            return self._longest * (0.5 + self._dice.random() / 2)
        pause, self._pause = self._pause, min(2 * self._pause, self._longest)
        return pause * (0.5 + self._dice.random() / 2)
