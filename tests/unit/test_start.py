"""What a start costs, counted in what is imported: time would tell about the machine, this tells about us."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = {
    "fairlead.daemon": {
        *("aiohttp", "cryptography", "kazoo", "dataclasses", "email", "http.client"),
        *("fairlead.engine.explain", "fairlead.core.ruleset", "fairlead.core.terrain"),
    },
}
"""What is started -> what it must not import before it is asked for something that needs it."""


@pytest.mark.parametrize("module", LATE)
def test_a_start_does_not_pay_for_what_comes_late(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & LATE[module]
