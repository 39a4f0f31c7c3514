"""``build``: a folder, a tar file or a lone Dockerfile goes to the engine, whose words are shown as they come.

build DIR            the folder, less what .dockerignore names
build -f FILE DIR    the Dockerfile may lie elsewhere
build -              a tar file, or just a Dockerfile, on standard input
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fairlead.cli import ignoring, registry, tables, tars
from fairlead.cli.client import Client
from fairlead.cli.command import command, integer, many, option, pairs_of, switch
from fairlead.cli.progress import Failed, follow
from fairlead.errors import Invalid

ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""How compressed tar files begin."""

ELSEWHERE = ".dockerfile.sent"
"""The name in the archive of a Dockerfile that lies outside the folder."""


@command("[OPTIONS] PATH | URL | -")
@many("--add-host", help="Line of /etc/hosts while building: name:address.")
@many("--build-arg", help="Value of an ARG: NAME=value, or NAME to pass ours on.")
@many("--cache-from", word="strings", help="Images whose layers may be used again.")
@option("--cgroup-parent", help="Parent cgroup of RUN.")
@switch("--compress")
@integer("--cpu-period", help="Length of the scheduler's period in microseconds.")
@integer("--cpu-quota", help="Microseconds of CPU per period.")
@integer("-c", "--cpu-shares", help="Weight among those who want the CPU.")
@option("--cpuset-cpus", help="On which CPUs RUN may run.")
@option("--cpuset-mems", help="From which nodes its memory may come.")
@switch("--disable-content-trust", default=True)
@option("-f", "--file", help="The Dockerfile (default PATH/Dockerfile).")
@switch("--force-rm", help="Remove intermediate containers after a failure, too.")
@option("--iidfile", help="File to write the image's id to.")
@option("--isolation")
@many("--label", help="Label of the image: key=value.")
@option("-m", "--memory", word="bytes", default=0, help="Limit of memory of RUN.")
@option("--memory-swap", word="bytes", default=0, help="Limit of memory and swap together.")
@option("--network", help="Network of RUN: a name, host or none.")
@switch("--no-cache", help="Use no layer again.")
@option("--platform", help="Platform, if an image is for several.")
@option("--progress")
@switch("--pull", help="Always look for newer images.")
@switch("-q", "--quiet", help="Only print the image's id.")
@switch("--rm", default=True, help="Remove intermediate containers.")
@many("--security-opt", word="strings")
@option("--shm-size", word="bytes", default=0, help="Size of /dev/shm in RUN.")
@switch("--squash")
@many("-t", "--tag", help="Name of the image.")
@option("--target", help="Stage to build.")
@many("--ulimit", word="ulimit", help="Limit of the processes of RUN.")
def build(client: Client, source: str, **flags: Any) -> int:
    """Build an image from a Dockerfile."""
    quiet = _Quiet() if flags["quiet"] else None
    body, dockerfile = _context(source, flags["file"], quiet or sys.stdout)
    sent = {"Content-Type": "application/x-tar", **registry.everything()}
    made: list[str] = []
    with client.stream("POST", "/build", {**_query(flags), "dockerfile": dockerfile}, body, sent) as answer:
        try:
            follow(answer, quiet or sys.stdout, aux=lambda said: made.append(said.get("ID", "")))
        except Failed:
            sys.stderr.write(quiet.told if quiet else "")
            raise
    image = next((one for one in reversed(made) if one), "")
    if quiet:
        print(image or quiet.last)
    if flags["iidfile"]:
        Path(flags["iidfile"]).write_text(image)
    return 0


class _Quiet:
    """A place for words that nobody wants unless the build fails; the last line may be the image's id."""

    told = last = ""

    def write(self, text: str) -> None:
        self.told += text
        self.last = text.strip() or self.last

    def flush(self) -> None:
        pass


