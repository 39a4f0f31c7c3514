"""AES-GCM for ``core.sealing``, done by OpenSSL through ``cryptography``, and nonces from the system."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fairlead.core.sealing import NONCE, Keyring, Seal


@lru_cache(16)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


class AesGcm:
    """The ``Cipher`` of ``core.sealing``."""

    def seal(self, key: bytes, nonce: bytes, text: bytes, bound: bytes) -> bytes:
        """``text`` sealed, its tag behind it."""
        return _cipher(key).encrypt(nonce, text, bound)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        """The text, or None when the key does not open it."""
        try:
            return _cipher(key).decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None


def seal(ring: Keyring) -> Seal:
    """A seal of a ring; when the ring changes, so does what it opens."""
    return Seal(ring, AesGcm(), lambda: secrets.token_bytes(NONCE))


def seal_with(keys: Iterable[bytes]) -> Seal:
    """A seal of these keys, the first in use."""
    return seal(Keyring(keys))
