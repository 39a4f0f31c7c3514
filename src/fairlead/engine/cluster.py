"""Cluster: networks that several hosts share, through a store that all of them can reach (``--cluster-store``).

       this host                        shared store                       other hosts
    networks, endpoints --claims-->  index, addresses/…
                        --tell---->  networks/…, endpoints/<node>/…  --watch-->  engine.overlays

Local networks never come here. With the store away, cluster networks carry
traffic as before; what needs a claim (a new network, a new endpoint) fails at
once; what only has to be told (an endpoint is gone) is told when it is back.

Rules
    1. What this host tells is computed anew from its endpoints and compared with what
       it told before: a lost message, a crash, an outage all mend the same way.
    2. ``endpoints/<node>/`` is that node's to write; only what a dead one left is struck
       by others, when a person says so. A row that makes no sense is passed over, and
       said (``core.remotes``).
    3. What was learnt is remembered locally: a restart without the store forgets nothing.

What it does not do: decide who wins (``engine.claims``), move packets (``engine.overlays``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from fairlead.core import addresses, remotes
from fairlead.core.model import Endpoint, Network, Remote
from fairlead.core.written import family_of
from fairlead.engine.claims import Claims, is_meant, subnet_of
from fairlead.engine.overlays import Overlays
from fairlead.engine.services import Later
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound, Unavailable
from fairlead.store.base import Change, Entry, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE = 1.0
"""Seconds between two attempts to tell an absent store."""
OLD_NEWS = 64
"""Rows that are as they were, heard without looking who else waits: a fraction of a millisecond."""
TOGETHER = 200
"""endpoints of other hosts, at most, of which sandboxes here are told at once"""
DEADLINE = 5.0
"""Seconds after which a claim is given up: the store is away, and somebody waits."""


class Networks(Protocol):
    """The controller, as far as other hosts' deeds concern it."""

    def networks(self) -> list[Network]: ...

    def endpoints(self, network_id: str) -> list[Endpoint]: ...

    async def accept(self, network: Network) -> None:
        """Some host made it."""

    async def dismiss(self, id: str) -> None:
        """Some host removed it."""


class Addresses(Protocol):
    """Who gives the addresses of shared networks: claims in a store, or the managers of a swarm."""

    async def address(
        self, network: Network, endpoint: str, wish: str, taken: Iterable[str], choose: Callable[[set[str]], str]
    ) -> str:
        """One for an endpoint; see ``Claims.address``."""

    def settled(self, endpoint: str) -> None: ...

    def is_busy(self, endpoint: str) -> bool: ...

    async def keep(self, network: str, endpoint: str, *held: str) -> None: ...

    async def release(self, network: str, endpoint: str, *held: str) -> None: ...

    async def tidy(self, alive: Collection[str]) -> None: ...


