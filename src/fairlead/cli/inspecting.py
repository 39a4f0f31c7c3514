"""``inspect``: everything the engine says about containers, images, networks and volumes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fairlead.core.template as template
from fairlead.cli import completing, sparse, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, one_form, option, switch
from fairlead.errors import Invalid

LOCAL = ("container", "image", "network", "volume")
SWARM = ("service", "task", "node", "secret", "config")
"""Kinds that only a manager of a swarm knows."""
KINDS = LOCAL + SWARM
NEVER = ("plugin",)
"""Kinds that Docker knows and we never have."""


def shown(found: list[Any], form: str) -> None:
    """Pretty JSON of all, or a line of the template for each."""
    if form and form != "json":
        try:
            for one in found:
                print(_filled(tables.unescape(form), one, _shape_of(one)))
        except Invalid:
            print()
            raise
    elif form == "json":
        print(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    elif found:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        print("[]")


def _filled(form: str, one: Any, shape: str) -> str:
    """The template filled from what Docker's client knows of the type; what that lacks, from the JSON itself."""
    if shape:
        from fairlead.cli.shapes import struct

        with contextlib.suppress(Invalid):
            return template.render(form, struct(one, shape))
    return template.render(form, sparse.known(one) if "Spec" in one else one)


def _shape_of(one: Any) -> str:
    """The type of an object, by a member that only this type has."""
    marks = {"HostConfig": "Container", "RootFS": "Image", "IPAM": "Network", "Mountpoint": "Volume"}
    return next((shape for mark, shape in marks.items() if mark in one), "")


def _look(client: Client, kind: str, name: str, size: bool) -> Any:
    where = path(f"{kind}s", name, "json") if kind in ("container", "image") else path(f"{kind}s", name)
    query: dict[str, Any] = {"insertDefaults": "true"} if kind == "service" else {"size": size and kind == "container"}
    return client.call("GET", where, query)


def _inspect_all(client: Client, names: tuple[str, ...], form: str, kind: str, size: bool = False) -> int:
    """Inspect each name as one of this kind."""
    return collected(names, form, lambda name: _look(client, kind, name, size))


def collected(names: tuple[str, ...], form: str, look: Callable[[str], Any]) -> int:
    """Inspect each name; refusals are said at the end."""
    found, refusals = [], []
    for name in names:
        try:
            found.append(look(name))
        except Refused as problem:
            refusals.append(f"Error response from daemon: {problem.message}")
        except Invalid as problem:
            refusals.append(problem.message)
    if found or not form:
        shown(found, form)
    else:
        print()
    for words in refusals:
        print(words, file=sys.stderr)
    return 1 if refusals else 0


def _kinds(client: Client) -> Iterator[str]:
    """What a name could be; what only a manager knows is asked of managers only."""
    yield from LOCAL
    if client.call("GET", "/info").get("Swarm", {}).get("ControlAvailable"):
        yield from SWARM


def _no_image(kind: str, problem: Refused) -> bool:
    """Whether the name is one that no image can have, as it has capitals; others may."""
    return kind == "image" and problem.status == 400


@command("[OPTIONS] NAME|ID [NAME|ID...]", complete=completing.anything)
@one_form
@option("--type", key="kind", help="Only this kind: container, image, network, volume, service, task, node …")
@switch("-s", "--size", help="Also how much disk containers use.")
def inspect(client: Client, *names: str, form: str, kind: str, size: bool) -> int:
    """Show everything about containers, images, networks or volumes."""
    if kind and kind not in KINDS + NEVER:
        known = ", ".join(f'"{word}"' for word in sorted(KINDS + NEVER))
        raise Invalid(f'unknown type: "{kind}": must be one of {known}')
    if kind in KINDS:
        return _inspect_all(client, names, form, kind, size)
    found, missing = [], []
    for name in names:
        for each in _kinds(client) if not kind else ():
            try:
                found.append(_look(client, each, name, size))
                break
            except Refused as problem:
                if problem.status != 404 and not _no_image(each, problem):
                    raise
        else:
            missing.append(name)
    if found or not form:
        shown(found, form)
    else:
        print()
    for name in missing:
        print(f"Error: No such object: {name}", file=sys.stderr)
    return 1 if missing else 0


@command("[OPTIONS] CONTAINER [CONTAINER...]", complete=completing.containers)
@one_form
@switch("-s", "--size", help="Also how much disk it uses.")
def container(client: Client, *names: str, form: str, size: bool) -> int:
    """Show everything about containers."""
    return _inspect_all(client, names, form, "container", size)


@command("[OPTIONS] IMAGE [IMAGE...]", complete=completing.images)
@one_form
@option("--platform", help="Accepted: we keep one platform of an image.")
def image(client: Client, *names: str, form: str, platform: str) -> int:
    """Show everything about images."""
    return _inspect_all(client, names, form, "image")


@command("[OPTIONS] NETWORK [NETWORK...]", complete=completing.networks)
@one_form
@switch("-v", "--verbose", help="Also what other nodes know.")
def network(client: Client, *names: str, form: str, verbose: bool) -> int:
    """Show everything about networks."""
    query = {"verbose": "true"} if verbose else None
    return collected(names, form, lambda name: client.call("GET", path("networks", name), query))


@command("[OPTIONS] VOLUME [VOLUME...]", complete=completing.volumes)
@one_form
def volume(client: Client, *names: str, form: str) -> int:
    """Show everything about volumes."""
    return _inspect_all(client, names, form, "volume")
