"""Certificates that HAProxy is to show for a service: they are looked at before a service is written that names them.

    secret "red": certificate, the chain to its root, private key; in any order, or the key in a secret of its own

What it does not do: hand them to HAProxy (``engine.webmesh``), ask whether they are for the right name, or still good:
a browser says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from fairlead.core.proxyconfig import LARGEST_PEM
from fairlead.core.refusals import invalid


def check(names: str, parts: Sequence[bytes]) -> None:
    """Raises ``Invalid``, and never says what is in them."""
    text = b"\n".join(parts)
    if len(text) > LARGEST_PEM:
        raise invalid(f"secret {names} has more than {LARGEST_PEM >> 10} KiB: too much for a certificate and its chain")
    try:
        first, *_ = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise invalid(f"secret {names} has no certificate (PEM)") from None
    try:
        key = load_pem_private_key(text[min(_keys(text)) :], None)
    except (ValueError, TypeError):
        raise invalid(f"secret {names} has no private key (PEM, without a password) for its certificate") from None
    spoken = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if first.public_key().public_bytes(*spoken) != key.public_key().public_bytes(*spoken):
        raise invalid(f"secret {names}: the private key is not that of its first certificate")


def _keys(text: bytes) -> list[int]:
    """Where a private key begins; at the end, if there is none."""
    found = [text.find(begin) for begin in (b"-----BEGIN PRIVATE", b"-----BEGIN EC PRIVATE", b"-----BEGIN RSA PRIVATE")]
    return [at for at in found if at >= 0] or [len(text)]