class Cluster:
    """``node``: this host's identity; ``host``: its name for people; ``vtep``: where it receives frames.

    ``scope``: of its networks, as Docker calls it. Where it is ``swarm``, networks are the managers' to make.
    """

    def __init__(
        self,
        store: Store,
        overlays: Overlays,
        node: str,
        host: str,
        vtep: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        addresses: Addresses | None = None,
        scope: str = "global",
        learnt: Callable[[Remote], None] = lambda row: None,
    ) -> None:
        """``learnt``: told of every row after everything here follows it."""
        self.scope = scope
        self._learnt = learnt
        self._store = store
        self._overlays = overlays
        self._claims = Claims(store, node)
        self._addresses: Addresses = addresses or self._claims
        self._node, self._host, self._vtep = node, host, vtep
        self._pause = pause
        self._news = asyncio.Event()
        self._news.set()
        self._told: dict[str, Remote] | None = None
        """rows of ours that the store has; None: not looked yet, or not sure"""
        self._held: dict[str, tuple[str, ...]] = {}
        """endpoint -> its network and the addresses claimed for it"""

    def others(self, network_id: str) -> list[Remote]:
        """The endpoints that other hosts have on a network."""
        return self._overlays.others(network_id)

    # -- what needs a claim -----------------------------------------------------------------

    async def found(self, settle: Callable[[list[Network]], Network]) -> Network:
        """Make a network for all hosts. ``settle`` gets what others have, and may be asked again."""
        return await self._in_time(self._claims.found(settle))

    async def dissolve(self, network: Network) -> None:
        """Remove it for all hosts; ``Forbidden`` while any of them has somebody on it."""
        named = {row.id: f'"{row.name}" on {row.host}' for row in self.others(network.id)}
        await self._in_time(self._claims.dissolve(network, named))

    async def lease(self, network: Network, endpoint: Endpoint, taken: set[str]) -> Endpoint:
        """The endpoint, with addresses that nobody else in the cluster has; ``changed`` ends it.

        ``taken``: addresses known to be held. A task of a swarm brings its own.
        """
        if endpoint.settings.part is not None:
            return endpoint
        found = {}
        try:
            for family, current, wish in (
                ("ipv4", endpoint.address4, endpoint.settings.ipv4),
                ("ipv6", endpoint.address6, endpoint.settings.ipv6),
            ):
                if current:
                    choose = _chooser(network, current, wish)
                    claim = self._addresses.address(network, endpoint.id, wish, taken, choose)
                    address = await self._in_time(claim)
                    found[family] = f"{address}/{subnet_of(network, address).partition('/')[2]}"
        except BaseException:
            self._told = None  # what was claimed, or may have been, is given back when the store is looked at
            self.changed(endpoint)
            raise
        self._held[endpoint.id] = (network.id, *(text.partition("/")[0] for text in found.values()))
        return replace(endpoint, **found)

    async def strike(self, network: Network, ref: str) -> None:
        """Take an endpoint of a dead host off a network. ``ref``: its name, its id (12 letters do) or an address.

        A host that is alive after all tells of it again. ``NotFound``; ``Conflict`` when it may be several.
        """
        rows = [row for row in self.others(network.id) if row.name == ref or is_meant(row.id, ref)]
        if len(rows) > 1:
            told = ", ".join(f"{row.id[:12]} on {row.host}" for row in rows)
            raise Conflict(f"{ref} is several endpoints of network {network.name}: say which ({told})")
        held = await self._in_time(self._claims.strike(network.id, rows[0].id if rows else ref))
        for row in rows:
            await self._in_time(self._store.delete_if(f"endpoints/{row.node}/{row.id}"))
        if not (held or rows):
            raise NotFound(f"endpoint {ref} not found")

    def changed(self, endpoint: Endpoint) -> None:
        """It came, went, is called otherwise, or never came about."""
        self._addresses.settled(endpoint.id)
        self._news.set()

    async def _in_time(self, deed: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE):
                return await deed
        except TimeoutError:
            raise Unavailable("the cluster store does not answer; networks of this host alone work meanwhile") from None

    # -- what has to be told, and what is heard -----------------------------------------------

    async def run(self, networks: Networks) -> None:
        """Until cancelled: tell and listen."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_telling(networks))
            if self.scope == "global":
                tasks.create_task(self._hear_networks(networks))
            tasks.create_task(self._hear_endpoints(networks))
            if self._overlays.encryption:
                tasks.create_task(self._overlays.encryption.run())

    async def _keep_telling(self, networks: Networks) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._tell(networks)
            except FairleadError as problem:
                log.info("the cluster store cannot be told: %s", problem.message)
                self._told = None
                self._news.set()
                await self._pause(PAUSE)

    async def _tell(self, networks: Networks) -> None:
        """Make our rows in the store what they should be."""
        rows = {row.id: row for row in self._rows(networks)}
        told = self._told  # ours for this turn: a lease that fails meanwhile makes ``_told`` None, for the next one
        if told is None:
            await self._addresses.tidy(rows)
            told = self._told = await self._own()
        for id, row in rows.items():
            if told.get(id) != row:
                if id not in told and id not in self._held and row.part is None:  # somebody struck it
                    network, *held = _addresses(row)
                    await self._addresses.keep(network, id, *held)
                await self._store.put_if(self._key(id), msgspec.json.encode(row))
                told[id] = row
        for id in [id for id in {**told, **self._held} if id not in rows and not self._addresses.is_busy(id)]:
            gone = told.pop(id, None)  # first: that it goes is no news to us
            network, *held = self._held.get(id) or (_addresses(gone) if gone else ("",))
            await self._store.delete_if(self._key(id))
            await self._addresses.release(network, id, *held)
            self._held.pop(id, None)

    async def _own(self) -> dict[str, Remote]:
        found = {}
        for entry in await self._store.list(f"endpoints/{self._node}/"):
            try:
                row = remotes.read_remote(entry.key, entry.value)
            except Invalid:
                await self._store.delete_if(entry.key)
            else:
                found[row.id] = row
        return found

    def _key(self, id: str) -> str:
        return f"endpoints/{self._node}/{id}"

    def _rows(self, networks: Networks) -> Iterable[Remote]:
        for network in networks.networks():
            for endpoint in networks.endpoints(network.id) if network.shared and network.scope == self.scope else ():
                yield Remote(
                    id=endpoint.id,
                    network=network.id,
                    node=self._node,
                    host=self._host,
                    vtep=self._vtep,
                    name=endpoint.name,
                    mac=endpoint.mac,
                    ipv4=endpoint.ipv4,
                    ipv6=endpoint.ipv6,
                    names=endpoint.names,
                    ports=endpoint.ports,
                    part=endpoint.settings.part,
                )

    async def _hear_networks(self, networks: Networks) -> None:
        """After a restart all is told again: what is as it was is not read."""
        before = {f"networks/{n.id}": n for n in networks.networks() if n.scope == self.scope}
        known = [Entry(key, b"", 0) for key in before]
        async for change in self._store.watch("networks/", known):
            was = before.pop(change.key, None)
            news = was is None or msgspec.json.encode(was) != change.value
            if news:
                await self._heed_network(change, networks)
            if news or not len(before) % OLD_NEWS:
                await asyncio.sleep(0)

    async def _heed_network(self, change: Change, networks: Networks) -> None:
        try:
            if change.value is None:
                await networks.dismiss(change.key.partition("/")[2])
            else:
                await networks.accept(remotes.read_network(change.key, change.value))
        except FairleadError as problem:
            log.warning("a network of the cluster is passed over: %s", problem.message)

    async def _hear_endpoints(self, networks: Networks) -> None:
        """What came while others were heeded is heeded together."""
        heard: asyncio.Queue[Change | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(heard))
            changes: list[Change | None] = []
            while None not in changes:
                changes = [await heard.get()]
                while len(changes) < TOGETHER and not heard.empty():
                    changes.append(heard.get_nowait())
                await self._heed_all(filter(None, changes), networks)

    async def _listen(self, heard: asyncio.Queue[Change | None]) -> None:
        known = (Entry(f"endpoints/{row.node}/{row.id}", b"", 0) for row in self._overlays.everything())
        async for change in self._store.watch("endpoints/", known):
            heard.put_nowait(change)
        heard.put_nowait(None)

    async def _heed_all(self, changes: Iterable[Change], networks: Networks) -> None:
        later, learnt = Later(), []
        for number, change in enumerate(changes, 1):
            try:
                row, news = await self._heed(change, networks, later)
                learnt.append(row)
            except FairleadError as problem:
                log.warning("an endpoint of another host is passed over: %s", problem.message)
                news = True
            if news or not number % OLD_NEWS:  # ten thousand may be told at once, and others want to be served
                await asyncio.sleep(0)
        await self._overlays.services.follow(later)
        for row in filter(None, learnt):
            self._learnt(row)

    async def _heed(self, change: Change, networks: Networks, later: Later) -> tuple[Remote | None, bool]:
        """What was learnt, or known already; False: the latter."""
        _, node, id = change.key.split("/", 2)
        if node == self._node:
            if change.value is None and self._told and self._told.pop(id, None):  # struck, but it is alive: say so
                self._held.pop(id, None)
                self._news.set()
            return None, True
        known = self._overlays.find(id)
        if known is not None and known.node != node:
            raise Invalid(f"{change.key}: the endpoint is {known.host}'s")
        if change.value is None:
            await self._overlays.unlearn(id, later=later)
            return None, True
        if known is not None and msgspec.json.encode(known) == change.value:  # after a restart all is told again
            return known, False
        row = remotes.read_remote(change.key, change.value)
        own = [endpoint for endpoint in networks.endpoints(row.network) if _clash(endpoint, row)]
        if own:
            raise Invalid(f"{change.key}: it has what {own[0].name} has here")
        await self._overlays.learn(row, later)
        return row, True


def _clash(own: Endpoint, row: Remote) -> bool:
    """Whether somebody elsewhere says that an address or MAC of ours is his."""
    theirs = {row.mac, *_addresses(row)[1:]}
    return own.id == row.id or bool(theirs & {own.mac, own.address4, own.address6})


def _addresses(row: Remote) -> tuple[str, ...]:
    return row.network, *(text.partition("/")[0] for text in (row.ipv4, row.ipv6) if text)


def _chooser(network: Network, prefer: str, wish: str) -> Callable[[set[str]], str]:
    """Picks an address of the family of ``prefer`` (which was free here) that is not in a set of taken ones."""
    family = family_of(prefer)
    pools = [pool for pool in network.ipam.config if family_of(pool.subnet) == family]
    return lambda taken: addresses.lease(pools, taken, wish, prefer, network.name)[0]
