"""Whose turn it is: how nftables chooses one of several targets for a new connection.

    ""              numgen random mod 3      by chance
    "round-robin"   numgen inc mod 3         one after the other, as this rule counts: it begins anew when it is changed
    "source"        jhash ip saddr mod 3     by the sender's address

Rules
    1. A chance is a place in a list, so that two to one is exactly that, and the heavier are spread over the list.
    2. The hash is the same everywhere, so that one client finds one target wherever it comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import TypeVar

from fairlead.core.patterns import pattern
from fairlead.errors import Invalid

SEED = 0xFA1
_CHOICE = pattern(r"(jhash|numgen random|numgen inc)")
T = TypeVar("T")


def places(targets: Sequence[tuple[T, int]]) -> list[T]:
    """Each (target, weight) as often as its weight says; raises ``Invalid`` for a weight below 1."""
    if any(weight < 1 for _, weight in targets):
        raise Invalid(f"a weight is at least 1: {targets}")
    least = gcd(*(weight for _, weight in targets)) or 1
    counts = [(target, weight // least) for target, weight in targets]
    spread = [((turn + 0.5) / count, at) for at, (_, count) in enumerate(counts) for turn in range(count)]
    return [counts[at][0] for _, at in sorted(spread)]


def words(policy: str, ip: str, count: int) -> str:
    """The expression for so many places. ``ip``: ip or ip6."""
    if policy == "source":
        return f"jhash {ip} saddr mod {count} seed {SEED:#x}"
    return f"numgen {'inc' if policy == 'round-robin' else 'random'} mod {count}"


def chosen(rule: str) -> str:
    """By which of these a rule chooses; "" when it does not."""
    found = _CHOICE.search(rule)
    return found[0] if found else ""
