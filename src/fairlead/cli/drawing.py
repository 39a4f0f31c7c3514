"""A board: lines that change, each with a name of its own. For what takes a while and has several parts.

board.say("1/3", "running", 9, 9)     on a terminal: the line of 1/3 is drawn anew, with a bar
                                      elsewhere: one more line; none where only a bar moved or nothing is new
"""

from __future__ import annotations

import os
import sys
from typing import Any

BAR = 50


class Board:
    """Draws to ``out`` (our output when None)."""

    def __init__(self, out: Any = None) -> None:
        self.out = sys.stdout if out is None else out
        self.terminal = bool(self.out.isatty())
        self.names: list[str] = []
        self.last: dict[str, str] = {}

    def say(self, name: str, words: str, done: int = 0, total: int = 0, unit: str | None = None) -> None:
        """``name: words``; with a ``total``, a bar (and ``done/total unit`` when there is a unit). "" has no line."""
        line = f"{name}: {words}" if name else words
        if not self.terminal:
            if not total and line != self.last.get(name):
                print(line, file=self.out)
                self.last[name] = line
        elif not name:
            print(line, file=self.out)
        else:
            self._draw(name, line + (f" {_bar(done, total, unit)}" if total else ""))
        self.out.flush()

    def _draw(self, name: str, line: str) -> None:
        if name not in self.names:
            self.names.append(name)
            self.out.write("\n")
        up = len(self.names) - self.names.index(name)
        self.out.write(f"\x1b[{up}A\x1b[2K\r{line}\r\x1b[{up}B")


def _bar(done: int, total: int, unit: str | None) -> str:
    """``[=====>     ]  2/9 nodes``; narrow terminals get the figures only."""
    figures = "" if unit is None else f"{done:8}/{total} {unit}"
    try:
        wide = os.get_terminal_size().columns > 110
    except OSError:
        wide = False
    if not wide:
        return figures.strip() if unit is not None else ""
    full = min(BAR, BAR * done // total)
    return f"[{'=' * full}>{' ' * (BAR - full)}] {figures}" if full < BAR else f"[{'=' * BAR}>] {figures}"
