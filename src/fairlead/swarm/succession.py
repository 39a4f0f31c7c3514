"""Succession: when the managers' etcd had to elect, it is asked whether the swarm's leader went with the one it lost.

    our etcd: no answer, or another term --> all other managers are asked for a sign --> etcd has elected
        --> the leader is one who gave none: its office is struck, then its sessions --> somebody stands at once

etcd prolongs every lease when it elects. A leader that died with etcd's own (one machine, or two at once) would be
waited for until then: six seconds in the lab.

Rules
    1. Nobody is struck unless etcd has elected, and he gave no sign within ``SIGN``: a machine that is merely busy
       keeps its office, and a leader that dies alone is missed when its lease ends, as ever.
    2. Whoever is struck and lives stands again (``leader``), and says again whose sessions it has (``presence``). What
       it wrote meanwhile as the leader failed.
    3. A sign is any answer, a refusal too.

What it does not do: elect (``leader``), or judge nodes (``presence``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.store.base import Ledger
from fairlead.swarm import presence
from fairlead.swarm.leader import KEY

log = logging.getLogger(__name__)

LOOK, PATIENCE = 1.0, 0.5
"""Seconds between two looks; for a majority to answer one."""
SIGN = 1.5
"""seconds for a manager to give a sign"""
PAUSE, WAIT = 0.2, 2.5
"""Seconds between looks while etcd elects; for which it is waited for, then signs are asked for anew."""


class Terms(Protocol):
    async def term(self) -> int:
        """Which of etcd's elections was the last, as a majority has it. ``Unavailable``, ``Conflict``: none answers."""


class Succession:
    """``others``: where every other manager is, by node id; ``sign(address)`` asks one, and raises ``Unavailable``."""

    def __init__(
        self,
        ledger: Ledger,
        terms: Terms,
        others: Callable[[], dict[str, str]],
        sign: Callable[[str], Awaitable[object]],
    ) -> None:
        self._ledger, self._terms, self._others, self._sign = ledger, terms, others, sign
        self._term = 0
        """the last that we know of; 0: none yet"""

    async def run(self) -> None:
        """Looks, until cancelled."""
        while True:
            term = await self._ask()
            if not self._term or term == self._term:
                self._term = term
            elif not (silent := await self._silent()):
                self._term = term or self._term
            elif elected := await self._elected():
                self._term = elected
                await self._strike(silent)
            await asyncio.sleep(LOOK)

    async def _ask(self) -> int:
        """The term, or 0."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._terms.term()
        except (Conflict, Unavailable, TimeoutError):
            return 0

    async def _elected(self) -> int:
        """The term, as soon as there is another; or 0."""
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    if (term := await self._ask()) not in (0, self._term):
                        return term
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            return 0

    async def _silent(self) -> set[str]:
        """Managers that give no sign."""
        others = self._others()
        gave = await asyncio.gather(*map(self._gives_sign, others.values()))
        return {node for node, sign in zip(others, gave, strict=True) if not sign}

    async def _gives_sign(self, address: str) -> bool:
        try:
            async with asyncio.timeout(SIGN):
                await self._sign(address)
        except (Unavailable, TimeoutError):
            return False
        except FairleadError as refused:
            log.debug("the manager at %s lives: %s", address, refused.message)
        return True

    async def _strike(self, silent: Collection[str]) -> None:
        try:
            office = await self._ledger.get(KEY)
            if office is None or (node := office.value.decode()) not in silent:
                return
            await self._ledger.delete_if(KEY, office.version)
            log.info("manager %s, which led the swarm, went when the managers' store lost its leader", node)
            await presence.strike(self._ledger, node)
        except (Conflict, Unavailable) as error:
            log.debug("the leader's office is no longer what it was: %s", error.message)
