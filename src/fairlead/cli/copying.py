"""``cp`` and ``export``: files between a container and this machine.

    SOURCE                 DESTINATION              becomes
    file                   folder that is there     folder/file
    file                   file, or a new name      that name
    folder                 folder that is there     folder/folder
    folder                 a new name               that name
    folder/.               folder that is there     its contents, in the folder

Where an entry of the archive goes is decided here, once for both directions (``landing``).
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, option, switch
from fairlead.errors import Invalid

FOLDER, LINK = 1 << 31, 1 << 27
"""Of Go's file modes, as the API tells them."""


@command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", complete=completing.containers
)
@switch("-a", "--archive", help="Keep user and group of all files.")
@switch("-L", "--follow-link", help="If the source is a link, copy what it leads to.")
@switch("-q", "--quiet", help="Do not say what was copied.")
def cp(client: Client, source: str, target: str, archive: bool, follow_link: bool, quiet: bool) -> int:
    """Copy files between a container and this machine.

    As source, - is a tar file on standard input; as destination, one on standard output."""
    from_container, inside = split(source)
    to_container, there = split(target)
    if from_container and to_container:
        raise Invalid("copying between containers is not supported")
    if from_container:
        size, where = _out(client, from_container, inside, target, archive, follow_link), target
    elif to_container:
        size, where = _in(client, source, to_container, there, archive, follow_link), target
    else:
        raise Invalid("must specify at least one container source")
    if not quiet and target != "-" and sys.stderr.isatty():
        print(f"Successfully copied {tables.bytes_of(size, 3)} to {where}", file=sys.stderr)
    return 0


def split(text: str) -> tuple[str, str]:
    """(container, path) of ``container:path``; no container in ``/a:b`` and ``./a:b``."""
    if os.path.isabs(text):
        return "", text
    name, colon, inside = text.partition(":")
    if not colon or name.startswith("."):
        return "", text
    return name, inside


def landing(source_folder: bool, target: str, exists: bool, folder: bool) -> tuple[str, str]:
    """(folder to unpack in, new first name; "" keeps the names) of what is copied to ``target``."""
    if exists and folder:
        return target, ""
    if exists and source_folder:
        raise Invalid("cannot copy directory")
    if not exists and not source_folder and _says_folder(target):
        raise Invalid("no such directory")
    plain = target.rstrip("/")
    return posixpath.dirname(plain) or "/", posixpath.basename(plain)


def _says_folder(name: str) -> bool:
    return name.endswith("/") or posixpath.basename(name) == "."


def renamer(first: str) -> Callable[[str], str]:
    """Names whose first word is ``first`` instead; the same names when that is empty."""

    def rename(name: str) -> str:
        if not first:
            return name
        _, slash, rest = name.rstrip("/").partition("/")
        return f"{first}/{rest}" if slash else first

    return rename


def _stat(client: Client, container: str, inside: str) -> dict[str, Any]:
    answer = client.answer("HEAD", path("containers", container, "archive"), {"path": inside})
    answer.wire.close()
    return _said(answer.headers)


def _said(headers: Mapping[str, str]) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(headers["x-docker-container-path-stat"])))


def _followed(stat: dict[str, Any], inside: str) -> str:
    """Where a link in the container leads; the path itself when it is none."""
    if not stat["mode"] & LINK:
        return inside
    return posixpath.join(posixpath.dirname(inside.rstrip("/")), stat["linkTarget"])


def _absolute(inside: str) -> str:
    return inside if inside.startswith("/") or not inside else f"/{inside}"


def _out(client: Client, container: str, inside: str, target: str, owners: bool, follow: bool) -> int:
    from fairlead.cli import images, tars

    inside = _absolute(inside)
    name = ""  # what the source is called here, when that is not its name there
    if follow:
        led = _followed(_stat(client, container, inside), inside)
        name, inside = (posixpath.basename(inside.rstrip("/")), led) if led != inside else ("", inside)
    here = os.path.abspath(target) + ("/" if _says_folder(target) else "")
    parent = os.path.dirname(here.rstrip("/"))
    if target != "-" and not os.path.isdir(parent or "/"):
        raise Invalid(f'invalid output path: directory "{parent}" does not exist')
    answer = client.answer("GET", path("containers", container, "archive"), {"path": inside})
    with answer.body() as archive:
        if target == "-":
            if sys.stdout.isatty():
                raise Invalid("cowardly refusing to copy to a terminal; use a pipe")
            images.pour(archive, "")
            return 0
        folder = bool(_said(answer.headers)["mode"] & FOLDER)
        home, first = landing(folder, here, os.path.lexists(here.rstrip("/") or "/"), os.path.isdir(here))
        return tars.unpack(archive, home, renamer(first or name), owners=owners)


def _in(client: Client, source: str, container: str, inside: str, owners: bool, follow: bool) -> int:
    from fairlead.cli import tars

    where = _absolute(inside)
    exists, folder = False, False
    try:
        stat = _stat(client, container, where)
        if stat["mode"] & LINK:
            where = _followed(stat, where)
            stat = _stat(client, container, where)
        exists, folder = True, bool(stat["mode"] & FOLDER)
    except Refused:  # a new name; if there is no such container, the copying will say so
        pass
    if source == "-":
        if not folder:
            raise Invalid(f'destination "{container}:{inside}" must be a directory')
        _put(client, container, where, _pieces_of_input(), owners)
        return 0
    here = os.path.realpath(source) if follow else os.path.abspath(source)
    if not os.path.lexists(here):
        raise Invalid(f"lstat {here}: no such file or directory")
    directory = os.path.isdir(here) and (follow or _says_folder(source) or not os.path.islink(here))
    home, first = landing(directory, where, exists, folder)
    name = "." if posixpath.basename(source) == "." else posixpath.basename(os.path.abspath(source))
    counted = [0]

    def pairs() -> Any:
        for entry, file in tars.walk(here, first or name):
            counted[0] += os.lstat(file).st_size
            yield entry, file

    _put(client, container, home, tars.pack(pairs()), owners)
    return counted[0]


def _pieces_of_input() -> Any:
    from fairlead.cli.images import pieces

    return pieces(sys.stdin.buffer)


def _put(client: Client, container: str, folder: str, archive: Any, owners: bool) -> None:
    query = {"path": folder, "noOverwriteDirNonDir": "true", "copyUIDGID": owners}
    sent = {"Content-Type": "application/x-tar"}
    client.call("PUT", path("containers", container, "archive"), query, archive, sent)


@command("[OPTIONS] CONTAINER", complete=completing.containers)
@option("-o", "--output", help="File to write instead of standard output.")
def export(client: Client, container: str, output: str) -> int:
    """Write a container's filesystem as a tar file."""
    from fairlead.cli.images import pour

    if not output and sys.stdout.isatty():
        raise Invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with client.stream("GET", path("containers", container, "export")) as answer:
        pour(answer, output)
    return 0
