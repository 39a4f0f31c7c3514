"""What a container may use and what it used: questions for any engine, on either version of control groups.

The kernel's own files answer, read inside the container; ``both(old, new)`` says them for version 1 and 2.
"""

import json
import re
import time
from typing import Any

from lane.machine import eventually
from scenarios.lab import Lab

NAP = "busybox sleep 1000"
MIB = 1 << 20
HUNGRY = "head -c 100000000 /dev/zero | tail"
"""More memory than any container here may have."""

Both = tuple[tuple[str, str], tuple[str, str]]


def both(path1: str, text1: object, path2: str, text2: object) -> Both:
    """File and what it says, in version 1 and in version 2."""
    return (path1, str(text1)), (path2, str(text2))


def version(lab: Lab) -> int:
    return int(lab.docker("info --format {{.CgroupVersion}}").out)


def holds(lab: Lab, container: str, *facts: Both) -> None:
    """The kernel has just these limits for the container."""
    chosen = [fact[version(lab) - 1] for fact in facts]
    script = "; ".join(f"tr '\\n' ' ' </sys/fs/cgroup/{path}; echo" for path, _ in chosen)
    said = dict(zip((path for path, _ in chosen), map(str.strip, lab.inside(container, script).lines), strict=True))
    assert said == dict(chosen), said


def reading(lab: Lab, container: str) -> dict[str, Any]:
    """One answer of ``/stats``, with the one a second before."""
    answer = lab.engine.http().call("GET", f"/containers/{container}/stats?stream=false")
    assert answer.status == 200
    return answer.json  # type: ignore[return-value]


def ended(lab: Lab, container: str) -> dict[str, Any]:
    eventually(lambda: lab.docker.field(container, ".State.Status") == "exited", "it ended")
    (found,) = lab.docker.json(f"inspect {container}")
    return found["State"]


