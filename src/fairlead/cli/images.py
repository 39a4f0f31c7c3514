"""Commands about images on this machine: images, history, import, load, save, tag, rmi, commit."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, filter_query, filters, form, many, no_trunc, option, quiet, switch
from fairlead.cli.progress import follow, tagged
from fairlead.errors import Invalid

COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
HEADS = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}


@command("[OPTIONS] [REPOSITORY[:TAG]]", complete=completing.images)
@switch("-a", "--all", help="Also intermediate images.")
@switch("--digests", help="With digests.")
@filters
@form
@no_trunc
@quiet
def images(
    client: Client, reference: str = "", *, all: bool, digests: bool, filter: Any, form: str, **show: Any
) -> int:
    """List images."""
    wanted = filter_query(filter) or {}
    if reference:
        wanted.setdefault("reference", []).append(reference)
    found = client.call("GET", "/images/json", {"all": all, "filters": wanted or None})
    digests = digests or ".Digest" in form
    rows = [row for one in found for row in rows_of(one, show["no_trunc"], time.time())]
    fields = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size") if digests else COLUMNS
    tables.show(rows, form, fields, HEADS, only="ID" if show["quiet"] else "")
    return 0


def rows_of(one: dict[str, Any], whole: bool, now: float) -> Iterator[dict[str, Any]]:
    """One image as texts, a row for each of its names. Who shares and uses it, only ``system df`` knows."""
    common = {
        "ID": one["Id"] if whole else one["Id"].removeprefix("sha256:")[:12],
        "CreatedSince": tables.span(now - one["Created"]) + " ago",
        "CreatedAt": tables.local_time(one["Created"]),
        "Size": tables.bytes_of(one["Size"], 3),
        "VirtualSize": tables.bytes_of(one["Size"], 4),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    }
    known = dict(text.split("@", 1) for text in one.get("RepoDigests") or [])
    names = [tag for tag in one.get("RepoTags") or [] if tag != "<none>:<none>"]
    for name in names:
        repository, _, tag = name.rpartition(":")
        yield {**common, "Repository": repository, "Tag": tag, "Digest": known.get(repository, "<none>")}
    if not names:
        repository, digest = next(iter(known.items()), ("<none>", "<none>"))
        yield {**common, "Repository": repository, "Tag": "<none>", "Digest": digest}


@command("[OPTIONS] IMAGE", complete=completing.images)
@form
@switch("-H", "--human", default=True, help="Sizes and times for people.")
@no_trunc
@option("--platform", help="Accepted: we keep one platform of an image.")
@quiet
def history(client: Client, image: str, form: str, human: bool, no_trunc: bool, platform: str, quiet: bool) -> int:
    """Show what an image was made of, newest first."""
    rows = []
    now = time.time()
    for step in client.call("GET", path("images", image, "history")):
        made = tables.rfc3339(step["Created"])
        said = step["CreatedBy"].replace("\t", " ")
        ident = step["Id"] if no_trunc else step["Id"].removeprefix("sha256:")[:12]
        rows.append(
            {
                "ID": ident,
                "CreatedSince": f"{tables.span(now - step['Created'])} ago" if human else made,
                "CreatedAt": made,
                "CreatedBy": said if no_trunc else tables.ellipsis(said, 45),
                "Size": tables.bytes_of(step["Size"], 3) if human else str(step["Size"]),
                "Comment": step["Comment"],
            }
        )
    heads = {"ID": "IMAGE", "CreatedSince": "CREATED" if human else "CREATED AT"}
    fields = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
    tables.show(rows, form, fields, heads, only="ID" if quiet else "")
    return 0


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file in pieces of a megabyte."""
    while data := file.read(1 << 20):
        yield data


@command("[OPTIONS] file|URL|- [REPOSITORY[:TAG]]")
@many("-c", "--change", help="Dockerfile line to apply: CMD httpd -f.")
@option("-m", "--message", help="Comment of the image.")
@option("--platform", help="Platform of the image.")
def import_(client: Client, source: str, reference: str = "", *, change: list[str], message: str, platform: str) -> int:
    """Make an image from a tar file of a root filesystem (-: standard input)."""
    name, tag = reference, ""
    if ":" in reference.rpartition("/")[2]:
        name, _, tag = reference.rpartition(":")
    query = {"repo": name, "tag": tag, "changes": change, "message": message, "platform": platform}
    if source.startswith(("http://", "https://")):
        raise Invalid("fetch the file yourself and pass it with -")
    with sys.stdin.buffer if source == "-" else opened(source) as file:
        sent = {"Content-Type": "application/x-tar"}
        with client.stream("POST", "/images/create", {"fromSrc": "-", **query}, pieces(file), sent) as answer:
            follow(answer)
    return 0


