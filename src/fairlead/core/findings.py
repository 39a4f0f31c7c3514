"""Findings: what a doctor tells, one difference each."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One difference. ``what``: missing, different, stray (ours, wanted by nobody), wrong (records disagree) or
    foreign (somebody else's, in the way)."""

    what: str
    object: str
    owner: str = ""
    why: str = ""
    found: str = ""
    """how it is instead"""
