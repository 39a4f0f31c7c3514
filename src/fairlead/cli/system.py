"""Commands about the engine itself: version and info."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import fairlead.core.template as template
from fairlead import __version__
from fairlead.cli import tables
from fairlead.cli.client import API_VERSION, Client
from fairlead.cli.command import command, one_form
from fairlead.errors import FairleadError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _mine(client: Client) -> dict[str, Any]:
    """About this command, in the keys of Docker's client."""
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": client.version,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Os": "linux",
        "Arch": ARCHITECTURES.get(machine, machine),
        "BuildTime": "",
        "Context": "default",
    }


@command("[OPTIONS]")
@one_form
def version(client: Client, form: str) -> int:
    """Show the versions of this command and of the engine."""
    trouble = None
    try:
        server = client.call("GET", "/version")
    except FairleadError as problem:
        server, trouble = None, problem
    mine = _mine(client)
    if form:
        told = {key: value for key, value in (server or {}).items() if value or key != "BuildTime"}
        both = {"Client": mine, "Server": told or None}
        print(tables.compact(both) if form == "json" else template.render(tables.unescape(form), both))
    else:
        print(_client_block(mine))
        if server:
            print("\n" + _server_block(server))
    if trouble:
        raise trouble
    return 0


def _client_block(mine: dict[str, Any]) -> str:
    lines = [
        ("Version", mine["Version"]),
        ("API version", mine["ApiVersion"]),
        ("Go version", mine["GoVersion"]),
        ("Git commit", mine["GitCommit"]),
        ("Built", mine["BuildTime"]),
        ("OS/Arch", f"{mine['Os']}/{mine['Arch']}"),
        ("Context", mine["Context"]),
    ]
    return "Client:\n" + "\n".join(f" {word + ':':<18} {value}" for word, value in lines)


def _server_block(server: dict[str, Any]) -> str:
    name = (server.get("Platform") or {}).get("Name", "")
    lines = [f"Server: {name}" if name else "Server:"]
    for part in server.get("Components") or [{"Name": "Engine", "Version": server["Version"], "Details": server}]:
        facts = part.get("Details") or {}
        lines.append(f" {part['Name']}:")
        rows = [("Version", part["Version"])]
        if part["Name"] == "Engine":
            rows += [
                ("API version", f"{facts['ApiVersion']} (minimum version {facts['MinAPIVersion']})"),
                ("Go version", facts["GoVersion"]),
                ("Git commit", facts["GitCommit"]),
                ("Built", tables.reformatted(facts.get("BuildTime", ""))),
                ("OS/Arch", f"{facts['Os']}/{facts['Arch']}"),
                ("Experimental", facts.get("Experimental", "false")),
            ]
        else:
            rows += sorted(facts.items())
        lines += [f"  {word + ':':<17} {value}" for word, value in rows]
    return "\n".join(lines)


@command("[OPTIONS]")
@one_form
def info(client: Client, form: str) -> int:
    """Show what the engine is and has."""
    from fairlead.cli.facts import lines, warnings

    mine = {"Debug": False, "Context": "default", "Plugins": [], "Warnings": None}
    try:
        facts, trouble = client.call("GET", "/info"), None
    except FairleadError as problem:
        facts, trouble = {}, problem
    if form:
        everything = {**facts, "ClientInfo": {**_mine(client), **mine}}
        if form == "json":
            print(json.dumps(everything, separators=(",", ":"), ensure_ascii=False))
        else:
            print(template.render(tables.unescape(form), everything))
        return 0
    print("\n".join(lines(facts, __version__)))
    for line in warnings(facts):
        print(line, file=sys.stderr)
    if trouble:
        raise trouble
    return 0
