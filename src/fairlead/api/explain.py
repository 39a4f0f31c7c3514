"""GET /fairlead/explain?from=A&to=B[:port]: a packet hop by hop. ``family=4|6``; ``check=1`` asks the kernel too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.api import http, web
from fairlead.errors import Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.explain import Explanation


def routes(engine: Engine) -> list[web.Route]:
    async def explain(request: web.Request) -> web.Response:
        source, target = http.text(request, "from"), http.text(request, "to")
        family = http.text(request, "family") or "0"
        if not source or not target or family not in ("0", "4", "6"):
            raise Invalid("say from=… and to=…; family is 4 or 6")
        return http.answer(
            shown(await engine.explainer.explain(source, target, int(family), http.flag(request, "check")))
        )

    return [web.get("/fairlead/explain", explain)]


def shown(answer: Explanation) -> dict[str, Any]:
    """The whole walk; ``Differs`` is null when the kernel was not asked."""
    return {
        "Question": answer.question,
        "Works": answer.works,
        "Arrives": answer.arrives,
        "Resolves": answer.resolves,
        "Place": answer.place,
        "Source": answer.source,
        "Verdict": answer.verdict,
        "Hops": [
            {
                "At": hop.at,
                "Says": hop.says,
                "Stops": hop.stops,
                "Unsure": hop.unsure,
                "Objects": [str(item) for item in hop.objects],
            }
            for hop in answer.hops
        ],
        "Advice": list(answer.advice),
        "Differs": None if answer.differs is None else list(answer.differs),
    }
