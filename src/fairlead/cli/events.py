"""``events``: what happens, as it happens."""

from __future__ import annotations

import json
import time
from typing import Any

import fairlead.core.template as template
from fairlead.cli import tables
from fairlead.cli.client import Client
from fairlead.cli.command import command, filter_query, filters, option
from fairlead.cli.containers import times_of


@command("[OPTIONS]")
@filters
@option("--since", help="From this time on: 2026-01-02T13:23:37Z or 42m.")
@option("--until", help="Up to this time.")
@option("--format", key="form", help="json, or a Go template.")
def events(client: Client, filter: list[tuple[str, str]], since: str, until: str, form: str) -> int:
    """Show what happens, as it happens."""
    now = time.time()
    query = {**times_of(since, until, now), "filters": filter_query(filter)}
    with client.stream("GET", "/events", query) as answer:
        for line in answer:
            if line.strip():
                print(_shown(json.loads(line), form), flush=True)
    return 0


def _shown(event: dict[str, Any], form: str) -> str:
    """``2026-01-02T03:04:05.000000006+00:00 network create 0123… (name=RED, type=bridge)``."""
    if form == "json":
        return tables.compact(event)
    if form:
        known = {"status": "", "id": "", "from": "", **event}
        names = {
            "Status": "status",
            "ID": "id",
            "From": "from",
            "Scope": "scope",
            "Time": "time",
            "TimeNano": "timeNano",
        }
        return template.render(tables.unescape(form), {**known, **{to: known.get(of, "") for to, of in names.items()}})
    details = ", ".join(f"{key}={value}" for key, value in sorted((event["Actor"].get("Attributes") or {}).items()))
    said = f"{tables.rfc3339_nano(event['timeNano'])} {event['Type']} {event['Action']} {event['Actor']['ID']}"
    return said + (f" ({details})" if details else "")
