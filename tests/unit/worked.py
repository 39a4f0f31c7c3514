"""How much work something is: lines of Python that were run, which are as many on a busy machine.

What other tests left to be collected is collected before: its farewells would be counted.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any


def lines(work: Callable[[], Any]) -> int:
    count = 0

    def traced(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return traced

    before, collecting = sys.gettrace(), gc.isenabled()
    gc.collect()
    gc.disable()
    sys.settrace(traced)
    try:
        work()
    finally:
        sys.settrace(before)
        if collecting:
            gc.enable()
    return count
