"""``--mount`` on the way to the API: ``type=bind,source=/a,target=/b,readonly``. Complaints are Docker's."""

from __future__ import annotations

from typing import Any

from fairlead.cli.command import NO, YES, memory
from fairlead.errors import Invalid

ALONE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
"""Keys that may stand without a value: then they are true."""
RECURSION: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}
PLACES = {
    "bind-propagation": ("BindOptions", "Propagation"),
    "volume-subpath": ("VolumeOptions", "Subpath"),
    "image-subpath": ("ImageOptions", "Subpath"),
}
PREFIXES = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions", "image": "ImageOptions"}


def parse(text: str) -> dict[str, Any]:
    """One mount in the API's keys; raises ``Invalid``."""
    from csv import reader
    from io import StringIO

    mount: dict[str, Any] = {"Type": "volume"}
    for part in next(reader(StringIO(text, newline="")), []):
        key, equals, value = part.partition("=")
        key = key.lower()
        if not equals and key not in ALONE:
            raise Invalid(f"invalid field '{part}' must be a key=value pair")
        _field(mount, key, value if equals else "true", part)
    if not mount.get("Target"):
        raise Invalid("target is required")
    for kind, key in PREFIXES.items():
        if key in mount and mount["Type"] != kind:
            raise Invalid(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    return mount


def _field(mount: dict[str, Any], key: str, value: str, part: str) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _truth(key, value)
    elif key in PLACES:
        group, name = PLACES[key]
        mount.setdefault(group, {})[name] = value.lower() if key == "bind-propagation" else value
    elif key.startswith("bind-"):
        _bind(mount, key, value, part)
    elif key.startswith("volume-"):
        _volume(mount.setdefault("VolumeOptions", {}), key, value, part)
    elif key in ("tmpfs-size", "tmpfs-mode"):
        _tmpfs(mount.setdefault("TmpfsOptions", {}), key, value)
    else:
        raise Invalid(f"unexpected key '{key}' in '{part}'")


def _truth(key: str, value: str) -> bool:
    if value not in YES + NO:
        raise Invalid(f"invalid value for {key}: {value}")
    return value in YES


def _bind(mount: dict[str, Any], key: str, value: str, part: str) -> None:
    options = mount.setdefault("BindOptions", {})
    if key == "bind-nonrecursive":
        options["NonRecursive"] = _truth(key, value)
    elif key == "bind-recursive":
        if value not in RECURSION:
            raise Invalid(
                f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        options |= RECURSION[value]
    else:
        raise Invalid(f"unexpected key '{key}' in '{part}'")


def _volume(options: dict[str, Any], key: str, value: str, part: str) -> None:
    name, _, meaning = value.partition("=")
    if key == "volume-nocopy":
        options["NoCopy"] = _truth(key, value)
    elif key == "volume-label":
        options.setdefault("Labels", {})[name] = meaning
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = meaning
    else:
        raise Invalid(f"unexpected key '{key}' in '{part}'")


def _tmpfs(options: dict[str, Any], key: str, value: str) -> None:
    try:
        if key == "tmpfs-size":
            options["SizeBytes"] = memory(value)
        else:
            options["Mode"] = int(value, 8)
    except (Invalid, ValueError):
        raise Invalid(f"invalid value for {key}: {value}") from None
