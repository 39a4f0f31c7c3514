"""The engine's side of the lease process: the lender of addresses called ``dhcp``.

    lease(holder)   told to the process; waits for its news, ``PATIENCE`` seconds at most
    adopt, resume   after a restart: what should be held is told in one go
    release         the address goes back
    changed         called for a lease that came, went or became another one later on

There are two connections: one on which we say what should be (``ControlClient``),
one on which we hear what happened. The second begins with how everything stands,
so whatever happened while nobody listened is news then.

Rules
    1. What the process tells is noted here first, and is what a fresh process is told:
       when it dies, the next one goes on with the leases of the last.
    2. ``changed`` gets an endpoint's id and nothing else, and asks for the newest truth
       (``current``): two pieces of news that overtake each other do no harm.
    3. There is no such process until the first lease is asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.model import Lease, NetworkRequest
from fairlead.core.parents import PARENT, parent_of
from fairlead.engine import controlclient
from fairlead.engine.controlclient import ControlClient, Line
from fairlead.engine.ipam import Holder
from fairlead.engine.leases import Ask
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.host.base import Host

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that a container's start waits for an address: four questions."""
DRIVERS = ("macvlan",)
_AGAIN = 0.2
_LIMIT = 1 << 24


def command(path: str) -> list[str]:
    """The command that runs a lease process with its control socket at ``path``."""
    return controlclient.command("leases", path)


class Dhcp:
    """``ipam.Lender`` with the LAN's DHCP server as lender."""

    def __init__(
        self,
        path: str,
        host: Host,
        begin: Callable[[], None],
        changed: Callable[[str, str], Awaitable[None]],
        patience: float = PATIENCE,
    ) -> None:
        """``begin``: see to it that the process and ``keep`` run. ``changed(endpoint id, why it was lost or "")``."""
        self.path = path
        self._host, self._changed, self._patience = host, changed, patience
        self._begin: Callable[[], None] | None = begin
        self._asks: dict[str, Ask] = {}
        self._waiting: dict[str, asyncio.Future[Lease]] = {}
        self._largest: dict[str, int] = {}
        """endpoint -> MTU of its parent, which the LAN's word cannot exceed"""
        self._control = ControlClient(path, self._state, lambda answer: [])

    # -- Lender -------------------------------------------------------------------------------

    def check(self, request: NetworkRequest) -> None:
        if request.driver not in DRIVERS or not request.options.get(PARENT):
            raise Invalid("--ipam-driver dhcp needs a LAN to ask: -d macvlan -o parent=<device>")
        if request.ipv4 is False:
            raise Invalid("--ipam-driver dhcp leases IPv4 addresses, and this network has no IPv4")
        if any(":" not in pool.subnet for pool in request.ipam.config):
            raise Invalid("the LAN's DHCP server says which addresses there are: --ipam-driver dhcp takes no --subnet")

    async def lease(self, holder: Holder) -> Lease:
        id_ = holder.endpoint.id
        ask = self._note(holder)
        news = self._waiting[id_] = asyncio.get_running_loop().create_future()
        self._start()
        try:
            await self._control.say({"do": "lease", "ask": msgspec.to_builtins(ask)})
            return await asyncio.wait_for(news, self._patience)
        except BaseException as error:
            await self.release(id_)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"no DHCP server lent an address on {parent_of(holder.network)} within {self._patience:.0f} seconds"
                ) from error
            raise
        finally:
            self._waiting.pop(id_, None)

    def adopt(self, holder: Holder) -> None:
        self._note(holder)

    async def release(self, endpoint_id: str) -> None:
        self._largest.pop(endpoint_id, None)
        if self._asks.pop(endpoint_id, None) is not None:
            try:
                await self._control.say({"do": "release", "id": endpoint_id})
            except FairleadError as error:
                log.warning("cannot give an address back: %s", error.message)

    # -- life ---------------------------------------------------------------------------------

    def resume(self) -> None:
        """Everything that had to be was adopted: tell it, also a process of before that has more than that."""
        if self._asks or Path(self.path).exists():
            self._start()

    async def keep(self) -> None:
        """Until cancelled: say what should be to whatever process there is, and hear what it has to say."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._control.keep())
            while True:
                try:
                    await self._listen(tasks)
                except (OSError, ValueError, EOFError):
                    await asyncio.sleep(_AGAIN)

    def current(self, endpoint_id: str) -> Lease | None:
        """The lease that it has now."""
        ask = self._asks.get(endpoint_id)
        return ask.lease if ask else None

    async def held(self) -> dict[str, Line]:
        """How the process says that every lease stands, by endpoint: ``phase``, ``lease``, ``trouble``."""
        if not self._asks:
            return {}
        answer = (await self._control.say({"do": "held"}))[0]
        return dict(answer["leases"])

    # -- inside -------------------------------------------------------------------------------

    def _note(self, holder: Holder) -> Ask:
        endpoint = holder.endpoint
        ask = self._asks[endpoint.id] = Ask(
            id=endpoint.id,
            namespace=holder.namespace,
            interface=endpoint.interface,
            mac=endpoint.mac,
            hostname=holder.hostname,
            prefer=holder.prefer,
            lease=endpoint.lease,
        )
        self._largest[endpoint.id] = self._host.link_mtu(parent_of(holder.network))
        return ask

    def _start(self) -> None:
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()

    def _state(self) -> Line:
        return {"do": "state", "asks": [msgspec.to_builtins(ask) for ask in self._asks.values()]}

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=_LIMIT)
        try:
            writer.write(b'{"do":"watch"}\n')
            for id_, stands in json.loads(await reader.readuntil())["leases"].items():
                self._hear(id_, stands["lease"], "" if stands["lease"] else "lost while nobody listened", tasks)
            while True:
                news = json.loads(await reader.readuntil())
                self._hear(news["id"], news["lease"], news["why"], tasks)
        finally:
            writer.close()

    def _hear(self, id_: str, said: Any, why: str, tasks: asyncio.TaskGroup) -> None:
        """Note it; then whoever waits for it has it, or it is news to the engine."""
        ask = self._asks.get(id_)
        if ask is None:
            return
        lease = self._fitting(id_, msgspec.convert(said, Lease)) if said else None
        before = ask.lease
        if lease == before:
            return
        self._asks[id_] = replace(ask, lease=lease)
        waiting = self._waiting.get(id_)
        if waiting is None:
            tasks.create_task(self._tell(id_, why))
        elif lease is not None and not waiting.done():
            waiting.set_result(lease)

    async def _tell(self, id_: str, why: str) -> None:
        try:
            await self._changed(id_, why)
        except FairleadError as error:
            log.error("a lease changed, and its container could not follow: %s", error.message)

    def _fitting(self, id_: str, lease: Lease) -> Lease:
        """No MTU above the parent's: the kernel would refuse it, and the container would not start."""
        largest = self._largest.get(id_, 0)
        return replace(lease, mtu=0) if lease.mtu > largest else lease
