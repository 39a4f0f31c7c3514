"""``inspect``: everything the engine says about containers, images, networks and volumes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fairlead.core.template as template
from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, one_form, option, switch
from fairlead.errors import Invalid

LOCAL = ("container", "image", "network", "volume")
SWARM = ("service", "task", "node", "secret", "config")
"""Kinds that only a manager of a swarm knows."""
KINDS = LOCAL + SWARM
NEVER = ("plugin",)
"""Kinds that Docker knows and we never have."""


MAPS = {
    *("Labels", "Volumes", "ExposedPorts", "Ports", "PortBindings", "Annotations", "StorageOpt", "Sysctls", "Tmpfs"),
    *("Options", "Config", "Networks", "DriverOpts", "Data", "Containers", "Services", "Status", "AuxiliaryAddresses"),
}
"""Members that Docker's client knows to be maps; one that is null prints as an empty one."""
POINTERS = {
    *("Healthcheck", "Health", "StopTimeout", "IPAMConfig", "MemorySwappiness", "OomKillDisable", "PidsLimit", "Init"),
    *("ContainerConfig", "UsageData", "ClusterInfo", "Descriptor", "ImageManifestDescriptor", "Platform"),
}
"""Those that are structures or numbers, and absent when they are null. Every other one is a list."""


def _typed(value: Any, name: str = "") -> Any:
    """An object as Docker's client holds it: null is an empty list or map, where it knows the member's type."""
    if isinstance(value, dict):
        return {key: _typed(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if value is not None or not name or name in POINTERS or not name[0].isupper():
        return value
    return template.NilMap() if name in MAPS else template.NilList()


def shown(found: list[Any], form: str) -> None:
    """Pretty JSON of all, or a line of the template for each."""
    if form and form != "json":
        try:
            for one in found:
                print(template.render(tables.unescape(form), one if "Spec" in one else _typed(one)))
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
    query = {"verbose": "true"} if verbose else None
    return collected(names, form, lambda name: client.call("GET", path("networks", name), query))


@command("[OPTIONS] VOLUME [VOLUME...]", complete=completing.volumes)
@one_form
def volume(client: Client, *names: str, form: str) -> int:
    """Show everything about volumes."""
    return _inspect_all(client, names, form, "volume")
