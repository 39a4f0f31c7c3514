"""Progress: the lines of JSON that pull, push, build, load and import send, told to a person.

Docker draws moving bars on a terminal. We say each new state once, in the
words Docker uses when its output is no terminal: what a log keeps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from fairlead.errors import FairleadError


class Failed(FairleadError):
    """It went wrong half way; ``code`` is the exit code (of a build: the failed command's)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def follow(lines: Iterable[bytes], out: Any = None, aux: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Say each message of a progress stream to ``out``, the rest to ``aux``; raises ``Failed`` when it ends in one."""
    to = sys.stdout if out is None else out
    for line in lines:
        if not line.strip():
            continue
        message = json.loads(line)
        if "error" in message:
            detail = message.get("errorDetail") or {}
            raise Failed(detail.get("message") or message["error"], detail.get("code") or 1)
        if message.get("aux") is not None:
            aux(message["aux"]) if aux else None
        elif "stream" in message:
            to.write(message["stream"])
        elif "status" in message and not message.get("progressDetail"):
            print((f"{message['id']}: " if message.get("id") else "") + message["status"], file=to)
        to.flush()


def silently(lines: Iterable[bytes]) -> None:
    """Hear it to the end; only an error is said."""
    import io

    follow(lines, io.StringIO())


def tagged(image: str) -> str:
    """``busybox`` -> ``busybox:latest``."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
