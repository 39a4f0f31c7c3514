"""Threads share one arena of the C library's allocator."""

import subprocess
import sys

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
