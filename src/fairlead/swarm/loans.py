"""Loans: addresses for containers that are no tasks, from the swarm's one desk, so that nobody else has them.

    docker run --network attachable
      node: Borrowed --lease-address--> manager: Loans --Loan--> state --> the leader's desk --> its addresses
            Borrowed --hold-addresses--> "these are mine, and no others": what is not among them is given back

Rules
    1. A loan is an object of the swarm: a new leader finds it, and its address stays taken.
    2. What a node holds it says as a whole, whenever it changes and with every new session: a lost word, a crash, an
       outage all mend the same way. A loan of a node that is removed ends with it.
    3. Giving back never waits; borrowing fails when no manager answers within ``PATIENCE`` seconds: a session may be
       just between two managers, or the managers without a leader. What the leader refuses is a 500 in dockerd's
       words; where dockerd lets twenty seconds go by and says "context deadline exceeded", the reason stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from fairlead.core.cluster import Loan
from fairlead.core.model import Network
from fairlead.errors import Conflict, FairleadError, Forbidden, Internal, Invalid, NotFound, Unavailable
from fairlead.swarm.ca import Identity
from fairlead.swarm.sharedstore import Asking
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

LEASE, HOLD = "lease-address", "hold-addresses"
PATIENCE, PAUSE = 10.0, 0.2
"""seconds that a leader, or a session, may take; and between two questions"""
AGAIN = 20.0
"""seconds after which what is held is said again"""
GATHER = 0.2
MOST = 4096
"""loans of one node"""


class Wish(msgspec.Struct, frozen=True):
    endpoint: str
    network: str
    address: str = ""


class Held(msgspec.Struct, frozen=True):
    network: str
    addresses: tuple[str, ...]
    """without prefix length"""


class Loans:
    """A manager's side. ``hear(ear)``: be told of changes of the state, until what is returned is called."""

    def __init__(self, state: State, hear: Callable[[Callable[[Event], None]], Callable[[], None]]) -> None:
        self._state, self._hear = state, hear
        self.served = {LEASE: self._lease, HOLD: self._hold}

    async def _lease(self, who: Identity, body: msgspec.Raw) -> AsyncIterator[Any]:
        wish = _read(body, Wish)
        network = self._state.networks.get(wish.network)
        if network is None:
            raise NotFound(f"network {wish.network} not found")
        if not network.spec.attachable:
            raise Forbidden(
                f"Could not attach to network {network.spec.name}: rpc error: code = PermissionDenied desc = network"
                f" {network.spec.name} not manually attachable"
            )
        if sum(loan.node == who.node for loan in self._state.loans.values()) >= MOST:
            raise Unavailable("this node has borrowed too many addresses")
        loan = await self._lent(Loan(wish.endpoint, who.node, wish.network, wish.address))
        if not loan.addresses:
            await self._give_back([loan])
            raise Internal(
                f"Could not attach to network {network.spec.name}: attaching to network failed, make sure your network"
                f" options are correct and check manager logs: {loan.error or 'no leader of the swarm gave an address'}"
            )
        yield loan.addresses

    async def _lent(self, asked: Loan) -> Loan:
        """As the leader has settled it, or as it is after a while."""
        news = asyncio.Event()
        end = self._hear(lambda event: news.set() if event.kind == "loans" else None)
        try:
            if asked.id not in self._state.loans:
                await self._state.commit([asked])
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    while not ((loan := self._state.loans.get(asked.id)) and (loan.addresses or loan.error)):
                        news.clear()
                        await news.wait()
        finally:
            end()
        loan = self._state.loans.get(asked.id, asked)
        if loan.node != asked.node:
            raise Forbidden(f"endpoint {asked.id} is not this node's")
        return loan

    async def _hold(self, who: Identity, body: msgspec.Raw) -> AsyncIterator[Any]:
        held = _read(body, dict[str, Held])
        mine = {id: loan for id, loan in self._state.loans.items() if loan.node == who.node}
        await self._give_back([loan for id, loan in mine.items() if id not in held])
        for id, one in list(held.items())[:MOST]:
            network = self._state.networks.get(one.network)
            # On ingress a node's own address is no loan: a second note of it would, once struck, free it for others.
            if id not in self._state.loans and network is not None and not network.spec.ingress:
                log.info("an address that node %s has was not noted: %s", who.node, ", ".join(one.addresses))
                with suppress(Conflict):
                    await self._state.commit([Loan(id, who.node, one.network, addresses=self._whole(one))])
        yield None

    def _whole(self, held: Held) -> tuple[str, ...]:
        """With prefix lengths."""
        pools = [pool.subnet for pool in self._state.networks[held.network].spec.ipam.config]
        length = {":" in pool: pool.partition("/")[2] for pool in pools}
        return tuple(f"{one}/{length[':' in one]}" for one in held.addresses if (":" in one) in length)

    async def _give_back(self, loans: Iterable[Loan]) -> None:
        for loan in loans:
            with suppress(Conflict):  # somebody was faster
                await self._state.commit(delete=[self._state.loans.get(loan.id, loan)])


