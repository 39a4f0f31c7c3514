"""Node keys: Ed25519 for ``core.tables``. Each node signs its own rows; nobody believes it about others'.

    NodeKeys(me, private)     sign with ours, verify with the public keys that somebody we trust has told (``know``)

In a cluster with a store the store tells (``swarm.discovery``); in a swarm, certificates will.

Rule: of whom we know no key, we believe nothing. What was refused for that comes again with the next
comparison of tables, when the key may be known.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def new_private() -> bytes:
    """32 bytes that only their node knows."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


class NodeKeys:
    """The ``Keys`` of ``core.tables``."""

    def __init__(self, me: str, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._known: dict[str, Ed25519PublicKey] = {me: self._private.public_key()}
        self._me = me

    def know(self, owner: str, public: bytes) -> None:
        """From now on this is the owner's key; ours is not for others to say."""
        if owner != self._me:
            self._known[owner] = Ed25519PublicKey.from_public_bytes(public)

    def forget(self, owner: str) -> None:
        """Believe nothing that this owner signs any more."""
        if owner != self._me:
            self._known.pop(owner, None)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(data)

    def verify(self, owner: str, data: bytes, signature: bytes) -> bool:
        """Whether the owner has signed that; False for an owner we do not know."""
        public = self._known.get(owner)
        if public is None:
            return False
        try:
            public.verify(signature, data)
        except InvalidSignature:
            return False
        return True
