"""The beacon: nodes that lost sight of their managers, because those are elsewhere now, find them again.

    here    a manager: "I am at this address"     to every place where it knew a node, and to everybody on its networks
    seek    a node that finds no manager          to the same; managers answer "here"

    UDP, the port of the gate:   certificate chain, what is said, signature of that with the certificate's key

Rules
    1. Only managers that this node was told of are believed, about themselves alone, and nothing that is not newer
       than what they said last. Whoever they are not, they do not become: it is an address to try, TLS says who is
       there.
    2. It is spoken when it is needed: after a move, and while there is no majority, or no manager.
    3. A stranger costs little: signatures are checked of this swarm's certificates only, ``MOST`` in a second.

What it does not do: reach nodes that were not known and are on no network of ours. (All managers moved behind another
router, nobody stayed: then somebody has to say where one of them is.)
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fairlead.core import nodeaddresses
from fairlead.errors import Invalid
from fairlead.swarm import ca, gate
from fairlead.swarm.ca import Identity
from fairlead.swarm.credentials import Credentials, each

log = logging.getLogger(__name__)

HERE, SEEK = "here", "seek"
MOST = 20


class Said(msgspec.Struct, frozen=True, array_like=True):
    """``at``: nanoseconds since 1970, by the clock of who says it."""

    kind: str
    address: str
    at: int


class Word(msgspec.Struct, frozen=True, array_like=True):
    """``chain``: DER, the node's own first. ``said``: a ``Said``."""

    chain: tuple[bytes, ...]
    said: bytes
    signature: bytes


Heard = Callable[[str, Identity, str, tuple[str, int]], None]
"""(kind, who, its address, where it came from)"""


class Beacon(asyncio.DatagramProtocol):
    """``here``: (device, "192.0.2.1/24") of this machine; ``clock``: nanoseconds since 1970."""

    def __init__(
        self,
        credentials: Credentials,
        here: Callable[[], Iterable[tuple[str, str]]],
        clock: Callable[[], int],
        heard: Heard,
    ) -> None:
        self._credentials, self._here, self._clock, self._heard = credentials, here, clock, heard
        self._transport: asyncio.DatagramTransport | None = None
        self._last: dict[str, int] = {}
        self._second, self._checked = 0, 0

    async def run(self) -> None:
        """Until cancelled. Where the port cannot be had, it goes without."""
        host, port = gate.parted(self._credentials.notes.listen)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, (host, port), allow_broadcast=True)
        except OSError as error:
            log.warning("managers that move cannot tell this node: UDP port %s: %s", port, error.strerror)
            return
        try:
            await asyncio.Event().wait()
        finally:
            transport.close()
            self._transport = None

    # -- saying ------------------------------------------------------------------------------------------------------

    def say(self, kind: str, address: str, places: Iterable[str] = ()) -> None:
        """To these (``host:port``), and to everybody on our networks."""
        word = self._signed(Said(kind, address, self._clock()))
        port = gate.parted(self._credentials.notes.listen)[1]
        for to in {*map(gate.parted, places), *((everybody, port) for everybody in self._networks())}:
            self._send(word, to)

    def answer(self, address: str, to: tuple[str, int]) -> None:
        """Here, to one who seeks."""
        self._send(self._signed(Said(HERE, address, self._clock())), to)

    def _send(self, word: bytes, to: tuple[str, int]) -> None:
        if self._transport is not None:
            with suppress(OSError, ValueError):
                self._transport.sendto(word, to)

    def _networks(self) -> list[str]:
        """Addresses that mean everybody."""
        found = []
        for device, text in self._here():
            one = ipaddress.ip_interface(text)
            if one.version == 4 and one.network.prefixlen < 31 and not one.ip.is_loopback:
                found += [str(one.network.broadcast_address)] * (not device.startswith(nodeaddresses.OURS))
        return found

    def _signed(self, said: Said) -> bytes:
        text = msgspec.msgpack.encode(said)
        links = [ca.load(link.encode()) for link in each(self._credentials.notes.certificate)]
        chain = tuple(link.public_bytes(Encoding.DER) for link in links)
        return msgspec.msgpack.encode(Word(chain, text, self._credentials.sign(text)))

    # -- hearing -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def error_received(self, error: Exception) -> None:
        log.debug("a word did not arrive: %s", error)

    def datagram_received(self, data: bytes, sender: Any) -> None:
        try:
            who, said = self._checked_word(data)
        except (msgspec.MsgspecError, ValueError, TypeError, IndexError, InvalidSignature, Invalid) as error:
            log.debug("what %s said counts for nothing: %s", sender[0], error)
            return
        if said.at <= self._last.get(who.node, 0):
            return
        self._last[who.node] = said.at
        self._heard(said.kind, who, said.address, (str(sender[0]), int(sender[1])))

    def _checked_word(self, data: bytes) -> tuple[Identity, Said]:
        word = msgspec.msgpack.decode(data, type=Word)
        links = [x509.load_der_x509_certificate(link) for link in word.chain[:2]]
        who, ours = ca.identity(links[0]), self._credentials.identity
        if who.cluster != ours.cluster or who.node == ours.node:
            raise Invalid("it is not of this swarm, or our own")
        second = self._clock() // 1_000_000_000
        self._second, self._checked = second, self._checked + 1 if second == self._second else 1
        if self._checked > MOST:
            raise Invalid("too much is said in one second")
        key = links[0].public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Invalid("keys of that kind are not used here")
        key.verify(word.signature, word.said, ec.ECDSA(hashes.SHA256()))
        roots = [root.encode() for root in each(self._credentials.notes.roots)]
        now = datetime.datetime.fromtimestamp(self._clock() / 1e9, datetime.UTC)
        if not ca.trusted(b"".join(map(ca.pem, links)), roots, now):
            raise Invalid("its certificate is not believed")
        said = msgspec.msgpack.decode(word.said, type=Said)
        gate.parted(said.address)
        return who, said
