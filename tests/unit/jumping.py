"""Time that jumps: where a loop would wait, its clock moves on instead. Hours of a story in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


def in_jumping_time(story: Coroutine[Any, Any, None]) -> float:
    """Tells the story to its end; the seconds that it took in its own time."""
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()
    return selector.now
