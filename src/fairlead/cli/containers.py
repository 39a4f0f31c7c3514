"""Commands about containers that only ask and answer: ps, inspect, logs, stop, rm and their like."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from fairlead.cli import completing, tables, template
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.options import Command, filter_query, filters, form, no_trunc, quiet, switch
from fairlead.cli.running import Gone, each, pass_client
from fairlead.cli.streams import Demultiplexer, write
from fairlead.errors import Invalid

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADS = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}
names_argument = click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)


@click.command("ps", cls=Command)
@switch("-a", "--all", help="Also those that do not run.")
@filters
@form
@click.option("-n", "--last", type=int, default=-1, help="The last N created, running or not.")
@switch("-l", "--latest", help="The last one created, running or not.")
@no_trunc
@quiet
@switch("-s", "--size", help="Also how much disk they use.")
@pass_client
def ps(client: Client, all: bool, filter: tuple[str, ...], form: str, last: int, latest: bool, **show: Any) -> int:
    """List containers."""
    limit = 1 if latest else last
    size = show["size"] or ".Size" in form
    query = {"all": all, "limit": limit if limit > 0 else None, "size": size, "filters": filter_query(filter)}
    found = client.call("GET", "/containers/json", query)
    rows = [_row(one, show["no_trunc"], time.time()) for one in found]
    if show["quiet"] and not form:
        print("\n".join(row["ID"] for row in rows), end="\n" if rows else "")
        return 0
    text = tables.render(rows, form, [*COLUMNS, "Size"] if show["size"] else COLUMNS, HEADS)
    print(text) if text else None
    return 0


def _row(one: dict[str, Any], whole: bool, now: float) -> dict[str, Any]:
    """One container as texts, every field that a template may name."""
    command = one["Command"] if whole or len(one["Command"]) <= 20 else one["Command"][:19] + "…"
    names = [name.removeprefix("/") for name in one["Names"] or [] if whole or name.count("/") == 1]
    image = one["Image"]
    if image.startswith("sha256:") and not whole:
        image = image[7:19]
    virtual = f" (virtual {tables.bytes_of(one.get('SizeRootFs', 0), 3)})" if one.get("SizeRootFs") else ""
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in one.get("Mounts") or []]
    return {
        "ID": one["Id"] if whole else one["Id"][:12],
        "Image": image,
        "Command": json.dumps(command, ensure_ascii=False),
        "CreatedAt": tables.local_time(one["Created"]),
        "RunningFor": tables.span(now - one["Created"]) + " ago",
        "Ports": tables.ports(one.get("Ports") or []),
        "State": one["State"],
        "Status": one["Status"],
        "Size": tables.bytes_of(one.get("SizeRw", 0), 3) + virtual,
        "Names": ",".join(names),
        "Labels": tables.labels(one.get("Labels")),
        "Label": tables.label(one.get("Labels")),
        "Mounts": ",".join(name if whole or len(name) <= 15 else name[:14] + "…" for name in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in one.get("Mounts") or [])),
        "Networks": ",".join(sorted((one.get("NetworkSettings") or {}).get("Networks") or {})),
    }


def print_inspected(found: list[Any], form: str) -> None:
    """``inspect``: pretty JSON of all, or a line of the template for each."""
    if form and form != "json":
        for one in found:
            print(template.render(tables.unescape(form), one))
    elif form == "json":
        print(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))


def inspect_all(
    client: Client, names: tuple[str, ...], form: str, kinds: tuple[str, ...], what: str, size: bool = False
) -> int:
    """Inspect each name as the first of ``kinds`` that knows it; what is not found is said at the end."""
    found, missing = [], []
    for name in names:
        for kind in kinds:
            try:
                where = path(kind, name) if kind in ("networks", "volumes") else path(kind, name, "json")
                found.append(client.call("GET", where, {"size": True} if size and kind == "containers" else None))
                break
            except Refused as problem:
                if problem.status != 404:
                    raise
        else:
            missing.append(name)
    if found or not form:
        print_inspected(found, form)
    for name in missing:
        print(f"Error: No such {what}: {name}", file=sys.stderr)
    return 1 if missing else 0


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "form", default="", help="json, or a Go template.")
@click.option("--type", "kind", default="", help="Only this kind: container, image, network, volume.")
@switch("-s", "--size", help="Also how much disk containers use.")
@click.argument("names", nargs=-1, required=True)
@pass_client
def inspect(client: Client, names: tuple[str, ...], form: str, kind: str, size: bool) -> int:
    """Show everything about containers, images, networks or volumes."""
    kinds = ("containers", "images", "networks", "volumes")
    if kind and f"{kind}s" not in kinds:
        raise Invalid(f'"{kind}" is not a valid value for --type')
    return inspect_all(client, names, form, (f"{kind}s",) if kind else kinds, kind or "object", size)


@click.command("logs", cls=Command)
@switch("-f", "--follow", help="Go on with what is still to come.")
@click.option("-n", "--tail", default="all", help="Only the last N lines.")
@click.option("--since", default="", help="From this time on: 2026-01-02T13:23:37Z or 42m.")
@click.option("--until", default="", help="Up to this time.")
@switch("-t", "--timestamps", help="With the time of each line.")
@switch("--details", help="With the attributes of the log.")
@click.argument("container", shell_complete=completing.containers)
@pass_client
def logs(client: Client, container: str, since: str, until: str, **flags: Any) -> int:
    """Show what a container has said."""
    tty = client.call("GET", path("containers", container, "json"))["Config"]["Tty"]
    now = time.time()
    query = {**flags, "stdout": True, "stderr": True, "since": moment(since, now), "until": moment(until, now)}
    frames = Demultiplexer()
    with client.stream("GET", path("containers", container, "logs"), query) as answer:
        while data := answer.read1(65536):
            for stream, payload in [(1, data)] if tty else frames.feed(data):
                write(sys.stderr.buffer if stream == 2 else sys.stdout.buffer, payload)
    return 0


def moment(text: str, now: float) -> str:
    """A time as the API wants it: seconds since 1970. ``10m`` is ten minutes ago."""
    from fairlead.cli.options import nanoseconds

    if not text or text.replace(".", "").isdigit():
        return text
    try:
        return f"{now - nanoseconds(text) / 10**9:.9f}"
    except Invalid:
        try:
            return f"{tables.seconds_of(text):.9f}"
        except ValueError:
            raise Invalid(f'failed to parse value as time or duration: "{text}"') from None


def _post(client: Client, names: tuple[str, ...], verb: str, query: dict[str, Any] | None = None) -> int:
    return each(names, lambda name: client.call("POST", path("containers", name, verb), query))


@click.command("stop", cls=Command)
@click.option("-t", "--timeout", "--time", type=int, help="Seconds to wait before killing it.")
@click.option("-s", "--signal", default="", help="Signal that asks it to stop.")
@names_argument
@pass_client
def stop(client: Client, containers: tuple[str, ...], timeout: int | None, signal: str) -> int:
    """Stop running containers."""
    return _post(client, containers, "stop", {"t": None if timeout is None else str(timeout), "signal": signal})


@click.command("restart", cls=Command)
@click.option("-t", "--timeout", "--time", type=int, help="Seconds to wait before killing it.")
@click.option("-s", "--signal", default="", help="Signal that asks it to stop.")
@names_argument
@pass_client
def restart(client: Client, containers: tuple[str, ...], timeout: int | None, signal: str) -> int:
    """Stop containers and start them again."""
    return _post(client, containers, "restart", {"t": None if timeout is None else str(timeout), "signal": signal})


@click.command("kill", cls=Command)
@click.option("-s", "--signal", default="", help="Signal to send (default KILL).")
@names_argument
@pass_client
def kill(client: Client, containers: tuple[str, ...], signal: str) -> int:
    """Send a signal to running containers."""
    return _post(client, containers, "kill", {"signal": signal or "KILL"})


@click.command("pause", cls=Command)
@names_argument
@pass_client
def pause(client: Client, containers: tuple[str, ...]) -> int:
    """Hold all processes of containers."""
    return _post(client, containers, "pause")


@click.command("unpause", cls=Command)
@names_argument
@pass_client
def unpause(client: Client, containers: tuple[str, ...]) -> int:
    """Let the processes of paused containers go on."""
    return _post(client, containers, "unpause")


@click.command("rename", cls=Command)
@click.argument("container", shell_complete=completing.containers)
@click.argument("name")
@pass_client
def rename(client: Client, container: str, name: str) -> int:
    """Give a container another name."""
    client.call("POST", path("containers", container, "rename"), {"name": name})
    return 0


@click.command("rm", cls=Command)
@switch("-f", "--force", help="Kill it first if it runs.")
@switch("-l", "--link", help="Remove the link, not the container.")
@switch("-v", "--volumes", help="Also its anonymous volumes.")
@names_argument
@pass_client
def rm(client: Client, containers: tuple[str, ...], force: bool, link: bool, volumes: bool) -> int:
    """Remove containers."""
    query = {"force": force, "link": link, "v": volumes}

    def one(name: str) -> None:
        try:
            client.call("DELETE", path("containers", name.strip("/")), query)
        except Refused as problem:
            if not (force and problem.status == 404):
                raise
            raise Gone(problem.message) from None

    return each(containers, one)


@click.command("wait", cls=Command)
@names_argument
@pass_client
def wait(client: Client, containers: tuple[str, ...]) -> int:
    """Wait until containers stop; prints their exit codes."""
    ask = lambda name: client.call("POST", path("containers", name, "wait"))  # noqa: E731
    return each(containers, ask, said=lambda _, answer: str(answer["StatusCode"]))


@click.command("port", cls=Command)
@click.argument("container", shell_complete=completing.containers)
@click.argument("port", required=False, default="")
@pass_client
def port(client: Client, container: str, port: str) -> int:
    """Show where the ports of a container are published."""
    bound = client.call("GET", path("containers", container, "json"))["NetworkSettings"]["Ports"] or {}
    wanted = port if "/" in port or not port else f"{port}/tcp"
    if wanted:
        if not bound.get(wanted):
            raise Invalid(f"Error: No public port '{port}' published for {container}")
        bound = {wanted: bound[wanted]}
    for inside in sorted(bound, key=lambda text: (text.partition("/")[2], int(text.partition("/")[0]))):
        for binding in bound[inside] or []:
            address = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
            print(("" if wanted else f"{inside} -> ") + f"{address}:{binding['HostPort']}")
    return 0


@click.command("top", cls=Command, own_words=True)
@click.argument("container", shell_complete=completing.containers)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@pass_client
def top(client: Client, container: str, options: tuple[str, ...]) -> int:
    """Show the processes of a container."""
    found = client.call("GET", path("containers", container, "top"), {"ps_args": " ".join(options)})
    print(tables.columns([found["Titles"], *found["Processes"]]))
    return 0


@click.command("diff", cls=Command)
@click.argument("container", shell_complete=completing.containers)
@pass_client
def diff(client: Client, container: str) -> int:
    """Show what changed in a container's files."""
    for change in client.call("GET", path("containers", container, "changes")) or []:
        print("CAD"[change["Kind"]], change["Path"])
    return 0
