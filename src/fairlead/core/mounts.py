"""Mounts: from ``-v``, ``--mount``, ``--tmpfs``, ``--volumes-from`` and ``VOLUME`` to one list of mounts.

    HostConfig.binds   "src:/dst:ro,z"      \\
    HostConfig.mounts  {"Type": "bind", …}   >---->  Wish(mount, what a new volume should be)
    volumes_from, tmpfs, Config.volumes     /

Rules
    1. Later and more explicit wins: another container's mounts first, then binds
       over them, then ``--mount``; an image's ``VOLUME`` only where nothing else is.
       Two binds or ``--mount`` of one place are refused.
    2. Sources are host paths or volume names; a wish for an anonymous volume has
       neither, and ``engine.volumes`` gives it a name.
    3. Complaints are dockerd's.

What it does not do: touch the disk. Whether a bind's source exists is asked
through ``exists``; making volumes and mounting are ``engine.volumes``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.container import Config, HostConfig, Mount
from fairlead.errors import FairleadError, Internal, Invalid, NotFound

LOCAL = "local"
_CLASSES = (
    {"rw", "ro"},
    {"z", "Z"},
    {"shared", "slave", "private", "rshared", "rslave", "rprivate"},
    {"nocopy"},
    {"consistent", "cached", "delegated", "default"},
)
PROPAGATION = _CLASSES[2]
TMPFS_OPTIONS = ("noexec", "nosuid", "nodev")
_TMPFS_FLAGS = {
    "exec", "noexec", "suid", "nosuid", "dev", "nodev", "rw", "ro", "atime", "noatime", "diratime", "nodiratime",
    "relatime", "norelatime", "strictatime", "nostrictatime", "sync", "async", "dirsync", "remount", "mand", "nomand",
    "bind", "rbind", *PROPAGATION, "unbindable", "runbindable", "defaults",
}  # fmt: skip
_TMPFS_VALUES = {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}


class Wish(msgspec.Struct, frozen=True):
    """One mount as wished; the rest is for a volume that has to be made, or a source that may be missing."""

    mount: Mount
    labels: dict[str, str] = {}
    driver_opts: dict[str, str] = {}
    make_source: bool = False
    """a bind whose missing source becomes a directory (``-v``), instead of an error (``--mount``)"""
    subpath: str = ""
    recursive: bool = True
    from_image: bool = False
    """wished for by ``VOLUME`` of the image or an anonymous ``-v``"""


def parse(
    config: Config,
    host: HostConfig,
    mounts_of: Callable[[str], tuple[Mount, ...]],
    exists: Callable[[str], bool] = lambda path: True,
) -> tuple[Wish, ...]:
    """Every mount of a container, outer ones first. ``mounts_of`` knows another container's (by any reference)."""
    wishes: dict[str, Wish] = {}
    for spec in host.volumes_from or ():
        wishes.update({wish.mount.destination: wish for wish in _from_container(spec, mounts_of)})
    explicit = [bind(spec, host.volume_driver) for spec in host.binds or ()]
    explicit += [mount(document, exists, host.volume_driver) for document in host.mounts or ()]
    seen: set[str] = set()
    for wish in explicit:
        place = wish.mount.destination
        if place in seen:
            raise Invalid(f"Duplicate mount point: {place}")
        seen.add(place)
        wishes[place] = wish
    for path, options in (host.tmpfs or {}).items():
        wish = _tmpfs(path, options)
        place = wish.mount.destination
        if place in seen:
            raise Invalid(f"Duplicate mount point: {place}")
        wishes.setdefault(place, wish)
    for path in config.volumes or {}:
        place = _destination(f"/{path}")
        if place not in wishes:
            driver = host.volume_driver or LOCAL
            wishes[place] = Wish(Mount("volume", place, driver=driver, anonymous=True), from_image=True)
    return tuple(wishes[place] for place in sorted(wishes, key=lambda place: (place.count("/"), place)))


