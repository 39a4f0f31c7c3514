"""Claims: what must be one host's alone in the whole cluster, decided by compare-and-swap in the shared store.

    index                            every network's name, subnets and identifier, in one value:
                                     whether subnets overlap is a question about all of them
    networks/<id>                    the network itself
    addresses/<network>/<address>    who holds it: one value each

    found(network):     index (swap) -> networks/<id>
    dissolve(network):  nobody holds an address? -> networks/<id> goes -> still nobody? -> index (swap)
    address:            addresses/… (must be absent) -> is the network still there?

Rules
    1. Whoever loses a swap reads again and decides anew; ``Conflict`` after ``TRIES``.
    2. A network is removed and an address is taken in opposite orders: each looks
       after it acted, so one of the two sees the other and takes its step back.
    3. A host that died between two writes leaves a claim with its own name on it,
       which it gives back when it returns (``tidy``). Nobody else does, unless a person
       says so (``strike``): a host that is silent may be alive.

What it does not do: know who is on a network now (``engine.cluster``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from fairlead.core import addresses, remotes
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.errors import Conflict, Forbidden, Internal, NotFound, Unavailable
from fairlead.store.base import Entry, Store

log = logging.getLogger(__name__)
T = TypeVar("T")
INDEX = "index"
TRIES = 64
FIRST_VNI = 4097
"""As in Docker; those below are left to people who set up VXLAN by hand."""


class Claim(msgspec.Struct, frozen=True):
    """A network's line in the index; ``host`` is the one that made it."""

    id: str
    name: str
    vni: int
    subnets: tuple[str, ...]
    host: str


class Holder(msgspec.Struct, frozen=True):
    """Who holds an address."""

    host: str
    endpoint: str


_CLAIMS = msgspec.json.Decoder(tuple[Claim, ...])
_HOLDER = msgspec.json.Decoder(Holder)


