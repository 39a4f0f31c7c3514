"""The one who plays: draws a move, makes it, and knows how to ask the engine.

    name = player.move()        chooses among what is possible now, by weight; does it; says what it was

Every draw comes from one seeded generator and from sorted lists, so the same seed makes the same moves (as long as
every answer is as expected). A move that the engine must refuse is played too: the model then stays as it is.

An unexpected answer raises ``Broken``. The moves themselves are in ``moves`` and ``mischief``.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lane.engines import Answer, Engine
from lane.machine import Place
from soak.model import Box, Model

T = TypeVar("T")
PATIENCE = 60.0
"""seconds: other people use this machine too"""


class Broken(AssertionError):
    """The engine did not do what the model says."""


Move = Callable[["Player"], str | None]
"""Makes one move and tells it in a few words; nothing when it is not possible now."""


class Player:
    """Plays against one engine."""

    def __init__(self, engine: Engine, seed: int, moves: dict[str, tuple[float, Move]]) -> None:
        """``moves``: name -> (weight, how)."""
        self.engine, self.model, self.dice, self.moves = engine, Model(), random.Random(seed), moves
        self.count = 0
        self.spent: list[tuple[str, float]] = []
        """(move, seconds) since somebody emptied it"""
        self._numbers = 0

    def move(self, without: Sequence[str] = ()) -> str:
        """One move. What cannot be done now is drawn again."""
        names = [name for name in self.moves if name not in without]
        while True:
            name = self.dice.choices(names, [self.moves[name][0] for name in names])[0]
            begun = time.perf_counter()
            told = self.moves[name][1](self)
            if told is not None:
                self.spent.append((name, time.perf_counter() - begun))
                self.count += 1
                return f"{name}: {told}"

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def pick(self, those: list[T]) -> T | None:
        return self.dice.choice(those) if those else None

    # -- asking -----------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None, expect: int = 200, **more: Any) -> Answer:
        """Ask, on a connection of its own; ``Broken`` unless the answer has the status expected."""
        connection = self.engine.http()
        try:
            answer = connection.call(method, f"/v1.51{path}", body, **more)
        finally:
            connection.close()
        if answer.status != expect:
            text = answer.data[:500].decode(errors="replace")
            raise Broken(f"{method} {path} answered {answer.status}, not {expect}: {text}")
        return answer

    def get(self, path: str) -> Any:
        return self.call("GET", path).json

    def inspect(self, box: Box) -> Any:
        return self.get(f"/containers/{box.name}/json")

    def inside(self, box: Box) -> Place:
        """A container's network, to look out of."""
        seen = self.inspect(box)["NetworkSettings"]
        first = next((e["IPAddress"] for e in seen["Networks"].values() if e["IPAddress"]), "")
        place = Place(self.engine.machine.pid, first)
        place.network = f"/proc/{self.engine.machine.pid}/root{seen['SandboxKey']}"
        return place

    def first_process(self, box: Box) -> int:
        """The container's first process, as the real machine numbers it."""
        inner = str(self.inspect(box)["State"]["Pid"])
        for entry in Path("/proc").iterdir():
            try:
                status = (entry / "status").read_text() if entry.name.isdigit() else ""
                found = re.search(rf"^NSpid:\s+\d+\s+{inner}\b", status, re.M)
                if found and self.engine.machine.cgroup in (entry / "cgroup").read_text():
                    return int(entry.name)
            except OSError:
                continue
        raise Broken(f"{box.name} runs as {inner}, but there is no such process")

    # -- what several moves share -----------------------------------------------------

    def remove(self, box: Box) -> None:
        self.call("DELETE", f"/containers/{box.name}?force=1&v=1", expect=204)
        del self.model.boxes[box.name]

    def clear(self) -> None:
        """Remove everything, the API's way."""
        for box in list(self.model.boxes.values()):
            self.remove(box)
        for net in self.model.made():
            self.call("DELETE", f"/networks/{net.name}", expect=204)
            del self.model.nets[net.name]
        for volume in sorted(self.model.volumes):
            self.call("DELETE", f"/volumes/{volume}", expect=204)
        self.model.volumes.clear()
        for tag in sorted(self.model.images):
            self.call("DELETE", f"/images/{tag}")
        self.model.images.clear()
