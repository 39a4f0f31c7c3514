"""Offices: whoever leads the swarm does not lead the managers' etcd besides, where there is another who can.

    our etcd leads the others --> one of them takes over (etcd's own, at once, and nothing is lost)

When a machine is gone, etcd without a leader elects one in a second or two, and prolongs every lease, that of the
swarm's leader too. Were both the same machine, the one election would wait for the other: six seconds in the lab, and
three so.

Rules
    1. A new leader looks after ``LOOK``: by then it is known who went with the one before.
    2. Who is asked and does not take over has stopped all writing for a second: nobody is asked again before ``AGAIN``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from fairlead.errors import Conflict, Unavailable
from fairlead.swarm.leader import Guard
from fairlead.swarm.members import Member, Members
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

LOOK, AGAIN = 5.0, 60.0
"""seconds"""


class Offices:
    """``me``: this node's id. ``lead`` runs at the leader."""

    def __init__(self, state: State, members: Members, me: str) -> None:
        self._state, self._members, self._me = state, members, me

    def hear(self, event: Event) -> None:
        """It looks by itself."""

    async def lead(self, guard: Guard) -> None:
        """Until cancelled."""
        asked = False
        while True:
            await asyncio.sleep(AGAIN if asked else LOOK)
            asked = False
            with suppress(Conflict, Unavailable):
                if await self._members.leading():
                    asked = await self._hand_over()

    async def _hand_over(self) -> bool:
        """Whether somebody could be asked."""
        able = [member for member in await self._members.list() if self._is_able(member)]
        if not able:
            return False
        try:
            await self._members.hand_over(able[0].id)
            log.info("the etcd of manager %s leads now", able[0].node)
        except (Conflict, Unavailable) as problem:
            log.info("the etcd of manager %s does not lead: %s", able[0].node, problem.message)
        return True

    def _is_able(self, member: Member) -> bool:
        node = self._state.nodes.get(member.node)
        return member.node != self._me and not member.learner and node is not None and node.state == "ready"
