"""Version 2 of control groups, by files as the kernel writes them."""

from pathlib import Path

from fairlead.core.usage import DiskUse
from fairlead.host.cgroups import Cgroups

FILES = {
    "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n",
    "memory.stat": "anon 1\ninactive_file 2\n",
    "pids.current": "3\n",
    "pids.max": "20\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
}


def test_what_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    (tmp_path / "a/b").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "a/b" / name).write_text(text)
    groups = Cgroups(tmp_path)
    use = groups.usage("/a/b")
    assert (use.version, use.cpu, use.cpu_user, use.cpu_kernel) == (2, 7000, 4000, 3000)
    assert (use.periods, use.throttled_periods, use.throttled_time) == (9, 2, 5000)
    assert (use.memory, use.memory_limit, use.pids, use.pids_limit) == (4096, 0, 3, 20)
    assert use.memory_failures == 2, "how often there was no more to be had, as dockerd counts it"
    assert use.memory_detail == {"anon": 1, "inactive_file": 2}
    assert use.disk_bytes == (DiskUse(8, 0, "read", 1), DiskUse(8, 0, "write", 2))
    assert use.disk_operations == (DiskUse(8, 0, "read", 3), DiskUse(8, 0, "write", 4))
    assert groups.usage("/gone").version == 0


def test_a_limit_of_processes_is_lifted(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("pids\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/pids.max").write_text("20\n")
    Cgroups(tmp_path).free_processes("/a")
    assert (tmp_path / "a/pids.max").read_text() == "max"
    Cgroups(tmp_path).free_processes("/gone")
