"""Roles: the leader keeps the members of the managers' etcd equal to the nodes that are to be managers.

    a learner that has caught up                      gets its vote
    a member whose node is a worker, or is no more    goes off the list, though its machine may be away, and then
                                                      it is a manager in nobody's eyes

Rule: a member is only struck off when it was superfluous in two looks, ``LOOK`` seconds apart: what we know of nodes
comes a little later than what we know of members.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from msgspec.structs import replace

from fairlead.errors import Conflict, Unavailable
from fairlead.swarm.leader import Guard
from fairlead.swarm.members import Member, Members
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

LOOK, SOON = 5.0, 0.3
"""Seconds between two looks, and while a learner catches up."""


class Roles:
    """``lead`` runs at the leader."""

    def __init__(self, state: State, members: Members) -> None:
        self._state, self._members = state, members
        self._news = asyncio.Event()
        self._superfluous: set[str] = set()

    def hear(self, event: Event) -> None:
        if event.kind == "nodes":
            roles = [node.spec.role if node else "" for node in (event.before, event.after)]
            if roles[0] != roles[1] or (event.before and event.before.manager) != (event.after and event.after.manager):
                self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Looks, until cancelled. (etcd itself is the guard: without a majority nobody changes its members.)"""
        looked = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self._news.clear()
            pause = LOOK
            try:
                members = await self._members.list()
                await self._promote(members)
                if self._awaited() - {member.node for member in members if not member.learner}:
                    pause = SOON
                if clock() - looked >= LOOK:
                    looked = clock()
                    await self._strike(members, guard)
            except (Conflict, Unavailable) as error:
                log.info("the members of etcd could not be changed: %s", error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    def _awaited(self) -> set[str]:
        """Who is to have a vote, and could. One that has just joined is seen when it has its vote, not before."""
        nodes = self._state.nodes.values()
        return {node.id for node in nodes if node.spec.role == "manager" and node.state != "down"}

    async def _promote(self, members: list[Member]) -> None:
        for member in members:
            if not member.learner:
                continue
            try:
                await self._members.promote_now(member.id)
                log.info("manager %s has its vote", member.node)
            except Conflict as behind:
                log.debug("the learner %s is not promoted yet: %s", member.node, behind.message)

    async def _strike(self, members: list[Member], guard: Guard) -> None:
        nodes = {node.id for node in self._state.nodes.values() if node.spec.role == "manager"}
        superfluous = {member.id for member in members if member.node not in nodes}
        for id in superfluous & self._superfluous:
            await self._members.remove(id)
            log.info("a member that is no manager's any more was struck off")
        self._superfluous = superfluous
        voting = {member.node for member in members}
        former = [node for node in self._state.nodes.values() if node.id not in voting | nodes and node.manager]
        await self._state.commit([replace(node, manager=None) for node in former], guard=guard)