def opened(name: str) -> BinaryIO:
    """A file to read, or Docker's complaint."""
    try:
        return open(name, "rb")
    except OSError as problem:
        raise Invalid(f"open {name}: {(problem.strerror or '').lower()}") from None


@command("[OPTIONS]")
@option("-i", "--input", key="source", help="File to read instead of standard input.")
@option("--platform", help="Accepted: all that is in the file is loaded.")
@switch("-q", "--quiet", help="Do not show the progress.")
def load(client: Client, source: str, platform: str, quiet: bool) -> int:
    """Load images from a tar file that save made."""
    if not source and sys.stdin.isatty():
        raise Invalid("requested load from stdin, but stdin is empty")
    with opened(source) if source else sys.stdin.buffer as file:
        sent = {"Content-Type": "application/x-tar"}
        plain = quiet or not sys.stdout.isatty()
        with client.stream("POST", "/images/load", {"quiet": plain}, pieces(file), sent) as answer:
            follow(answer)
    return 0


@command("[OPTIONS] IMAGE [IMAGE...]", complete=completing.images)
@option("-o", "--output", help="File to write instead of standard output.")
@option("--platform", help="Accepted: we keep one platform of an image.")
def save(client: Client, *images: str, output: str, platform: str) -> int:
    """Save images to a tar file."""
    if not output and sys.stdout.isatty():
        raise Invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with client.stream("GET", "/images/get", {"names": list(images)}) as answer:
        pour(answer, output)
    return 0


def pour(answer: BinaryIO, output: str) -> None:
    """What the engine sends, to a file (whole or not at all) or to standard output."""
    if not output:
        shutil.copyfileobj(answer, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
        return
    import os

    part = f"{output}.part-{os.getpid()}"
    try:
        with open(part, "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
        os.replace(part, output)
    except OSError as problem:
        raise Invalid(f"failed to save: {output}: {(problem.strerror or '').lower()}") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)


@command("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", complete=completing.images)
def tag(client: Client, source: str, target: str) -> int:
    """Give an image another name."""
    name, _, label = tagged(target).rpartition(":")
    client.call("POST", path("images", source, "tag"), {"repo": name, "tag": label})
    return 0


@command("[OPTIONS] IMAGE [IMAGE...]", complete=completing.images)
@switch("-f", "--force", help="Also when it has several names or stopped containers.")
@switch("--no-prune", help="Keep untagged parents.")
@many("--platform", word="strings", help="Accepted: we keep one platform of an image.")
def rmi(client: Client, *images: str, force: bool, no_prune: bool, platform: list[str]) -> int:
    """Remove images."""
    bad = 0
    for name in images:
        try:
            for gone in client.call("DELETE", path("images", name), {"force": force, "noprune": no_prune}) or []:
                print(*(f"{word}: {value}" for word, value in gone.items()))
        except Refused as problem:
            bad |= not (force and problem.status == 404)
            print(f"Error response from daemon: {problem.message}", file=sys.stderr)
    return int(bad)


@command("[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", complete=completing.containers)
@option("-a", "--author", help="Who made it.")
@many("-c", "--change", help="Dockerfile line to apply: CMD httpd -f.")
@option("-m", "--message", help="Comment of the image.")
@switch("-p", "--pause", default=True, help="Hold the container meanwhile.")
def commit(
    client: Client, container: str, reference: str = "", *, author: str, change: list[str], message: str, pause: bool
) -> int:
    """Make an image from what a container changed; prints its id."""
    name, tag = (tagged(reference).rpartition(":")[::2]) if reference else ("", "")
    query = {"container": container, "repo": name, "tag": tag, "author": author, "comment": message}
    made = client.call("POST", "/commit", {**query, "changes": change, "pause": "true" if pause else "false"}, {})
    print(made["Id"])
    return 0
