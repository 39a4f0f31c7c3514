"""Data keys of a manager that is none: what it has, and what others would give."""

from collections.abc import Collection

from fairlead.core import datakeys
from fairlead.core.datakeys import ZERO
from fairlead.errors import Unavailable


class Held:
    """Keys of a manager. ``others``: what other managers would give, None: they do not answer."""

    def __init__(self, *keys: bytes, zero: bytes = b"") -> None:
        self.held = {datakeys.name(key): key for key in keys} | ({ZERO: zero} if zero else {})
        self.others: dict[str, bytes] | None = {}
        self.asked = 0

    async def ask(self, wanted: Collection[str]) -> None:
        self.asked += 1
        if self.others is None:
            raise Unavailable("nobody answers")
        self.held |= {id: key for id, key in self.others.items() if id in wanted}
