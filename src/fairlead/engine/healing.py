"""Healing: something of ours is gone or different; put it right within a second, and say so.

    kernel: a link, address, route or rule changed ---> wait a breath ---> Kernel.repair ---> event for each repair
    every half minute, in case a message was lost  ------------^

A breath, because trouble comes as a hundred messages and one repair answers
them all. Only for the host's firewall it is held: was our table flushed, it is made
again within the call that tells of it, before anything is looked at. Of our own
changes the monitor tells most apart; those of devices and mounts ring all the same, so
these bells alone get a glance before the whole machine is looked at.

Rules
    1. A repair that fails is logged and tried again at the next tick; it never
       ends the engine. The tick comes however often bells ring.
    2. What cannot be put right for the third time in a row is told once, not
       every half minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from fairlead.core.protocol import Protocol
from fairlead.core.wanted import Wanted
from fairlead.engine.events import Events
from fairlead.engine.kernel import Kernel

log = logging.getLogger(__name__)

MOMENT, BREATH = 0.01, 0.1
TICK = 30.0
LINK, MOUNT, FIREWALL, EVERYTHING = "link", "mount", "firewall", "everything"
"""what the monitor calls a change of a device, of a mount, of somebody's rules; and when it lost count"""


class Monitor(Protocol):
    """Wakes us when something of ours may have changed behind our back (``host.monitor``)."""

    def fileno(self) -> int: ...

    def urgent(self) -> set[str]:
        """Of these, what cannot wait; until ``heard`` it does not wake us for anything else."""

    def heard(self) -> set[str]:
        """Kinds of what may have changed since the last call; empty when it was all our own doing."""


class Healing:
    """Keeps the kernel as it should be."""

    def __init__(
        self, kernel: Kernel, monitor: Monitor, events: Events, declare: Callable[[], None] = lambda: None
    ) -> None:
        """``declare``: makes what is not ours to compare but must be there, the table for people's own rules; it may
        have gone together with our own rules, and is said again when those had to be."""
        self._kernel = kernel
        self._monitor = monitor
        self._events = events
        self._declare = declare
        self._woken = asyncio.Event()
        self._listening: asyncio.TimerHandle | None = None
        self._heard: set[str] = set()
        self._complained: set[str] = set()
        kernel.when_repaired(self._repaired)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._monitor.fileno(), self._wake)
        tick = loop.time() + TICK
        try:
            while True:
                heard = await self._something_or(tick)
                if loop.time() >= tick or not await self._stands(heard):
                    await self.heal()
                    tick = loop.time() + TICK
        finally:
            loop.remove_reader(self._monitor.fileno())
            if self._listening:
                self._listening.cancel()

    async def _stands(self, heard: set[str]) -> bool:
        """Whether a glance is enough to see that nothing happened: bells that ring for our own doings, too."""
        if not heard or heard - {LINK, MOUNT}:
            return False
        devices = LINK not in heard or await self._kernel.devices_stand()
        return devices and (MOUNT not in heard or await self._kernel.namespaces_stand())

    async def heal(self) -> None:
        """Look once, repair what is wrong, tell it."""
        try:
            self._repaired(*await self._kernel.heal())
        except Exception as error:
            if str(error) not in self._complained:
                log.error("cannot put the kernel right: %s", error)
                self._complained.add(str(error))
            return
        self._complained.clear()

    def _guard(self) -> None:
        """A firewall that was flushed is no matter for taking a breath: until it is back, all is open."""
        try:
            if made := self._kernel.guard():
                self._repaired(made, ())
        except Exception as error:
            log.warning("the rules are gone, and not back at the first try: %s", error)

    def _repaired(self, made: Sequence[Wanted], removed: Sequence[Wanted]) -> None:
        """What follows a repair, whoever made it."""
        if any(item.key[0] == "skeleton" for item in made):
            self._declare()
        self._tell("made", made)
        self._tell("removed", removed)

    def _tell(self, deed: str, objects: Sequence[Wanted]) -> None:
        """One event and one line for each owner and kind: a flush is a thousand elements and one fact."""
        groups: dict[tuple[str, str], list[Wanted]] = {}
        for item in objects:
            groups.setdefault((item.owner or "nobody", item.key[0]), []).append(item)
        for (owner, kind), items in groups.items():
            first, more = " ".join(items[0].key), f" and {len(items) - 1} more" if len(items) > 1 else ""
            log.warning("repaired: %s %s%s (%s)", deed, first, more, owner)
            count, why = str(len(items)), items[0].why
            attributes = {"deed": deed, "kind": kind, "object": first, "count": count, "why": why}
            self._events.publish("fairlead", "repair", owner, attributes)

    def _wake(self) -> None:
        self._take(self._monitor.urgent())
        if self._listening is None:
            self._listening = asyncio.get_running_loop().call_later(MOMENT, self._listen)

    def _listen(self) -> None:
        self._listening = None
        self._take(self._monitor.heard())

    def _take(self, heard: set[str]) -> None:
        if heard & {FIREWALL, EVERYTHING}:
            self._guard()
        self._heard |= heard
        if heard:
            self._woken.set()

    async def _something_or(self, tick: float) -> set[str]:
        """What was heard until it is time to look anyway."""
        try:
            async with asyncio.timeout_at(tick):
                await self._woken.wait()
            await asyncio.sleep(BREATH)
        except TimeoutError:
            pass
        self._woken.clear()
        heard, self._heard = self._heard, set()
        return heard