def bind(spec: str, volume_driver: str = "") -> Wish:
    """``[source:]destination[:mode]``: one ``-v``. dockerd calls what it cannot read its own fault (``Internal``)."""
    parts = spec.split(":")
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and parts[1] and valid_mode(parts[1])):
        raise Internal(f"invalid volume specification: '{spec}'")
    source, place, mode = ("", parts[0], "") if len(parts) == 1 else (parts[0], parts[1], "".join(parts[2:]))
    if not valid_mode(mode):
        raise Internal(f"invalid mode: {mode}")
    try:
        return _bind(source, _destination(place), mode, volume_driver)
    except Invalid as error:
        kind = "bind" if source.startswith("/") else "volume"
        words = f"invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {error.message}"
        raise Internal(words) from None


def _bind(source: str, place: str, mode: str, volume_driver: str) -> Wish:
    words = mode.split(",")
    rw, spread = "ro" not in words, next((word for word in words if word in PROPAGATION), "")
    if source.startswith("/"):
        if "nocopy" in words:
            raise Invalid("field VolumeOptions must not be specified")
        source = posixpath.normpath(source)
        made = Mount("bind", place, source=source, mode=mode, rw=rw, propagation=spread or "rprivate")
        return Wish(made, make_source=True)
    if spread:
        raise Invalid("field BindOptions must not be specified")
    made = Mount(
        "volume", place, name=source, driver=volume_driver or LOCAL, mode=mode or ("z" if source else ""), rw=rw,
        anonymous=not source, no_copy="nocopy" in words,
    )  # fmt: skip
    return Wish(made)


def valid_mode(mode: str) -> bool:
    """Whether each word is known, and none says the same thing twice."""
    if not mode:
        return True
    words = mode.split(",")
    known = all(any(word in group for group in _CLASSES) for word in words)
    return known and all(sum(word in group for word in words) <= 1 for group in _CLASSES)


def _destination(path: str) -> str:
    """A place inside the container: absolute, and not its root."""
    if not path.startswith("/"):
        raise Invalid(f"invalid mount path: '{path}' mount path must be absolute")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise Invalid("invalid specification: destination can't be '/'")
    return clean


def mount(
    document: Mapping[str, Any], exists: Callable[[str], bool] = lambda path: True, volume_driver: str = ""
) -> Wish:
    """One ``--mount``, in Docker's own keys."""
    kind = str(document.get("Type") or "")
    maker = MAKERS.get(kind)
    try:
        if maker is None:
            raise Invalid("mount type unknown")
        target = str(document.get("Target") or "")
        if not target:
            raise Invalid("field Target must not be empty")
        for other in MAKERS:
            options = f"{other.capitalize()}Options"
            if document.get(options) and other == "image" != kind:
                raise Invalid("field ImageOptions must not be specified")
            if document.get(options) and other != kind:
                raise _Misplaced(f'{options} must not be specified on mount type "{kind}"')
        return maker(document, _destination(target), exists, volume_driver)
    except _Misplaced:
        raise
    except Invalid as error:
        raise Invalid(f'invalid mount config for type "{kind}": {error.message}') from None


class _Misplaced(Invalid):
    """Options of another mount type. Nothing was changed."""


Maker = Callable[[Mapping[str, Any], str, Callable[[str], bool], str], Wish]


def _mount_bind(document: Mapping[str, Any], place: str, exists: Callable[[str], bool], driver: str) -> Wish:
    source, options = str(document.get("Source") or ""), document.get("BindOptions") or {}
    if not source:
        raise Invalid("field Source must not be empty")
    if not source.startswith("/"):
        raise Invalid(f"invalid mount path: '{source}' mount path must be absolute")
    spread = str(options.get("Propagation") or "")
    if spread and spread not in PROPAGATION:
        raise Invalid(f"invalid propagation mode: {spread}")
    make = bool(options.get("CreateMountpoint"))
    if not make and not exists(source):
        raise Invalid(f"bind source path does not exist: {source}")
    made = Mount(
        "bind", place, source=posixpath.normpath(source), rw=not document.get("ReadOnly"),
        propagation=spread or "rprivate",
    )  # fmt: skip
    return Wish(made, make_source=make, recursive=not options.get("NonRecursive"))


def _mount_volume(document: Mapping[str, Any], place: str, exists: Callable[[str], bool], driver: str) -> Wish:
    name, options = str(document.get("Source") or ""), document.get("VolumeOptions") or {}
    read_only = bool(document.get("ReadOnly"))
    if not name and read_only:
        raise Invalid("must not set ReadOnly mode when using anonymous volumes")
    subpath = _subpath(options)
    chosen = options.get("DriverConfig") or {}
    made = Mount(
        "volume", place, name=name, driver=str(chosen.get("Name") or "") or driver or LOCAL, mode="z",
        rw=not read_only, anonymous=not name, no_copy=bool(options.get("NoCopy")),
    )  # fmt: skip
    return Wish(made, labels=options.get("Labels") or {}, driver_opts=chosen.get("Options") or {}, subpath=subpath)


