"""Names to complete: what a shell asks for when somebody presses the tab key after a command.

Asks the engine, gives up quietly: a shell that waits or complains is worse than one that offers nothing.
"""

from __future__ import annotations

from typing import Any

import click

from fairlead.cli.client import Client
from fairlead.errors import FairleadError


def containers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of all containers, running or not."""
    found = _ask("/containers/json", {"all": True})
    return [name for one in found for name in _plain(one.get("Names")) if name.startswith(incomplete)]


def networks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of all networks."""
    return [one["Name"] for one in _ask("/networks", {}) if one["Name"].startswith(incomplete)]


def images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of all images."""
    found = [name for one in _ask("/images/json", {}) for name in one.get("RepoTags") or []]
    short = [name.removesuffix(":latest") for name in found]
    return [name for name in short if name.startswith(incomplete)]


def _plain(names: list[str] | None) -> list[str]:
    return [name.removeprefix("/") for name in names or [] if name.count("/") == 1]


def _ask(where: str, query: dict[str, bool]) -> list[dict[str, Any]]:
    try:
        return list(Client().call("GET", where, query) or [])
    except FairleadError:
        return []
