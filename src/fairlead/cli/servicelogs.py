"""``service logs``: what the tasks of a service say, each line with whose it is.

    web.1.2ov0qjlo2i9k@host1    | GET / 200

The engine puts the ids of node, service and task in front of each line; we turn them into names.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from fairlead.cli import completing
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, option, switch
from fairlead.cli.containers import times_of
from fairlead.cli.tasks import Names
from fairlead.errors import Invalid

CONTEXT = "com.docker.swarm."


@command("[OPTIONS] SERVICE|TASK", complete=completing.services)
@switch("-f", "--follow", help="Go on with what is still to come.")
@option("-n", "--tail", default="all", help="Only the last N lines.")
@option("--since", help="From this time on: 2026-01-02T13:23:37Z or 42m.")
@switch("-t", "--timestamps", help="With the time of each line.")
@switch("--details", help="With the attributes of the log.")
@switch("--raw", help="Only what was said.")
@switch("--no-resolve", help="Ids instead of names.")
@switch("--no-task-ids", help="Without the ids of tasks.")
@switch("--no-trunc", help="Do not shorten.")
def logs(client: Client, what: str, **flags: Any) -> int:
    """Show what the tasks of a service, or one task, have said."""
    from fairlead.cli.streams import Demultiplexer, write

    where, spec, digits = _target(client, what)
    tty = bool((spec.get("ContainerSpec") or {}).get("TTY"))
    raw = flags["raw"]
    since = times_of(flags["since"], "", time.time())
    if tty and not raw:
        raise Invalid("tty service logs only supported with --raw")
    asked = {name: flags[name] for name in ("follow", "timestamps", "tail")}
    query = {**asked, **since, "stdout": True, "stderr": True, "details": flags["details"] or not raw}
    line = None if raw else _Line(client, digits, flags)
    frames = Demultiplexer()
    with client.stream("GET", path(*where, "logs"), query) as answer:
        while data := answer.read1(65536):
            for stream, payload in [(1, data)] if tty else frames.feed(data):
                out = sys.stderr.buffer if stream == 2 else sys.stdout.buffer
                write(out, line.named(payload.decode(errors="replace")).encode() if line else payload)
    return 0


def _target(client: Client, what: str) -> tuple[tuple[str, str], dict[str, Any], int]:
    """(where its log is, the spec of its tasks, how wide the widest slot is)."""
    try:
        found = client.call("GET", path("services", what), {"insertDefaults": "false"})
        replicas = (found["Spec"]["Mode"].get("Replicated") or {}).get("Replicas", 0)
        return ("services", what), found["Spec"]["TaskTemplate"], len(str(replicas))
    except Refused as problem:
        if problem.status != 404:
            raise
    try:
        found = client.call("GET", path("tasks", what))
    except Refused as problem:
        if problem.status != 404:
            raise
        raise Invalid(f"no such task or service: {what}") from None
    return ("tasks", what), found["Spec"], len(str(found.get("Slot", 0)))


class _Line:
    """Turns the engine's lines into ours."""

    def __init__(self, client: Client, digits: int, flags: dict[str, Any]) -> None:
        self.client, self.digits, self.flags = client, digits, flags
        self.names = Names(client, not flags["no_resolve"])
        self.tasks: dict[str, str] = {}

    def named(self, text: str) -> str:
        """``[time ]key=value,key=value words`` -> ``[time ]name.slot.task@node    | words``."""
        stamp = ""
        if self.flags["timestamps"]:
            stamp, _, text = text.partition(" ")
        details, _, said = text.partition(" ")
        pairs = dict(pair.partition("=")[::2] for pair in details.split(","))
        missing = [key for key in ("node.id", "service.id", "task.id") if CONTEXT + key not in pairs]
        if missing:
            raise Invalid(f"missing context in details: {details}")
        node, service, task = (pairs.pop(CONTEXT + key) for key in ("node.id", "service.id", "task.id"))
        rest = ",".join(f"{key}={value}" for key, value in sorted(pairs.items()))
        who = f"{self._task(service, task)}@{self.names.node(node)}"
        padding = " " * max(0, self.digits - len(self.tasks[task]))
        words = f"{rest} {said}" if self.flags["details"] else said
        return (f"{stamp} " if stamp else "") + f"{who}{padding}    | {words}"

    def _task(self, service: str, task: str) -> str:
        """``web.1.2ov0qjlo2i9k``."""
        if task not in self.tasks:
            self.tasks[task] = str(self.client.call("GET", path("tasks", task)).get("Slot", 0))
        name = f"{self.names.service(service)}.{self.tasks[task]}"
        return name if self.flags["no_task_ids"] else f"{name}.{task if self.flags['no_trunc'] else task[:12]}"
