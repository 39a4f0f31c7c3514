"""Effects: everything the world must now do, as one value.

A protocol machine takes one input (a message, a stroke of the clock, a wish) and returns
``Effects``. The shell carries them out in this order: *send, then tell, then sleep until
``wake_at``* or the next input. Nothing is done by the machine itself, so a machine runs as
well in virtual time, ten thousand in one process, as on a real network.

    Datagram    bytes for one address, may get lost
    Call        a stream: connect, write, read one answer, hand it back with the ticket
    tell        facts for whoever listens; each machine says in its own module which

There is no ``store`` among them: a machine of ours that forgets is told again by the others
(see ``core.swim``, rule 5, and ``core.tables``, rule 4).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple, Protocol

from fairlead.core.written import joined
from fairlead.errors import Invalid

NEVER = float("inf")


class Address(NamedTuple):
    """Where a node listens, datagrams and streams alike."""

    ip: str
    port: int

    def __str__(self) -> str:
        return joined(self.ip, self.port)


class Datagram(NamedTuple):
    """Bytes for one address; nobody hears whether they came."""

    to: Address
    data: bytes


class Call(NamedTuple):
    """One question and one answer over a stream.

    The shell hands the answer in with ``answered(ticket, ...)``, or None when there was none within ``timeout``
    seconds. A ticket of 0 wants no answer: write and close."""

    to: Address
    data: bytes
    ticket: int
    timeout: float


class Effects(NamedTuple):
    """What follows from one input. ``wake_at``: when to call ``wake`` at the latest, in the seconds of ``now``."""

    send: tuple[Datagram | Call, ...] = ()
    tell: tuple[object, ...] = ()
    wake_at: float = NEVER


class Dice(Protocol):
    """Chance, given to a machine when it is made (``random.Random`` is one)."""

    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...

    def getrandbits(self, bits: int, /) -> int: ...


@lru_cache(4096)
def packed(ip: str) -> bytes:
    """An IP address as 4 or 16 bytes; ``Invalid`` when it is none."""
    try:
        return ipaddress.ip_address(ip).packed
    except ValueError as error:
        raise Invalid(str(error)) from None


@lru_cache(4096)
def unpacked(data: bytes) -> str:
    """The text of 4 or 16 bytes; an IPv4 address in IPv6 clothes is shown as IPv4. ``Invalid`` for other lengths."""
    if len(data) not in (4, 16):
        raise Invalid(f"an IP address has 4 or 16 bytes, not {len(data)}")
    address = ipaddress.ip_address(data)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
