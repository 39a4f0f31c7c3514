"""What people type to join a swarm or to unlock it, in Docker's form.

    SWMTKN-1-<digest of the root certificate>-<secret>      50 and 25 signs of base 36
    SWMKEY-1-<key>                                          32 bytes in base 64, without padding

The digest lets a node know the right cluster before it trusts anybody; the secret, one for each role, lets the cluster
know who may join.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

from fairlead.core.cluster import ALPHABET
from fairlead.errors import Invalid

DIGEST_SIGNS, SECRET_SIGNS = 50, 25
KEY_BYTES = 32
UNLOCK = "SWMKEY-1-"


class Token(NamedTuple):
    digest: str
    secret: str

    @property
    def text(self) -> str:
        return f"SWMTKN-1-{self.digest}-{self.secret}"

    def is_for(self, root: bytes) -> bool:
        """Whether that certificate (PEM) is the one it was made for."""
        return hmac.compare_digest(self.digest, digest(root))


def make(root: bytes, secret: bytes) -> Token:
    """``root``: the cluster's root certificate, PEM; ``secret``: 16 random bytes."""
    return Token(digest(root), base36(secret, SECRET_SIGNS))


def parse(text: str) -> Token:
    """Raises ``Invalid``."""
    kind, _, rest = text.partition("-")
    version, _, rest = rest.partition("-")
    found, _, secret = rest.partition("-")
    well = (kind, version) == ("SWMTKN", "1") and (len(found), len(secret)) == (DIGEST_SIGNS, SECRET_SIGNS)
    if not well or not set(found + secret) <= set(ALPHABET):
        raise Invalid("invalid join token")
    return Token(found, secret)


def digest(root: bytes) -> str:
    """SHA-256 of the certificate as it is written, in base 36."""
    return base36(hashlib.sha256(root).digest(), DIGEST_SIGNS)


def base36(data: bytes, signs: int) -> str:
    """A number, most significant byte first, with leading zeros."""
    number, text = int.from_bytes(data), ""
    while number:
        number, rest = divmod(number, 36)
        text = ALPHABET[rest] + text
    return text.rjust(signs, "0")


def unlock_key(key: bytes) -> str:
    """``key``: 32 bytes."""
    return UNLOCK + base64.b64encode(key).rstrip(b"=").decode()


def parse_unlock_key(text: str) -> bytes:
    """Raises ``Invalid``; what was typed is not in its words."""
    prefix, encoded = text[: len(UNLOCK)], text[len(UNLOCK) :]
    try:
        key = base64.b64decode(encoded + "=", validate=True)
    except ValueError:
        key = b""
    if prefix != UNLOCK or len(key) != KEY_BYTES:
        raise Invalid("swarm could not be unlocked: invalid key provided")
    return key
