"""``system df``: how much disk images, containers and volumes take, and how much of it nobody needs."""

from __future__ import annotations

import time
from typing import Any

import fairlead.core.template as template
from fairlead.cli import tables
from fairlead.cli.client import Client
from fairlead.cli.command import command, form, switch
from fairlead.cli.containers import row_of as container_row
from fairlead.cli.images import rows_of as image_rows


@command("[OPTIONS]")
@form
@switch("-v", "--verbose", help="Each of them.")
def df(client: Client, form: str, verbose: bool) -> int:
    """Show how much disk is used."""
    found = client.call("GET", "/system/df")
    if not verbose:
        heads = {"TotalCount": "TOTAL"}
        tables.show(summary(found), form, ("Type", "TotalCount", "Active", "Size", "Reclaimable"), heads)
        return 0
    parts = _parts(found)
    if form and form not in ("table", "json"):
        print(template.render(tables.unescape(form), parts), end="")
    elif form == "json":
        print(tables.compact({name: [_plain(row) for row in rows] for name, rows in parts.items()}))
    else:
        print(_page(parts, _cache(found)))
    return 0


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in sorted(row) if not callable(row[key])}


def _cache(found: dict[str, Any]) -> str:
    return tables.bytes_of(sum(one["Size"] for one in found.get("BuildCache") or [] if not one.get("Shared")), 3)


def summary(found: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each kind of thing."""
    images, containers = found.get("Images") or [], found.get("Containers") or []
    volumes, cache = found.get("Volumes") or [], found.get("BuildCache") or []
    layers = found.get("LayersSize", 0)
    needed = sum(one["Size"] - max(0, one.get("SharedSize", 0)) for one in images if one.get("Containers", 0) > 0)
    running = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    used = [one for one in volumes if one["UsageData"]["RefCount"] > 0]
    sizes = {
        "containers": sum(one.get("SizeRw", 0) for one in containers),
        "volumes": sum(max(0, one["UsageData"]["Size"]) for one in volumes),
        "cache": sum(one["Size"] for one in cache if not one.get("Shared")),
    }
    free = {
        "containers": sizes["containers"] - sum(one.get("SizeRw", 0) for one in running),
        "volumes": sizes["volumes"] - sum(max(0, one["UsageData"]["Size"]) for one in used),
        "cache": sum(one["Size"] for one in cache if not one.get("InUse") and not one.get("Shared")),
    }
    active = sum(one.get("Containers", 0) > 0 for one in images)
    return [
        _row("Images", len(images), active, layers, layers - needed),
        _row("Containers", len(containers), len(running), sizes["containers"], free["containers"]),
        _row("Local Volumes", len(volumes), len(used), sizes["volumes"], free["volumes"]),
        _row("Build Cache", len(cache), sum(one.get("InUse", False) for one in cache), sizes["cache"], free["cache"]),
    ]


def _row(kind: str, total: int, active: int, size: int, free: int) -> dict[str, str]:
    share = f" ({100 * free // size}%)" if size and kind != "Build Cache" else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": tables.bytes_of(size, 4),
        "Reclaimable": tables.bytes_of(free, 4) + share,
    }


def _usage(image: dict[str, Any]) -> dict[str, str]:
    shared = max(0, image.get("SharedSize", 0))
    return {
        "SharedSize": tables.bytes_of(shared, 4),
        "UniqueSize": tables.bytes_of(image["Size"] - shared, 4),
        "Containers": str(image.get("Containers", 0)),
    }


def _parts(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    now = time.time()
    images = [{**next(image_rows(one, False, now)), **_usage(one)} for one in found.get("Images") or []]
    volumes = [
        {
            "Name": one["Name"],
            "Links": str(one["UsageData"]["RefCount"]),
            "Size": tables.bytes_of(max(0, one["UsageData"]["Size"]), 4),
            "Driver": one["Driver"],
            "Mountpoint": one["Mountpoint"],
            "Labels": tables.labels(one.get("Labels")),
        }
        for one in found.get("Volumes") or []
    ]
    return {
        "Images": images,
        "Containers": [container_row({**one, "SizeRootFs": 0}, False, now) for one in found.get("Containers") or []],
        "Volumes": volumes,
        "BuildCache": [],
    }


def _page(parts: dict[str, list[dict[str, Any]]], cache: str) -> str:
    images = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    containers = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    heads = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
    blocks = [
        "Images space usage:\n",
        tables.render(parts["Images"], "", images, heads),
        "\nContainers space usage:\n",
        tables.render(parts["Containers"], "", containers, {"ID": "CONTAINER ID", "RunningFor": "CREATED"}),
        "\nLocal Volumes space usage:\n",
        tables.render(parts["Volumes"], "", ("Name", "Links", "Size"), {"Name": "VOLUME NAME"}),
        f"\nBuild cache usage: {cache}\n",
        "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED",
    ]
    return "\n".join(blocks)