def _subpath(options: Mapping[str, Any]) -> str:
    subpath = str(options.get("Subpath") or "")
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise Invalid("subpath must be a relative path within the volume")
    return subpath


def _mount_image(document: Mapping[str, Any], place: str, exists: Callable[[str], bool], driver: str) -> Wish:
    """An image's files, to read; ``engine.volumes`` says where they are."""
    ref = str(document.get("Source") or "")
    if not ref:
        raise Invalid("field Source must not be empty")
    made = Mount("image", place, name=ref, rw=False, propagation="rprivate")
    return Wish(made, subpath=_subpath(document.get("ImageOptions") or {}))


def _mount_tmpfs(document: Mapping[str, Any], place: str, exists: Callable[[str], bool], driver: str) -> Wish:
    if document.get("Source"):
        raise Invalid("field Source must not be specified")
    wanted, words = document.get("TmpfsOptions") or {}, ["ro"] if document.get("ReadOnly") else []
    if wanted.get("SizeBytes"):
        words.append(f"size={int(wanted['SizeBytes'])}")
    if wanted.get("Mode"):
        words.append(f"mode={int(wanted['Mode']):o}")
    words += ["=".join(str(part) for part in pair) for pair in wanted.get("Options") or ()]
    made = _tmpfs(place, ",".join(words)).mount
    return Wish(replace(made, rw=not document.get("ReadOnly")))


MAKERS: dict[str, Maker] = {
    "bind": _mount_bind,
    "volume": _mount_volume,
    "tmpfs": _mount_tmpfs,
    "image": _mount_image,
}


def _tmpfs(path: str, options: str) -> Wish:
    """``--tmpfs path:options`` over Docker's defaults; a later word undoes an earlier one."""
    place = _destination(path)
    words = [word for word in options.split(",") if word]
    undone = {word.removeprefix("no") if word.startswith("no") else f"no{word}" for word in words}
    kept = [word for word in TMPFS_OPTIONS if word not in undone and word not in words]
    return Wish(Mount("tmpfs", place, rw="ro" not in words, options=(*kept, *words)))


def check_propagation(mount: Mount, spread: Callable[[str], tuple[str, set[str]]]) -> None:
    """A bind that is to learn of later mounts, or to tell of them, needs a source that does; asked at start.

    ``spread``: the mount that a path is on, and what it is of ``shared`` and ``master``."""
    kind = mount.propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    place, has = spread(mount.source)
    if "shared" not in has and not (kind == "slave" and "master" in has):
        wanted = "shared mount" if kind == "shared" else "shared or slave mount"
        raise FairleadError(f"path {mount.source} is mounted on {place} but it is not a {wanted}")


def check_tmpfs(mount: Mount) -> None:
    """``Invalid`` for an option that tmpfs does not have. dockerd asks this at start, not at create."""
    for word in mount.options:
        name, equals, _ = word.partition("=")
        if word not in _TMPFS_FLAGS and not (equals and name in _TMPFS_VALUES):
            raise Invalid(f'invalid tmpfs option "{word}"')


def _from_container(spec: str, mounts_of: Callable[[str], tuple[Mount, ...]]) -> Iterable[Wish]:
    """``--volumes-from name[:mode]``: that container's volumes and binds."""
    if not spec:
        raise Invalid("volumes-from specification cannot be an empty string")
    name, colon, mode = spec.partition(":")
    words = mode.split(",") if mode else []
    if (colon and not valid_mode(mode)) or any(word in PROPAGATION or word == "nocopy" for word in words):
        raise Invalid(f"invalid mode: {mode}")
    try:
        theirs = mounts_of(name)
    except NotFound as error:
        raise Invalid(error.message) from None
    for found in theirs:
        if found.type != "tmpfs":
            changed = replace(found, rw=found.rw and "ro" not in words, no_copy=True)
            yield Wish(replace(changed, mode=mode or found.mode))
