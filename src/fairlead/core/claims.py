"""Claims: who may use an address, a VNI or a subnet, agreed through a store that many hosts write at once.

    claims/addresses/<network>/10.0.0.5   ->  the endpoint that has it      one key each: take_one
    claims/vni/4097                       ->  the network that has it
    claims/subnets                        ->  {"10.0.0.0/24": network, …}   one key for all: take_some

Each claim is a generator: it yields what it wants of the store (``Get``, ``List``,
``Put``, ``Delete``, ``Pause``), is sent the answer, and returns what was claimed.
``engine.claiming`` carries it out; a test may answer by hand.

Rules
    1. A key is created only where it is absent, a table is written only over what was
       read: of two hosts that want the same, one fails and looks again. Nothing else
       decides, least of all what a host believes to be free.
    2. The value names the owner, and an owner that asks again gets what it has: so a
       claim whose answer was lost (``LOST``) is simply asked again, and so is one after
       a crash.
    3. Everything ends: ``TRIES`` attempts, then ``Unavailable``. What may have been
       claimed by then stays the owner's until ``give_back_all``.
    4. Single things (addresses, VNIs) are tried lowest first; after losing one to
       another host, at random among the lowest, in a window that doubles: hosts that
       start together do not stumble together.

Why one table for subnets? Two of them may overlap without being equal, which no
key per subnet can show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from fairlead.errors import Forbidden, Internal, Unavailable

TRIES = 12
_TOO_OFTEN = f"others were faster {TRIES} times, or the store is away"

ADDRESSES = "claims/addresses"
VNIS = "claims/vni"
SUBNETS = "claims/subnets"


class Get(NamedTuple):
    """Answer: (value, version); (None, 0) when it is absent."""

    key: str


class List(NamedTuple):
    """Answer: {key: value}."""

    prefix: str


class Put(NamedTuple):
    """Write over ``version``. Answer: DONE, BEATEN (somebody else wrote) or LOST (nobody knows)."""

    key: str
    value: bytes
    version: int


class Delete(NamedTuple):
    """Delete at ``version``. Answer as for ``Put``."""

    key: str
    version: int


class Pause(NamedTuple):
    seconds: float


Wish = Get | List | Put | Delete | Pause
DONE, BEATEN, LOST = "done", "beaten", "lost"
Dice = Callable[[int], int]
"""A number from 0 to below the argument, every one as likely."""


def take_one(
    prefix: str, candidates: Iterable[str], owner: str, dice: Dice, wanted: str = ""
) -> Generator[Wish, Any, str]:
    """Claim one of ``candidates`` (lowest first; may be endless) below ``prefix`` for ``owner``; which one.

    ``wanted``: this one and no other. ``Forbidden`` when it is another's, or when all are taken.
    """
    taken: Mapping[str, bytes] = yield List(f"{prefix}/")
    had = [key.rpartition("/")[2] for key, value in taken.items() if value == owner.encode()]
    if had and wanted in ("", had[0]):
        return had[0]
    beaten: set[str] = set()
    choice = wanted
    for attempt in range(TRIES):
        choice = choice or _choose(prefix, candidates, {*taken, *beaten}, min(len(beaten), 10), dice)
        key = f"{prefix}/{choice}"
        outcome = yield Put(key, owner.encode(), 0)
        if outcome == DONE:
            return choice
        if outcome == BEATEN:
            value, _ = yield Get(key)
            if value == owner.encode():  # ours: an earlier answer was lost
                return choice
            if wanted and value is not None:
                raise Forbidden("Address already in use")
            beaten.add(key)
            choice = wanted
        else:  # it may be ours: nothing else is tried before that is known
            yield Pause(_wait(attempt, dice))
    raise Unavailable(f"nothing could be claimed below {prefix}: {_TOO_OFTEN}")


def _choose(prefix: str, candidates: Iterable[str], taken: set[str], lost: int, dice: Dice) -> str:
    free = (candidate for candidate in candidates if f"{prefix}/{candidate}" not in taken)
    window = list(itertools.islice(free, 1 << lost))
    if not window:
        raise Forbidden("could not find an available, non-overlapping address: all are taken")
    return window[dice(len(window))]


Table = dict[str, str]
"""subnet -> owner."""


def take_some(
    key: str, owner: str, choose: Callable[[Mapping[str, str]], Iterable[str]], dice: Dice
) -> Generator[Wish, Any, list[str]]:
    """Claim what ``choose`` picks, given what others have (it raises when that cannot be); what was claimed.

    ``choose`` is called with the others' part of the table, anew for every attempt.
    """
    for attempt in range(TRIES):
        value, version = yield Get(key)
        table = _table(key, value)
        had = [item for item, holder in table.items() if holder == owner]
        if had:
            return had
        chosen = list(choose(table))
        outcome = yield Put(key, _encode({**table, **dict.fromkeys(chosen, owner)}), version)
        if outcome == DONE:
            return chosen
        yield Pause(_wait(attempt, dice))
    raise Unavailable(f"{key} could not be changed: {_TOO_OFTEN}")


def give_back(key: str, owner: str, dice: Dice) -> Generator[Wish, Any, None]:
    """Give back one key of ``take_one``, or the owner's part of the table at ``key``. Not ours (any more): nothing."""
    for attempt in range(TRIES):
        value, version = yield Get(key)
        if value is None:
            return
        if key == SUBNETS:
            table = _table(key, value)
            rest = {item: holder for item, holder in table.items() if holder != owner}
            if rest == table:
                return
            outcome = yield Put(key, _encode(rest), version)
        elif value == owner.encode():
            outcome = yield Delete(key, version)
        else:
            return
        if outcome == DONE:
            return
        yield Pause(_wait(attempt, dice))
    raise Unavailable(f"{key} could not be given back: {_TOO_OFTEN}")


def give_back_all(prefix: str, owner: str, dice: Dice) -> Generator[Wish, Any, None]:
    """Give back whatever the owner has below ``prefix``: for a claim that may have been made though it failed."""
    values: Mapping[str, bytes] = yield List(f"{prefix}/")
    for key in [key for key, value in values.items() if value == owner.encode()]:
        yield from give_back(key, owner, dice)


def _wait(attempt: int, dice: Dice) -> float:
    """Seconds: up to 10 ms, then 20 ms … 640 ms."""
    return dice(10 << min(attempt, 6)) / 1000


_encode = msgspec.json.Encoder(order="sorted").encode


def _table(key: str, value: bytes | None) -> Table:
    try:
        return msgspec.json.decode(value or b"{}", type=Table)
    except msgspec.MsgspecError as error:
        raise Internal(
            f"{key} in the cluster store is damaged; nothing is claimed until it is mended: {error}"
        ) from None
