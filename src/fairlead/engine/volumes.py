"""Volumes: data that outlives its containers, and the mounts a container gets.

    plan      at create: what was wished -> Mounts with names (volumes are made)
    prepare   at start: sources are there, devices mounted, empty volumes filled from the image
    release   at the end of the process: devices unmounted when nobody uses them
    forget    at removal: anonymous volumes go along if asked

Rules
    1. A volume is used as long as a container that mounts it exists, running or not;
       a used volume is not removed.
    2. An anonymous volume has a name of 64 hexadecimal digits and Docker's label
       ``com.docker.volume.anonymous``.
    3. One driver: ``local``. Its options are ``type``, ``device`` and ``o``.

What it does not do: parse mounts (``core.mounts``), touch the disk (``host.volumes``).
"""

from __future__ import annotations

import asyncio
import builtins
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from fairlead.core import mounts as parsing
from fairlead.core.container import Config, Container, HostConfig, Mount
from fairlead.core.mounts import LOCAL
from fairlead.core.patterns import pattern
from fairlead.engine.events import Events
from fairlead.engine.records import Records
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound
from fairlead.store.base import Store

if TYPE_CHECKING:
    from fairlead.core.mounts import Wish
    from fairlead.engine.storage import VolumeDisk

replace = msgspec.structs.replace

ANONYMOUS = "com.docker.volume.anonymous"
_NAME = pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_OPTIONS = {"type", "device", "o", "size"}


class Volume(msgspec.Struct, frozen=True, omit_defaults=True):
    """One volume as we remember it. ``created`` is RFC 3339 text."""

    name: str
    created: str
    driver: str = LOCAL
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS in (self.labels or {})


