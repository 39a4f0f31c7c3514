"""The builder's storage, read: what buildah made, and the container of a step that failed.

    <driver>-images/images.json             id, and the layer on top
    <driver>-images/<id>/=…                 the configuration, byte for byte
    <driver>-images/<id>                    its time: when it was last used; the one thing that we write
    <driver>-layers/layers.json             id, what it lies on, bytes
    <driver>-containers/containers.json     id, image, layer
    <driver>-containers/<id>/userdata/buildah.json     its options: by a word of ours in them we know it

Written by buildah; what it lacks or is no JSON counts as not there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core.buildcache import CacheRecord
from fairlead.errors import Internal


class BuildStorage:
    """One storage. ``driver``: ``overlay`` or ``vfs``."""

    def __init__(self, root: Path, driver: str) -> None:
        self._root = root
        self._driver = driver

    def whole(self, digits: str) -> str:
        """The id of an image that begins so; what was given when there is none."""
        return next((entry["id"] for entry in self._list("images") if entry["id"].startswith(digits)), digits)

    def configuration(self, id: str) -> bytes:
        """An image's configuration; names with a colon are in base64 there."""
        name = "=" + base64.b64encode(f"sha256:{id}".encode()).decode()
        try:
            content = (self._root / f"{self._driver}-images" / id / name).read_bytes()
        except OSError as error:
            raise Internal(f"cannot take over the built image: {error}") from None
        if hashlib.sha256(content).hexdigest() != id:
            raise Internal(f"image configuration sha256:{id} is not what its digest says")
        return content

    def records(self) -> list[CacheRecord]:
        """Every image there is, when it was last used, and its layers."""
        layers, found = {entry["id"]: entry for entry in self._list("layers")}, []
        for entry in self._list("images"):
            sizes, layer = {}, entry.get("layer", "")
            while (one := layers.get(layer)) and layer not in sizes:
                sizes[layer], layer = one.get("diff-size", 0), one.get("parent", "")
            with suppress(FileNotFoundError):  # it went meanwhile
                used = (self._root / f"{self._driver}-images" / entry["id"]).stat().st_mtime_ns
                found.append(CacheRecord(entry["id"], used, sizes))
        return found

    def used(self, ids: Iterable[str]) -> None:
        """These images were of use just now."""
        now = time.time_ns()
        for id in ids:
            with suppress(FileNotFoundError):
                os.utime(self._root / f"{self._driver}-images" / id, ns=(now, now))

    def image_files(self, id: str) -> str:
        """The directory with what the topmost layer of an image has."""
        return next((self._files(entry.get("layer", "")) for entry in self._list("images") if entry["id"] == id), "")

    def container(self, mark: str) -> tuple[str, str]:
        """Id and files of the last container that was started with this word among its options; "" if there is none."""
        for entry in reversed(self._list("containers")):
            asked = self._root / f"{self._driver}-containers" / entry["id"] / "userdata/buildah.json"
            try:
                if mark in asked.read_text(errors="replace"):
                    return entry["id"], self._files(entry.get("layer", ""))
            except OSError:
                continue
        return "", ""

    def _list(self, what: str) -> list[dict[str, Any]]:
        try:
            content = (self._root / f"{self._driver}-{what}" / f"{what}.json").read_bytes()
            return [each for each in msgspec.json.decode(content, type=list[dict[str, Any]]) if "id" in each]
        except (OSError, msgspec.MsgspecError):
            return []

    def _files(self, layer: str) -> str:
        where = f"vfs/dir/{layer}" if self._driver == "vfs" else f"overlay/{layer}/diff"
        return str(self._root / where) if layer and (self._root / where).is_dir() else ""
