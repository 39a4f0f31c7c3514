"""Commands about the engine itself: version, info, events, completion."""

from __future__ import annotations

import json
import platform
import sys
import time
from typing import Any

import click

from fairlead import __version__
from fairlead.cli import tables, template
from fairlead.cli.client import Client
from fairlead.cli.containers import moment
from fairlead.cli.options import Command, filter_query, filters
from fairlead.cli.running import pass_client
from fairlead.errors import Unavailable

only_format = click.option("-f", "--format", "form", default="", help="json, or a Go template.")


@click.command("version", cls=Command)
@only_format
@pass_client
def version(client: Client, form: str) -> int:
    """Show the versions of this command and of the engine."""
    mine = {
        "Version": __version__,
        "ApiVersion": client.version,
        "Python": platform.python_version(),
        "Os": "linux",
        "Arch": platform.machine(),
    }
    trouble = ""
    try:
        server = client.call("GET", "/version")
    except Unavailable as problem:
        server, trouble = None, problem.message
    if form:
        both = {"Client": mine, "Server": server}
        print(
            json.dumps(both, separators=(",", ":")) if form == "json" else template.render(tables.unescape(form), both)
        )
    else:
        print(_block("Client: Fairlead", mine, mine))
        if server:
            name = f"\nServer: {(server.get('Platform') or {}).get('Name') or 'Engine'}"
            print(_block(name, server, {**server, "MinAPIVersion": server.get("MinAPIVersion")}))
    if trouble:
        print(trouble, file=sys.stderr)
    return 1 if trouble else 0


WORDS = {
    "Version": "Version", "ApiVersion": "API version", "MinAPIVersion": "Oldest API version",
    "Python": "Python version",
    "GitCommit": "Git commit", "BuildTime": "Built", "KernelVersion": "Kernel", "Os": "OS", "Arch": "Architecture",
}  # fmt: skip


def _block(title: str, facts: dict[str, Any], all_facts: dict[str, Any]) -> str:
    lines = [title]
    lines += [f" {word + ':':<21}{all_facts[key]}" for key, word in WORDS.items() if all_facts.get(key)]
    for part in facts.get("Components") or []:
        lines.append(f" {part['Name'] + ':':<21}{part['Version']}")
    return "\n".join(lines)


@click.command("info", cls=Command)
@only_format
@pass_client
def info(client: Client, form: str) -> int:
    """Show what the engine is and has."""
    facts = client.call("GET", "/info")
    if form:
        print(
            json.dumps(facts, separators=(",", ":"))
            if form == "json"
            else template.render(tables.unescape(form), facts)
        )
        return 0
    plugins = facts.get("Plugins") or {}
    swarm = (facts.get("Swarm") or {}).get("LocalNodeState") or "inactive"
    lines = [
        ("Engine", f"{facts.get('ServerVersion', '')} at {client.host}"),
        ("Containers", facts["Containers"]),
        (" Running", facts["ContainersRunning"]),
        (" Paused", facts["ContainersPaused"]),
        (" Stopped", facts["ContainersStopped"]),
        ("Images", facts["Images"]),
        ("Network drivers", " ".join(plugins.get("Network") or [])),
        ("Volume drivers", " ".join(plugins.get("Volume") or [])),
        ("Log drivers", " ".join(plugins.get("Log") or [])),
        ("Swarm", swarm),
        ("Storage driver", facts.get("Driver", "")),
        ("Cgroup", f"{facts.get('CgroupDriver', '')} v{facts.get('CgroupVersion', '')}"),
        ("Security options", " ".join(facts.get("SecurityOptions") or [])),
        ("Kernel", facts["KernelVersion"]),
        ("Operating system", f"{facts['OperatingSystem']} ({facts['Architecture']})"),
        ("CPUs", facts["NCPU"]),
        ("Memory", tables.bytes_of(facts["MemTotal"], 4, 1024.0)),
        ("Name", facts["Name"]),
        ("Root", facts["DockerRootDir"]),
    ]
    print("\n".join(f"{word + ':':<18} {value}" for word, value in lines))
    for warning in facts.get("Warnings") or []:
        print(warning, file=sys.stderr)
    return 0


@click.command("events", cls=Command)
@filters
@click.option("--since", default="", help="From this time on: 2026-01-02T13:23:37Z or 42m.")
@click.option("--until", default="", help="Up to this time.")
@click.option("--format", "form", default="", help="json, or a Go template.")
@pass_client
def events(client: Client, filter: tuple[str, ...], since: str, until: str, form: str) -> int:
    """Show what happens, as it happens."""
    now = time.time()
    query = {"since": moment(since, now), "until": moment(until, now), "filters": filter_query(filter)}
    with client.stream("GET", "/events", query) as answer:
        for line in answer:
            if line.strip():
                print(_event(json.loads(line), form), flush=True)
    return 0


def _event(event: dict[str, Any], form: str) -> str:
    """``2026-01-02T03:04:05.000000006Z network create 0123… (name=RED, type=bridge)``."""
    if form == "json":
        return json.dumps(event, separators=(",", ":"))
    if form:
        return template.render(tables.unescape(form), event)
    from datetime import UTC, datetime

    seconds, fraction = divmod(event["timeNano"], 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction:09d}Z"
    details = ", ".join(f"{key}={value}" for key, value in sorted((event["Actor"].get("Attributes") or {}).items()))
    return f"{moment} {event['Type']} {event['Action']} {event['Actor']['ID']}" + (f" ({details})" if details else "")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the lines that teach a shell our words: source <(fairlead completion bash)."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"unknown shell: {shell}")
    print(kind(ctx.find_root().command, {}, "fairlead", "_FAIRLEAD_COMPLETE").source())
    return 0
