"""``fairlead doctor``: what differs from what should be; exit code 1 when anything does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from fairlead.cli.client import Client
from fairlead.cli.cluster import words
from fairlead.cli.command import command, switch


@command("[OPTIONS]")
@switch("--json", key="as_json", help="Everything as JSON.")
def doctor(client: Client, as_json: bool) -> int:
    """Compare what should be with what is; exit code 1 when anything differs.

    The engine repairs within a moment: what it put right lately is listed, and does not count."""
    report = client.call("GET", "/fairlead/doctor")
    print(json.dumps(report, indent=2) if as_json else text(report))
    return 0 if report["Healthy"] else 1


def text(report: dict[str, Any]) -> str:
    """The report for people: a finding is two or three lines, a repair one."""
    findings, repairs = report["Findings"], report["Repairs"]
    count = (
        f"{len(findings)} {'thing differs' if len(findings) == 1 else 'things differ'}" if findings else "all is well"
    )
    lines = [f"{report['Looked']} kernel objects wanted: {count}"]
    for finding in findings:
        lines.append(f"{finding['What']:<10} {finding['Object']}")
        if finding["Found"]:
            lines.append(f"{'':<10} is: {finding['Found']}")
        lines.append(f"{'':<10} {finding['Owner']}" + (f": {finding['Why']}" if finding["Why"] else ""))
    if report.get("Hosts"):
        others = ", ".join(f"{one['Host']} {words(one)}" for one in report["Hosts"] if not one["Self"])
        lines.append(f"hosts of the cluster: {others or 'no other'}")
    if repairs:
        lines.append("put right lately:")
    for repair in repairs:
        more = f" and {repair['Count'] - 1} more" if repair["Count"] > 1 else ""
        lines.append(f"  {_clock(repair['Time'])} {repair['Deed']} {repair['Object']}{more} ({repair['Owner']})")
    return "\n".join(lines)


def _clock(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}"
