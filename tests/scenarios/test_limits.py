"""Limits and use of containers, on control groups as this machine has them (version 2: the full-kernel lane)."""

from lane.limits import NAP, Limits, both, holds, version
from scenarios.lab import Lab


class TestLimits(Limits):
    pass


def test_what_only_version_1_has(lab: Lab) -> None:
    if version(lab) == 2:
        return
    lab.run(f"-d --name one -m 64m --memory-swappiness 7 --oom-kill-disable {NAP}")
    assert lab.inside("one", "cat /sys/fs/cgroup/memory/memory.swappiness").out == "7"
    assert "oom_kill_disable 1" in lab.inside("one", "cat /sys/fs/cgroup/memory/memory.oom_control")
    assert lab.docker.field("one", ".HostConfig.OomKillDisable") == "true"
    lab.docker("update --memory-reservation 32m one")
    holds(lab, "one", both("memory/memory.swappiness", 7, "", ""))
