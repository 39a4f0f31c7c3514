"""Serf's queries, as far as they are about keys: what ``serf keys`` asks everybody, answered; and asked by us.

    query      time, id, where to answer, flags, name, payload        to everybody, each passes it on once
    response   time, id, from whom, flags, payload                    to the asker alone

    _serf_install-key  _serf_use-key  _serf_remove-key      the key as payload      the ring is changed (``obey``)
    _serf_list-keys                                                                 the ring is told, in base64

Rules
    1. Whoever may speak (has a key) may change keys; serf knows no other right. Without a seal there is
       nothing to change, and we say so in serf's words.
    2. An answer goes to a member we know, and to nobody else: a query makes nobody throw stones for a stranger.
    3. A query with filters other than names is not ours to answer: a filter by tags is a program (a regular
       expression) of somebody else's.
    4. Reading raises nothing but ``Malformed``.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from fairlead.core.effects import Address, unpacked
from fairlead.core.packing import Malformed, Reader, pack
from fairlead.core.sealing import Keyring
from fairlead.core.swimwire import name, number, raw
from fairlead.errors import FairleadError, Invalid

QUERY, RESPONSE, KEY_REQUEST, KEY_RESPONSE = 4, 5, 7, 8
INSTALL, USE, REMOVE, LIST = "install-key", "use-key", "remove-key", "list-keys"
DEEDS = (INSTALL, USE, REMOVE, LIST)
LONGEST = 1024
"""Bytes of a payload."""
MOST_KEYS = 16
_INTERNAL = "_serf_"
_ACK, _QUIET = 1, 2
_NODES = 0
_TIME = (1 << 64) - 1


class Query(NamedTuple):
    """Somebody's question. ``ack``: whoever got it is to say so; ``told_on``: it is to be passed on."""

    time: int
    id: int
    asker: Address
    name: str
    payload: bytes
    ack: bool = False
    told_on: bool = True
    for_me: bool = True


class KeyAnswer(NamedTuple):
    """What a node did about its ring, or has in it (base64; the one in use where the node says)."""

    done: bool
    message: str = ""
    keys: tuple[str, ...] = ()
    primary: str = ""


class KeyAnswered(NamedTuple):
    """A fact: ``node`` answers the question ``id`` of ours."""

    id: int
    node: str
    answer: KeyAnswer


class RingChanged(NamedTuple):
    """A fact: somebody has asked for a deed, and our ring is another one now."""

    deed: str
    key: bytes


def read_query(data: bytes, me: str) -> Query:
    """A query; ``me``: whether its filters mean us."""
    fields = Reader(data, 1).value()
    time, id, flags = number(fields, "LTime", _TIME), number(fields, "ID"), number(fields, "Flags")
    try:
        asker = Address(unpacked(raw(fields, "Addr")), number(fields, "Port", 65535))
    except Invalid:
        raise Malformed("a query without an address") from None
    payload = raw(fields, "Payload", b"")
    if len(payload) > LONGEST:
        raise Malformed(f"a query of more than {LONGEST} bytes")
    mine = _means(fields.get(b"Filters") or [], me)
    return Query(time, id, asker, name(fields, "Name"), payload, bool(flags & _ACK), not flags & _QUIET, mine)


def _means(filters: object, me: str) -> bool:
    if not isinstance(filters, list) or len(filters) > 16:
        raise Malformed("filters are a list")
    for each in filters:
        if not isinstance(each, bytes) or each[:1] != bytes((_NODES,)):
            return False
        names = Reader(each, 1).value()
        if not isinstance(names, list) or me.encode() not in names:
            return False
    return True


def query(time: int, id: int, asker: Address, me: str, deed: str, key: bytes, packed_ip: bytes) -> bytes:
    """Our question to everybody about a key. ``packed_ip``: the asker's address as bytes."""
    fields = {
        "LTime": time,
        "ID": id,
        "Addr": packed_ip,
        "Port": asker.port,
        "SourceNode": me,
        "Filters": [],
        "Flags": 0,
    }
    request = bytes((KEY_REQUEST,)) + pack({"Key": key})
    more = {"RelayFactor": 0, "Timeout": 5_000_000_000, "Name": _INTERNAL + deed, "Payload": request}
    return bytes((QUERY,)) + pack({**fields, **more})


def response(asked: Query, me: str, payload: bytes, ack: bool = False) -> bytes:
    """An answer to a query, or the word that it has come (``ack``)."""
    fields = {"LTime": asked.time, "ID": asked.id, "From": me, "Flags": _ACK if ack else 0, "Payload": payload}
    return bytes((RESPONSE,)) + pack(fields)


def read_response(data: bytes) -> KeyAnswered | None:
    """Somebody's answer about keys; None when it is an acknowledgement."""
    fields = Reader(data, 1).value()
    if number(fields, "Flags") & _ACK:
        return None
    payload = raw(fields, "Payload", b"")
    if payload[:1] != bytes((KEY_RESPONSE,)):
        raise Malformed("no answer about keys")
    told = Reader(payload, 1).value()
    message, primary = (_text(raw(told, word, b"")) for word in ("Message", "PrimaryKey"))
    keys = told.get(b"Keys") or []
    if not isinstance(keys, list) or len(keys) > MOST_KEYS or not all(isinstance(key, bytes) for key in keys):
        raise Malformed("keys are a list of texts")
    said = KeyAnswer(told.get(b"Result") is True, message, tuple(map(_text, keys)), primary)
    return KeyAnswered(number(fields, "ID"), name(fields, "From"), said)


def _text(words: bytes) -> str:
    return words.decode(errors="replace")[:200]


def answer(deed: KeyAnswer) -> bytes:
    """An answer about keys, as a response's payload."""
    fields = {"Result": deed.done, "Message": deed.message, "Keys": list(deed.keys), "PrimaryKey": deed.primary}
    return bytes((KEY_RESPONSE,)) + pack(fields)


def wish(asked: Query) -> tuple[str, bytes]:
    """(deed, key) that a query wants; ("", b"") when it is about something else."""
    deed = asked.name.removeprefix(_INTERNAL)
    if deed == asked.name or deed not in DEEDS:
        return "", b""
    if asked.payload[:1] != bytes((KEY_REQUEST,)):
        return deed, b""
    return deed, raw(Reader(asked.payload, 1).value(), "Key", b"")


def obey(ring: Keyring | None, deed: str, key: bytes) -> KeyAnswer:
    """Do as asked with our ring, and say how it went. Nothing is changed when it cannot be done."""
    if ring is None:
        what = "list" if deed == LIST else "modify"
        return KeyAnswer(False, f"No keyring to {what} (encryption not enabled)")
    try:
        if deed == INSTALL and key not in ring.keys and len(ring.keys) >= MOST_KEYS:
            raise Invalid(f"a ring has at most {MOST_KEYS} keys")
        if deed != LIST:
            {INSTALL: ring.add, USE: ring.use, REMOVE: ring.remove}[deed](key)
    except FairleadError as problem:
        return KeyAnswer(False, problem.message)
    if deed != LIST:
        return KeyAnswer(True)
    texts = tuple(base64.b64encode(each).decode() for each in ring.keys)
    return KeyAnswer(True, "", texts, texts[0])
