"""Set elements as the kernel is told them: many in one message, all of a transaction in one send.

    layouts   "map published4 { type inet_proto . inet_service : ipv4_addr . inet_service }" -> how to spell it
    change    begin; new elements of a, of b …; end                    one system call, all or nothing

A thousand elements cost libnftables thirteen milliseconds: a text is written, parsed,
checked against the sets of the table, and turned into these very bytes. Where the
skeleton declares a set by plain types (``type``, no intervals), the bytes can be
written at once. Everything else is not for here: ``change`` says ``None``, and
``host.nft`` takes the long way, which also finds the words when something is refused.

Rules
    1. A word that is not exactly of its type is never guessed at: ``None``.
    2. An element that is there already, or gone already, refuses the whole transaction.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from struct import pack

from msgspec.structs import replace

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Element
from fairlead.host.netlink import ACK, CREATE, EXCL, NESTED, Request, nested, text

_BEGIN, _END = 16, 17
_NEW, _DELETE = (10 << 8) | 12, (10 << 8) | 14
_INET, _NFTABLES = 1, 10
_HEADER = pack("=BBH", _INET, 0, 0)
_BATCH = pack("=BB", 0, 0) + pack(">H", _NFTABLES)
_CHUNK = 500
"""Elements in one message: a list of them is an attribute, which has room for 64 KiB."""
_DECLARED = pattern(r"^\s*(?:set|map) (\w+) \{([^}]*)\}", re.MULTILINE)
_TYPES = pattern(r"^\s*type ([^;:\n]+)(?: : ([^;\n]+))?$", re.MULTILINE)

Words = tuple[Callable[[str], bytes], ...]
Layout = tuple[Words, Words]
"""how to spell the fields of an element's key and of its value (none: it is a set)"""


def layouts(skeleton: str) -> dict[str, Layout]:
    """The sets and maps of a skeleton whose elements can be spelled here, by name."""
    found = {}
    for name, body in _DECLARED.findall(skeleton):
        types = _TYPES.search(body.replace(";", "\n"))
        if types is None or "flags" in body:
            continue
        key, value = (words.strip().split(" . ") if words else [] for words in types.groups())
        # Only a concatenation pads its fields.
        if len(key) > 1 and len(value) != 1 and all(word in _SPELLERS for word in (*key, *value)):
            found[name] = tuple(_SPELLERS[word] for word in key), tuple(_SPELLERS[word] for word in value)
    return found


def change(
    table: str, layouts: Mapping[str, Layout], elements: Sequence[Element], *, delete: bool = False
) -> list[Request] | None:
    """The messages of one transaction that makes (or deletes) these elements; None when one of them has no spelling."""
    kind, flags = (_DELETE, 0) if delete else (_NEW, CREATE | EXCL)
    by_map: dict[str, list[Element]] = {}
    for item in elements:
        by_map.setdefault(item.map, []).append(item)
    if not by_map or not by_map.keys() <= layouts.keys():
        return None
    requests = [Request(_BEGIN, 0, _BATCH)]
    try:
        for name, items in by_map.items():
            spelled = _elements(layouts[name], items, delete)
            head = _HEADER + text(1, table) + text(2, name)
            for start in range(0, len(spelled), _CHUNK):
                requests.append(Request(kind, flags, head + nested(3, *spelled[start : start + _CHUNK])))
    except (ValueError, KeyError, OSError):
        return None
    requests[-1] = replace(requests[-1], flags=flags | ACK)
    return [*requests, Request(_END, 0, _BATCH)]


def _elements(layout: Layout, items: Iterable[Element], delete: bool) -> list[bytes]:
    (key_of, value_of), has_value, lengths, found = map(_speller, layout), bool(layout[1]), (-1, -1), []
    for item in items:
        key = key_of(item.item)
        value = value_of(item.value) if not delete and (has_value or item.value) else b""
        if (len(key), len(value)) != lengths:
            lengths = len(key), len(value)
            before, between = _frame(*lengths)
        found.append(before + key + between + value)
    return found


@lru_cache(maxsize=64)
def _frame(key: int, value: int) -> tuple[bytes, bytes]:
    """What stands before the bytes of a key, and between them and those of the value, if there is one.

    An element (1) is a list of its key (1) and value (2), each a list of one attribute, the data (1). Words are padded,
    so no attribute needs padding.
    """
    first, second = pack("=HHHH", 8 + key, 1 | NESTED, 4 + key, 1), pack("=HHHH", 8 + value, 2 | NESTED, 4 + value, 1)
    second = second if value else b""
    return pack("=HH", 4 + len(first) + key + len(second) + value, 1 | NESTED) + first, second


@lru_cache(maxsize=64)
def _speller(spellers: Words) -> Callable[[str], bytes]:
    """For the words of a key, or of a value. What is made is removed one day, and often made again."""

    @lru_cache(maxsize=4096)
    def spelled(words: str) -> bytes:
        return b"".join([spell(word) for spell, word in zip(spellers, words.split(" . "), strict=True)])

    return spelled


# -- a word of each type, padded as within a concatenation ----------------------------------


@lru_cache(maxsize=4096)
def _ipv4(word: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, word)


@lru_cache(maxsize=4096)
def _ipv6(word: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, word)


@lru_cache(maxsize=4096)
def _device(word: str) -> bytes:
    name = word.strip('"').encode()
    if not 0 < len(name) < 16 or name.endswith(b"*"):
        raise ValueError(word)
    return name.ljust(16, b"\0")


def _service(word: str) -> bytes:
    if not (word.isascii() and word.isdecimal() and int(word) < 65536):
        raise ValueError(word)
    return pack(">HH", int(word), 0)


_PROTOCOLS = {name: pack("B3x", number) for name, number in (("tcp", 6), ("udp", 17), ("sctp", 132))}
_SPELLERS: dict[str, Callable[[str], bytes]] = {
    "inet_proto": _PROTOCOLS.__getitem__,
    "inet_service": _service,
    "ipv4_addr": _ipv4,
    "ipv6_addr": _ipv6,
    "ifname": _device,
}
