"""The dice: seeded, and biased towards what breaks parsers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

BYTES = (0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xFE, 0xFF)
NUMBERS = (
    "0",
    "-1",
    "1",
    "65535",
    "65536",
    "4294967296",
    "9" * 30,
    "9" * 5000,
    "1e400",
    "0x1f",
    "007",
    "²",
    "٣",
    "１",
    "",
)
WORDS = (
    "",
    " ",
    "\0",
    "\n",
    "\r\n",
    "..",
    "/",
    "//",
    "../../etc/passwd",
    "%",
    "%s",
    "%00",
    "a/b",
    ":",
    "::",
    ",",
    "=",
    "[",
    "]",
    "{",
    "}",
    "{{",
    "}}",
    "{{.}}",
    "-",
    "--",
    "*",
    "é",
    "ß",
    "İ",
    "\u202e",
    "😀",
    "\udc80",
    "a" * 300,
    "true",
    "null",
    "localhost",
    "127.0.0.1",
    "0.0.0.0/0",
    "::1",
    "fe80::1%eth0",
    "::ffff:1.2.3.4",
    "10.0.0.0/33",
    "255.255.255.255",
    "tcp",
    "sctp",
    "65536/tcp",
    "80-79",
    "sha256:",
    "sha256:" + "f" * 64,
    "host",
    "none",
    "default",
    "container:",
    "NaN",
)


class Dice(random.Random):
    """``random.Random`` that can spoil things."""

    def mangled(self, data: bytes, other: bytes = b"") -> bytes:
        """One to four edits: bits, bytes, numbers, slices cut, doubled, moved in from ``other``."""
        out = bytearray(data)
        for _ in range(self.randint(1, 4)):
            at = self.randrange(len(out) + 1)
            size = self.randint(1, 8)
            match self.randrange(8):
                case 0 if out:
                    out[at % len(out)] ^= 1 << self.randrange(8)
                case 1 if out:
                    out[at % len(out)] = self.choice(BYTES)
                case 2:
                    del out[at : at + size]
                case 3:
                    out[at:at] = self.randbytes(size)
                case 4:
                    out[at:at] = out[at : at + size * 4]
                case 5:
                    del out[at:]
                case 6:
                    out[at : at + 2] = self.choice((0, 1, 255, 256, 0x7FFF, 0x8000, 0xFFFF)).to_bytes(2, "big")
                case _:
                    start = self.randrange(len(other) + 1)
                    out[at:at] = other[start : start + size * 4]
        return bytes(out)

    def scribbled(self, text: str, others: Sequence[str] = ()) -> str:
        """The same for words: pieces cut, doubled, replaced by what is special somewhere."""
        for _ in range(self.randint(1, 3)):
            at, size = self.randrange(len(text) + 1), self.randint(1, 6)
            match self.randrange(6):
                case 0:
                    text = text[:at] + text[at + size :]
                case 1:
                    text = text[:at] + self.junk() + text[at:]
                case 2:
                    text = text[:at] + self.junk() + text[at + size :]
                case 3:
                    text = text[: at + size] + text[at:]
                case 4 if others:
                    other = self.choice(others)
                    text = text[:at] + other[self.randrange(len(other) + 1) :]
                case _:
                    text = (
                        text[:at] + chr(self.choice((0, 9, 10, 32, 34, 39, 44, 58, 92, 0x7F, 0xB2, 0x2028))) + text[at:]
                    )
        return text[:10_000]

    def junk(self) -> str:
        return self.choice(self.choice((NUMBERS, WORDS)))

    def anything(self, depth: int = 3) -> Any:
        """A JSON value."""
        match self.randrange(8 if depth else 6):
            case 0:
                return None
            case 1:
                return self.random() < 0.5
            case 2:
                return self.choice((0, -1, 1, 65536, 2**31, 2**63, -(2**63) - 1, 10**40, 1.5, 1e308))
            case 6:
                return [self.anything(depth - 1) for _ in range(self.randrange(4))]
            case 7:
                return {self.junk(): self.anything(depth - 1) for _ in range(self.randrange(4))}
            case _:
                return self.junk()

    def spoilt(self, tree: Any, names: Sequence[str] = (), chance: float = 0.12) -> Any:
        """A tree of JSON with a few of its leaves and branches replaced, keys dropped, renamed and added."""
        if self.random() < chance / 2:
            return self.anything()
        if isinstance(tree, dict):
            out = {}
            for key, value in tree.items():
                if self.random() < chance / 2:
                    continue
                if self.random() < chance / 4:
                    key = self.scribbled(key)
                out[key] = self.spoilt(value, names, chance)
            if names and self.random() < chance:
                out[self.choice(names)] = self.anything()
            return out
        if isinstance(tree, list):
            out = [self.spoilt(value, names, chance) for value in tree]
            return out * 2 if self.random() < chance / 4 else out
        if isinstance(tree, str) and self.random() < chance:
            return self.scribbled(tree)
        return self.anything(1) if self.random() < chance / 2 else tree


def written(tree: Any) -> bytes:
    """As bytes, lone surrogates and all."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")
