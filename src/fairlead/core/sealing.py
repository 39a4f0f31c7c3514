"""Sealing: a ring of keys, and how memberlist wraps a message in AES-GCM.

    version (1 byte) | nonce (12) | ciphertext | tag (16)

Version 0 pads the text to blocks of 16 (PKCS 7), version 1 does not; we write version 1 and read both.
What stands outside of the seal but must not be changed (label, length of a stream's message) is bound
to it as associated data.

The cipher itself and the nonces are given, because the core has no dice and no OpenSSL.

Rules
    1. The first key of the ring seals; every key of the ring opens. So a key is rotated by ``add``
       everywhere, ``use`` everywhere, ``remove`` everywhere, and no message is lost between.
    2. The key in use cannot be removed.
    3. ``open`` raises ``Malformed`` for whatever no key opens, and never says which part was wrong.
    4. Keys appear in no message, no ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from fairlead.core.packing import Malformed
from fairlead.errors import Conflict, Invalid

KEY_SIZES = (16, 24, 32)
NONCE = 12
TAG = 16
OVERHEAD = 1 + NONCE + TAG


class Cipher(Protocol):
    """AES-GCM, whoever makes it. ``open`` returns None for what the key does not open."""

    def seal(self, key: bytes, nonce: bytes, text: bytes, bound: bytes) -> bytes: ...

    def open(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None: ...


class Keyring:
    """The keys of a cluster, the one in use first."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys: list[bytes] = []
        for key in keys:
            self.add(key)
        if not self._keys:
            raise Invalid("a key ring needs a key")

    def __repr__(self) -> str:
        return f"Keyring of {len(self._keys)}"

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(self._keys)

    def become(self, keys: Iterable[bytes]) -> None:
        """These, the first in use. ``Invalid``, and nothing changed, when they are no ring."""
        self._keys = list(Keyring(keys).keys)

    def add(self, key: bytes) -> None:
        """From now on messages under this key are opened as well."""
        if len(key) not in KEY_SIZES:
            raise Invalid(f"a gossip key has 16, 24 or 32 bytes, not {len(key)}")
        if key not in self._keys:
            self._keys.append(key)

    def use(self, key: bytes) -> None:
        """From now on messages are sealed with this key, which must have been added before."""
        if key not in self._keys:
            raise Invalid("this gossip key has not been added to the ring")
        self._keys.remove(key)
        self._keys.insert(0, key)

    def remove(self, key: bytes) -> None:
        """From now on messages under this key are refused."""
        if self._keys[0] == key:
            raise Conflict("this gossip key is in use: use another one first")
        if key in self._keys:
            self._keys.remove(key)


class Seal:
    """A ring, a cipher and nonces: text to sealed bytes and back."""

    def __init__(self, ring: Keyring, cipher: Cipher, nonce: Callable[[], bytes]) -> None:
        """``nonce`` yields 12 bytes that never come twice (from the system's random source)."""
        self.ring = ring
        self._cipher = cipher
        self._nonce = nonce

    def close(self, text: bytes, bound: bytes = b"") -> bytes:
        """Seal with the key in use; ``OVERHEAD`` bytes longer than the text."""
        nonce = self._nonce()
        return b"\x01" + nonce + self._cipher.seal(self.ring.keys[0], nonce, text, bound)

    def open(self, sealed: bytes, bound: bytes = b"") -> bytes:
        """The text, whichever key of the ring it was sealed with."""
        if len(sealed) < OVERHEAD or sealed[0] > 1:
            raise Malformed("not sealed as this cluster seals")
        nonce, rest = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
        for key in self.ring.keys:
            text = self._cipher.open(key, nonce, rest, bound)
            if text is not None:
                return _unpadded(text) if sealed[0] == 0 else text
        raise Malformed("no key of this cluster opens it")


def _unpadded(text: bytes) -> bytes:
    count = text[-1] if text else 0
    if not 1 <= count <= 16 or count > len(text):
        raise Malformed("no key of this cluster opens it")
    return text[:-count]
