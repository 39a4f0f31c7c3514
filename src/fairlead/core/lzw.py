"""LZW as HashiCorp's agents use it: codes of 9 to 12 bits, lowest bit first, 8-bit literals.

    256 clears the table, 257 ends the text, 258 and up are entries.

The writer and the reader build the same table, the reader one entry behind; both widen their codes
when the entry they are about to make needs one bit more, and stop growing at 4096 entries. What has
been written is read here and by Go's ``compress/lzw`` (LSB, 8), and the other way round.

Rules
    1. ``decompress`` never yields more than ``limit`` bytes, whatever it reads (a packet of 1 kB
       can stand for 1 MB).
    2. It raises ``Malformed`` for a code that cannot be there yet and for a text without an end.
"""

from __future__ import annotations

from fairlead.core.packing import Malformed

_CLEAR, _END, _FIRST, _FULL = 256, 257, 258, 4095


def compress(data: bytes) -> bytes:
    """``data`` in codes."""
    out = bytearray()
    bits = held = 0
    width, top = 9, _END
    table: dict[tuple[int, int], int] = {}

    def put(code: int) -> None:
        nonlocal bits, held
        bits |= code << held
        held += width
        while held >= 8:
            out.append(bits & 0xFF)
            bits >>= 8
            held -= 8

    put(_CLEAR)
    if data:
        code = data[0]
        for byte in data[1:]:
            if (code, byte) in table:
                code = table[code, byte]
                continue
            put(code)
            top += 1
            if top == 1 << width:
                width += 1
            if top == _FULL:  # no room for this entry: both sides begin anew
                width = 12
                put(_CLEAR)
                width, top = 9, _END
                table.clear()
            else:
                table[code, byte] = top
            code = byte
        put(code)
        top += 1
        if top == 1 << width and width < 12:
            width += 1
    put(_END)
    if held:
        out.append(bits & 0xFF)
    return bytes(out)


def decompress(data: bytes, limit: int) -> bytes:
    """What the codes stand for, at most ``limit`` bytes."""
    out = bytearray()
    table: list[bytes] = []
    previous = b""
    bits = held = 0
    width = 9
    for byte in data:
        bits |= byte << held
        held += 8
        if held < width:
            continue
        code = bits & ((1 << width) - 1)
        bits >>= width
        held -= width
        if code == _CLEAR:
            table, previous, width = [], b"", 9
            continue
        if code == _END:
            return bytes(out)
        piece = _piece(code, table, previous)
        if len(out) + len(piece) > limit:
            raise Malformed(f"decompresses to more than {limit} bytes")
        out += piece
        if previous and len(table) < _FULL + 1 - _FIRST:
            table.append(previous + piece[:1])
        previous = piece
        # The writer is one entry ahead of us: it widens for the entry it makes from this code.
        if len(table) + _FIRST >= 1 << width and width < 12:
            width += 1
    raise Malformed("compressed text without an end")


def _piece(code: int, table: list[bytes], previous: bytes) -> bytes:
    if code < _CLEAR:
        return bytes((code,))
    if code - _FIRST < len(table):
        return table[code - _FIRST]
    if code - _FIRST == len(table) and previous:
        return previous + previous[:1]
    raise Malformed(f"code {code} stands for nothing yet")
