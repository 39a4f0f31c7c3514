"""``update``: other limits for containers that exist."""

from __future__ import annotations

import sys
from typing import Any

from fairlead.cli import completing
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command
from fairlead.cli.create import changeable, limits, policy
from fairlead.errors import Invalid


@command("[OPTIONS] CONTAINER [CONTAINER...]", complete=completing.containers)
@limits
def update(client: Client, *containers: str, **flags: Any) -> int:
    """Change the limits and the restart policy of containers."""
    if not any(value for value in flags.values()):
        raise Invalid("you must provide one or more flags when using this command")
    wanted = {**changeable(flags), "RestartPolicy": policy(flags["restart"])}
    bad: list[str] = []
    warnings: list[str] = []
    for name in containers:
        try:
            answer = client.call("POST", path("containers", name, "update"), body=wanted)
        except Refused as problem:
            bad.append(problem.message)
            continue
        print(name)
        warnings += (answer or {}).get("Warnings") or []
    for line in warnings:
        print(line)
    for line in bad:
        print(f"Error response from daemon: {line}", file=sys.stderr)
    return 1 if bad else 0
