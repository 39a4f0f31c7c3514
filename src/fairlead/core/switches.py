"""Switches as Go's ``strconv.ParseBool`` reads them, and the security options that are some."""

from __future__ import annotations

SECURITY = {"no-new-privileges": "no_new_privileges", "writable-cgroups": "writable_cgroups"}
"""Security options that may stand alone, and are on then -> what they are called here."""


def parse_bool(text: str) -> bool | None:
    """None for what it refuses."""
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    return False if text in ("0", "f", "F", "false", "False", "FALSE") else None
