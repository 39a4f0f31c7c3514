"""What a layer weighs: the bytes of the files in its tar, as Docker counts them, without headers and padding.

    weight = Weight()
    weight.feed(piece) ...
    weight.total

Fed while the layer's digest is computed, so that nothing is read twice. Links count as long as what they point to is
written. What is no tar after all weighs what it is long.
"""

from __future__ import annotations

import re

from fairlead.core.patterns import pattern

BLOCK = 512
_SIZE = pattern(rb"\d+ size=(\d+)\n")


class Weight:
    """One layer being read."""

    def __init__(self) -> None:
        self._files = 0
        self._length = 0
        self._head = b""
        self._skip = 0
        """bytes until the next header"""
        self._record: bytearray | None = None
        """the extended header being read; it may know the size of the next file better"""
        self._told: int | None = None
        self._is_tar = True

    @property
    def total(self) -> int:
        return self._files if self._is_tar else self._length

    def feed(self, piece: bytes) -> None:
        self._length += len(piece)
        at = 0
        while self._is_tar and at < len(piece):
            if self._skip:
                step = min(self._skip, len(piece) - at)
                if self._record is not None:
                    self._record += piece[at : at + step]
                at, self._skip = at + step, self._skip - step
                continue
            step = BLOCK - len(self._head)
            self._head += piece[at : at + step]
            at += step
            if len(self._head) == BLOCK:
                self._header(self._head)
                self._head = b""

    def _header(self, head: bytes) -> None:
        if self._record is not None:
            found = _SIZE.search(bytes(self._record))
            self._told, self._record = int(found[1]) if found else None, None
        if not head.strip(b"\0"):
            return
        size = _number(head[124:136])
        if head[257:262] != b"ustar" or size is None:
            self._is_tar = False
            return
        kind = head[156:157]
        if kind in b"xgLK":
            self._record = bytearray() if kind == b"x" and size < 1 << 20 else None
        else:
            size = size if self._told is None else self._told
            self._told = None
            linked = len(head[157:257].partition(b"\0")[0]) if kind == b"2" else 0
            self._files += linked or (size if kind in b"0\x007" else 0)
            size = 0 if kind in b"123456" else size
        self._skip = -(-size // BLOCK) * BLOCK


def _number(field: bytes) -> int | None:
    """Octal digits, or, for what is larger, a binary number."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 95) - 1)
    text = field.strip(b"\0 ")
    return int(text, 8) if re.fullmatch(rb"[0-7]+", text) else 0 if not text else None
