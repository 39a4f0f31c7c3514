"""SHA-256 for a few bytes, without OpenSSL: loading that takes longer than all a returning engine hashes.

Python has its own, which ``hashlib`` falls back to (``random`` takes its SHA-512 the same way). Whoever hashes layers
of images takes ``hashlib``: OpenSSL's is the faster one.
"""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # since Python 3.12
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256

__all__ = ["sha256"]
