"""Service logs: what tasks said, wherever they run or ran. ``/services/{id}/logs`` and ``/tasks/{id}/logs``.

A line begins with its time, if that is asked for, and with whose it is, if details are: by that the client finds out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from fairlead.api import hijack, http, swarm_parts, times, web
from fairlead.api.streams import content_type, log_wishes
from fairlead.core.cluster import Task
from fairlead.core.service import TaskSpec
from fairlead.engine.swarm import Control, ServiceLine
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

SAID_BY_US = 3
"""the stream of what the daemon says"""


def routes(engine: Engine) -> list[web.Route]:
    here = ServiceLogs(engine)
    return [web.get("/services/{id}/logs", here.of_service), web.get("/tasks/{id}/logs", here.of_task)]


class ServiceLogs(swarm_parts.Part):
    """The handlers over ``engine.swarm.Control.logs``."""

    async def of_service(self, request: web.Request) -> web.Answer:
        control = await self.seen()
        service = control.service(request.names["id"])
        belongs = lambda task: task.service == service.id  # noqa: E731
        return await self._told(request, control, belongs, service.spec.task_template)

    async def of_task(self, request: web.Request) -> web.Answer:
        control = await self.seen()
        one = control.task(request.names["id"])
        return await self._told(request, control, lambda task: task.id == one.id, one.spec)

    async def _told(
        self, request: web.Request, control: Control, belongs: Callable[[Task], bool], template: TaskSpec
    ) -> web.Answer:
        wishes = log_wishes(request)
        tty = template.container_spec is not None and template.container_spec.terminal
        timestamps, details = http.flag(request, "timestamps"), http.flag(request, "details")
        async with http.streaming(request, content_type(request, tty)) as out:
            await out.start()
            try:
                async with aclosing(control.logs(belongs, wishes)) as lines:  # type: ignore[type-var]
                    async for line in lines:
                        text = _text(line, timestamps, details)
                        await out.write(text if tty else hijack.frame(line.line.stream, text))
            except FairleadError as error:
                await out.write(hijack.frame(SAID_BY_US, error.message.encode()))
            return out


def _text(said: ServiceLine, timestamps: bool, details: bool) -> bytes:
    text = f"{said.details} ".encode() + said.line.text if details else said.line.text
    return times.stamp(said.line.time).encode() + b" " + text if timestamps else text
