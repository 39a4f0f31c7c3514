"""Users: from ``--user`` to numbers, by the image's own passwd and group files.

    "" "name" "uid" "name:group" "uid:gid"   ->   Identity(uid, gid, groups, home)

Rules
    1. A name must be in the image; a number need not be.
    2. Without a group the user's own one counts (0 for an unknown number), and
       with it the groups that list the user; a group asked for replaces both.
    3. Lines that do not parse do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fairlead.errors import FairleadError

LARGEST = (1 << 31) - 1


class Identity(NamedTuple):
    """Who a process is. ``groups`` are all it is in, its own among them: else a "group may not" would not bind it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(user: str, add: Iterable[str] | None, passwd: str, group: str) -> Identity:
    """Who ``user`` is in an image with these files; ``FairleadError`` in dockerd's words when it is nobody."""
    wanted, _, wanted_group = user.partition(":")
    known, groups = list(_users(passwd)), list(_groups(group))
    me = _user(wanted or "0", known)
    gid = me.gid
    extra: list[int] = []
    if wanted_group:
        gid = _group(wanted_group, groups, "unable to find group {}: no matching entries in group file")
    elif me.name:
        extra += [item.gid for item in groups if me.name in item.members and item.gid != gid]
    for name in add or ():
        extra.append(_group(name, groups, "unable to find group {}: no matching entries in group file"))
    return Identity(me.uid, gid, tuple(dict.fromkeys([gid, *extra])), me.home)


def _user(wanted: str, known: list[_User]) -> _User:
    for item in known:
        if item.name == wanted:
            return item
    number = _number(wanted)
    if number is None:
        raise FairleadError(f"unable to find user {wanted}: no matching entries in passwd file")
    return next((item for item in known if item.uid == number), _User("", number, 0, "/"))


def _group(wanted: str, known: list[_Group], complaint: str) -> int:
    for item in known:
        if item.name == wanted:
            return item.gid
    number = _number(wanted)
    if number is None:
        raise FairleadError(complaint.format(wanted))
    return number


def _number(text: str) -> int | None:
    if not re.fullmatch("[+-]?[0-9]{1,18}", text, re.ASCII):
        return None
    value = int(text)
    if not 0 <= value <= LARGEST:
        raise FairleadError(f"uids and gids must be in range 0-{LARGEST}")
    return value


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _users(text: str) -> Iterator[_User]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 6 and _is_id(parts[2]) and _is_id(parts[3]):
            yield _User(parts[0], int(parts[2]), int(parts[3]), parts[5] or "/")


def _groups(text: str) -> Iterator[_Group]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 3 and _is_id(parts[2]):
            members = tuple(name for name in parts[3].split(",") if name) if len(parts) > 3 else ()
            yield _Group(parts[0], int(parts[2]), members)
