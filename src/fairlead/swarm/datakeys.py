"""A manager's data keys: it has those of the ring on its disk, says so, and gives them to other managers.

    the ring changed --> keys that we lack: from other managers, the leader first (gate, by certificate)
                     --> on our disk, then ``Node.holds``
                     --> keys that are in it no more are forgotten
    a value that we cannot open --> the same, whatever the ring was when we heard of it last: we were away

Rules
    1. On the disk first: what ``Node.holds`` says survives whatever happens to this machine's power.
    2. Who is given keys is written down before, with the ring that they are of.
    3. What others give is believed as far as the id is the key's digest.
    4. Keys are in no log and in no error.

What it does not do: make keys, or choose the one that is used (``rekeying``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress

from msgspec.structs import replace

from fairlead.core.cluster import Node
from fairlead.core.datakeys import RING, ZERO, Ring, name
from fairlead.core.session import GetKeys, KeysGiven
from fairlead.errors import FairleadError, Unavailable
from fairlead.swarm import gate
from fairlead.swarm.credentials import Credentials
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

AGAIN = 1.0
"""seconds until others are asked again"""


class DataKeys:
    """``sealedledger.Keys``, of this manager."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._made: tuple[str, int] | None = None
        """the key that we made last, and the version of the ring that it was made for: it may be in the next"""
        self.trouble = ""
        """why we cannot read what managers keep"""

    @property
    def held(self) -> dict[str, bytes]:
        return self._credentials.data_keys

    def make(self, key: bytes, ring: Ring) -> str:
        """A key that is to come into that ring: on our disk before anybody hears of it; its id. It comes into no other:
        somebody who went meanwhile may have it."""
        self._made = name(key), ring.version
        self._credentials.keep_data_keys({**self.held, self._made[0]: key})
        return self._made[0]

    # -- from others -------------------------------------------------------------------------------------------------

    async def ask(self, wanted: Collection[str]) -> None:
        """``sealedledger.Keys``."""
        answered, why = await self._fetch(wanted)
        missing = set(wanted) - self.held.keys()
        self.trouble = _lacking(missing, why) if missing else ""
        if not answered:
            raise Unavailable(self.trouble)

    async def _fetch(self, wanted: Collection[str], first: Collection[str] = ()) -> tuple[bool, str]:
        """Whether anybody answered (or there is nobody to ask), and what the last one said who did not. ``first``: node
        ids of who has them rather than others."""
        async with self._turn:
            me, known = self._credentials.identity.node, dict(self._credentials.notes.managers)
            others = sorted(known.keys() - {me}, key=lambda node: (node not in first, node))
            why, answered = "", not others
            for node in others:
                if set(wanted) <= self.held.keys():
                    return True, ""
                try:
                    given = await gate.ask(known[node], GetKeys(), self._credentials)
                    if isinstance(given, KeysGiven):
                        self._take(given.keys)
                        answered = True
                except FairleadError as error:
                    why = error.message
            return answered or set(wanted) <= self.held.keys(), why

    def _take(self, keys: dict[str, bytes]) -> None:
        good = {id: key for id, key in keys.items() if id == name(key) or (id == ZERO and ZERO not in self.held)}
        self._credentials.keep_data_keys(good | self.held)

    # -- as the ring is ----------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        if event.kind == "datakeys":
            self._news.set()

    async def run(self, state: State) -> None:
        """Until cancelled: have what is in the ring, and say so."""
        said = ""
        while True:
            self._news.clear()
            pause = None
            try:
                await self._follow(state)
            except FairleadError as error:
                if error.message != said:
                    log.warning("the data keys of the swarm are not all here yet: %s", error.message)
                said, pause = error.message, AGAIN
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _follow(self, state: State) -> None:
        if RING not in state.datakeys:
            return
        leading = [node.id for node in state.nodes.values() if node.manager and node.manager.leader]
        _, why = await self._fetch(state.datakeys[RING].keys, leading)
        ring = state.datakeys[RING]
        newest = ring.keys[0]
        coming = self._made[0] if self._made and self._made[1] >= ring.version else newest
        self._credentials.keep_data_keys({id: key for id, key in self.held.items() if id in (*ring.keys, coming)})
        await self._say(state, newest if newest in self.held else "")
        missing = set(ring.keys) - self.held.keys()
        if missing == {newest} != {ring.used}:
            raise Unavailable(f"the next one, {newest[:8]}, is not to be had yet{why and ': ' + why}")
        if missing:
            raise Unavailable(_lacking(missing, why))
        self.trouble = ""

    async def _say(self, state: State, newest: str) -> None:
        me = self._credentials.identity.node

        def told() -> Iterable[Node]:
            node = state.nodes.get(me)
            if node and node.holds != newest:
                yield replace(node, holds=newest)

        await state.change(told)

    # -- to others ---------------------------------------------------------------------------------------------------

    async def give(self, state: State, node: str) -> dict[str, bytes]:
        """To a node that was found to be a manager just now."""
        ring = Ring()

        def told() -> Iterable[Ring]:
            nonlocal ring
            ring = state.datakeys.get(RING, Ring())
            if node not in ring.given:
                yield replace(ring, given=(*ring.given, node))

        await state.change(told)
        return {id: self.held[id] for id in ring.keys if id in self.held}


def _lacking(missing: Collection[str], why: str) -> str:
    ids = ", ".join(sorted(id[:8] or "zero" for id in missing))
    return (
        f"this manager does not have the data key {ids} of its swarm, and gets it from any other manager:"
        f" {why or 'none is left that has it'}. Without one, restore the swarm folder as a whole, or:"
        " docker swarm leave --force, and join again"
    )
