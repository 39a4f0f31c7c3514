"""Work that does not grow: one container more costs the engine the same among few and among many.

Counted are calls of our own functions, which a slow or busy machine does not change: whoever looks at every endpoint,
container or wanted object in turn makes more of them, the more there are.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest
from paper import Paper

import fairlead
from fairlead.core.model import EndpointSettings

T = TypeVar("T")
OURS = str(Path(fairlead.__file__).parent)


class Counting:
    """Counts calls of functions below src/fairlead, those of the host on paper aside (it is no kernel)."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: FrameType, what: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        self.calls += what == "call" and path.startswith(OURS) and not path.endswith("host/fake.py")

    async def during(self, work: Awaitable[T]) -> tuple[int, T]:
        self.calls = 0
        sys.setprofile(self)
        try:
            result = await work
        finally:
            sys.setprofile(None)
        return self.calls, result


async def lives(paper: Paper, name: str) -> dict[str, int]:
    """Calls that a container's start, connect, disconnect and end take."""
    count = Counting()
    probe = await paper.container(name, "crowd")
    aside = paper.controller.network("aside")
    started, stack = await count.during(paper.open(probe))
    relinked, _ = await count.during(_at_once(lambda: paper.attachments.relink(probe)))
    connected, probe = await count.during(paper.attachments.connect(probe, aside, EndpointSettings()))
    disconnected, _ = await count.during(paper.attachments.disconnect(probe, aside))
    ended, _ = await count.during(paper.attachments.close(stack))
    return {
        "start": started,
        "links": relinked,
        "connect": connected,
        "disconnect": disconnected,
        "end": ended,
    }


async def _at_once(deed: Callable[[], T]) -> T:
    return deed()


@pytest.mark.parametrize("ipv6", [False, True], ids=["four", "both"])
async def test_among_many_it_is_the_same_work(paper: Paper, ipv6: bool) -> None:
    for name in ("crowd", "aside"):
        await paper.network(name, ipv6=ipv6)
    sizes = {}
    for size in (3, 30):
        for number in range(len(paper.catalog.newest_first()), size):
            other = await paper.container(f"other{number:02}", "crowd", "aside")
            await paper.open(other)
        await lives(paper, f"warm{size}")
        sizes[size] = await lives(paper, f"probe{size:02}")
    assert sizes[30] == sizes[3]
