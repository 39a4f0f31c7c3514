"""``fairlead explain A B[:port]``: a packet hop by hop; exit code 0 when it arrives as asked."""

from __future__ import annotations

import json
from typing import Any

from fairlead.cli import completing
from fairlead.cli.client import Client
from fairlead.cli.command import command, switch


@command("[OPTIONS] SOURCE TARGET", complete=completing.containers)
@switch("-4", "--ipv4", help="By IPv4.")
@switch("-6", "--ipv6", help="By IPv6.")
@switch("--check", help="Compare every hop with the kernel.")
@switch("--json", key="as_json", help="Everything as JSON.")
def explain(client: Client, source: str, target: str, ipv4: bool, ipv6: bool, check: bool, as_json: bool) -> int:
    """Say why SOURCE reaches TARGET, or where it stops and what would help.

    SOURCE and TARGET are containers, addresses, host or world; TARGET may have :PORT, :PORT/udp, and be a service of
    the swarm or a URL of the HTTP mesh. Without a port it is a ping. Exit code 0: it arrives (at every task that may be
    chosen). 1: it does not, or not by that name, or --check found a difference."""
    family = "6" if ipv6 else "4" if ipv4 else ""
    query = {"from": source, "to": target, "family": family, "check": check}
    answer = client.call("GET", "/fairlead/explain", query)
    print(json.dumps(answer, indent=2) if as_json else text(answer))
    return 0 if answer["Works"] and not answer["Differs"] else 1


def _mark(hop: dict[str, Any]) -> str:
    return "x" if hop["Stops"] else "?" if hop["Unsure"] else " "


def text(answer: dict[str, Any]) -> str:
    """The walk for people: a hop a line, ``x`` before the one that stops it, ``?`` before one that may."""
    lines = [answer["Question"]]
    lines += [f"{_mark(hop)} {hop['At']:<8}{hop['Says']}" for hop in answer["Hops"]]
    lines.append(answer["Verdict"])
    lines += [f"  try: {line}" for line in answer["Advice"]]
    if answer["Differs"] is not None:
        lines.append("the kernel agrees" if not answer["Differs"] else "the kernel differs:")
        lines += [f"  {line}" for line in answer["Differs"]]
    return "\n".join(lines)
