"""The messages of SWIM as bytes: HashiCorp memberlist's wire format, protocol 2 to 5.

A message is a type byte and a MessagePack map. One alone is a packet; several travel as a
*compound* (count, lengths, parts); either may be squeezed (*compress*).

    Ping IndirectPing Ack Nack      who is there             Suspect Alive Dead   what is said of whom
    PushPull                        everything, by stream    User                 somebody else's bytes
    Failure                         why a stream was refused

How they are wrapped (CRC, seal, label) and read from a stream is ``core.envelope``'s business.

Rules
    1. Nothing but ``Malformed`` comes out of reading, and reading costs no more than a small
       multiple of the largest datagram: names, tags, nesting and decompression are bounded.
    2. A part of a compound that cannot be read is dropped, the others count: an agent newer than us
       may say something we do not know.
    3. Names are text (UTF-8), 1 to 255 bytes. Addresses are 4 or 16 bytes, ports 1 to 65535.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from fairlead.core import lzw
from fairlead.core.effects import Address, packed, unpacked
from fairlead.core.packing import Malformed, Reader, pack
from fairlead.errors import Invalid

PACKET = 1400
"""Largest packet we send, sealed and wrapped: fits an Ethernet frame through most tunnels."""
LARGEST_TEXT = 1 << 18
"""Largest packet after decompression."""
LONGEST_NAME = 255
LONGEST_META = 512

PING, INDIRECT, ACK, SUSPECT, ALIVE, DEAD, PUSH_PULL, COMPOUND, USER, COMPRESS, ENCRYPT, NACK, CRC, FAILURE = range(14)
LABEL = 244

PROTOCOL = (1, 5, 2, 2, 5, 5)
"""What we speak, as ``Vsn`` of alive: memberlist's lowest, highest, in use; the same of serf's messages."""
SPEAKS_NACK = 4
SPEAKS_CRC = 5


class State(IntEnum):
    """What a cluster thinks of a node; the numbers travel in a push-pull."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Ping(NamedTuple):
    sequence: int
    node: str
    source: Address | None = None
    source_name: str = ""


class IndirectPing(NamedTuple):
    sequence: int
    target: Address
    node: str
    nack: bool
    source: Address | None = None
    source_name: str = ""


class Ack(NamedTuple):
    sequence: int
    payload: bytes = b""


class Nack(NamedTuple):
    sequence: int


class Suspect(NamedTuple):
    incarnation: int
    node: str
    accuser: str


class Dead(NamedTuple):
    """``accuser`` is the node itself when it leaves of its own will."""

    incarnation: int
    node: str
    accuser: str


class Alive(NamedTuple):
    incarnation: int
    node: str
    address: Address
    meta: bytes = b""
    versions: tuple[int, ...] = PROTOCOL


class User(NamedTuple):
    data: bytes


class Failure(NamedTuple):
    reason: str


class Known(NamedTuple):
    """One line of a push-pull: what the sender thinks of a node."""

    alive: Alive
    state: State


class PushPull(NamedTuple):
    join: bool
    nodes: tuple[Known, ...]
    user_state: bytes = b""


Message = Ping | IndirectPing | Ack | Nack | Suspect | Dead | Alive | User | Failure | PushPull


# -- writing -----------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """One message with its type byte, neither squeezed nor wrapped."""
    match message:
        case Ping(sequence, node, source, name):
            return _typed(PING, {"SeqNo": sequence, "Node": node, **_source(source, name)})
        case IndirectPing(sequence, target, node, nack, source, name):
            where = {"Target": packed(target.ip), "Port": target.port}
            return _typed(INDIRECT, {"SeqNo": sequence, **where, "Node": node, "Nack": nack, **_source(source, name)})
        case Ack(sequence, payload):
            return _typed(ACK, {"SeqNo": sequence, "Payload": payload})
        case Nack(sequence):
            return _typed(NACK, {"SeqNo": sequence})
        case Suspect(incarnation, node, accuser):
            return _typed(SUSPECT, {"Incarnation": incarnation, "Node": node, "From": accuser})
        case Dead(incarnation, node, accuser):
            return _typed(DEAD, {"Incarnation": incarnation, "Node": node, "From": accuser})
        case Alive():
            return _typed(ALIVE, {"Node": message.node, **_of_node(message)})
        case User(data):
            return bytes((USER,)) + data
        case Failure(reason):
            return _typed(FAILURE, {"Error": reason})
        case PushPull():
            return _push_pull(message)


