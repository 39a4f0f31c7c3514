"""GET /fairlead/doctor: what differs from what should be, with owner and reason, and what was put right lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.api import cluster, http, web
from fairlead.engine.doctor import Report

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.Route]:
    async def doctor(request: web.Request) -> web.Response:
        return http.answer(shown(await engine.doctor.examine()))

    return [web.get("/fairlead/doctor", doctor)]


def shown(report: Report) -> dict[str, Any]:
    """``Healthy`` says that there is no finding; repairs are history and do not count."""
    return {
        "Healthy": not report.findings,
        "Looked": report.looked,
        "Findings": [
            {"What": f.what, "Object": f.object, "Found": f.found, "Owner": f.owner, "Why": f.why}
            for f in report.findings
        ],
        "Repairs": [
            {
                "Time": event.time,
                "Owner": event.id,
                "Deed": event.attributes.get("deed", ""),
                "Object": event.attributes.get("object", ""),
                "Count": int(event.attributes.get("count", 1)),
                "Why": event.attributes.get("why", ""),
            }
            for event in report.repairs
        ],
        "Hosts": cluster.hosts(report.hosts),
    }
