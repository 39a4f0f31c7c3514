"""Rows: what nodes tell each other about a network, as values, bytes, and ranges of them.

    Row     network, table, key, owner, time, value (None: deleted), signature
    Range   all rows of a network whose places lie between two marks: how many, and a fingerprint

A row is its owner's alone: (network, table, key, owner) names it, the owner's Lamport time orders its
versions, the owner's signature, where nodes have keys, covers all of them. Two nodes that use one key
have two rows.

A row's *place* is a hash of its name, its *print* a hash of everything: rows in order of their places
make any two nodes cut a network into the same ranges, and the prints, xor-ed, tell whether they agree.

Rules
    1. Reading raises nothing but ``Malformed``. Every field is bounded; an encoded row is at most
       ``LARGEST_ROW`` bytes and fits a datagram.
    2. A message is at most ``ROOM`` bytes and holds at most ``MOST_RANGES`` ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from fairlead.core.packing import Malformed, Reader, pack
from fairlead.errors import Invalid

MARK = 0xFA
"""First byte of our user messages; serf's own are below 10."""
ROOM = 1250
"""What fits a packet with every wrapping."""
LARGEST_ROW = 1200
MOST_RANGES = 32
LAST_PLACE = (1 << 64) - 1
LATEST = 1 << 62


class Row(msgspec.Struct, frozen=True, dict=True):
    """One version of one row. ``value`` None: deleted."""

    network: str
    table: str
    key: str
    owner: str
    time: int
    value: bytes | None
    signature: bytes = b""

    @property
    def name(self) -> tuple[str, str, str]:
        """What tells it from the other rows of its network."""
        return self.table, self.key, self.owner

    @cached_property
    def signed(self) -> bytes:
        """What the signature covers: all of it."""
        return pack([self.network, self.table, self.key, self.owner, self.time, self.value])

    @cached_property
    def place(self) -> int:
        """Where it stands among its network's rows, the same in every version."""
        return _hash(pack([self.table, self.key, self.owner]))

    @cached_property
    def print(self) -> int:
        """A fingerprint of this version."""
        return _hash(self.signed)


class Range(NamedTuple):
    """A stretch of a network's rows. ``last``: answer with rows only, we are at the end of comparing."""

    network: str
    first: int
    final: int
    print: int
    size: int
    last: bool


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def encode_row(row: Row, left: float) -> bytes:
    """A row for the road; ``left``: seconds that a deleted one is still to be remembered."""
    fields = [row.network, row.table, row.key, row.owner, row.time, row.value, row.signature, int(left)]
    encoded = pack(fields)
    if len(encoded) > LARGEST_ROW:
        raise Invalid(f"{row.table} {row.key} takes {len(encoded)} bytes of gossip: at most {LARGEST_ROW}")
    return encoded


def encode_range(what: Range) -> bytes:
    """A range for the road."""
    return pack(list(what))


class Contents(NamedTuple):
    """A message. ``compared``: it belongs to a comparison; else it is gossip, to be told on."""

    compared: bool
    rows: list[tuple[Row, float]]
    """with the seconds left of deleted ones"""
    ranges: list[Range]


def messages(rows: Iterable[bytes], ranges: Iterable[bytes] = (), compared: bool = False) -> Iterator[bytes]:
    """Encoded rows and ranges as messages; the ranges behind all of the rows."""
    held: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    for at, part in [(0, row) for row in rows] + [(1, a_range) for a_range in ranges]:
        if size + len(part) > ROOM - 8 or len(held[1]) == MOST_RANGES:
            yield _message(*held, compared)
            held, size = ([], []), 0
        held[at].append(part)
        size += len(part)
    if size:
        yield _message(*held, compared)


def _message(rows: Sequence[bytes], ranges: Sequence[bytes], compared: bool) -> bytes:
    return bytes((MARK, compared)) + _array(rows) + _array(ranges)


def _array(parts: Sequence[bytes]) -> bytes:
    return b"\xdc" + len(parts).to_bytes(2, "big") + b"".join(parts)


def decode(data: bytes) -> Contents:
    """What a message holds."""
    if len(data) < 2 or data[0] != MARK:
        raise Malformed("no message of our tables")
    reader = Reader(data, 2)
    rows, ranges = reader.value(), reader.value()
    if not isinstance(rows, list) or not isinstance(ranges, list) or len(ranges) > MOST_RANGES:
        raise Malformed("rows, then ranges")
    return Contents(data[1] == 1, [_row(fields) for fields in rows], [_range(fields) for fields in ranges])


def _row(fields: Any) -> tuple[Row, float]:
    if not isinstance(fields, list) or len(fields) != 8:
        raise Malformed("a row has eight fields")
    network, table, key, owner = (_text(field) for field in fields[:4])
    time, value, signature, left = fields[4:]
    if not isinstance(value, bytes | None) or not isinstance(signature, bytes):
        raise Malformed("a row's value and signature are bytes")
    row = Row(network, table, key, owner, _count(time, LATEST), value, signature)
    if len(row.signed) + len(signature) > LARGEST_ROW or not (table and key and owner):
        raise Malformed("a row too large, or without a name")
    return row, _count(left, 1 << 32)


def _range(fields: Any) -> Range:
    if not isinstance(fields, list) or len(fields) != 6:
        raise Malformed("a range has six fields")
    first, final, mark = (_count(field, LAST_PLACE) for field in fields[1:4])
    return Range(_text(fields[0]), first, final, mark, _count(fields[4], 1 << 32), fields[5] is True)


def _text(field: Any) -> str:
    if not isinstance(field, bytes) or len(field) > 255:
        raise Malformed("a name is text of at most 255 bytes")
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise Malformed("a name is text") from None


def _count(field: Any, most: int) -> int:
    if not isinstance(field, int) or isinstance(field, bool) or not 0 <= field <= most:
        raise Malformed("not a number we can use")
    return field
