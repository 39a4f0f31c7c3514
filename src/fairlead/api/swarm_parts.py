"""What the handlers of a swarm's objects do alike. On a node that does not manage they all refuse, in Docker's words.

    /services  /nodes  /tasks  /secrets  /configs

Rules
    1. A question is answered with what all managers had written when it was asked (``Control.current``).
    2. Filters of names and ids mean beginnings, as in Docker's swarm; labels mean ``key`` or ``key=value``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fairlead.api import http, web
from fairlead.errors import Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.swarm import Control


class Part:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def control(self) -> Control:
        """To change things."""
        return self._engine.swarm.control()

    async def seen(self) -> Control:
        """To answer questions."""
        control = self._engine.swarm.control()
        await control.current()
        return control


def version(request: web.Request, what: str, *, terse: bool = False) -> int:
    """The version that the client saw. ``terse``: without Go's complaint, as for secrets and configs."""
    given = http.text(request, "version")
    if given.isascii() and given.isdigit() and int(given) < 1 << 64:
        return int(given)
    if terse:
        raise Invalid(f"invalid {what} version")
    why = "value out of range" if given.isascii() and given.isdigit() else "invalid syntax"
    raise Invalid(f"invalid {what} version '{given}': strconv.ParseUint: parsing {http.quoted(given)}: {why}")


def begins(wanted: http.Filters, name: str, *values: str) -> bool:
    """Whether one of the values begins with what was asked for, if anything was."""
    asked: Iterable[str] = wanted.get(name, ())
    return not asked or any(value.startswith(beginning) for beginning in asked for value in values)


def is_one_of(wanted: http.Filters, name: str, value: str) -> bool:
    return not wanted.get(name) or value in wanted[name]
