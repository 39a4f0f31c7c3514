"""Commands about containers that only ask and answer: ps, inspect, logs, stop, rm and their like."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import (
    command,
    filter_query,
    filters,
    form,
    integer,
    nanoseconds,
    no_trunc,
    option,
    quiet,
    switch,
)  # fmt: skip
from fairlead.cli.each import Gone, each
from fairlead.errors import Invalid

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADS = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}
SEVERAL = "CONTAINER [CONTAINER...]"


@command("[OPTIONS]")
@switch("-a", "--all", help="Also those that do not run.")
@filters
@form
@integer("-n", "--last", default=-1, help="The last N created, running or not.")
@switch("-l", "--latest", help="The last one created, running or not.")
@no_trunc
@quiet
@switch("-s", "--size", help="Also how much disk they use.")
def ps(
    client: Client, all: bool, filter: list[tuple[str, str]], form: str, last: int, latest: bool, **show: Any
) -> int:
    """List containers."""
    limit = 1 if latest else last
    size = show["size"] or ".Size" in form or re.search(r"json \.\s*}}", form) is not None
    query = {"all": all, "limit": limit if limit > 0 else None, "size": size, "filters": filter_query(filter)}
    found = client.call("GET", "/containers/json", query)
    rows = [row_of(one, show["no_trunc"], time.time()) for one in found]
    tables.show(rows, form, [*COLUMNS, "Size"] if show["size"] else COLUMNS, HEADS, only="ID" if show["quiet"] else "")
    return 0


def row_of(one: dict[str, Any], whole: bool, now: float) -> dict[str, Any]:
    """One container as texts, every field that a template may name."""
    command = one["Command"] if whole else tables.ellipsis(one["Command"], 20)
    names = [name.removeprefix("/") for name in one["Names"] or [] if whole or name.count("/") == 1]
    image = one["Image"]
    if image.startswith("sha256:") and not whole:
        image = image[7:19]
    virtual = f" (virtual {tables.bytes_of(one.get('SizeRootFs', 0), 3)})" if one.get("SizeRootFs") else ""
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in one.get("Mounts") or []]
    return {
        "ID": one["Id"] if whole else one["Id"][:12],
        "Image": image,
        "Command": tables.go_quoted(command),
        "CreatedAt": tables.local_time(one["Created"]),
        "RunningFor": tables.span(now - one["Created"]) + " ago",
        "Platform": None,
        "Ports": tables.ports(one.get("Ports") or []),
        "State": one["State"],
        "Status": one["Status"],
        "Size": tables.bytes_of(one.get("SizeRw", 0), 3) + virtual,
        "Names": ",".join(names),
        "Labels": tables.labels(one.get("Labels")),
        "Label": tables.label(one.get("Labels")),
        "Mounts": ",".join(name if whole else tables.ellipsis(name, 15) for name in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in one.get("Mounts") or [])),
        "Networks": ",".join(sorted((one.get("NetworkSettings") or {}).get("Networks") or {})),
    }


@command("[OPTIONS] CONTAINER", complete=completing.containers)
@switch("-f", "--follow", help="Go on with what is still to come.")
@option("-n", "--tail", default="all", help="Only the last N lines.")
@option("--since", help="From this time on: 2026-01-02T13:23:37Z or 42m.")
@option("--until", help="Up to this time.")
@switch("-t", "--timestamps", help="With the time of each line.")
@switch("--details", help="With the attributes of the log.")
def logs(client: Client, container: str, since: str, until: str, **flags: Any) -> int:
    """Show what a container has said."""
    from fairlead.cli.streams import Demultiplexer, write

    tty = client.call("GET", path("containers", container, "json"))["Config"]["Tty"]
    now = time.time()
    query = {**flags, "stdout": True, "stderr": True, **times_of(since, until, now)}
    frames = Demultiplexer()
    with client.stream("GET", path("containers", container, "logs"), query) as answer:
        while data := answer.read1(65536):
            for stream, payload in [(1, data)] if tty else frames.feed(data):
                write(sys.stderr.buffer if stream == 2 else sys.stdout.buffer, payload)
    return 0


def times_of(since: str, until: str, now: float) -> dict[str, str]:
    """``--since`` and ``--until`` for the API."""
    found = {}
    for name, text in (("since", since), ("until", until)):
        try:
            found[name] = moment(text, now)
        except Invalid as problem:
            raise Invalid(f'invalid value for "{name}": {problem.message}') from None
    return found


def moment(text: str, now: float) -> str:
    """A time as the API wants it: seconds since 1970. ``10m`` is ten minutes ago."""
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


@command(f"[OPTIONS] {SEVERAL}", complete=completing.containers)
@integer("-t", "--timeout", "--time", help="Seconds to wait before killing it.")
@option("-s", "--signal", help="Signal that asks it to stop.")
def stop(client: Client, *containers: str, timeout: int | None, signal: str) -> int:
    """Stop running containers."""
    return _post(client, containers, "stop", {"t": None if timeout is None else str(timeout), "signal": signal})


@command(f"[OPTIONS] {SEVERAL}", complete=completing.containers)
@integer("-t", "--timeout", "--time", help="Seconds to wait before killing it.")
@option("-s", "--signal", help="Signal that asks it to stop.")
def restart(client: Client, *containers: str, timeout: int | None, signal: str) -> int:
    """Stop containers and start them again."""
    return _post(client, containers, "restart", {"t": None if timeout is None else str(timeout), "signal": signal})


@command(f"[OPTIONS] {SEVERAL}", complete=completing.containers)
@option("-s", "--signal", help="Signal to send (default KILL).")
def kill(client: Client, *containers: str, signal: str) -> int:
    """Send a signal to running containers."""
    return _post(client, containers, "kill", {"signal": signal or "KILL"})


@command(SEVERAL, complete=completing.containers)
def pause(client: Client, *containers: str) -> int:
    """Hold all processes of containers."""
    return _post(client, containers, "pause")


@command(SEVERAL, complete=completing.containers)
def unpause(client: Client, *containers: str) -> int:
    """Let the processes of paused containers go on."""
    return _post(client, containers, "unpause")


@command("CONTAINER NEW_NAME", complete=completing.containers)
def rename(client: Client, container: str, name: str) -> int:
    """Give a container another name."""
    try:
        client.call("POST", path("containers", container, "rename"), {"name": name})
    except Refused as problem:
        print(f"Error response from daemon: {problem.message}", file=sys.stderr)
        raise Invalid(f"Error: failed to rename container named {container}") from None
    return 0


@command(f"[OPTIONS] {SEVERAL}", complete=completing.containers)
@switch("-f", "--force", help="Kill it first if it runs.")
@switch("-l", "--link", help="Remove the link, not the container.")
@switch("-v", "--volumes", help="Also its anonymous volumes.")
def rm(client: Client, *containers: str, force: bool, link: bool, volumes: bool) -> int:
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


@command(SEVERAL, complete=completing.containers)
def wait(client: Client, *containers: str) -> int:
    """Wait until containers stop; prints their exit codes."""
    ask = lambda name: client.call("POST", path("containers", name, "wait"))  # noqa: E731
    return each(containers, ask, said=lambda _, answer: str(answer["StatusCode"]))


@command("CONTAINER [PRIVATE_PORT[/PROTO]]", complete=completing.containers)
def port(client: Client, container: str, port: str = "") -> int:
    """Show where the ports of a container are published."""
    bound = client.call("GET", path("containers", container, "json"))["NetworkSettings"]["Ports"] or {}
    wanted = port if "/" in port or not port else f"{port}/tcp"
    if wanted:
        number = wanted.partition("/")[0]
        if not number.isdigit():
            raise Invalid(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": invalid syntax')
        if not bound.get(wanted):
            raise Invalid(f"Error: No public port '{port}' published for {container}")
        bound = {wanted: bound[wanted]}
    for inside in sorted(bound, key=lambda text: (text.partition("/")[2], int(text.partition("/")[0]))):
        for binding in bound[inside] or []:
            address = tables.bracketed(binding["HostIp"])
            print(("" if wanted else f"{inside} -> ") + f"{address}:{binding['HostPort']}")
    return 0


@command("CONTAINER [ps OPTIONS]", own_words=True, complete=completing.containers)
def top(client: Client, container: str, *options: str) -> int:
    """Show the processes of a container."""
    found = client.call("GET", path("containers", container, "top"), {"ps_args": " ".join(options)})
    print(tables.columns([found["Titles"], *found["Processes"]], least=20))
    return 0


@command("CONTAINER", complete=completing.containers)
def diff(client: Client, container: str) -> int:
    """Show what changed in a container's files."""
    for change in client.call("GET", path("containers", container, "changes")) or []:
        print("CAD"[change["Kind"]], change["Path"])
    return 0
