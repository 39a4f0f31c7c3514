"""``fairlead lab up --swarm``: a swarm stands, and goes with the lab."""

import os
import subprocess
import sys
from pathlib import Path

from fairlead.lab.machine import SOURCE
from lane.machine import eventually


def test_a_lab_that_is_a_swarm(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "FAIRLEAD_LABS": str(tmp_path / "labs")}

    def lab(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fairlead", "lab", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180, check=False)

    assert "give one of them" in lab("up", "--swarm", "2m1w", "--hosts", "2").stderr
    up = lab("up", "--swarm", "2m1w")
    try:
        assert up.returncode == 0 and "they are one swarm" in up.stderr, up.stderr
        asked = ("exec", "manager2", "fairlead", "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
        there = ["manager1 Leader", "manager2 Reachable", "worker1 "]
        eventually(lambda: sorted(lab(*asked).stdout.splitlines()) == there, "the managers reach each other")
    finally:
        lab("down")
    assert not list((tmp_path / "labs").iterdir())
