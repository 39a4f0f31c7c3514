"""``prune``: what nobody uses goes, after a question."""

from __future__ import annotations

from typing import Any

from fairlead.cli import tables
from fairlead.cli.client import Client
from fairlead.cli.command import command, confirmed, filter_query, force, long_filters, option, switch
from fairlead.errors import Invalid

Filters = list[tuple[str, str]]


def _prune(client: Client, kind: str, query: dict[str, list[str]] | None) -> dict[str, Any]:
    return dict(client.call("POST", f"/{kind}/prune", {"filters": query}) or {})


def _named(title: str, gone: list[str] | None) -> str:
    return f"Deleted {title}:\n" + "\n".join(gone) + "\n\n" if gone else ""


def _images(gone: list[dict[str, str]] | None) -> str:
    lines = [f"{word.lower()}: {value}" for one in gone or [] for word, value in one.items()]
    return "Deleted Images:\n" + "\n".join(lines) + "\n\n" if lines else ""


def _cache(done: dict[str, Any]) -> str:
    return _named("build cache objects", done.get("CachesDeleted"))


def _space(number: int) -> str:
    return f"Total reclaimed space: {tables.bytes_of(number)}"


@command("[OPTIONS]")
@long_filters
@force
def containers(client: Client, filter: Filters, force: bool) -> int:
    """Remove all stopped containers."""
    if not force and not confirmed("WARNING! This will remove all stopped containers."):
        return 0
    done = _prune(client, "containers", filter_query(filter))
    print(_named("Containers", done.get("ContainersDeleted")) + _space(done.get("SpaceReclaimed", 0)))
    return 0


@command("[OPTIONS]")
@long_filters
@force
def networks(client: Client, filter: Filters, force: bool) -> int:
    """Remove all networks that no container uses."""
    if not force and not confirmed("WARNING! This will remove all custom networks not used by at least one container."):
        return 0
    gone = _prune(client, "networks", filter_query(filter)).get("NetworksDeleted")
    print(_named("Networks", gone), end="")
    return 0


@command("[OPTIONS]")
@switch("-a", "--all", help="Also named volumes.")
@long_filters
@force
def volumes(client: Client, all: bool, filter: Filters, force: bool) -> int:
    """Remove volumes that no container uses."""
    which = "all" if all else "anonymous"
    if not force and not confirmed(
        f"WARNING! This will remove {which} local volumes not used by at least one container."
    ):
        return 0
    done = _prune(client, "volumes", filter_query([*filter, *([("all", "true")] if all else [])]))
    print(_named("Volumes", done.get("VolumesDeleted")) + _space(done.get("SpaceReclaimed", 0)))
    return 0


@command("[OPTIONS]")
@switch("-a", "--all", help="Also named images that no container uses.")
@long_filters
@force
def images(client: Client, all: bool, filter: Filters, force: bool) -> int:
    """Remove images that nobody uses."""
    which = "images without at least one container associated to them" if all else "dangling images"
    if not force and not confirmed(f"WARNING! This will remove all {which}."):
        return 0
    done = _prune(client, "images", filter_query([*filter, ("dangling", "false" if all else "true")]))
    print(_images(done.get("ImagesDeleted")) + _space(done.get("SpaceReclaimed", 0)))
    return 0


@command("[OPTIONS]")
@switch("-a", "--all", help="Also named images that no container uses.")
@long_filters
@force
@switch("--volumes", help="Also anonymous volumes.")
def system(client: Client, all: bool, filter: Filters, force: bool, volumes: bool) -> int:
    """Remove all that nobody uses: containers, networks, images, and volumes if asked to."""
    if volumes and any(key == "until" for key, _ in filter):
        raise Invalid('ERROR: The "until" filter is not supported with "--volumes"')
    if not force and not confirmed(_warning(all, volumes, filter)):
        return 0
    query = filter_query(filter)
    done = _prune(client, "containers", query)
    said, space = _named("Containers", done.get("ContainersDeleted")), done.get("SpaceReclaimed", 0)
    said += _named("Networks", _prune(client, "networks", query).get("NetworksDeleted"))
    if volumes:
        done = _prune(client, "volumes", query)
        said, space = said + _named("Volumes", done.get("VolumesDeleted")), space + done.get("SpaceReclaimed", 0)
    done = _prune(client, "images", filter_query([*filter, ("dangling", "false" if all else "true")]))
    said, space = said + _images(done.get("ImagesDeleted")), space + done.get("SpaceReclaimed", 0)
    done = client.call("POST", "/build/prune", {"all": all, "filters": query}) or {}
    print(said + _cache(done) + _space(space + done.get("SpaceReclaimed", 0)))
    return 0


@command("[OPTIONS]")
@switch("-a", "--all", help="Accepted; nothing is kept without it.")
@long_filters
@force
@option("--keep-storage", word="bytes", default=0, help="How much may stay: what was used last does.")
@option("--reserved-space", word="bytes", default=0, help="The same.")
@option("--max-used-space", word="bytes", default=0, help="How much may stay, and not more.")
@option("--min-free-space", word="bytes", default=0, help="How much of the disk is to be free.")
def builder(client: Client, all: bool, filter: Filters, force: bool, **bytes: int) -> int:
    """Remove build cache."""
    which = "all build cache" if all else "all dangling build cache"
    if not force and not confirmed(f"WARNING! This will remove {which}.", " "):
        return 0
    spare = {key.replace("_", "-"): value for key, value in bytes.items() if value}
    done = client.call("POST", "/build/prune", {"all": all, "filters": filter_query(filter), **spare}) or {}
    print(_cache(done) + _space(done.get("SpaceReclaimed", 0)))
    return 0


def _warning(all: bool, volumes: bool, filter: Filters) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append("all images without at least one container associated to them" if all else "all dangling images")
    lines.append("all build cache" if all else "unused build cache")
    said = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    if filter:
        said += "\n  Items to be pruned will be filtered with:\n"
        said += "".join(f"  - {key}={value}\n" for key, value in filter)
    return said