class Borrowed:
    """A node's side: ``engine.cluster.Addresses``."""

    def __init__(self, session: Asking) -> None:
        self._session = session
        self._held: dict[str, Held] = {}
        self._busy: set[str] = set()
        self._sure = False
        """what is on this host was looked at"""
        self._news = asyncio.Event()

    async def address(
        self, network: Network, endpoint: str, wish: str, taken: Iterable[str], choose: Callable[[set[str]], str]
    ) -> str:
        """An address of the family of what ``choose`` would pick; both families come with the first question."""
        family = ":" in choose(set(taken) if not wish else set())
        self._busy.add(endpoint)
        if endpoint not in self._held:
            reply = await self._lent(Wish(endpoint, network.id, wish))
            found = msgspec.json.decode(reply, type=tuple[str, ...])
            self._held[endpoint] = Held(network.id, tuple(text.partition("/")[0] for text in found))
        for address in self._held[endpoint].addresses:
            if (":" in address) == family:
                if wish and address != wish:
                    raise Forbidden("Address already in use")
                return address
        raise Unavailable(f"the swarm gives no such address on network {network.name}")

    async def _lent(self, wish: Wish) -> msgspec.Raw:
        """By whichever manager answers: asked twice, it is the same loan."""
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while True:
            try:
                async with asyncio.timeout_at(until):
                    await self._session.connected()
                return await self._session.one(LEASE, wish)
            except TimeoutError:
                raise Unavailable("no manager of the swarm can be asked for an address") from None
            except Unavailable:
                if clock() >= until:
                    raise
                await asyncio.sleep(PAUSE)

    def settled(self, endpoint: str) -> None:
        self._busy.discard(endpoint)
        self._news.set()

    def is_busy(self, endpoint: str) -> bool:
        return endpoint in self._busy

    async def keep(self, network: str, endpoint: str, *held: str) -> None:
        """After a restart: it has these."""
        self._held[endpoint] = Held(network, held)
        self._news.set()

    async def release(self, network: str, endpoint: str, *held: str) -> None:
        self._held.pop(endpoint, None)
        self._news.set()

    async def tidy(self, alive: Collection[str]) -> None:
        """Only these are here (and what is being made)."""
        self._held = {id: held for id, held in self._held.items() if id in alive or id in self._busy}
        self._sure = True
        self._news.set()

    async def run(self) -> None:
        """Until cancelled: say what is held."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
            await asyncio.sleep(GATHER)
            await self._session.connected()
            self._news.clear()
            if not self._sure:
                continue
            try:
                await self._session.one(HOLD, self._held)
            except FairleadError as problem:
                log.debug("no manager heard which addresses are held here: %s", problem.message)
                self._news.set()
                await asyncio.sleep(1)


def _read(body: msgspec.Raw, type_: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"this question makes no sense: {problem}") from None
