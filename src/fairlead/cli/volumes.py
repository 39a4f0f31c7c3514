"""``fairlead volume``: ls, create, inspect, rm, prune."""

from __future__ import annotations

import click

from fairlead.cli import tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.containers import inspect_all
from fairlead.cli.options import Command, filter_query, filters, form, many, pairs_of, quiet, switch
from fairlead.cli.running import each, pass_client


@click.group("volume")
def volume() -> None:
    """Manage volumes."""


@volume.command("ls", cls=Command)
@filters
@form
@quiet
@pass_client
def ls(client: Client, filter: tuple[str, ...], form: str, quiet: bool) -> int:
    """List volumes."""
    found = client.call("GET", "/volumes", {"filters": filter_query(filter)}).get("Volumes") or []
    rows = [
        {
            "Driver": one["Driver"],
            "Name": one["Name"],
            "Mountpoint": one["Mountpoint"],
            "Scope": one["Scope"],
            "Labels": tables.labels(one.get("Labels")),
            "Label": tables.label(one.get("Labels")),
        }
        for one in sorted(found, key=lambda one: str(one["Name"]))
    ]
    if quiet and not form:
        print("\n".join(row["Name"] for row in rows), end="\n" if rows else "")
        return 0
    text = tables.render(rows, form, ("Driver", "Name"), {"Name": "VOLUME NAME"})
    print(text) if text else None
    return 0


@volume.command("create", cls=Command)
@click.option("-d", "--driver", default="local", help="Kind of volume.")
@many("--label", help="Label: key=value.")
@many("-o", "--opt", help="Option of the driver: key=value.")
@click.argument("name", required=False, default="")
@pass_client
def create(client: Client, name: str, driver: str, label: tuple[str, ...], opt: tuple[str, ...]) -> int:
    """Create a volume; prints its name."""
    wanted = {"Name": name, "Driver": driver, "DriverOpts": pairs_of(opt), "Labels": pairs_of(label)}
    print(client.call("POST", "/volumes/create", body=wanted)["Name"])
    return 0


@volume.command("inspect", cls=Command)
@click.option("-f", "--format", "form", default="", help="json, or a Go template.")
@click.argument("volumes", nargs=-1, required=True)
@pass_client
def inspect(client: Client, volumes: tuple[str, ...], form: str) -> int:
    """Show everything about volumes."""
    return inspect_all(client, volumes, form, ("volumes",), "volume")


@volume.command("rm", cls=Command)
@switch("-f", "--force", help="Not there is fine too.")
@click.argument("volumes", nargs=-1, required=True)
@pass_client
def rm(client: Client, volumes: tuple[str, ...], force: bool) -> int:
    """Remove volumes."""

    def one(name: str) -> None:
        try:
            client.call("DELETE", path("volumes", name), {"force": force})
        except Refused as problem:
            if not (force and problem.status == 404):
                raise

    return each(volumes, one)


@volume.command("prune", cls=Command)
@switch("-f", "--force", help="Do not ask.")
@switch("-a", "--all", help="Also named volumes.")
@filters
@pass_client
def prune(client: Client, force: bool, all: bool, filter: tuple[str, ...]) -> int:
    """Remove volumes that no container uses."""
    if not force and not click.confirm("WARNING! This will remove unused volumes.\nAre you sure you want to continue?"):
        return 1
    wanted = {**(filter_query(filter) or {}), **({"all": ["true"]} if all else {})}
    done = client.call("POST", "/volumes/prune", {"filters": wanted or None})
    if done.get("VolumesDeleted"):
        print("Deleted Volumes:\n" + "\n".join(done["VolumesDeleted"]) + "\n")
    print(f"Total reclaimed space: {tables.bytes_of(done.get('SpaceReclaimed', 0))}")
    return 0
