"""Control groups: where limits are kept and use is counted; version 1 (or hybrid) and version 2 alike.

    version 1   <root>/<controller>/<path>      one tree a controller
    version 2   <root>/<path>                   one tree for all

Rules
    1. Runtimes make, change and remove the groups. We read, and only prepare two things:
       ``ready`` (once a boot) and ``hurry`` (before a container is made); and we say
       what crun 1.8 has no word for: that a limit of processes is lifted.
    2. A group that is gone reads as nothing, never as an error.

``ready``: in a hybrid hierarchy crun refuses to work while version 2 holds a
controller that nobody mounted as version 1. We mount those, as systemd would;
a controller that is in use stays where it is. One that is mounted in another mount
namespace only (by an engine in a container, say) we mount here, too: crun would
take the plain folder of its name for the group, and leave what it wrote there.

``hurry``: moving a process between groups makes the kernel wait for a grace
period (6 to 15 ms), but moves that follow shortly do not wait again. So we
make a move that changes nothing, in a thread, as soon as a container is to start:
before its file system and its network are made, which takes about as long.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from contextlib import suppress
from pathlib import Path

from fairlead.core import usage as spent

log = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 says "no limit" with a number near the largest there is."""
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


class Cgroups:
    """The machine's hierarchy."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self.version = 2 if (root / "cgroup.controllers").exists() else 1

    # -- preparing ------------------------------------------------------------------------

    def ready(self) -> None:
        """Mount what a hybrid hierarchy leaves unmounted; says so in the log when it cannot."""
        if self.version == 2:
            return
        for controller in (*_words(self._root / "unified" / "cgroup.controllers"), *self._mounted_elsewhere()):
            place = self._root / controller
            try:
                place.mkdir(exist_ok=True)
                _mount_controller(place, controller)
            except OSError as error:
                log.warning("control group %s cannot be mounted as version 1: %s", controller, error.strerror)

    def _mounted_elsewhere(self) -> list[str]:
        with open("/proc/self/cgroup") as file:
            names = [line.split(":")[1] for line in file]
        return [name for name in names if name and "=" not in name and not os.path.ismount(f"{self._root}/{name}")]

    def hurry(self) -> None:
        """Wake the kernel up for moves between groups; costs nothing when it is awake. Returns at once."""
        asyncio.get_running_loop().run_in_executor(None, self._move_nobody)

    def _move_nobody(self) -> None:
        with suppress(OSError):
            fd = os.open(self._own(), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)

    def _own(self) -> str:
        """Path of our own group's list of processes; looked up anew, for it may have changed."""
        path = ""
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, where = line.split(":", 2)
            if self.version == 2 and not controllers:
                path = f"{self._root}{where}"
            elif self.version == 1 and "freezer" in controllers.split(","):
                path = f"{self._root}/freezer{where}"
        return f"{path}/cgroup.procs"

    def free_processes(self, path: str) -> None:
        """There may be any number of them from now on."""
        with suppress(FileNotFoundError):
            (self._directory("pids", path) / "pids.max").write_text("max")

    def remove(self, path: str) -> None:
        """A group that a failed start left behind, in every hierarchy; not while there is a process in it."""
        for top in [self._root] if self.version == 2 else self._root.iterdir():
            with suppress(OSError):
                (top / path.lstrip("/")).rmdir()

    # -- reading --------------------------------------------------------------------------

    def processes(self, path: str) -> list[int]:
        """Process ids in a group and those below it."""
        top = self._directory("freezer", path)
        found: list[int] = []
        for place, _, _ in os.walk(top):
            found += [int(word) for word in _words(Path(place) / "cgroup.procs")]
        return found

    def usage(self, path: str) -> spent.Usage:
        """What the group at ``path`` counts."""
        if not path or not self._directory("memory", path).is_dir():
            return spent.Usage()
        return self._usage2(self._root / path.lstrip("/")) if self.version == 2 else self._usage1(path)

    def _directory(self, controller: str, path: str) -> Path:
        top = self._root if self.version == 2 else self._root / controller
        return top / path.lstrip("/")

    def _usage1(self, path: str) -> spent.Usage:
        memory, cpu = self._directory("memory", path), self._directory("cpuacct", path)
        throttling = _table(self._directory("cpu", path) / "cpu.stat")
        used = _table(cpu / "cpuacct.stat")
        detail = _table(memory / "memory.stat")
        limit = _number(memory / "memory.limit_in_bytes")
        disks = self._directory("blkio", path)
        return spent.Usage(
            version=1,
            cpu=_number(cpu / "cpuacct.usage"),
            cpu_user=used.get("user", 0) * _TICK,
            cpu_kernel=used.get("system", 0) * _TICK,
            per_cpu=tuple(int(word) for word in _words(cpu / "cpuacct.usage_percpu")),
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled_time=throttling.get("throttled_time", 0),
            memory=_number(memory / "memory.usage_in_bytes"),
            memory_peak=_number(memory / "memory.max_usage_in_bytes"),
            memory_limit=0 if limit > UNLIMITED else limit,
            memory_failures=_number(memory / "memory.failcnt"),
            memory_detail=detail,
            pids=_number(self._directory("pids", path) / "pids.current"),
            pids_limit=_number(self._directory("pids", path) / "pids.max"),
            disk_bytes=_disks1(disks / "blkio.throttle.io_service_bytes_recursive"),
            disk_operations=_disks1(disks / "blkio.throttle.io_serviced_recursive"),
        )

    def _usage2(self, place: Path) -> spent.Usage:
        cpu = _table(place / "cpu.stat")
        data, operations = _disks2(place / "io.stat")
        return spent.Usage(
            version=2,
            cpu=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_kernel=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
            memory=_number(place / "memory.current"),
            memory_peak=_number(place / "memory.peak"),
            memory_limit=_number(place / "memory.max"),
            memory_failures=_table(place / "memory.events").get("oom", 0),
            memory_detail=_table(place / "memory.stat"),
            pids=_number(place / "pids.current"),
            pids_limit=_number(place / "pids.max"),
            disk_bytes=data,
            disk_operations=operations,
        )


