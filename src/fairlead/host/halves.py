"""Halves of keys for ``core.keying``: X25519 (RFC 7748), done by OpenSSL through ``cryptography``."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairlead.errors import Invalid


class X25519:
    """A fresh one; the private part is nowhere else, and goes with it."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def meet(self, other: str) -> bytes:
        """What both come to, 32 bytes; ``Invalid`` for a public half that leads everybody to the same (zero)."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))
        except ValueError:
            raise Invalid("the other half of the key is none") from None