class Limits:
    """For the lanes to inherit."""

    def test_what_is_asked_for_is_what_the_kernel_keeps(self, lab: Lab) -> None:
        lab.run(
            "-d --name all -m 64m --memory-swap 96m --memory-reservation 32m --cpu-quota 20000 --cpu-period 50000"
            f" --cpuset-cpus 0 --pids-limit 20 {NAP}"
        )
        holds(
            lab,
            "all",
            both("memory/memory.limit_in_bytes", 64 * MIB, "memory.max", 64 * MIB),
            both("memory/memory.memsw.limit_in_bytes", 96 * MIB, "memory.swap.max", 32 * MIB),
            both("memory/memory.soft_limit_in_bytes", 32 * MIB, "memory.low", 32 * MIB),
            both("cpu/cpu.cfs_quota_us", 20000, "cpu.max", "20000 50000"),
            both("cpuset/cpuset.cpus", 0, "cpuset.cpus", 0),
            both("pids/pids.max", 20, "pids.max", 20),
        )

    def test_what_is_left_out_follows_from_the_rest(self, lab: Lab) -> None:
        lab.run(f"-d --name some -m 64m --cpus 0.5 {NAP}")
        lab.run(f"-d --name more -m 64m --memory-swap -1 {NAP}")
        swap = both("memory/memory.memsw.limit_in_bytes", 128 * MIB, "memory.swap.max", 64 * MIB)
        holds(
            lab,
            "some",
            swap,
            both("cpu/cpu.cfs_quota_us", 50000, "cpu.max", "50000 100000"),
            both("pids/pids.max", "max", "pids.max", "max"),
        )
        holds(lab, "more", both("memory/memory.memsw.limit_in_bytes", (1 << 63) - 4096, "memory.swap.max", "max"))

    def test_shares_become_a_weight(self, lab: Lab) -> None:
        lab.run(f"-d --name few --cpu-shares 512 {NAP}")
        lab.run(f"-d --name many --cpu-shares 2048 {NAP}")
        path = ("cpu/cpu.shares", "cpu.weight")[version(lab) - 1]
        few, many = (int(lab.inside(name, f"cat /sys/fs/cgroup/{path}").out) for name in ("few", "many"))
        assert 3 < many / few < 5

    def test_a_disk_is_slowed(self, lab: Lab) -> None:
        lab.run(f"-d --name disk --device-read-bps /dev/loop0:1mb --device-write-iops /dev/loop0:30 {NAP}")
        read, write = "blkio/blkio.throttle.read_bps_device", "blkio/blkio.throttle.write_iops_device"
        now = "7:0 rbps=1048576 wbps=max riops=max wiops=30"
        holds(lab, "disk", both(read, f"7:0 {MIB}", "io.max", now), both(write, "7:0 30", "io.max", now))

    def test_update_reaches_what_runs(self, lab: Lab) -> None:
        lab.run(f"-d --name one -m 64m --cpus 0.5 --pids-limit 20 {NAP}")
        lab.docker("update -m 80m --memory-swap 160m --cpus 0.25 --pids-limit 30 --cpuset-cpus 0 one")
        holds(
            lab,
            "one",
            both("memory/memory.limit_in_bytes", 80 * MIB, "memory.max", 80 * MIB),
            both("memory/memory.memsw.limit_in_bytes", 160 * MIB, "memory.swap.max", 80 * MIB),
            both("cpu/cpu.cfs_quota_us", 25000, "cpu.max", "25000 100000"),
            both("cpuset/cpuset.cpus", 0, "cpuset.cpus", 0),
            both("pids/pids.max", 30, "pids.max", 30),
        )
        lab.docker("update --pids-limit -1 one")
        holds(
            lab,
            "one",
            both("memory/memory.limit_in_bytes", 80 * MIB, "memory.max", 80 * MIB),
            both("pids/pids.max", "max", "pids.max", "max"),
        )

    def test_who_takes_too_much_memory_is_killed_and_it_is_told(self, lab: Lab) -> None:
        began = int(time.time()) - 1
        lab.run(f"-d --name glutton -m 24m --memory-swap 24m busybox sh -c '{HUNGRY}'")
        state = ended(lab, "glutton")
        assert (state["ExitCode"], state["OOMKilled"]) == (137, True)
        said = lab.docker(f"events --since {began} --until {int(time.time()) + 1} -f container=glutton").lines
        told = [match[1] for line in said if (match := re.search(r" container (\w+) ", line))]
        assert told.index("oom") < told.index("die")
        lab.docker("start glutton")
        assert ended(lab, "glutton")["OOMKilled"]

    def test_who_is_killed_for_another_reason_was_not_out_of_memory(self, lab: Lab) -> None:
        lab.run(f"-d --name one -m 24m {NAP}")
        lab.docker("kill one")
        state = ended(lab, "one")
        assert (state["ExitCode"], state["OOMKilled"]) == (137, False)

    def test_a_fork_bomb_ends_at_its_limit(self, lab: Lab) -> None:
        lab.run("-d --name bomb --pids-limit 8 busybox sh -c 'while sleep 1000 & do :; done; sleep 1000'")
        eventually(lambda: "can't fork" in lab.docker("logs bomb"), "the end of it")
        assert ended(lab, "bomb")["ExitCode"] != 0

    def test_a_quota_is_felt_and_counted(self, lab: Lab) -> None:
        lab.run("-d --name busy --cpus 0.05 -m 64m --pids-limit 20 busybox sh -c 'while :; do :; done'")
        eventually(lambda: reading(lab, "busy")["cpu_stats"]["throttling_data"]["throttled_periods"] > 2, "a brake", 30)
        now = reading(lab, "busy")
        used = now["cpu_stats"]["cpu_usage"]["total_usage"] - now["precpu_stats"]["cpu_usage"]["total_usage"]
        passed = now["cpu_stats"]["system_cpu_usage"] - now["precpu_stats"]["system_cpu_usage"]
        assert 0 < used / passed * now["cpu_stats"]["online_cpus"] < 0.25
        assert now["cpu_stats"]["throttling_data"]["throttled_time"] > 0
        assert now["memory_stats"]["limit"] == 64 * MIB and 0 < now["memory_stats"]["usage"] < 64 * MIB
        assert now["pids_stats"] == {"current": 1, "limit": 20}
        shown = json.loads(lab.docker(["stats", "--no-stream", "--format", "{{json .}}", "busy"]).out)
        assert shown["MemUsage"].endswith("/ 64MiB") and shown["PIDs"] == "1"
        assert 0 < float(shown["CPUPerc"].removesuffix("%")) < 25

    def test_usage_without_limits_is_measured_against_the_machine(self, lab: Lab) -> None:
        lab.run(f"-d --name free {NAP}")
        whole = int(lab.docker("info --format {{.MemTotal}}").out)
        assert reading(lab, "free")["memory_stats"]["limit"] == whole

    def test_pause_stops_everything_until_unpause(self, lab: Lab) -> None:
        lab.run("-d --name clock busybox sh -c 'while :; do echo; sleep 0.1; done'")

        def count() -> int:
            answer = lab.engine.http().call("GET", "/containers/clock/logs?stdout=1")
            return len(answer.data)

        eventually(lambda: count() > 0, "it ticks")
        lab.docker("pause clock")
        assert lab.docker.field("clock", ".State.Status") == "paused"
        assert "(Paused)" in lab.docker("ps").out
        before = count()
        assert reading(lab, "clock")["pids_stats"]["current"] >= 1  # and a second has passed
        assert count() == before
        lab.docker.refused("exec clock true", "is paused, unpause the container before exec")
        lab.docker("unpause clock")
        eventually(lambda: count() > before, "it goes on")
        lab.docker("pause clock")
        lab.docker("rm -f clock")

    def test_processes_are_listed_and_belong_to_it(self, lab: Lab) -> None:
        lab.run("-d --name two busybox sh -c 'sleep 1001 & sleep 1002'")
        eventually(lambda: "sleep 1002" in lab.docker("top two"), "both")
        rows = lab.docker("top two").lines[1:]
        assert sorted(row.split(None, 7)[-1] for row in rows)[-2:] == ["sleep 1001", "sleep 1002"]
        assert reading(lab, "two")["pids_stats"]["current"] == len(rows)
