"""MessagePack as HashiCorp's agents speak it, for input that nobody vouches for.

    pack(value)  -> bytes             numbers, floats, bool, None, str, bytes, lists, dicts
    Reader(data) .value()             the next value; ``Short`` when the bytes end too early

Why our own and not msgspec's: those agents speak the format of before 2013, where text and bytes are
one type ("raw"). A modern decoder takes an IP address in raw for text and stumbles over it, a modern
encoder writes types that an old agent does not know.

Rules
    1. Raw, text and binary are read as ``bytes``; whoever wants text decodes it and says so.
    2. Whatever the bytes say, reading costs no more than their length, and depth is at most ``DEEPEST``.
    3. Nothing but ``Malformed`` (``Short`` is one) comes out of here.
    4. Written is what the oldest reader knows: raw for text and bytes, the smallest integer type.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from fairlead.errors import Invalid

DEEPEST = 8
"""Deepest nesting that any message of the protocol has is 3."""


class Malformed(Invalid):
    """These bytes are no message we can use."""


class Short(Malformed):
    """The bytes end in the middle of a value: more may come."""


_NUMBERS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_DOUBLE = _NUMBERS[0xCB]
_LENGTHS = {
    0xC4: (1, "raw"),
    0xC5: (2, "raw"),
    0xC6: (4, "raw"),
    0xD9: (1, "raw"),
    0xDA: (2, "raw"),
    0xDB: (4, "raw"),
    0xDC: (2, "list"),
    0xDD: (4, "list"),
    0xDE: (2, "dict"),
    0xDF: (4, "dict"),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class Reader:
    """Values out of bytes, one after the other. ``at`` is where the next one begins."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def value(self, depth: int = DEEPEST) -> Any:
        """The next value. On ``Short`` the reader stands where it stood."""
        start = self.at
        try:
            return self._value(depth)
        except Malformed:
            self.at = start
            raise

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes as they are."""
        if self.at + count > len(self.data):
            raise Short("the message ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def _value(self, depth: int) -> Any:
        if self.at >= len(self.data):
            raise Short("the message ends too early")
        first = self.data[self.at]
        self.at += 1
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first >= 0xC0:
            return self._typed(first, depth)
        if first >= 0xA0:
            return self.take(first & 0x1F)
        if first >= 0x90:
            return self._many("list", first & 0x0F, depth)
        return self._many("dict", first & 0x0F, depth)

    def _typed(self, first: int, depth: int) -> Any:
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if number := _NUMBERS.get(first):
            return number.unpack(self.take(number.size))[0]
        if first not in _LENGTHS:
            raise Malformed(f"type {first:#x} is not part of the protocol")
        width, kind = _LENGTHS[first]
        count = int.from_bytes(self.take(width), "big")
        return self.take(count) if kind == "raw" else self._many(kind, count, depth)

    def _many(self, kind: str, count: int, depth: int) -> Any:
        if depth == 0:
            raise Malformed("nested too deep")
        if kind == "list":
            return [self._value(depth - 1) for _ in range(count)]
        found = {}
        for _ in range(count):
            key = self._value(0)
            if isinstance(key, float):
                raise Malformed("a number with a point is no key")
            found[key] = self._value(depth - 1)
        return found


def unpack(data: bytes) -> Any:
    """The one value these bytes are; anything behind it is ``Malformed``."""
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise Malformed("bytes are left over")
    return value


def pack(value: Any) -> bytes:
    """A value as bytes. ``TypeError`` for what the protocol has no form for: a mistake of ours."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: Any, out: bytearray) -> None:
    if isinstance(value, str | bytes):
        raw = value.encode() if isinstance(value, str) else value
        _pack_head(len(raw), out, 0xA0, 32, 0xDA)
        out += raw
    elif value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, float):
        out.append(0xCB)
        out += _DOUBLE.pack(value)
    elif isinstance(value, list | tuple):
        _pack_head(len(value), out, 0x90, 16, 0xDC)
        for item in value:
            _pack(item, out)
    elif isinstance(value, dict):
        _pack_head(len(value), out, 0x80, 16, 0xDE)
        for key, item in value.items():
            out += _packed_key(key)
            _pack(item, out)
    else:
        raise TypeError(f"the protocol has no form for {value!r}")


@lru_cache(1024, typed=True)
def _packed_key(key: Any) -> bytes:
    return pack(key)


def _pack_head(count: int, out: bytearray, small: int, below: int, wide: int) -> None:
    if count < below:
        out.append(small | count)
    elif count < 1 << 16:
        out += struct.pack(">BH", wide, count)
    else:
        out += struct.pack(">BI", wide + 1, count)


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 0x80:
        out.append(value)
    elif -0x20 <= value < 0:
        out.append(value + 0x100)
    elif value > 0:
        for head, width in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << (8 * width):
                out.append(head)
                out += value.to_bytes(width, "big")
                return
        raise TypeError(f"{value} is too large")
    else:
        out += b"\xd3" + struct.pack(">q", value)
