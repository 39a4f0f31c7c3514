"""Places: where hosts of a cluster say that their gossip answers, and what gossip makes of each of them.

    nodes/<node>  -->  Place      what a host wrote about itself, read with care
    Peer                          a host as we see it now, for people

A place speaks for its own key only; what makes no sense is refused as a whole (``Invalid`` says which word).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

import msgspec

from fairlead.core.effects import Address
from fairlead.core.remotes import check
from fairlead.errors import Invalid

PUBLIC = 32
"""Bytes of a node's public key (Ed25519)."""
_NODE = re.compile(r"[0-9a-f]{32}|[0-9a-z]{25}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")


class Place(msgspec.Struct, frozen=True):
    """A host: its identity, its name for people, where its gossip answers, and the key that its signatures fit."""

    node: str
    host: str
    ip: str
    port: int
    key: str
    """public, in base64"""

    @property
    def address(self) -> Address:
        return Address(self.ip, self.port)

    @property
    def public(self) -> bytes:
        return base64.b64decode(self.key)


class Peer(msgspec.Struct, frozen=True):
    """A host as gossip sees it. ``state``: alive, suspect, failed or left."""

    node: str
    host: str
    address: str
    state: str
    since: float
    """seconds ago that the state changed"""
    distance: float | None = None
    """seconds there and back, as far as it is known"""
    me: bool = False


_PLACE = msgspec.json.Decoder(Place)


def read_place(key: str, value: bytes) -> Place:
    """What a host wrote below ``nodes/``."""
    try:
        place = _PLACE.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"{key}: {problem}") from None
    check(key, "key", key == f"nodes/{place.node}" and _NODE.fullmatch(place.node))
    check(key, "host", _HOST.fullmatch(place.host))
    check(key, "ip", _is_unicast(place.ip))
    check(key, "port", 0 < place.port < 1 << 16)
    check(key, "public key", _is_public(place.key))
    return place


def _is_unicast(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return str(address) == text and not (address.is_multicast or address.is_unspecified)


def _is_public(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == PUBLIC
    except (binascii.Error, ValueError):
        return False
