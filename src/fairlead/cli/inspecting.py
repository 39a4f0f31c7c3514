"""``inspect``: everything the engine says about containers, images, networks and volumes."""

from __future__ import annotations

import json
import sys
from typing import Any

from fairlead.cli import completing, tables, template
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, one_form, option, switch
from fairlead.errors import Invalid

KINDS = ("container", "image", "network", "volume")
NEVER = ("config", "node", "plugin", "secret", "service", "task")
"""Kinds that Docker knows and that only a swarm or a plugin has: nothing is ever found."""


def shown(found: list[Any], form: str) -> None:
    """Pretty JSON of all, or a line of the template for each."""
    if form and form != "json":
        try:
            for one in found:
                print(template.render(tables.unescape(form), one))
        except Invalid:
            print()
            raise
    elif form == "json":
        print(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    elif found:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        print("[]")


def _look(client: Client, kind: str, name: str, size: bool) -> Any:
    where = path(f"{kind}s", name) if kind in ("network", "volume") else path(f"{kind}s", name, "json")
    return client.call("GET", where, {"size": True} if size and kind == "container" else None)


def _inspect_all(client: Client, names: tuple[str, ...], form: str, kind: str, size: bool = False) -> int:
    """Inspect each name as one of this kind; refusals are said at the end."""
    found, refusals = [], []
    for name in names:
        try:
            found.append(_look(client, kind, name, size))
        except Refused as problem:
            refusals.append(problem.message)
    if found or not form:
        shown(found, form)
    else:
        print()
    for words in refusals:
        print(f"Error response from daemon: {words}", file=sys.stderr)
    return 1 if refusals else 0


@command("[OPTIONS] NAME|ID [NAME|ID...]", complete=completing.anything)
@one_form
@option("--type", key="kind", help="Only this kind: container, image, network, volume.")
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
        for each in KINDS if not kind else ():
            try:
                found.append(_look(client, each, name, size))
                break
            except Refused as problem:
                if problem.status != 404:
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
    return _inspect_all(client, names, form, "network")


@command("[OPTIONS] VOLUME [VOLUME...]", complete=completing.volumes)
@one_form
def volume(client: Client, *names: str, form: str) -> int:
    """Show everything about volumes."""
    return _inspect_all(client, names, form, "volume")
