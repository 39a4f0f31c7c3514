"""Doors: numbers for devices."""

from types import SimpleNamespace
from typing import Any

from fairlead.host.doors import Door


def test_numbers_only_grow() -> None:
    """Who deletes by number what it has seen a moment ago must not meet a device that was made since."""
    there = [2, 9]
    nobody: Any = None
    door = Door("", nobody)
    door.devices = lambda: [SimpleNamespace(index=index) for index in there]  # type: ignore
    assert [door.new_index(), door.new_index()] == [10, 11]
    door.recount()
    there.append(20)
    assert door.new_index() == 21, "somebody took the next one"
    door.recount()
    there.clear()
    assert door.new_index() == 22, "what is gone is not given again"
