"""Images in Docker's spelling: ``images``, ``inspect``, ``history``, ``rmi``; and the credentials in a header."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fairlead.api import times, wire
from fairlead.api.wire import get, members
from fairlead.core.container import NEVER, Config
from fairlead.core.imagespec import BuildRequest, Credentials, ImageRecord, Step, config_document
from fairlead.engine.images import Gone
from fairlead.errors import Invalid

Version = tuple[int, int]

COUNTED = (1, 51)
"""From this API version on the list tells how many containers an image has."""
_STANDARD = str.maketrans("-_", "+/")
_ALWAYS: dict[str, Any] = {
    "Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "User": "", "Volumes": None,
    "WorkingDir": "",
}  # fmt: skip
NO_NAME = ("<none>:<none>",)
NO_DIGEST = ("<none>@<none>",)
_OF_CONTAINERS = {
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    "NetworkDisabled", "MacAddress", "StopTimeout",
}  # fmt: skip


def summary(image: ImageRecord, version: Version, shared: int = -1, users: int = 0) -> dict[str, Any]:
    """One line of ``GET /images/json``. ``shared``: bytes others have too (-1: not asked); ``users``: containers."""
    old, nameless = version < (1, 43), not image.tags and not image.digests
    shown: dict[str, Any] = {
        "Containers": users if version >= COUNTED else -1,
        "Created": seconds(image.created),
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "RepoDigests": list(image.digests or (NO_DIGEST if old and nameless else ())) or (None if old else []),
        "RepoTags": list(image.tags or (NO_NAME if old and nameless else ())) or (None if old else []),
        "SharedSize": shared,
        "Size": image.size,
    }
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    return shown


def inspect(image: ImageRecord, version: Version, driver: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """``GET /images/{name}/json``. ``driver`` and ``data``: what holds its files."""
    old, container = version < (1, 45), {"Container": image.container} if image.container else {}
    return {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": image.created,
        **({**container, "ContainerConfig": wire.write(Config())} if old else {}),
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Architecture": image.architecture,
        **({"Variant": image.variant} if image.variant else {}),
        "Os": image.os,
        "Size": image.size,
        **({"VirtualSize": image.size} if version < (1, 44) else {}),
        "GraphDriver": {"Data": dict(data) or None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": image.tagged},
        "Config": config(image.config, version),
    }


def config(value: Config, version: Version) -> dict[str, Any]:
    """An image's configuration; before 1.50 it had all fields of a container's."""
    if version < (1, 50):
        return dict(wire.write(value))
    shown = {name: item for name, item in config_document(value).items() if name not in _OF_CONTAINERS}
    return dict(sorted({**_ALWAYS, **shown}.items()))


def step(value: Step) -> dict[str, Any]:
    """One line of ``docker history``."""
    return {
        "Comment": value.comment,
        "Created": seconds(value.created),
        "CreatedBy": value.created_by,
        "Id": value.id,
        "Size": value.size,
        "Tags": list(value.tags) or None,
    }


def gone(lines: Sequence[Gone]) -> list[dict[str, str]]:
    """What a removal did."""
    return [{"Untagged": line.untagged} if line.untagged else {"Deleted": line.deleted} for line in lines]


def pruned(lines: Sequence[Gone], freed: int) -> dict[str, Any]:
    return {"ImagesDeleted": gone(lines) or None, "SpaceReclaimed": freed}


def seconds(created: str) -> int:
    """RFC 3339 as Unix seconds; Go's zero time is what it is there."""
    return -62135596800 if created == NEVER else times.nanoseconds(created) // times.SECOND


def decoded(header: str) -> bytes:
    """Base64 of either alphabet, padded or not; ``ValueError`` if it is neither."""
    return base64.b64decode(header.translate(_STANDARD) + "=" * (-len(header) % 4), validate=True)


def credentials(header: str) -> Credentials:
    """``X-Registry-Auth``: base64 of JSON; nobody when there is none or it is "{}"."""
    if not header:
        return Credentials()
    try:
        raw = decoded(header)
        given = members(msgspec.json.decode(raw) if raw.strip() else {}, "", "registry.AuthConfig")
    except (msgspec.DecodeError, ValueError) as error:
        raise Invalid("invalid X-Registry-Auth header: it must be JSON in base64url") from error
    return login(given)


def login(given: Mapping[str, Any]) -> Credentials:
    """An ``AuthConfig``."""
    return Credentials(
        username=get(given, "username", str, ""),
        password=get(given, "password", str, ""),
        identity_token=get(given, "identitytoken", str, ""),
        server=get(given, "serveraddress", str, ""),
    )


def build_request(query: Mapping[str, str], tags: Sequence[str], hosts: Sequence[str]) -> BuildRequest:
    """The query of ``POST /build``. Switches are lenient ones."""

    def switch(name: str) -> bool:
        return query.get(name, "").strip().lower() not in ("", "0", "no", "false", "none")

    def number(name: str) -> int:
        text = query.get(name, "")
        return int(text) if text.isascii() and text.lstrip("-").isdigit() else 0

    return BuildRequest(
        dockerfile=query.get("dockerfile", "") or "Dockerfile",
        tags=tuple(tag for tag in tags if tag),
        arguments=_pairs(query.get("buildargs", ""), "buildargs"),
        labels={name: value or "" for name, value in _pairs(query.get("labels", ""), "labels").items()},
        target=query.get("target", ""),
        no_cache=switch("nocache"),
        network=query.get("networkmode", ""),
        extra_hosts=tuple(host for text in hosts for host in text.split(",") if host),
        platform=query.get("platform", ""),
        memory=number("memory"),
        shm_size=number("shmsize"),
        quiet=switch("q"),
        pull=switch("pull"),
        remove=switch("rm") or switch("forcerm") or not query.get("rm"),
        force_remove=switch("forcerm"),
    )


def _pairs(text: str, name: str) -> dict[str, str | None]:
    try:
        return msgspec.json.decode(text, type=dict[str, str | None] | None) or {} if text else {}
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Invalid(f"error reading {name}: {error}") from error
