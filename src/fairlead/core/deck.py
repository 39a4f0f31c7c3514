"""A deck of names: drawn one by one in an order of chance, shuffled anew when the last has been drawn.

SWIM wants everybody probed once in a round, in another order on every node (section 4.3). The
order is not laid out: each draw swaps a card from the rest to the front, and only the swaps are
kept. So a new round costs nothing, and a newcomer, put behind the last card, comes up anywhere in
what is left of the round.
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.effects import Dice


class Deck:
    """Names, without doubles."""

    def __init__(self, dice: Dice, names: list[str]) -> None:
        self._dice = dice
        self._names = names
        self._swapped: dict[int, str] = {}
        self._drawn = 0
        self._removed: set[str] = set()

    def add(self, name: str) -> None:
        if name in self._removed:
            self._removed.discard(name)
        else:
            self._names.append(name)

    def remove(self, name: str) -> None:
        """It may still be drawn in this round."""
        self._removed.add(name)

    def draw(self) -> str:
        """The next name of the round. There must be one."""
        if self._drawn >= len(self._names):
            self._begin_anew()
        at = self._drawn + self._dice.randrange(len(self._names) - self._drawn)
        chosen = self._card(at)
        if at != self._drawn:
            self._swapped[at] = self._card(self._drawn)
        self._swapped.pop(self._drawn, None)
        self._drawn += 1
        return chosen

    def glimpse(self, count: int) -> Iterator[str]:
        """Names by chance, with repetition, all of them if there are few; the round does not notice."""
        if count >= 2 * len(self._names):
            names = list(self._names)
            for left in range(len(names), 0, -1):
                at = self._dice.randrange(left) if left > 1 else 0
                names[at], names[left - 1] = names[left - 1], names[at]
                yield names[left - 1]
            return
        for _ in range(count):
            yield self._names[self._dice.randrange(len(self._names))]

    def _card(self, at: int) -> str:
        return self._swapped.get(at, self._names[at])

    def _begin_anew(self) -> None:
        self._swapped.clear()
        self._drawn = 0
        if self._removed:
            self._names[:] = [name for name in self._names if name not in self._removed]
            self._removed.clear()
