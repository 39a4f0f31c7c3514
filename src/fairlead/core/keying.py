"""Keying: how two hosts come to keys for the packets between them, and to new ones, without losing a packet.

One association carries one direction between two hosts. The sender asks, the receiver offers:

    A's row   asks  {B: (x,)}             x: half of a key, made by A for this one association
    B's row   offers {A: (x -> y, spi)}   y: the other half; B has what it takes in its kernel before it says so
    A                                     takes the offer, and sends with the newest that was offered

    x, y are X25519 halves: who reads the rows learns nothing.
    key = HKDF-SHA256(what both halves come to; A, B, x, y, spi)

    new keys:   A asks with x1 and x2 -> B offers for both -> A sends with x2 -> ``GRACE`` later asks with x2 only
                -> B takes what belongs to x1 out of its kernel

Rules
    1. B's associations for A are exactly what A asks for. So packets under the old key are
       accepted until A has said that there will be none.
    2. A half serves one association and is forgotten as soon as the key is made. An association that was
       lost (a reboot, a flush) is never made again: numbers would begin again under the same
       key, and AES-GCM is broken by that. Its half is dropped, and there is a new one.
    3. What was loaded after a restart (``load``) can be kept, if the kernel still has it, and nothing else.
       Its age is not known: there are new keys at once.
    4. While the other host is silent the old key stays in use, however old: traffic goes on.
    5. Time and dice are given.

What it does not do: touch the kernel or the store (``engine.encryption``).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import NamedTuple, Protocol

import msgspec

from fairlead.core.wanted import Association, Plan, Policy, Secret, Wanted
from fairlead.errors import Invalid

LIFETIME = 12 * 3600.0
"""Seconds a key is in use."""
GRACE = 10.0
"""Seconds after the change to a new key until the old one goes: far longer than a packet can be on its way."""
LONGEST = 8
"""Asks of one host to another that are believed; two are needed."""
FIRST_SPI, LAST_SPI = 0x1000, 0xFFFFFFFF
_HALF = re.compile("[0-9a-f]{64}")
_NODE = re.compile("[!-~]{1,128}")


class Peer(NamedTuple):
    """A host at its address. The same host at another address is another peer."""

    node: str
    vtep: str

    def __str__(self) -> str:
        return f"{self.node} {self.vtep}"


class Offer(msgspec.Struct, frozen=True):
    """What the receiver answers: which half it is an answer to, its own half, and the association's number."""

    ask: str
    half: str
    spi: int


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one host tells the others. ``asks`` and ``offers`` by peer (``str(Peer)``)."""

    node: str
    vtep: str
    begun: int = 0
    """when its engine started, Unix time: of two nodes at one address the later one is there"""
    asks: dict[str, tuple[str, ...]] = {}
    offers: dict[str, tuple[Offer, ...]] = {}

    @property
    def peer(self) -> Peer:
        return Peer(self.node, self.vtep)


_ROW = msgspec.json.Decoder(Row)


def read_row(key: str, value: bytes) -> Row:
    """A row of another host; ``Invalid`` when it makes no sense."""
    try:
        row = _ROW.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"{key}: {problem}") from None
    lists = [*row.asks.values(), *row.offers.values()]
    halves = [half for asks in row.asks.values() for half in asks]
    halves += [half for offers in row.offers.values() for offer in offers for half in (offer.ask, offer.half)]
    spis = [offer.spi for offers in row.offers.values() for offer in offers]
    for word, holds in (
        ("key", key == f"keys/{row.node}" and _NODE.fullmatch(row.node)),
        ("vtep", _is_address(row.vtep)),
        ("halves", all(len(each) <= LONGEST for each in lists) and all(map(_HALF.fullmatch, halves))),
        ("spi", all(FIRST_SPI <= spi <= LAST_SPI for spi in spis)),
    ):
        if not holds:
            raise Invalid(f"the cluster store's {key} makes no sense: its {word}")
    return row


def _is_address(text: str) -> bool:
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False


class Half(Protocol):
    """A fresh X25519 key: ``public`` is 64 hex digits; ``meet`` wants another's, ``Invalid`` if that is a bad one."""

    @property
    def public(self) -> str: ...

    def meet(self, other: str) -> bytes: ...


