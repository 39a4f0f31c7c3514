"""Untouched: whether a table without sets is as it was when it was last found right, asked without words.

    table, chains, rules, sets --dumped--> a few digits  == those remembered for its text?   nobody touched it
                                                         else: ``nft.look`` lists it, and knows

To list a table nft reads all of it and writes a text, which is then read; the kernel's own messages are the same as
long as nobody touched anything. A returning engine asks so for the table of every sandbox, which leads names to the
resolver.

Rules
    1. Only equality is concluded: what differs, if only by a counter, is listed (``host.listings`` says the rest).
    2. Digits are remembered of a table only that was listed and found right between two equal dumps.
"""

from __future__ import annotations

import struct

from fairlead.core.wanted import Skeleton
from fairlead.host import listings
from fairlead.host.netlink import Netlink, Request, attributes, text

_TABLE = "fairlead"
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET = ((10 << 8) | number for number in (1, 4, 7, 10))
_INET = struct.pack("=BBH", 1, 0, 0)
_NAME = 1
"""of the table, in messages of each kind"""


def fingerprint(wire: Netlink) -> str:
    """Digits that are the same as long as nobody touches our table of that namespace; "" when there is none."""
    ours = text(_NAME, _TABLE)
    (table,) = wire.ask([Request(_GET_TABLE, 0, _INET + ours)])
    if not isinstance(table, bytes):
        return ""
    parts = [table]
    for kind, body in ((_GET_CHAIN, _INET), (_GET_RULE, _INET + ours), (_GET_SET, _INET + ours)):
        found = wire.dump(kind, body)
        parts += [part for part in found if attributes(part, 4).get(_NAME) == ours[4 : 5 + len(_TABLE)]]
    # Each begins with its family and the number of the ruleset's generation, which is everybody's.
    return listings.mark_of(b"".join(struct.pack("=I", len(part)) + part[4:] for part in parts))


def stands(skeleton: Skeleton, found: str) -> bool:
    """Whether that was the fingerprint of this very table."""
    return bool(found) and listings.remembered(_key(skeleton)) == found


def learn(wire: Netlink, skeleton: Skeleton, before: str) -> None:
    """The table was listed and is right; ``before``: its fingerprint before that."""
    if before and fingerprint(wire) == before:
        listings.learn(_key(skeleton), before)


def suits(skeleton: Skeleton) -> bool:
    """Whether its text is all there is to it: elements of sets come and go without it."""
    return not any(line.split(None, 1)[:1] in (["set"], ["map"]) for line in skeleton.text.splitlines())


def _key(skeleton: Skeleton) -> str:
    return f"={listings.mark(skeleton.text)}"
