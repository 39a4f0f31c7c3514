"""``fairlead secret`` and ``fairlead config``: texts that the swarm keeps and hands to its services.

The two are twins: a secret is never shown again and lives in memory only, a config may be read by anybody who may
speak to a manager.
"""

from __future__ import annotations

import base64
import sys
import time
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, path
from fairlead.cli.command import command, filter_query, filters, form, many, one_form, option, pairs_of, quiet, switch
from fairlead.cli.each import each
from fairlead.cli.tables import naturally
from fairlead.errors import Invalid

LARGEST = 500 * 1024 * 2
"""Bytes that are read of a file at most: no text may be that long."""


def _content(name: str) -> bytes:
    """What is in a file, or comes from standard input (``-``)."""
    where = "STDIN" if name == "-" else name
    try:
        data = sys.stdin.buffer.read(LARGEST) if name == "-" else _read(name)
    except OSError as problem:
        why = (problem.strerror or "").lower()
        raise Invalid(f"error reading from {where}: open {name}: {why}") from None
    if not data:
        raise Invalid(f"error reading from {where}: data is empty")
    return data


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read(LARGEST)


def _create(client: Client, kind: str, name: str, data: bytes, labels: list[str], more: dict[str, Any]) -> int:
    wish = {
        "Name": name,
        "Labels": pairs_of(labels),
        **({"Data": base64.b64encode(data).decode()} if data else {}),
        **more,
    }
    print(client.call("POST", f"/{kind}s/create", body=wish)["ID"])
    return 0


@command("[OPTIONS] SECRET [file|-]")
@option("-d", "--driver", help="Who else keeps it: a plugin.")
@many("-l", "--label", help="Label: key=value.")
@option("--template-driver", help="How its text is filled in: golang.")
def create_secret(client: Client, name: str, file: str = "", **flags: Any) -> int:
    """Keep a secret: from a file, or from standard input (-)."""
    if flags["driver"] and file:
        raise Invalid("When using secret driver secret data must be empty")
    if not flags["driver"] and not file:
        raise Invalid("secret file is required")
    more: dict[str, Any] = {"Driver": {"Name": flags["driver"]}} if flags["driver"] else {}
    more |= {"Templating": {"Name": flags["template_driver"]}} if flags["template_driver"] else {}
    return _create(client, "secret", name, _content(file) if file else b"", flags["label"], more)


@command("[OPTIONS] CONFIG file|-")
@many("-l", "--label", help="Label: key=value.")
@option("--template-driver", help="How its text is filled in: golang.")
def create_config(client: Client, name: str, file: str, label: list[str], template_driver: str) -> int:
    """Keep a config: from a file, or from standard input (-)."""
    try:
        data = _content(file)
    except Invalid as problem:
        raise Invalid(f'Error reading content from "{file}": {problem.message}') from None
    return _create(
        client, "config", name, data, label, {"Templating": {"Name": template_driver}} if template_driver else {}
    )


def _list(client: Client, kind: str, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    found = client.call("GET", f"/{kind}s", {"filters": filter_query(filter)}) or []
    rows = [_row(one, kind, time.time()) for one in sorted(found, key=lambda one: naturally(one["Spec"]["Name"]))]
    columns = [
        name for name in ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt") if kind == "secret" or name != "Driver"
    ]
    tables.show(rows, form, columns, {"CreatedAt": "CREATED", "UpdatedAt": "UPDATED"}, only="ID" if quiet else "")
    return 0


def _row(one: dict[str, Any], kind: str, now: float) -> dict[str, Any]:
    spec = one["Spec"]
    return {
        "ID": one["ID"],
        "Name": spec["Name"],
        **({"Driver": (spec.get("Driver") or {}).get("Name", "")} if kind == "secret" else {}),
        "CreatedAt": tables.span(now - tables.seconds_of(one["CreatedAt"])) + " ago",
        "UpdatedAt": tables.span(now - tables.seconds_of(one["UpdatedAt"])) + " ago",
        "Labels": tables.labels(spec.get("Labels")),
        "Label": tables.label(spec.get("Labels")),
    }


@command("[OPTIONS]")
@filters
@form
@quiet
def ls_secrets(client: Client, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    """List secrets."""
    return _list(client, "secret", filter, form, quiet)


@command("[OPTIONS]")
@filters
@form
@quiet
def ls_configs(client: Client, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    """List configs."""
    return _list(client, "config", filter, form, quiet)


def _inspect(client: Client, kind: str, names: tuple[str, ...], form: str, pretty: bool) -> int:
    from fairlead.cli import pages
    from fairlead.cli.inspecting import collected

    if not pretty:
        return collected(names, form, lambda name: client.call("GET", path(f"{kind}s", name)))
    for name in names:
        found = client.call("GET", path(f"{kind}s", name))
        print(pages.secret(found) if kind == "secret" else pages.config(found))
    return 0


@command("[OPTIONS] SECRET [SECRET...]", complete=completing.secrets)
@one_form
@switch("--pretty", help="For people.")
def inspect_secrets(client: Client, *names: str, form: str, pretty: bool) -> int:
    """Show everything about secrets but what they are."""
    return _inspect(client, "secret", names, form, pretty)


@command("[OPTIONS] CONFIG [CONFIG...]", complete=completing.configs)
@one_form
@switch("--pretty", help="For people.")
def inspect_configs(client: Client, *names: str, form: str, pretty: bool) -> int:
    """Show everything about configs."""
    return _inspect(client, "config", names, form, pretty)


@command("SECRET [SECRET...]", complete=completing.secrets)
def rm_secrets(client: Client, *names: str) -> int:
    """Remove secrets."""
    return each(names, lambda name: client.call("DELETE", path("secrets", name)))


@command("CONFIG [CONFIG...]", complete=completing.configs)
def rm_configs(client: Client, *names: str) -> int:
    """Remove configs."""
    return each(names, lambda name: client.call("DELETE", path("configs", name)))