def _typed(kind: int, fields: dict[str, Any]) -> bytes:
    return bytes((kind,)) + pack(fields)


def _source(source: Address | None, name: str) -> dict[str, Any]:
    if source is None:
        return {}
    return {"SourceAddr": packed(source.ip), "SourcePort": source.port, "SourceNode": name}


def _of_node(alive: Alive) -> dict[str, Any]:
    return {
        "Incarnation": alive.incarnation,
        "Addr": packed(alive.address.ip),
        "Port": alive.address.port,
        "Meta": alive.meta,
        "Vsn": bytes(alive.versions),
    }


def _push_pull(message: PushPull) -> bytes:
    head = {"Nodes": len(message.nodes), "UserStateLen": len(message.user_state), "Join": message.join}
    nodes = (pack({"Name": known.alive.node, **_of_node(known.alive), "State": known.state}) for known in message.nodes)
    return b"".join((bytes((PUSH_PULL,)), pack(head), *nodes, message.user_state))


def user_stream(data: bytes) -> bytes:
    """A user message for a stream, where it needs its length."""
    return _typed(USER, {"UserMsgLen": len(data)}) + data


def compound(parts: Sequence[bytes]) -> bytes:
    """Several encoded messages (at most 255) as one; one alone stays as it is."""
    if len(parts) == 1:
        return parts[0]
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return bytes((COMPOUND, len(parts))) + lengths + b"".join(parts)


COMPOUND_HEAD = 2
COMPOUND_EACH = 2
"""What a compound costs, and each of its parts."""


def compress(payload: bytes) -> bytes:
    """Squeezed, or as it was when that gains nothing."""
    squeezed = _typed(COMPRESS, {"Algo": 0, "Buf": lzw.compress(payload)})
    return squeezed if len(squeezed) < len(payload) else payload


# -- reading -----------------------------------------------------------------------------------------------------


def decode(payload: bytes) -> list[Message]:
    """The messages of an unwrapped packet."""
    return list(_decode(payload, 3))


def _decode(payload: bytes, depth: int) -> Iterable[Message]:
    if not payload or depth == 0:
        raise Malformed("empty, or wrapped too often")
    if payload[0] == COMPOUND:
        for part in _parts(payload):
            try:
                yield from _decode(part, depth - 1)
            except Malformed:
                continue
    elif payload[0] == COMPRESS:
        yield from _decode(decompress(payload, LARGEST_TEXT), depth - 1)
    else:
        yield decode_one(payload)


def _parts(payload: bytes) -> Iterable[bytes]:
    count = payload[1] if len(payload) > 1 else 0
    at = COMPOUND_HEAD + COMPOUND_EACH * count
    if at > len(payload):
        raise Malformed("a compound shorter than its own table")
    for i in range(count):
        where = COMPOUND_HEAD + COMPOUND_EACH * i
        length = int.from_bytes(payload[where : where + 2], "big")
        if at + length > len(payload):
            return
        yield payload[at : at + length]
        at += length


def decompress(payload: bytes, limit: int) -> bytes:
    """What a compress message holds, at most ``limit`` bytes."""
    return squeezed_text(Reader(payload, 1).value(), limit)


def squeezed_text(fields: Any, limit: int) -> bytes:
    """The text of a compress message's fields."""
    if number(fields, "Algo") != 0:
        raise Malformed("compressed by a method nobody has named")
    return lzw.decompress(raw(fields, "Buf"), limit)


