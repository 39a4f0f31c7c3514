"""``fairlead volume``: ls, create, rm."""

from __future__ import annotations

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, filter_query, filters, form, many, option, pairs_of, quiet, switch
from fairlead.cli.each import each


@command("[OPTIONS]")
@filters
@form
@quiet
def ls(client: Client, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
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
            **dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), "N/A"),
        }
        for one in sorted(found, key=lambda one: str(one["Name"]))
    ]
    tables.show(rows, form, ("Driver", "Name"), {"Name": "VOLUME NAME"}, only="Name" if quiet else "")
    return 0


@command("[OPTIONS] [VOLUME]")
@option("-d", "--driver", default="local", help="Kind of volume.")
@many("--label", help="Label: key=value.")
@many("-o", "--opt", help="Option of the driver: key=value.")
def create(client: Client, name: str = "", *, driver: str, label: list[str], opt: list[str]) -> int:
    """Create a volume; prints its name."""
    wanted = {"Name": name, "Driver": driver, "DriverOpts": pairs_of(opt), "Labels": pairs_of(label)}
    print(client.call("POST", "/volumes/create", body=wanted)["Name"])
    return 0


@command("[OPTIONS] VOLUME [VOLUME...]", complete=completing.volumes)
@switch("-f", "--force", help="Not there is fine too.")
def rm(client: Client, *volumes: str, force: bool) -> int:
    """Remove volumes."""

    def one(name: str) -> None:
        try:
            client.call("DELETE", path("volumes", name), {"force": force})
        except Refused as problem:
            if not (force and problem.status == 404):
                raise

    return each(volumes, one)
