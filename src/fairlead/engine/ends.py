"""Futures of a container's end: who waits for one, now or from now on."""

from __future__ import annotations

import asyncio

from fairlead.engine.runtime import Ended


def wait_in(waiting: list[asyncio.Future[Ended]]) -> asyncio.Future[Ended]:
    future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    waiting.append(future)
    return future


def already(end: Ended) -> asyncio.Future[Ended]:
    future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    future.set_result(end)
    return future


def resolve(waiting: list[asyncio.Future[Ended]], end: Ended) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(end)
    waiting.clear()


async def within(end: asyncio.Future[Ended], seconds: float | None) -> bool:
    """Whether it ended in time; the future stays usable."""
    done, _ = await asyncio.wait([end], timeout=seconds)
    return bool(done)


def patience(seconds: int, *, heard: bool) -> float | None:
    """How long ``stop`` waits for an end; below 0: for ever. Who was sent none, as there is no such signal, gets
    Docker's two seconds: it may end by itself."""
    if not heard:
        return 2.0
    return None if seconds < 0 else float(seconds)
