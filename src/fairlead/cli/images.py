"""Commands about images: images, import, load, save, tag, rmi, pull, and ``image prune``."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.containers import inspect_all
from fairlead.cli.options import Command, filter_query, filters, form, many, no_trunc, quiet, switch
from fairlead.cli.running import follow, pass_client, tagged
from fairlead.cli.running import pull as pull_image
from fairlead.errors import Invalid

COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
HEADS = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}


@click.command("images", cls=Command)
@switch("-a", "--all", help="Also intermediate images.")
@switch("--digests", help="With digests.")
@filters
@form
@no_trunc
@quiet
@click.argument("reference", required=False, default="")
@pass_client
def images(
    client: Client, all: bool, digests: bool, filter: tuple[str, ...], form: str, reference: str, **show: Any
) -> int:
    """List images."""
    wanted = filter_query(filter) or {}
    if reference:
        wanted.setdefault("reference", []).append(reference)
    found = client.call("GET", "/images/json", {"all": all, "filters": wanted or None})
    rows = [row for one in found for row in _rows(one, show["no_trunc"], time.time())]
    if show["quiet"] and not form:
        print("\n".join(row["ID"] for row in rows), end="\n" if rows else "")
        return 0
    fields = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size") if digests else COLUMNS
    text = tables.render(rows, form, fields, HEADS)
    print(text) if text else None
    return 0


def _rows(one: dict[str, Any], whole: bool, now: float) -> Iterator[dict[str, str]]:
    """One image as texts, a row for each of its names."""
    digests = dict(text.split("@", 1) for text in one.get("RepoDigests") or [])
    common = {
        "ID": one["Id"] if whole else one["Id"].removeprefix("sha256:")[:12],
        "CreatedSince": tables.span(now - one["Created"]) + " ago",
        "CreatedAt": tables.local_time(one["Created"]),
        "Size": tables.bytes_of(one["Size"], 3),
        "VirtualSize": tables.bytes_of(one["Size"], 3),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A" if one.get("Containers", -1) < 0 else str(one["Containers"]),
    }
    names = [tag for tag in one.get("RepoTags") or [] if tag != "<none>:<none>"] or ["<none>:<none>"]
    for name in names:
        repository, _, tag = name.rpartition(":")
        yield {**common, "Repository": repository, "Tag": tag, "Digest": digests.get(repository, "<none>")}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(1 << 20):
        yield data


@click.command("import", cls=Command)
@many("-c", "--change", help="Dockerfile line to apply: CMD httpd -f.")
@click.option("-m", "--message", default="", help="Comment of the image.")
@click.option("--platform", default="", help="Platform of the image.")
@click.argument("source")
@click.argument("reference", required=False, default="")
@pass_client
def import_(client: Client, source: str, reference: str, change: tuple[str, ...], message: str, platform: str) -> int:
    """Make an image from a tar file of a root filesystem (``-``: standard input)."""
    name, _, tag = (reference if ":" in reference.rpartition("/")[2] else f"{reference}:").rpartition(":")
    query = {"repo": name, "tag": tag, "changes": list(change), "message": message, "platform": platform}
    if source.startswith(("http://", "https://")):
        raise Invalid("fetch the file yourself and pass it with -")
    if source == "-":
        _import(client, sys.stdin.buffer, query)
    else:
        with _opened(source) as file:
            _import(client, file, query)
    return 0


def _import(client: Client, file: IO[bytes], query: dict[str, Any]) -> None:
    with client.stream("POST", "/images/create", {"fromSrc": "-", **query}, _pieces(file)) as answer:
        follow(answer, print)


def _opened(name: str) -> IO[bytes]:
    try:
        return Path(name).open("rb")
    except OSError as problem:
        raise Invalid(f"open {name}: {(problem.strerror or '').lower()}") from None


@click.command("load", cls=Command)
@click.option("-i", "--input", "source", default="", help="File to read instead of standard input.")
@switch("-q", "--quiet", help="Do not show the progress.")
@pass_client
def load(client: Client, source: str, quiet: bool) -> int:
    """Load images from a tar file that ``save`` made."""
    if not source and sys.stdin.isatty():
        raise Invalid("requested load from stdin, but stdin is empty")
    file = _opened(source) if source else sys.stdin.buffer
    with file:
        sent = {"Content-Type": "application/x-tar"}
        with client.stream("POST", "/images/load", {"quiet": True}, _pieces(file), sent) as answer:
            follow(answer, print)
    return 0


@click.command("save", cls=Command)
@click.option("-o", "--output", default="", help="File to write instead of standard output.")
@click.argument("images", nargs=-1, required=True, shell_complete=completing.images)
@pass_client
def save(client: Client, images: tuple[str, ...], output: str) -> int:
    """Save images to a tar file."""
    if not output and sys.stdout.isatty():
        raise Invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with client.stream("GET", "/images/get", {"names": list(images)}) as answer:
        if output:
            with Path(output).open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
        else:
            shutil.copyfileobj(answer, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
    return 0


@click.command("tag", cls=Command)
@click.argument("source")
@click.argument("target")
@pass_client
def tag(client: Client, source: str, target: str) -> int:
    """Give an image another name."""
    name, _, label = tagged(target).rpartition(":")
    client.call("POST", path("images", source, "tag"), {"repo": name, "tag": label})
    return 0


@click.command("rmi", cls=Command)
@switch("-f", "--force", help="Also when it has several names or stopped containers.")
@switch("--no-prune", help="Keep untagged parents.")
@click.argument("images", nargs=-1, required=True, shell_complete=completing.images)
@pass_client
def rmi(client: Client, images: tuple[str, ...], force: bool, no_prune: bool) -> int:
    """Remove images."""
    bad = 0
    for name in images:
        try:
            for gone in client.call("DELETE", path("images", name), {"force": force, "noprune": no_prune}) or []:
                print(*(f"{word}: {value}" for word, value in gone.items()))
        except Refused as problem:
            bad = 1
            if not (force and problem.status == 404):
                print(f"Error response from daemon: {problem.message}", file=sys.stderr)
    return bad


@click.command("pull", cls=Command)
@click.option("--platform", default="", help="Platform, if the image is for several.")
@switch("-q", "--quiet", help="Only print the name.")
@switch("-a", "--all-tags", help="All tags of the repository.")
@click.argument("image")
@pass_client
def pull(client: Client, image: str, platform: str, quiet: bool, all_tags: bool) -> int:
    """Pull an image from a registry."""
    if all_tags:
        with client.stream("POST", "/images/create", {"fromImage": image, "platform": platform}) as answer:
            follow(answer, (lambda _: None) if quiet else print)
        return 0
    if tagged(image) != image and not quiet:
        print("Using default tag: latest")
    pull_image(client, image, platform, (lambda _: None) if quiet else print)
    if quiet:
        print(tagged(image))
    return 0


@click.group("image")
def image() -> None:
    """Manage images."""


@image.command("inspect", cls=Command)
@click.option("-f", "--format", "form", default="", help="json, or a Go template.")
@click.argument("images", nargs=-1, required=True, shell_complete=completing.images)
@pass_client
def inspect(client: Client, images: tuple[str, ...], form: str) -> int:
    """Show everything about images."""
    return inspect_all(client, images, form, ("images",), "image")


@image.command("prune", cls=Command)
@switch("-f", "--force", help="Do not ask.")
@switch("-a", "--all", help="Also named images that no container uses.")
@filters
@pass_client
def prune(client: Client, force: bool, all: bool, filter: tuple[str, ...]) -> int:
    """Remove images that nobody uses."""
    if not force and not click.confirm(
        "WARNING! This will remove all unused images.\nAre you sure you want to continue?"
    ):
        return 1
    wanted = {**(filter_query(filter) or {}), "dangling": ["false" if all else "true"]}
    done = client.call("POST", "/images/prune", {"filters": wanted})
    for gone in done.get("ImagesDeleted") or []:
        print(*(f"{word.lower()}: {value}" for word, value in gone.items()))
    print(f"Total reclaimed space: {tables.bytes_of(done.get('SpaceReclaimed', 0))}")
    return 0


for command, name in ((images, "ls"), (import_, "import"), (load, "load"), (save, "save"), (tag, "tag"), (rmi, "rm")):
    image.add_command(command, name)
image.add_command(pull)
