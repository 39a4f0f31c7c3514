"""Data keys: with what managers seal what they keep together, and how one key gives way to the next.

    made      by the leader, when somebody who was given the newest manages no more, when the root certificate was
              exchanged, or when it is old. It is on the leader's disk before it is in the ring
    held      by every member: each says so under its own id (``Node.holds``) once it is on its disk
    used      when all have said so: one commit
    dropped   when no value is under it any more; the leader has sealed them anew by then

    the ring, in the store    ids, newest first; which one is used; who was given the newest. Never a key

Rules
    1. A key seals nothing before every member has it on its disk, and is in the ring for as long as it opens anything:
       whatever ends in whichever moment, each member alone can open all that it has.
    2. Every write names the version of the ring that its key was chosen by (``swarm.sealedledger``): once another key
       is used, nothing is written under the one before.
    3. Who is given keys is written down before (``given``), so whoever leads sees what is due in the ring and in who
       manages; no event has to be remembered.
    4. An id is a digest of its key: nobody can pass another key off for it.
    5. A key that is not used yet is its maker's: a leader that does not have it makes another in its place.

Key zero (``ZERO``) is that of a swarm from before there was a ring: it has no id, and neither have values under it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from fairlead.core.service import SECOND
from fairlead.errors import Invalid

LIFETIME = 30 * 24 * 3600 * SECOND
"""after which there is another key, though nobody left"""
KEY_BYTES, ID_BYTES = 32, 8
ZERO = ""
RING = "ring"


class Ring(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the keys. As it stands here: of a swarm that has never written it."""

    id: str = RING
    keys: tuple[str, ...] = (ZERO,)
    """newest first"""
    used: str = ZERO
    made: int = 0
    """the newest: when, nanoseconds since 1970"""
    root: str = ""
    """digest of the root certificate that was believed then"""
    given: tuple[str, ...] = ()
    """nodes that were given the newest"""
    version: int = 0


class Facts(NamedTuple):
    """What a leader decides by."""

    me: str
    held: Collection[str]
    """ids of the keys on this leader's disk"""
    managers: Mapping[str, str]
    """members of the managers' store that are to manage -> id of the newest key that each says it has"""
    root: str
    """digest of the root certificate; while it is exchanged, of the old one: who has its key may be anybody"""
    now: int


def name(key: bytes) -> str:
    """Its id."""
    return hashlib.blake2b(key, digest_size=ID_BYTES, person=b"data key").hexdigest()


def read(value: bytes) -> Ring:
    """As it was written; ``Invalid`` when it makes no sense."""
    try:
        return msgspec.json.decode(value, type=Ring)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Invalid("the ring of data keys in the managers' store makes no sense") from None


def first(id: str, node: str, root: str, now: int) -> Ring:
    """Of a swarm that begins."""
    return Ring(keys=(id,), used=id, made=now, root=root, given=(node,))


def due(ring: Ring, facts: Facts) -> str:
    """Why another key is to be made; empty: none is."""
    newest = ring.keys[0]
    if newest == ZERO:
        return "the swarm has one from before there were several"
    if gone := [node for node in ring.given if node not in facts.managers]:
        return f"{', '.join(gone)} had it, and manages no more"
    if ring.root != facts.root:
        return "the root certificate is another one"
    if abs(facts.now - ring.made) >= LIFETIME:  # a clock that was far ahead does not put it off for years
        return "it is old"
    if newest != ring.used and newest not in facts.held:
        return "who made it leads no more"
    return ""


def begun(ring: Ring, id: str, facts: Facts) -> Ring:
    """With a new key, which only the leader has. One that was not used yet makes room."""
    kept = ring.keys[ring.keys.index(ring.used) :]
    return replace(ring, keys=(id, *kept), made=facts.now, root=facts.root, given=(facts.me,))


def awaited(ring: Ring, facts: Facts) -> list[str]:
    """Who has not said yet that it has the newest."""
    return sorted(node for node, holds in facts.managers.items() if holds != ring.keys[0])


def changed(ring: Ring) -> Ring:
    """The newest is used."""
    return replace(ring, used=ring.keys[0])


def older(ring: Ring) -> tuple[str, ...]:
    """Keys that open, and seal no more."""
    return ring.keys[ring.keys.index(ring.used) + 1 :]


def without_older(ring: Ring) -> Ring:
    return replace(ring, keys=ring.keys[: ring.keys.index(ring.used) + 1])
