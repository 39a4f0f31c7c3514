"""Two deeds at the same time, when what they have in common is only that both must succeed.

    names  ------>|
    kernel --->   |---> both are done, or the first that failed is raised

A ``TaskGroup`` would end the other deed in its middle, and raise a group. Here each
goes to its end, so that whoever takes back what was done knows what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def beside(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Both results. ``first`` begins first, and goes on until it has to wait."""
    one, two = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(two, BaseException):
        raise two
    return one, two
