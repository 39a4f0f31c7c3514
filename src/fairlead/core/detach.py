"""Detach keys: what a person types to leave a terminal without ending what runs in it.

    "ctrl-p,ctrl-q"  ->  b"\\x10\\x11"
    Detector(keys).feed(bytes) -> bytes for the process, and whether the keys were typed

Rules
    1. Bytes that may be the beginning of the keys are kept back until it is
       known; when it was not, they go on unchanged.
    2. Only a terminal has detach keys; without one every byte is input.
"""

from __future__ import annotations

from fairlead.errors import Invalid

DEFAULT = b"\x10\x11"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """The key codes; "" gives the default; ``Invalid`` in dockerd's words."""
    if not text:
        return DEFAULT
    return bytes(_code(key) for key in text.split(","))


def _code(key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    name = key.lower().removeprefix("ctrl-")
    if key.lower().startswith("ctrl-") and len(name) == 1:
        if "a" <= name <= "z":
            return ord(name) - ord("a") + 1
        if name in _SPECIAL:
            return _SPECIAL[name]
    raise Invalid(f"Invalid detach keys ({key}) provided")


class Detector:
    """Looks for the keys in a stream of input."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(input for the process, True when the keys are complete; what came behind them is dropped)."""
        out = bytearray()
        for byte in data:
            while self._seen and byte != self._keys[self._seen]:
                # A key that was kept back was no beginning after all: the longest shorter beginning remains.
                out += self._fall_back()
            if byte != self._keys[self._seen]:
                out.append(byte)
                continue
            self._seen += 1
            if self._seen == len(self._keys):
                return bytes(out), True
        return bytes(out), False

    def _fall_back(self) -> bytes:
        kept = self._keys[: self._seen]
        for length in range(self._seen - 1, -1, -1):
            if kept.endswith(self._keys[:length]):
                self._seen = length
                return kept[: len(kept) - length]
        raise AssertionError("the empty beginning always fits")

    def rest(self) -> bytes:
        """What is still kept back, at the end of input."""
        kept, self._seen = self._keys[: self._seen], 0
        return kept