Fresh = dict[tuple[str, int], Secret]
"""Keys of associations that are to be made, by target and SPI."""


def derive(met: bytes, sender: Peer, receiver: Peer, offer: Offer) -> Secret:
    """The key (16 bytes) and salt (4) of one association: RFC 5869, one block."""
    words = ("fairlead overlay 1", str(sender), str(receiver), offer.ask, offer.half, str(offer.spi))
    extracted = hmac.digest(bytes(32), met, hashlib.sha256)
    return Secret(hmac.digest(extracted, "\n".join(words).encode() + b"\x01", hashlib.sha256)[:20])


class _Ask(msgspec.Struct):
    """One half of ours. ``half`` None: spent, or loaded. ``born``, ``used``: when; None: long ago, not yet."""

    public: str
    half: Half | None
    born: float | None
    offer: Offer | None = None
    used: float | None = None


class Keying:
    """One host's side towards all peers. ``me``: this host; ``port``: of encrypted frames; ``dice(n)``: below n."""

    def __init__(
        self,
        me: Peer,
        port: int,
        new_half: Callable[[], Half],
        dice: Callable[[int], int],
        lifetime: float = LIFETIME,
        begun: int = 0,
    ) -> None:
        self._me, self._port, self._begun = me, port, begun
        self._new_half, self._dice, self._lifetime = new_half, dice, lifetime
        self._asks: dict[Peer, list[_Ask]] = {}
        self._offers: dict[Peer, list[Offer]] = {}

    @property
    def row(self) -> Row:
        """What the others are to be told now."""
        return Row(
            node=self._me.node,
            vtep=self._me.vtep,
            begun=self._begun,
            asks={str(peer): tuple(ask.public for ask in asks) for peer, asks in self._asks.items() if asks},
            offers={str(peer): tuple(offers) for peer, offers in self._offers.items() if offers},
        )

    def load(self, own: Row, others: Mapping[Peer, Row]) -> None:
        """After a restart: what was told before, ``own``, and what the others had said."""
        if own.peer != self._me:
            return
        for peer, row in others.items():
            offered = {offer.ask: offer for offer in row.offers.get(str(self._me), ())}
            self._asks[peer] = [
                _Ask(public, None, None, offered[public]) for public in own.asks.get(str(peer), ()) if public in offered
            ]
            self._offers[peer] = list(own.offers.get(str(peer), ()))

    def step(self, peer: Peer, row: Row | None, now: float) -> Plan:
        """Do what is to be done about a peer now; ``row``: what it said last. What the kernel should have for it."""
        return self.plan(peer, {**self._receive(peer, row), **self._send(peer, row, now)})

    def forget(self, peer: Peer) -> None:
        """It shares no encrypted network with us any more."""
        self._asks.pop(peer, None)
        self._offers.pop(peer, None)

    def lose(self, association: Association) -> None:
        """The kernel does not have it (any more): there will be another one in its place."""
        here = association.target == self._me.vtep
        for peer in {*self._asks, *self._offers}:
            if peer.vtep != (association.source if here else association.target):
                continue
            if here:
                self._offers[peer] = [o for o in self._offers.get(peer, ()) if o.spi != association.spi]
            else:
                asks = self._asks.get(peer, ())
                self._asks[peer] = [a for a in asks if not (a.offer and a.offer.spi == association.spi)]

    def due(self) -> float | None:
        """When time alone makes the next step necessary."""
        found = []
        for asks in self._asks.values():
            newest = asks[-1] if asks else None
            if newest and newest.used is not None:
                found += [newest.used + GRACE] if len(asks) > 1 else []
                found += [newest.born + self._lifetime] if newest.born is not None else []
        return min(found, default=None)

    # -- both directions ------------------------------------------------------------------

    def _receive(self, peer: Peer, row: Row | None) -> Fresh:
        """Have an offer for each ask of theirs, and for nothing else; returns the keys of new ones."""
        asked = row.asks.get(str(self._me), ()) if row else ()
        offers = [offer for offer in self._offers.get(peer, ()) if offer.ask in asked]
        fresh: Fresh = {}
        for ask in dict.fromkeys(asked):
            if any(offer.ask == ask for offer in offers):
                continue
            half = self._new_half()
            offer = Offer(ask, half.public, FIRST_SPI + self._dice(LAST_SPI - FIRST_SPI + 1))
            with suppress(Invalid):
                fresh[self._me.vtep, offer.spi] = derive(half.meet(ask), peer, self._me, offer)
                offers.append(offer)
        self._offers[peer] = offers
        return fresh

    def _send(self, peer: Peer, row: Row | None, now: float) -> Fresh:
        """Take what is offered, drop what is not offered any more, ask anew when it is time; the keys of new ones."""
        offered = {offer.ask: offer for offer in row.offers.get(str(self._me), ())} if row else {}
        fresh: Fresh = {}
        asks = []
        for ask in self._asks.get(peer, ()):
            offer = offered.get(ask.public)
            if ask.offer is None and offer and ask.half:
                with suppress(Invalid):
                    fresh[peer.vtep, offer.spi] = derive(ask.half.meet(offer.half), self._me, peer, offer)
                    ask.half, ask.offer = None, offer
            if ask.offer == offer:
                asks.append(ask)
        in_use = next((ask for ask in reversed(asks) if ask.offer), None)
        if in_use is not None and in_use.used is None:
            in_use.used = now
        if in_use is not None and in_use.used is not None and now >= in_use.used + GRACE:
            asks = asks[asks.index(in_use) :]
        newest = asks[-1] if asks else None
        if newest is None or (newest.offer and (newest.born is None or now >= newest.born + self._lifetime)):
            half = self._new_half()
            asks.append(_Ask(half.public, half, now))
        self._asks[peer] = asks
        return fresh

    # -- what the kernel should have --------------------------------------------------------

    def plan(self, peer: Peer, fresh: Mapping[tuple[str, int], Secret] = {}) -> Plan:
        """Associations and policies towards one peer; ``fresh``: keys of those that are to be made."""
        return tuple(self._plan(peer, fresh))

    def _plan(self, peer: Peer, fresh: Mapping[tuple[str, int], Secret]) -> Iterator[Wanted]:
        offers = self._offers.get(peer, ())
        taken = [ask.offer for ask in self._asks.get(peer, ()) if ask.offer]
        ways = [(offer, peer.vtep, self._me.vtep, "what it sends here") for offer in offers]
        ways += [(offer, self._me.vtep, peer.vtep, "what is sent there") for offer in taken]
        for offer, source, target, why in ways:
            secret = fresh.get((target, offer.spi), Secret())
            yield Association(source=source, target=target, spi=offer.spi, port=self._port, secret=secret, why=why)
        us, them = _prefix(self._me.vtep), _prefix(peer.vtep)
        if offers:
            why = "accepted when it was encrypted"
            yield Policy(way="in", source=them, target=us, port=self._port, need="any", why=why)
        if taken:
            need, why = str(taken[-1].spi), "encrypted with the newest key both have"
            yield Policy(way="out", source=us, target=them, port=self._port, need=need, why=why)


def guard(vtep: str, port: int) -> Plan:
    """What keeps everything else from that port, both ways, as long as there is an encrypted network here."""
    everybody = "::/0" if ":" in vtep else "0.0.0.0/0"
    why = "nothing clear comes or goes"
    return tuple(
        Policy(way=way, source=everybody, target=everybody, port=port, need="nothing", why=why) for way in ("in", "out")
    )


def _prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"
