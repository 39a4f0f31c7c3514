"""The tour is typed from beginning to end, and leaves nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

from fairlead.lab.machine import SOURCE


def test_the_tour(tmp_path: Path) -> None:
    links = set(os.listdir("/sys/class/net"))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "lab", "tour", "--no-wait", "--store", "etcd"],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n33/33  " in done.stdout and "far  (BLUE 10.0.0.3)" in done.stdout
    assert re.search(r" three +Ready +Active", done.stdout)
    assert list(tmp_path.iterdir()) == [] and set(os.listdir("/sys/class/net")) == links
