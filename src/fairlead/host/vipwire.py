"""Virtual addresses as the kernel is told them: the chain of each and what leads there, in one send, without words.

    changed    chain, its rules flushed, a map of places, the rule that draws one, two elements       per address
    removed    the elements, the rule, the chain

libnftables reads the names of all sets of a table before it changes one, so one of a thousand addresses costs it five
milliseconds; this costs the same with one and with a thousand. The bytes are those that libnftables makes of the text
of ``host.vips``, for the table as that declares it: who finds that it does not stand so takes the text.

What it does not do: make the table, or look at it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from struct import pack

from msgspec.structs import replace

from fairlead.core.wanted import Vip
from fairlead.host import turns
from fairlead.host.netlink import ACK, APPEND, CREATE, Request, attribute, nested, text

BEGIN, END = 16, 17
NEW_CHAIN, DEL_CHAIN, NEW_RULE, DEL_RULE, NEW_SET, NEW_ELEMENTS, DEL_ELEMENTS = (
    (10 << 8) | number for number in (3, 5, 6, 8, 9, 12, 14)
)
_INET = pack("=BBH", 1, 0, 0)
_BATCH = pack("=BB", 0, 0) + pack(">H", 10)
_NAME = "fairlead-vips"
_TABLE = text(1, _NAME)
_ANY_MAP = "__map%d"
"""the kernel puts a number there"""
_ANONYMOUS_MAP = 0x1 | 0x2 | 0x8
_NUMBER, _TYPES = 4, {4: 7, 6: 8}
"""data types, as nft lists them: a number, an address"""
_HOST_ORDER = bytes([0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0, 6, 4, 0, 0, 0, 0])
"""and that its keys are numbers in the machine's order, addresses in the wire's"""
_GOTO = -4
_CHUNK = 500
"""elements in one message: a list is an attribute, which has room for 64 KiB"""


def chain(vip: Vip) -> str:
    """Name of its chain."""
    return f"vip-{ipaddress.ip_address(vip.address)}".replace(":", "_")


def changed(vips: Sequence[Vip]) -> list[Request]:
    """One transaction that makes them, or makes them so; raises ``Invalid`` for a weight below 1."""
    ids = count(1)
    return _transaction(request for vip in vips for request in _changed(vip, ids))


def removed(vips: Sequence[Vip]) -> list[Request]:
    """One transaction that removes them; refused as a whole when something is gone already."""
    return _transaction(request for vip in vips for request in _removed(vip))


def _transaction(requests: Iterable[Request]) -> list[Request]:
    *first, last = requests
    return [Request(BEGIN, 0, _BATCH), *first, replace(last, flags=last.flags | ACK), Request(END, 0, _BATCH)]


def _changed(vip: Vip, ids: Iterator[int]) -> Iterator[Request]:
    name = chain(vip)
    yield Request(NEW_CHAIN, CREATE, _INET + _TABLE + text(3, name))
    yield Request(DEL_RULE, 0, _INET + _TABLE + text(2, name))
    places = [ipaddress.ip_address(address).packed for address in turns.places(vip.targets)]
    if len(places) > 1:
        yield from _map(places, id := next(ids))
        yield _rule(vip, [*_draws(vip, len(places)), _looks_up(id)])
    elif places:
        yield _rule(vip, [_expression("immediate", _be(1, 1), nested(2, attribute(1, places[0])))])
    yield from _elements(vip, NEW_ELEMENTS)


def _removed(vip: Vip) -> Iterator[Request]:
    name = chain(vip)
    yield from _elements(vip, DEL_ELEMENTS)
    yield Request(DEL_RULE, 0, _INET + _TABLE + text(2, name))
    yield Request(DEL_CHAIN, 0, _INET + _TABLE + text(3, name))


def _elements(vip: Vip, kind: int) -> Iterator[Request]:
    """That its chain is asked for the address, and that what is not led on is refused."""
    address = ipaddress.ip_address(vip.address)
    new = kind == NEW_ELEMENTS
    key = nested(1, attribute(1, address.packed))
    leads = nested(2, nested(2, attribute(1, pack(">i", _GOTO)), text(2, chain(vip)))) if new else b""
    for name, element in ((f"choose{address.version}", key + leads), (f"refuse{address.version}", key)):
        body = _INET + _TABLE + text(2, name) + nested(3, nested(1, element))
        yield Request(kind, CREATE if new else 0, body)


def _map(places: Sequence[bytes], id: int) -> Iterator[Request]:
    """Number -> place, for one rule."""
    size = len(places[0])
    kind = _TYPES[6 if size == 16 else 4]
    body = _be(3, _ANONYMOUS_MAP) + _be(4, _NUMBER) + _be(5, 4) + _be(6, kind) + _be(7, size) + _be(10, id)
    more = nested(9, _be(1, len(places))) + attribute(13, _HOST_ORDER)
    yield Request(NEW_SET, CREATE, _INET + _TABLE + text(2, _ANY_MAP) + body + more)
    pairs = [
        nested(1, nested(1, attribute(1, pack("=I", number))), nested(2, attribute(1, place)))
        for number, place in enumerate(places)
    ]
    for start in range(0, len(pairs), _CHUNK):
        some = nested(3, *pairs[start : start + _CHUNK])
        yield Request(NEW_ELEMENTS, CREATE, _INET + _TABLE + text(2, _ANY_MAP) + _be(4, id) + some)


def _rule(vip: Vip, chosen: Sequence[bytes]) -> Request:
    """What is in the first register now is where it goes."""
    family = 10 if ":" in vip.address else 2
    nat = _expression("nat", _be(1, 1), _be(2, family), _be(3, 1))
    body = _INET + _TABLE + text(2, chain(vip)) + nested(4, *chosen, nat)
    return Request(NEW_RULE, CREATE | APPEND, body)


def _draws(vip: Vip, places: int) -> Iterator[bytes]:
    """Which place: a number in the first register."""
    if vip.policy != "source":
        random = 0 if vip.policy == "round-robin" else 1
        yield _expression("numgen", _be(1, 1), _be(2, places), _be(3, random), _be(4, 0))
        return
    six = ":" in vip.address
    offset, size = (8, 16) if six else (12, 4)
    yield _expression("meta", _be(2, 15), _be(1, 1))
    yield _expression("cmp", _be(1, 1), _be(2, 0), nested(3, attribute(1, bytes([10 if six else 2]))))
    yield _expression("payload", _be(1, 2), _be(2, 1), _be(3, offset), _be(4, size))
    yield _expression(
        "hash", _be(1, 2), _be(2, 1), _be(3, size), _be(4, places), _be(5, turns.SEED), _be(6, 0), _be(7, 0)
    )


def _looks_up(id: int) -> bytes:
    return _expression("lookup", _be(2, 1), _be(3, 1), text(1, _ANY_MAP), _be(4, id))


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *fields))


def _be(kind: int, value: int) -> bytes:
    """A number in the order of the wire."""
    return pack("=HH", 8, kind) + pack(">I", value)