class Volumes:
    """All volumes of this machine.

    ``containers`` are all there are now, ``find_container`` knows one by any reference; ``image_root`` is the path of
    an image's files."""

    def __init__(
        self,
        store: Store,
        disk: VolumeDisk,
        events: Events,
        now: Callable[[], str],
        new_id: Callable[[], str],
        containers: Callable[[], Iterable[Container]],
        find_container: Callable[[str], Container],
        image_root: Callable[[str], Awaitable[str]],
    ) -> None:
        self._records: Records[Volume] = Records(store, "volumes", Volume, key="name")
        self._disk = disk
        self._events = events
        self._now = now
        self._new_id = new_id
        self._containers = containers
        self._find_container = find_container
        self._image_root = image_root
        self._lock = asyncio.Lock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def restore(self) -> None:
        """At the start. A directory without a record is left alone: it is somebody's data."""
        self._disk.open()
        await self._records.load()
        for volume in self._records:
            self._disk.create(volume.name)

    # -- asking ---------------------------------------------------------------------------

    def list(self) -> list[Volume]:
        return sorted(self._records, key=lambda volume: volume.name)

    def get(self, name: str) -> Volume:
        volume = self._records.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def path(self, name: str) -> str:
        """Where its data is on this machine."""
        return self._disk.path(name)

    def users(self, name: str) -> builtins.list[Container]:
        def mounts(container: Container) -> bool:
            return any(mount.type == "volume" and mount.name == name for mount in container.mounts)

        return [container for container in self._containers() if mounts(container)]

    async def size(self, name: str) -> int:
        """Bytes of all files in it; -1 for one that is a device of its own, as Docker shows it."""
        if self.get(name).options:
            return -1
        return await asyncio.to_thread(self._disk.size, name)

    # -- create and remove ---------------------------------------------------------------------

    async def create(
        self, name: str = "", driver: str = "", labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:  # fmt: skip
        """A volume of that name: made, or the one there is, as it is. "" makes an anonymous one."""
        labels = dict(labels or {})
        if not name:
            name, labels[ANONYMOUS] = self._new_id(), ""
        if driver not in ("", LOCAL):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        _check(name, options or {})
        async with self._lock:
            known = self._records.get(name)
            if known is not None:
                return known
            await asyncio.to_thread(self._disk.create, name)
            volume = await self._records.put(
                Volume(name, self._now(), LOCAL, labels or None, dict(options) if options else None)
            )
        self._tell("create", volume)
        return volume

    async def remove(self, name: str, force: bool = False) -> None:
        """With ``force`` a volume that does not exist is fine (one in use never goes)."""
        if name not in self._records and force:
            return
        async with self._lock:
            await self._remove(self.get(name))

    async def _remove(self, volume: Volume) -> None:
        users = self.users(volume.name)
        if users:
            ids = ", ".join(container.id for container in users)
            raise Conflict(f"remove {volume.name}: volume is in use - [{ids}]")
        await asyncio.to_thread(self._disk.remove, volume.name)
        await self._records.drop(volume.name)
        self._tell("destroy", volume)

    async def prune(
        self, wanted: Callable[[Volume], bool], all_volumes: bool = False
    ) -> tuple[builtins.list[str], int]:
        """Remove volumes that no container uses, anonymous ones only unless ``all_volumes``; names, and bytes freed."""
        gone, freed = [], 0
        async with self._lock:
            for volume in self.list():
                if self.users(volume.name) or not wanted(volume) or not (all_volumes or volume.anonymous):
                    continue
                size = await self.size(volume.name)
                await self._remove(volume)
                gone.append(volume.name)
                freed += max(size, 0)
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return gone, freed

    # -- a container's mounts --------------------------------------------------------------------

    def check(self, host: HostConfig) -> None:
        """Whether each ``--mount`` makes sense by itself; asked before anything else is looked up."""
        for document in host.mounts or ():
            parsing.mount(document, self._disk.exists, host.volume_driver)

    async def plan(self, container: Container, image: Config) -> tuple[Mount, ...]:
        """The mounts of a container that is being created; volumes it names, and anonymous ones, are made."""
        config = replace(container.config, volumes={**(image.volumes or {}), **(container.config.volumes or {})})
        wishes = parsing.parse(config, container.host, self._mounts_of, self._disk.exists)
        made: list[str] = []
        try:
            return tuple([await self._settle(wish, made) for wish in wishes])
        except FairleadError:
            for name in made:
                await self.remove(name, force=True)
            raise

    def _mounts_of(self, ref: str) -> tuple[Mount, ...]:
        return self._find_container(ref).mounts

    async def _settle(self, wish: Wish, made: builtins.list[str]) -> Mount:
        """One wish as a mount with its source; names of anonymous volumes made are added to ``made``."""
        mount = wish.mount
        if mount.type == "image":
            root = await self._image_root(mount.name)
            return replace(mount, source=self._disk.inside(root, wish.subpath) if wish.subpath else root)
        if mount.type != "volume":
            return mount
        volume = await self.create(mount.name, mount.driver, wish.labels, wish.driver_opts)
        if not mount.name:
            made.append(volume.name)
        source = self._disk.path(volume.name)
        if wish.subpath:
            await asyncio.to_thread(self._disk.mount, volume.name, volume.options) if volume.options else None
            source = self._disk.inside(source, wish.subpath)
        return replace(mount, name=volume.name, driver=volume.driver, source=source)

    async def prepare(self, container: Container, rootfs: str) -> tuple[Mount, ...]:
        """At start: every source is there and filled. Returns the mounts in the order to make them."""
        explicit = {str(item.get("Target")) for item in container.host.mounts or () if item.get("Type") == "bind"}
        for mount in container.mounts:
            if mount.type == "bind" and self._disk.exists(mount.source):
                parsing.check_propagation(mount, self._disk.spread)
            if mount.type == "tmpfs":
                parsing.check_tmpfs(mount)
            elif mount.type == "bind" and not self._disk.exists(mount.source):
                if mount.destination in explicit:
                    raise Invalid(
                        f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
                    )
                self._disk.make_directory(mount.source)
            elif mount.type == "volume":
                await self._ready(mount, rootfs)
                self._events.publish("volume", "mount", mount.name, _facts(container, mount))
        return container.mounts

    async def _ready(self, mount: Mount, rootfs: str) -> None:
        volume = self._records.get(mount.name)
        async with self._alone(mount.name):
            if volume is not None and volume.options:
                await asyncio.to_thread(self._disk.mount, volume.name, volume.options)
            if not mount.no_copy:
                await asyncio.to_thread(self._disk.fill, mount.source, rootfs, mount.destination)

    def _alone(self, name: str) -> asyncio.Lock:
        """Containers that share a volume and start at once: one of them fills it, and it is mounted once."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def release(self, container: Container) -> None:
        """At the end of the process: a device that no other running container uses is unmounted."""
        for mount in container.mounts:
            volume = self._records.get(mount.name) if mount.type == "volume" else None
            if volume is None:
                continue
            self._events.publish("volume", "unmount", volume.name, {"driver": volume.driver, "container": container.id})
            async with self._alone(volume.name):
                others = [user for user in self.users(volume.name) if user.id != container.id and user.state.running]
                if volume.options and not others:
                    await asyncio.to_thread(self._disk.umount, volume.name)

    async def forget(self, container: Container, volumes: bool) -> None:
        """The container is being removed; ``volumes``: its anonymous ones too, if nobody else mounts them."""
        if not volumes:
            return
        for mount in container.mounts:
            volume = self._records.get(mount.name)
            others = [user for user in self.users(mount.name) if user.id != container.id]
            if mount.type == "volume" and mount.anonymous and volume is not None and not others:
                async with self._lock:
                    await asyncio.to_thread(self._disk.remove, volume.name)
                    await self._records.drop(volume.name)
                self._tell("destroy", volume)

    def _tell(self, action: str, volume: Volume) -> None:
        self._events.publish("volume", action, volume.name, {"driver": volume.driver})


def _facts(container: Container, mount: Mount) -> dict[str, str]:
    return {
        "container": container.id, "destination": mount.destination, "driver": mount.driver,
        "propagation": mount.propagation, "read/write": str(mount.rw).lower(),
    }  # fmt: skip


def _check(name: str, options: Mapping[str, str]) -> None:
    """``Invalid`` in the local driver's words."""
    problem = ""
    if len(name) == 1:
        problem = "volume name is too short, names should be at least two alphanumeric characters"
    elif not _NAME.fullmatch(name):
        problem = (
            f'"{name}" includes invalid characters for a local volume name,'
            ' only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed.'
            " If you intended to pass a host directory, use absolute path"
        )
    elif unknown := sorted(options.keys() - _OPTIONS):
        problem = f'invalid option: "{unknown[0]}"'
    elif "size" in options:
        problem = "quota size requested but no quota support"
    elif options and (missing := sorted({"device", "type"} - options.keys())):
        problem = f'missing required option: "{missing[0]}"'
    if problem:
        raise Invalid(f"create {name}: {problem}")