def _query(flags: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, str | None] = {}
    for text in flags["build_arg"]:
        name, equals, value = text.partition("=")
        arguments[name] = value if equals else os.environ.get(name)
    return {
        "t": flags["tag"],
        "extrahosts": flags["add_host"],
        "buildargs": arguments or None,
        "cachefrom": json.dumps(flags["cache_from"]) if flags["cache_from"] else None,
        "cgroupparent": flags["cgroup_parent"],
        "cpuperiod": flags["cpu_period"],
        "cpuquota": flags["cpu_quota"],
        "cpushares": flags["cpu_shares"],
        "cpusetcpus": flags["cpuset_cpus"],
        "cpusetmems": flags["cpuset_mems"],
        "forcerm": flags["force_rm"],
        "labels": pairs_of(flags["label"]) or None,
        "memory": flags["memory"] or None,
        "memswap": flags["memory_swap"] or None,
        "networkmode": flags["network"] or "default",
        "nocache": flags["no_cache"],
        "platform": flags["platform"],
        "pull": flags["pull"],
        "q": flags["quiet"],
        "rm": "1" if flags["rm"] else "0",
        "shmsize": flags["shm_size"] or None,
        "squash": flags["squash"],
        "target": flags["target"],
        "ulimits": json.dumps(flags["ulimit"]) if flags["ulimit"] else None,
        "version": "1",
    }


def _context(source: str, file: str, out: Any) -> tuple[Iterator[bytes], str]:
    """(the archive, the Dockerfile's name in it)."""
    if source == "-":
        return _from_input(file, out)
    if source.startswith(("http://", "https://", "git://", "github.com/", "git@")):
        raise Invalid("this engine builds from a context that is sent along: fetch it yourself and pass its folder")
    folder = Path(source)
    if not folder.is_dir():
        raise Invalid(f'unable to prepare context: path "{source}" not found')
    outside = b""
    name = _place(folder, file) if file != "-" else ""
    if not name:
        try:
            outside = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as problem:
            raise Invalid(f"unable to open Dockerfile: open {file}: {(problem.strerror or '').lower()}") from None
    ignore = folder / ".dockerignore"
    text = ignore.read_text() if ignore.is_file() else ""
    pairs = ignoring.context(folder, ignoring.patterns(text), {name, ".dockerignore"})
    if name:
        return _sent(pairs, b"", out), name
    # The engine reads it, but no COPY shall find it: the engine is told to ignore what we add.
    added = f"{text}\n{ELSEWHERE}\n" if text else f".dockerignore\n{ELSEWHERE}\n"
    pairs = (pair for pair in pairs if pair[0] != ".dockerignore")
    extra = tars.plain(ELSEWHERE, outside) + tars.plain(".dockerignore", added.encode())
    return _sent(pairs, extra, out), ELSEWHERE


def _place(folder: Path, file: str) -> str:
    """The Dockerfile's name within the folder; "" when it lies elsewhere."""
    place = Path(file) if file else folder / "Dockerfile"
    if not place.is_file():
        shown = os.path.abspath(place)
        raise Invalid(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {shown}:"
            " no such file or directory"
        )
    full, home = os.path.realpath(place), os.path.realpath(folder)
    return os.path.relpath(full, home) if os.path.commonpath([full, home]) == home else ""


def _sent(pairs: Iterable[tuple[str, str]], first: bytes, out: Any) -> Iterator[bytes]:
    """The archive; files belong to root, whoever builds. ``first``: entries made by us."""

    def change(entry: Any) -> None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""

    total = len(first)
    if first:
        yield first
    for piece in tars.pack(pairs, change):
        total += len(piece)
        yield piece
    _say(total, out)


def _say(total: int, out: Any) -> None:
    print(f"Sending build context to Docker daemon  {tables.bytes_of(total)}\n", file=out, flush=True)


def _from_input(file: str, out: Any) -> tuple[Iterator[bytes], str]:
    """A tar file as it comes, or a lone Dockerfile packed up."""
    from fairlead.cli.images import pieces

    source: Any = sys.stdin.buffer
    head = source.peek(512)[:512]
    if head[257:262] == b"ustar" or head.startswith(ARCHIVES):
        return pieces(source), file or "Dockerfile"
    text = source.read()
    if not text.strip():
        raise Invalid("unable to prepare context: stdin is empty")
    archive = tars.plain("Dockerfile", text) + bytes(1024)
    _say(len(archive), out)
    return iter([archive]), "Dockerfile"