class Claims:
    """The claims of one host. ``host``: its identity in the cluster."""

    def __init__(self, store: Store, host: str) -> None:
        self._store = store
        self._host = host
        self._busy: set[str] = set()
        """networks and endpoints that are being made now: ``tidy`` leaves them alone"""

    # -- networks -------------------------------------------------------------------------

    async def found(self, settle: Callable[[list[Network]], Network]) -> Network:
        """Claim a network, number it, and write it down for all.

        ``settle`` makes the network, given what must not be collided with, and raises when it cannot be.
        """

        async def claim(standing: tuple[Claim, ...]) -> tuple[tuple[Claim, ...], Network]:
            network = settle([_outline(each) for each in standing])
            taken = {str(each.vni): each.name for each in standing}
            vni = remotes.identifier(network.options.get(remotes.VNI), taken, FIRST_VNI)
            subnets = tuple(pool.subnet for pool in network.ipam.config)
            own = Claim(network.id, network.name, int(vni), subnets, self._host)
            making.add(network.id)
            self._busy.add(network.id)
            options = {**network.options, remotes.VNI: vni}
            return (*standing, own), replace(network, options=options)

        making: set[str] = set()
        try:
            network = await self._swap(claim)
            await self._store.put_if(f"networks/{network.id}", msgspec.json.encode(network), 0)
        finally:
            self._busy -= making
        return network

    async def dissolve(self, network: Network, named: Mapping[str, str]) -> None:
        """Take a network away from all hosts; ``Forbidden`` while anybody holds an address of it.

        ``named``: what people call its endpoints.
        """
        await self._refuse_if_held(network, named)
        await self._store.delete_if(f"networks/{network.id}")
        try:
            await self._refuse_if_held(network, named)
        except Forbidden:
            await self._store.put_if(f"networks/{network.id}", msgspec.json.encode(network), 0)
            raise
        await self._forget({network.id})

    async def _refuse_if_held(self, network: Network, named: Mapping[str, str]) -> None:
        held = await self._store.list(f"addresses/{network.id}/")
        if held:
            found = {_holder(entry).endpoint: entry.key.rpartition("/")[2] for entry in held}
            names = {endpoint: named.get(endpoint, f'"{address}"') for endpoint, address in found.items()}
            told = " ".join(f'name:{name} id:"{endpoint[:12]}"' for endpoint, name in names.items())
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({told})")

    async def _forget(self, ids: Collection[str]) -> None:
        async def strike(standing: tuple[Claim, ...]) -> tuple[tuple[Claim, ...], None]:
            return tuple(each for each in standing if each.id not in ids), None

        await self._swap(strike)

    async def _swap(self, change: Callable[[tuple[Claim, ...]], Awaitable[tuple[tuple[Claim, ...], T]]]) -> T:
        """Read the index, decide, write it back unless somebody else did meanwhile."""
        for _ in range(TRIES):
            entry = await self._store.get(INDEX)
            after, answer = await change(_claims(entry))
            try:
                await self._store.put_if(INDEX, msgspec.json.encode(after), entry.version if entry else 0)
            except Conflict:
                continue
            return answer
        raise Unavailable(f"the cluster's index changed {TRIES} times while it was read: try again")

    # -- addresses ------------------------------------------------------------------------

    async def address(
        self, network: Network, endpoint: str, wish: str, taken: Iterable[str], choose: Callable[[set[str]], str]
    ) -> str:
        """Claim an address. ``taken``: what is known to be held; ``choose`` picks another; a ``wish`` is not replaced.

        The caller says ``settled`` when the endpoint is known (or given up).
        """
        self._busy.add(endpoint)
        known, value = set(taken), msgspec.json.encode(Holder(self._host, endpoint))
        while True:
            chosen = choose(known)
            try:
                await self._store.put_if(f"addresses/{network.id}/{chosen}", value, 0)
                break
            except Conflict:
                if wish:
                    raise Forbidden("Address already in use") from None
                known.add(chosen)
        if await self._store.get(f"networks/{network.id}") is None:
            await self.release(network.id, endpoint, chosen)
            raise NotFound(f"network {network.name} not found: it was removed on another host")
        return chosen

    def settled(self, endpoint: str) -> None:
        """Its addresses are used from now on, or released."""
        self._busy.discard(endpoint)

    def is_busy(self, endpoint: str) -> bool:
        return endpoint in self._busy

    async def release(self, network: str, endpoint: str, *held: str) -> None:
        """Give an endpoint's addresses back; what it does not hold (any more) stays as it is."""
        for address in filter(None, held):
            entry = await self._store.get(f"addresses/{network}/{address}")
            if entry and _holder(entry) == Holder(self._host, endpoint):
                await self._store.delete_if(entry.key, entry.version)

    async def strike(self, network: str, ref: str) -> bool:
        """Take from another host the addresses of an endpoint (its id or the beginning), or one address; any found?"""
        found = False
        for entry in await self._store.list(f"addresses/{network}/"):
            holder, address = _holder(entry), entry.key.rpartition("/")[2]
            if holder.host != self._host and (address == ref or is_meant(holder.endpoint, ref)):
                await self._store.delete_if(entry.key, entry.version)
                found = True
        return found

    # -- after a crash --------------------------------------------------------------------

    async def keep(self, network: str, endpoint: str, *held: str) -> None:
        """Claim again what an endpoint has and somebody struck (the store may have lost it, too)."""
        for address in held:
            try:
                await self._store.put_if(
                    f"addresses/{network}/{address}", msgspec.json.encode(Holder(self._host, endpoint)), 0
                )
            except Conflict:
                await self._warn_if_taken(network, endpoint, address)

    async def _warn_if_taken(self, network: str, endpoint: str, address: str) -> None:
        entry = await self._store.get(f"addresses/{network}/{address}")
        if entry and _holder(entry) != Holder(self._host, endpoint):
            log.error("%s was given away while this host was thought dead: start its container again", address)

    async def tidy(self, alive: Collection[str]) -> None:
        """Give back what this host claimed and does not use: ``alive`` are its endpoints (ids)."""
        used = set()
        for entry in await self._store.list("addresses/"):
            holder = _holder(entry)
            if holder.host == self._host and holder.endpoint not in alive and holder.endpoint not in self._busy:
                await self._store.delete_if(entry.key, entry.version)
            else:
                used.add(entry.key.split("/")[1])
        known = {entry.key.rpartition("/")[2] for entry in await self._store.list("networks/")}
        claims = _claims(await self._store.get(INDEX))
        lost = {claim.id for claim in claims if claim.host == self._host} - known - self._busy - used
        if lost:
            await self._forget(lost)


def is_meant(id: str, ref: str) -> bool:
    """Whether ``ref`` is an id, or as much of it as people are shown."""
    return len(ref) >= 12 and id.startswith(ref)


def _claims(entry: Entry | None) -> tuple[Claim, ...]:
    try:
        return _CLAIMS.decode(entry.value) if entry else ()
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Internal(
            f"{INDEX} in the cluster store is damaged; no network is made or removed until it is mended: {problem}"
        ) from None


def _holder(entry: Entry) -> Holder:
    """Who holds an address; what cannot be read is held by nobody we know, and stays."""
    try:
        return _HOLDER.decode(entry.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Holder("", "an unreadable claim")


def _outline(claim: Claim) -> Network:
    """As much of a network as others must not collide with."""
    pools = tuple(Subnet(subnet=subnet) for subnet in claim.subnets)
    return Network(id=claim.id, name=claim.name, created="", driver="overlay", ipam=Ipam(config=pools))


def subnet_of(network: Network, address: str) -> str:
    """The pool an address is from."""
    return next(pool.subnet for pool in network.ipam.config if addresses.contains(pool.subnet, address))
