"""Short cuts: who connects to a service's address is connected to one of its tasks, and no packet is turned.

    connect(10.0.1.2) --(netns, 10.0.1.2)--> 3 places, by chance --> connect(10.0.1.5)     the socket keeps: 10.0.1.2
    getpeername()     <-------------------------------------------------------------------- 10.0.1.2

The kernel asks our programs (BPF) when a process connects a socket over TCP, and when it asks whom to. What they know
is a map: (cookie of a network namespace, address) -> the places of ``host.turns``. Here is what they are, and how the
map's keys and values are written.

Rules
    1. An address is 16 bytes; one of IPv4 as sockets of IPv6 write it (::ffff:10.0.1.2), so that either kind finds it.
    2. What is not in the map is left alone: the table in the sandbox is asked, as for all that is not TCP.
    3. Whose turn it is by the sender's address is not known yet at ``connect()``: that, what has nobody to go to, and
       more places than ``PLACES`` do not go into the map.

What it does not do: load anything (``host.shortcuts``).

Source: linux/bpf.h, struct bpf_sock_addr; Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterator, Sequence

from fairlead.core import bpf
from fairlead.core.bpf import Label, Line

PLACES = 60
KEY_SIZE, VALUE_SIZE, NOTE_SIZE = 24, 16 + 16 * PLACES, 32
"""of the map; and of what a socket keeps: the address it was connected to, and whom it got"""
_COUNT, _IN_TURN, _TURN, _FIRST = 0, 4, 8, 16
"""offsets in a value"""
_WORDS = {4: ((12, 4),), 6: ((0, 8), (4, 12), (8, 16), (12, 20))}
"""family -> which words of an address the kernel tells, and where in struct bpf_sock_addr"""
_PROTOCOL, _SOCKET, _TCP = 36, 64, 6
_IN_SIX = int.from_bytes(b"\0\0\xff\xff", sys.byteorder)
"""what stands before an address of IPv4 in one of IPv6"""
_ELEMENT, _CHANCE, _STORAGE, _NAMESPACE = 1, 7, 107, 122
"""helpers: bpf_map_lookup_elem, bpf_get_prandom_u32, bpf_sk_storage_get, bpf_get_netns_cookie"""
_GO_ON = 1
TYPES = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 40, 40, 3) + b"".join(
    (
        struct.pack("=IIII", 1, 1 << 24, 4, 32),
        struct.pack("=IIIIII", 0, 3 << 24, 0, 1, 1, NOTE_SIZE // 4),
        b"\0u\0",
    )
)
"""what the kernel insists to be told (BTF) of what sockets keep: 1 is a number, the key; 2 is eight of them"""
NUMBER, NOTE = 1, 2


def key(namespace: int, address: str) -> bytes:
    """``namespace``: its cookie."""
    return struct.pack("=Q", namespace) + _packed(address)


def value(places: Sequence[str], policy: str) -> bytes | None:
    """None: the table has to decide."""
    if not 0 < len(places) <= PLACES or policy == "source":
        return None
    return struct.pack("=IIII", len(places), policy == "round-robin", 0, 0) + b"".join(
        _packed(place) for place in places
    ).ljust(VALUE_SIZE - _FIRST, b"\0")


def _packed(address: str) -> bytes:
    found = ipaddress.ip_address(address)
    return found.packed if found.version == 6 else bytes(10) + b"\xff\xff" + found.packed


def connecting(family: int, addresses: int, notes: int) -> bytes:
    """The program at ``connect()``; the descriptors of both maps."""
    as_it_is = "as it is"
    return bpf.assemble(
        bpf.copy(6, 1),
        bpf.load(2, 6, _PROTOCOL),
        bpf.unless(2, _TCP, as_it_is),
        bpf.call(_NAMESPACE),
        bpf.store_long(10, -24, 0),
        *_called(family),
        bpf.map_at(1, addresses),
        bpf.copy(2, 10),
        bpf.add(2, -24),
        bpf.call(_ELEMENT),
        bpf.null(0, as_it_is),
        bpf.copy(8, 0),
        *_draw(as_it_is),
        *_note(notes, create=True),
        bpf.null(0, as_it_is),
        *(line for at in range(0, 16, 4) for line in (bpf.load(1, 10, at - 16), bpf.store(0, at, 1))),
        *(line for at in range(0, 16, 4) for line in (bpf.load(1, 8, at + _FIRST), bpf.store(0, at + 16, 1))),
        *(line for at, there in _WORDS[family] for line in (bpf.load(1, 8, at + _FIRST), bpf.store(6, there, 1))),
        bpf.label(as_it_is),
        bpf.number(0, _GO_ON),
        bpf.leave(),
    )


def naming(family: int, notes: int) -> bytes:
    """The program at ``getpeername()``: who is connected to whom it was led to, sees whom it called."""
    as_it_is = "as it is"
    return bpf.assemble(
        bpf.copy(6, 1),
        *_note(notes, create=False),
        bpf.null(0, as_it_is),
        *(
            line
            for at, there in _WORDS[family]
            for line in (bpf.load(1, 0, at + 16), bpf.load(2, 6, there), bpf.unlike(1, 2, as_it_is))
        ),
        *(line for at, there in _WORDS[family] for line in (bpf.load(1, 0, at), bpf.store(6, there, 1))),
        bpf.label(as_it_is),
        bpf.number(0, _GO_ON),
        bpf.leave(),
    )


def _called(family: int) -> Iterator[Line]:
    """The address, into the last 16 bytes of the stack."""
    if family == 4:
        yield from (bpf.store_number(10, -16, 0), bpf.store_number(10, -12, 0))
        yield bpf.store_number(10, -8, _IN_SIX)
    for at, there in _WORDS[family]:
        yield from (bpf.load(1, 6, there), bpf.store(10, at - 16, 1))


def _draw(as_it_is: str) -> Iterator[Line | Label]:
    """r8, a value of the map, becomes what lies so far before the place that is drawn as the first place in it."""
    yield bpf.load(1, 8, _IN_TURN)
    yield bpf.when(1, 0, "by chance")
    yield bpf.number(0, 1)
    yield bpf.count_up(8, _TURN, 0)
    yield bpf.jump("drawn")
    yield bpf.label("by chance")
    yield bpf.call(_CHANCE)
    yield bpf.label("drawn")
    yield bpf.load(1, 8, _COUNT)
    yield bpf.remainder(0, 1)
    yield bpf.at_least(0, PLACES, as_it_is)
    yield bpf.shift_left(0, 4)
    yield bpf.plus(8, 0)


def _note(notes: int, create: bool) -> Iterator[Line]:
    """r0 = what the socket keeps."""
    yield bpf.map_at(1, notes)
    yield bpf.load_long(2, 6, _SOCKET)
    yield bpf.number(3, 0)
    yield bpf.number(4, int(create))
    yield bpf.call(_STORAGE)
