"""Other people's programs, run once: argument list in, exit code and words out.

    done = await run(["skopeo", "inspect", …], cwd=workspace)
    done.code, done.out, done.err

Rules
    1. An argument list, never a shell; a path of ours that could hold a colon or a
       leading dash is given relative to ``cwd``.
    2. A cancelled wait ends the process: nobody works for a caller that left.
    3. A program that is not installed is ``Unsupported``, by name.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from fairlead.errors import Unsupported


class Done(msgspec.Struct, frozen=True):
    """How it ended. ``out`` as bytes, ``err`` as text."""

    code: int
    out: bytes
    err: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment: where programs are, whose home, which proxies; nothing else of ours leaks in."""
    kept = ("PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C",
        **found,
        **(more or {}),
    }


async def start(
    words: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    """The process, running; the caller ends it."""
    try:
        return await asyncio.create_subprocess_exec(
            *words, cwd=cwd, env=environment(env), stdin=stdin, stdout=stdout, stderr=stderr, limit=1 << 20
        )
    except FileNotFoundError:
        raise Unsupported(f"{words[0]} is not installed: install the package {words[0]}") from None


async def run(words: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run to the end."""
    process = await start(words, cwd=cwd, env=env)
    try:
        out, err = await process.communicate()
    finally:
        await end(process)
    return Done(process.returncode or 0, out, err.decode(errors="replace"))


async def end(process: asyncio.subprocess.Process) -> None:
    """Make sure it is gone."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """Whatever a program says, line by line; a line without end comes in pieces."""
    while stream is not None:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            line = error.partial
        except asyncio.LimitOverrunError as error:
            line = await stream.read(error.consumed)
        if not line:
            return
        yield line.decode(errors="replace")
