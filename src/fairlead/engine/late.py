"""Parts that a returning engine does not need for its first answers.

    explainer = late(build)      nothing is imported or built
    explainer.explain(…)         now it is, once
    awake(explainer)             whether it is

``build`` imports what it needs within itself; that is what makes it late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


def late(build: Callable[[], T]) -> T:
    """What ``build`` returns, built when something is first asked of it."""
    return cast(T, _Late(build))


def awake(part: object) -> bool:
    """Whether something was asked of a late part, so that it was built."""
    return "_part" in vars(part)


class _Late:
    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build

    def __getattr__(self, name: str) -> Any:
        if "_part" not in vars(self):  # no property: an AttributeError of ``build``'s would be asked for here again
            self._part = self._build()
        return getattr(self._part, name)
