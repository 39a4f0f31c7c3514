"""Bundles: what a runtime is given for one container, and what is remembered of it while it runs.

    <exec root>/containers/<id>/   config.json   attach   ctl   pid   oom        (conmon's and crun's)
                                   life.json     which processes, told apart from later ones of the same number
    <exec root>/exits/<id>         the exit code

Looked up here, because only the host knows: users of the image, devices, the
machine's facts. Everything inside the image is opened through ``host.rooted``.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core import ociresources, ocispec, users
from fairlead.core.container import Device, HostConfig
from fairlead.core.life import UNKNOWN, Ended
from fairlead.errors import FairleadError, Invalid
from fairlead.host import layers, rooted
from fairlead.host.programs import started_at

INITS = ("/usr/bin/docker-init", "/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/libexec/podman/catatonit")
_PLAIN = 2 | 4 | 8
"""mount(2): no set-user-ID programs, no devices, no programs at all"""
_NOT_DEVICES = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/hugepages", "/dev/console")


class Life(msgspec.Struct, frozen=True):
    """The processes of a running container. The starts are clock ticks since boot."""

    pid: int
    pid_start: int
    keeper: int
    keeper_start: int
    cgroup: str = ""

    @property
    def kept(self) -> bool:
        """Whether its conmon still runs."""
        return self.keeper_start != 0 and started_at(self.keeper) == self.keeper_start

    @property
    def running(self) -> bool:
        return self.pid_start != 0 and started_at(self.pid) == self.pid_start


class Bundle:
    """One container's directory."""

    def __init__(self, root: Path, id: str) -> None:
        self.id = id
        self.path = root / "containers" / id
        self._exit = root / "exits" / id

    def make(self, config: dict[str, Any]) -> None:
        """Begin anew: nothing of an earlier life is left."""
        self.remove()
        self.path.mkdir(parents=True, mode=0o700)
        self.write("config.json", config)

    @property
    def rootfs(self) -> str:
        """Where the container's files are."""
        return str(msgspec.json.decode((self.path / "config.json").read_bytes())["root"]["path"])

    def is_folder(self, path: str) -> bool:
        """Whether a program that is named by its path is a directory: the runtime only says that it may not."""
        try:
            with rooted.root(self.rootfs) as top, rooted.opened(top, path, os.O_PATH | os.O_DIRECTORY):
                return path.startswith("/")
        except OSError:
            return False

    @property
    def shm(self) -> Path:
        """Where a container's /dev/shm is that others may share (``--ipc shareable``)."""
        return self.path / "shm"

    def share_memory(self, size: int) -> None:
        """Make it; ``size`` in bytes. No container can mount what is mounted in another only."""
        self.shm.mkdir()
        layers.mount("shm", str(self.shm), "tmpfs", _PLAIN, f"mode=1777,size={size}")

    def write(self, name: str, document: Any) -> None:
        (self.path / name).write_bytes(msgspec.json.encode(document))

    def remember(self, life: Life) -> None:
        """Written whole or not at all."""
        half = self.path / "life.json.half"
        half.write_bytes(msgspec.json.encode(life))
        half.rename(self.path / "life.json")

    def life(self) -> Life | None:
        """None: it was never fully made."""
        try:
            return msgspec.json.decode((self.path / "life.json").read_bytes(), type=Life)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def is_over(self) -> bool:
        """Whether conmon wrote down the end; it may not have left yet itself."""
        return self._exit.exists()

    def ended(self) -> Ended:
        """How it ended; code ``UNKNOWN`` when nobody wrote it down."""
        oom = (self.path / "oom").exists()
        try:
            code = int(self._exit.read_text())
            return Ended(self.id, code, oom, self._exit.stat().st_mtime_ns)
        except (OSError, ValueError):
            return Ended(self.id, UNKNOWN, oom)

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self._exit.unlink()
        layers.umount(str(self.shm))
        shutil.rmtree(self.path, ignore_errors=True)


def facts(cgroup: int, cgroup_parent: str) -> "ocispec.Facts":
    """What this machine is."""
    apparmor = _read("/sys/module/apparmor/parameters/enabled").startswith("Y")
    bounds = [line.split()[1] for line in _read("/proc/self/status").splitlines() if line.startswith("CapBnd:")]
    return ocispec.Facts(
        machine=os.uname().machine,
        cgroup=cgroup,
        cgroup_parent=cgroup_parent,
        capabilities=int(bounds[0], 16) if bounds else 0,
        apparmor=apparmor,
        init=next((path for path in INITS if os.access(path, os.X_OK)), ""),
        filter_syscalls=os.path.exists("/proc/sys/kernel/seccomp"),
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def identity(rootfs: str, user: str, groups: Sequence[str] | None) -> "users.Identity":
    """Who ``user`` is in this image."""
    with rooted.root(rootfs) as top:
        return users.resolve(user, groups, _text(top, "/etc/passwd"), _text(top, "/etc/group"))


def _text(top: int, path: str) -> str:
    try:
        return rooted.read_in(top, path).decode(errors="replace")
    except OSError:
        return ""


def make_working_directory(rootfs: str, path: str) -> None:
    """Docker makes the working directory if the image has none."""
    with rooted.root(rootfs) as top:
        try:
            rooted.make_directories(top, path)
        except NotADirectoryError:
            raise FairleadError(f"Cannot mkdir: {path} is not a directory") from None


def devices(host: HostConfig) -> "list[ociresources.DeviceNode]":
    """The devices a container asked for; a privileged one gets them all."""
    if host.privileged:
        return list(_all_devices())
    return [node for device in host.devices or () for node in _asked(device)]


def _asked(device: Device) -> "Iterator[ociresources.DeviceNode]":
    """One device, or all below a directory."""
    source = os.path.realpath(device.path_on_host)
    place = device.path_in_container or device.path_on_host
    access = device.cgroup_permissions or "rwm"
    if os.path.isdir(source):
        for directory, _, names in os.walk(source):
            for name in names:
                path = f"{directory}/{name}"
                if node := _node(path, place + path.removeprefix(source), access):
                    yield node
        return
    found = _node(source, place, access)
    if found is None:
        reason = "not a device node" if os.path.exists(source) else "no such file or directory"
        raise FairleadError(f'error gathering device information while adding custom device "{source}": {reason}')
    yield found


def _all_devices() -> "Iterator[ociresources.DeviceNode]":
    for directory, inner, names in os.walk("/dev"):
        inner[:] = [name for name in inner if f"{directory}/{name}" not in _NOT_DEVICES]
        for name in names:
            path = f"{directory}/{name}"
            if path not in _NOT_DEVICES and not os.path.islink(path) and (node := _node(path, path, "rwm")):
                yield node


def _node(source: str, place: str, access: str) -> "ociresources.DeviceNode | None":
    try:
        found = os.stat(source)
    except OSError:
        return None
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    kind = kinds.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return None
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return ociresources.DeviceNode(place, kind, major, minor, access, found.st_mode & 0o777, found.st_uid, found.st_gid)


def disks(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Numbers of the disks that have limits."""
    made = {}
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            raise FairleadError(f"stat {path}: {(error.strerror or '').lower()}") from None
        made[path] = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return made


def seccomp_profile(host: HostConfig) -> dict[str, Any] | None:
    """The user's profile (the client sends the file's text), None for the default or none."""
    text = ocispec.parse_security(host.security_opt).seccomp
    if text in ("", "unconfined", "builtin"):
        return None
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise Invalid(f"Decoding seccomp profile failed: {error}") from None