def machine() -> spent.Machine:
    """Processor time of the whole machine, and what it has."""
    with open("/proc/stat", "rb") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return spent.Machine(sum(ticks) * _TICK, os.sysconf("SC_NPROCESSORS_ONLN"), os.sysconf("SC_PHYS_PAGES") * _PAGE)


def _mount_controller(place: Path, controller: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if libc.mount(b"cgroup", os.fsencode(place), b"cgroup", flags, controller.encode()):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int:
    """The number in a file; 0 for "max" and for no file."""
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else 0


def _table(path: Path) -> dict[str, int]:
    words = _words(path)
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}


def _disks1(path: Path) -> tuple[spent.DiskUse, ...]:
    """``8:0 Read 4096`` lines."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return ()
    rows = [(*line[0].partition(":")[::2], line[1], line[2]) for line in lines if len(line) == 3 and ":" in line[0]]
    return tuple(spent.DiskUse(int(major), int(minor), what.lower(), int(value)) for major, minor, what, value in rows)


def _disks2(path: Path) -> tuple[tuple[spent.DiskUse, ...], tuple[spent.DiskUse, ...]]:
    """``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`` lines -> bytes, operations."""
    data: list[spent.DiskUse] = []
    operations: list[spent.DiskUse] = []
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return (), ()
    for line in lines:
        major, _, minor = line[0].partition(":")
        counts = dict(word.split("=", 1) for word in line[1:] if "=" in word)
        for short, what in (("r", "read"), ("w", "write")):
            data.append(spent.DiskUse(int(major), int(minor), what, int(counts.get(short + "bytes", 0))))
            operations.append(spent.DiskUse(int(major), int(minor), what, int(counts.get(short + "ios", 0))))
    return tuple(data), tuple(operations)