@lru_cache(2048)
def decode_one(payload: bytes) -> Message:
    """One message, neither compound nor compressed. (Remembered: gossip says everything many times.)"""
    kind = payload[0]
    if kind == USER:
        return User(payload[1:])
    if kind not in _READ:
        raise Malformed(f"a message of type {kind} does not belong into a packet")
    return _READ[kind](Reader(payload, 1).value())


def _ping(fields: Any) -> Ping:
    return Ping(number(fields, "SeqNo"), name(fields, "Node", ""), *_source_of(fields))


def _indirect(fields: Any) -> IndirectPing:
    target = address(fields, "Target", "Port")
    nack = fields.get(b"Nack") is True
    return IndirectPing(number(fields, "SeqNo"), target, name(fields, "Node", ""), nack, *_source_of(fields))


def _source_of(fields: Any) -> tuple[Address | None, str]:
    if not fields.get(b"SourceAddr"):
        return None, ""
    return address(fields, "SourceAddr", "SourcePort"), name(fields, "SourceNode", "")


def alive_of(fields: Any, key: str) -> Alive:
    """What alive and a line of a push-pull have in common; ``key`` is how the name is called there."""
    meta = raw(fields, "Meta", b"")
    versions = raw(fields, "Vsn", bytes(PROTOCOL))
    if len(meta) > LONGEST_META:
        raise Malformed(f"meta of {len(meta)} bytes: at most {LONGEST_META}")
    if len(versions) < 6 or not versions[0] <= versions[2] <= versions[1] or versions[0] > PROTOCOL[1]:
        raise Malformed("protocol versions that cannot be")
    where = address(fields, "Addr", "Port")
    return Alive(number(fields, "Incarnation"), name(fields, key), where, meta, tuple(versions[:6]))


def known_of(fields: Any) -> Known:
    """One line of a push-pull."""
    state = number(fields, "State")
    if state > State.LEFT:
        raise Malformed(f"a node cannot be {state}")
    return Known(alive_of(fields, "Name"), State(state))


def _accused(fields: Any) -> tuple[int, str, str]:
    return number(fields, "Incarnation"), name(fields, "Node"), name(fields, "From", "")


_READ: dict[int, Callable[[Any], Message]] = {
    PING: _ping,
    INDIRECT: _indirect,
    ACK: lambda fields: Ack(number(fields, "SeqNo"), raw(fields, "Payload", b"") or b""),
    NACK: lambda fields: Nack(number(fields, "SeqNo")),
    SUSPECT: lambda fields: Suspect(*_accused(fields)),
    DEAD: lambda fields: Dead(*_accused(fields)),
    ALIVE: lambda fields: alive_of(fields, "Node"),
    FAILURE: lambda fields: Failure(name(fields, "Error", "")),
}


# -- fields ------------------------------------------------------------------------------------------------------


def number(fields: Any, key: str, most: int = 0xFFFF_FFFF) -> int:
    """A number of a map, 0 to ``most``; missing is 0."""
    value = _field(fields, key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise Malformed(f"{key} is no number the protocol knows")
    return value


def raw(fields: Any, key: str, default: bytes | None = None) -> bytes:
    """Bytes of a map; nil and missing are ``default``."""
    value = _field(fields, key, default)
    value = default if value is None else value
    if not isinstance(value, bytes):
        raise Malformed(f"{key} is missing")
    return value


def name(fields: Any, key: str, default: str | None = None) -> str:
    """A name of a map."""
    value = raw(fields, key, None if default is None else default.encode())
    if not value and default is not None:
        return default
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{key} is no text") from None
    if not 1 <= len(value) <= LONGEST_NAME or not text.isprintable():
        raise Malformed(f"{key} is no name")
    return text


def address(fields: Any, ip: str, port: str) -> Address:
    """An address of a map, from its two keys."""
    number_ = number(fields, port, 0xFFFF)
    try:
        return Address(unpacked(raw(fields, ip)), number_)
    except Invalid as error:
        raise Malformed(f"{ip}: {error}") from None


def _field(fields: Any, key: str, default: Any) -> Any:
    if not isinstance(fields, dict):
        raise Malformed("not a map")
    return fields.get(key.encode(), default)
