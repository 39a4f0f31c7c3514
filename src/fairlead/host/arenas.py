"""The C library's allocator: one arena for all threads, and what lies free in it goes back to the kernel.

glibc gives every thread an arena of its own, up to eight a processor. Our threads hold the interpreter's lock whenever
they allocate, so several arenas save no waiting; each keeps what it once had. After some thousand containers one arena
is 6 MiB less (measured: 49.6 against 55.4), and it stops growing. Source: mallopt(3), M_ARENA_MAX.

libnftables takes and frees some hundred KiB for every look at the rules, each a little different. What is freed below
something that stays remains ours: after 2,500 moves 9 MiB were used of 20 MiB. So whoever has worked gives back, some
seconds later; an engine that has nothing to do does nothing here either. Source: malloc_trim(3).
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable

M_ARENA_MAX = -8
EVERY = 5.0
"""seconds"""
WORK = 0.05
"""seconds of processor time after which there may be something to give back; doing it takes one millisecond"""


def one() -> bool:
    """For this process, from now on; False where the C library knows no arenas."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1


def tidy() -> bool:
    """Gives back whole pages that are free; a millisecond. False where nothing was, or the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1


async def keep_tidy(spent: Callable[[], float] = time.process_time) -> None:
    """Until cancelled. ``spent``: seconds of processor time that this process had."""
    tidied = spent()
    while True:
        await asyncio.sleep(EVERY)
        if spent() - tidied >= WORK:
            tidy()
            tidied = spent()
