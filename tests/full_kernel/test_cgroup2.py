"""Control groups of version 2 and nothing else, as every distribution of today has them."""

import re
from pathlib import Path

from lane.limits import HUNGRY, NAP, Limits, ended, reading
from lane.machine import eventually
from scenarios.lab import Lab


class TestLimits(Limits):
    pass


def test_the_engine_says_what_there_is(lab: Lab) -> None:
    fields = "CgroupVersion CgroupDriver MemoryLimit SwapLimit CPUCfsQuota CPUShares CPUSet PidsLimit OomKillDisable"
    said = lab.docker(["info", "--format", " ".join(f"{{{{.{field}}}}}" for field in fields.split())]).out
    assert said == "2 cgroupfs true true true true true true false"
    assert not [line for line in lab.docker("info").err.splitlines() if line.endswith("support")]


def test_what_there_is_no_more_is_let_go_with_a_warning(lab: Lab) -> None:
    made = lab.docker(f"run -d --name one -m 64m --memory-swappiness 7 --oom-kill-disable {NAP}")
    assert "WARNING: Your kernel does not support OomKillDisable. OomKillDisable discarded." in made.err
    assert "Memory swappiness discarded." in made.err
    assert lab.docker.field("one", ".HostConfig.OomKillDisable") == "<nil>"
    assert lab.docker.field("one", ".HostConfig.MemorySwappiness") == "<nil>"


def test_weights_of_disks(lab: Lab) -> None:
    """As the disk's scheduler has them, or as the kernel's cost model has them: there 10 to 1000 become 1 to 10000."""
    lab.run(f"-d --name one --blkio-weight 300 {NAP}")
    kept = lab.inside("one", "cat /sys/fs/cgroup/io.bfq.weight /sys/fs/cgroup/io.weight 2>/dev/null").out.split()
    assert {"300", "2930"} & set(kept)


def test_a_container_sees_its_own_group_and_no_other(lab: Lab) -> None:
    lab.run(f"-d --name own {NAP}")
    assert lab.docker.field("own", ".HostConfig.CgroupnsMode") == "private"
    assert lab.inside("own", "cat /proc/1/cgroup").out == "0::/"
    assert lab.inside("own", "cat /sys/fs/cgroup/cgroup.procs").lines[0] == "1"
    assert "Read-only" in lab.inside("own", "mkdir /sys/fs/cgroup/x")
    id = lab.run(f"-d --name shared --cgroupns host {NAP}")
    assert lab.inside("shared", "cat /proc/1/cgroup").out == f"0::{lab.host.cgroup}/{id}"
    id = lab.run(f"-d --name elsewhere --cgroupns host --cgroup-parent {lab.host.cgroup}/deep/er {NAP}")
    assert lab.inside("elsewhere", "cat /proc/1/cgroup").out == f"0::{lab.host.cgroup}/deep/er/{id}"
    lab.run(f"-d --name free --privileged {NAP}")
    assert lab.inside("free", "mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x")


def test_what_is_counted_is_named_as_the_kernel_names_it(lab: Lab) -> None:
    lab.run(f"-d --name one -m 24m --memory-swap 24m busybox sh -c 'while :; do {HUNGRY}; sleep 1; done'")
    eventually(lambda: reading(lab, "one")["memory_stats"].get("failcnt"), "somebody was killed")
    now = reading(lab, "one")
    assert {"anon", "file", "inactive_file", "pgfault"} < now["memory_stats"]["stats"].keys()
    assert "max_usage" not in now["memory_stats"] and "percpu_usage" not in now["cpu_stats"]["cpu_usage"]


def test_a_returning_engine_goes_on_counting_and_leaves_no_group(lab: Lab) -> None:
    lab.run(f"-d --name one -m 64m --pids-limit 20 {NAP}")
    lab.docker("pause one")
    lab.engine.restart()
    assert lab.docker.field("one", ".State.Status") == "paused"
    lab.docker("unpause one")
    now = reading(lab, "one")
    assert (now["memory_stats"]["limit"], now["pids_stats"]["limit"]) == (64 << 20, 20)
    lab.run(f"-d --name glutton -m 24m --memory-swap 24m busybox sh -c '{HUNGRY}'")
    assert ended(lab, "glutton")["OOMKilled"]
    lab.docker("rm -f one glutton")
    group = Path(f"/sys/fs/cgroup{lab.host.cgroup}")
    assert not [path for path in group.rglob("*") if re.fullmatch("[0-9a-f]{64}", path.name)]
