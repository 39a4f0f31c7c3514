"""Threads share one arena of the C library's allocator, and what is free in it can be given back."""

import asyncio
import subprocess
import sys

import pytest

from fairlead.host import arenas as arenas_module

COUNT = """
import ctypes, re, sys, threading
sys.path[:0] = {path!r}
from fairlead.host import arenas
if {one}:
    assert arenas.one()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready = threading.Barrier(5)
def allocate():
    libc.malloc(1 << 16)
    ready.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
ready.wait()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def arenas(one: bool) -> int:
    script = COUNT.format(path=sys.path, one=one)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return told.count("<heap nr=")


def test_one_arena_for_all_threads() -> None:
    assert arenas(one=True) == 1
    assert arenas(one=False) > 1


HOLES = """
import ctypes, sys
sys.path[:0] = {path!r}
from fairlead.host import arenas
arenas.one()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4
blocks = [libc.malloc(1 << 14) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 14)
for block in blocks[:-1]:
    libc.free(block)
before = resident()
arenas.tidy()
print(before - resident())
"""


def test_what_is_free_below_something_that_stays_is_given_back() -> None:
    script = HOLES.format(path=sys.path)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(told) > 12 * 1024  # KiB of 16 MiB


def test_only_who_has_worked_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    spent = iter([1.0, 1.01, 1.06, 1.06, 1.07, 1.2, 1.2])
    turns = iter(range(4))

    async def pause(seconds: float) -> None:
        if next(turns, None) is None:
            raise asyncio.CancelledError

    last = [0.0]

    def processor() -> float:
        last[0] = next(spent)
        return last[0]

    monkeypatch.setattr(arenas_module.asyncio, "sleep", pause)
    monkeypatch.setattr(arenas_module, "tidy", lambda: given.append(last[0]))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(arenas_module.keep_tidy(processor))
    assert given == [1.06, 1.2]
