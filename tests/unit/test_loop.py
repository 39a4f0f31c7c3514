"""The loop of the small processes."""

import subprocess
import sys


def test_it_ends_when_it_is_told_to_by_a_timer_and_nothing_else_happens() -> None:
    code = "from fairlead.engine.loop import Loop; loop = Loop(); loop.later(0, loop.stop); loop.run()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
