"""DNS messages to bytes and back (RFC 1035, 6891), for a server that trusts nobody.

    client's datagram --read_query--> Query --(names)--> reply --> datagram
    upstream's answer --check_answer--> its rcode, or Malformed

Two kinds of work, two depths. Queries are read for what we need (one question,
EDNS) and answered with records whose owner is a pointer to the question, so a
client that plays with upper and lower case (draft 0x20) gets its own spelling
back. Upstream answers are never taken apart and put together again: they are
walked once, to be sure that every record lies within the bytes and every
pointer points backwards, and handed on as they are.

Rules
    1. No input makes anything here fail but with ``Malformed`` (tests fuzz it).
    2. A name is at most 255 bytes, a pointer leads strictly backwards: no loop,
       no matter what the bytes say.
    3. A datagram that is an answer, or too short for a header, gets no reply at
       all: two servers must never talk to each other for ever.
    4. Reply never exceeds what the client said it can take; what does not fit
       is left out whole, record by record, and TC is set.

What it does not do: decide anything about names (``core.names``), wait, send.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.errors import Invalid

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

QR, OPCODE, AA, TC, RD, RA, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010

TTL = 1
"""Seconds anybody may remember a container's address: they change with every restart."""
PLAIN_SIZE = 512
"""Largest datagram for a client without EDNS (RFC 1035, 4.2.1)."""
LARGEST_UDP = 4096
"""Largest datagram we send, whatever the client offers."""
OUR_SIZE = 1232
"""What we say of ourselves in OPT: fits one IPv6 packet everywhere."""
LARGEST = 65535

_HEADER = struct.Struct(">HHHHHH")
_FIXED = struct.Struct(">HHIH")
_TWO = struct.Struct(">HH")


class Malformed(Invalid):
    """These bytes are no DNS message we can use."""


class BadQuery(Malformed):
    """A query that cannot be served; ``reply`` says so to the client (empty: say nothing)."""

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


class Question(NamedTuple):
    """``name`` in wire form, uncompressed, in the client's own spelling."""

    name: bytes
    type: int
    klass: int = IN


class Record(NamedTuple):
    """One resource record; ``data`` as it lies in the message."""

    name: bytes
    type: int
    klass: int
    ttl: int
    data: bytes


class Message(NamedTuple):
    """A whole message; used by tests and tools, not on the way of a packet."""

    id: int = 0
    flags: int = 0
    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    authorities: tuple[Record, ...] = ()
    additionals: tuple[Record, ...] = ()


class Query(NamedTuple):
    """What a client asks: ``name`` as ``text`` gives it, ``question`` its bytes as they came."""

    id: int
    flags: int
    question: bytes
    name: str
    type: int
    klass: int
    edns: bool = False
    size: int = PLAIN_SIZE
    dnssec: bool = False


# -- names ------------------------------------------------------------------------------


def wire(name: str) -> bytes:
    """``db.red`` in wire form. ``Malformed`` when a label is empty or over 63 bytes or no text, or all is over 255."""
    name = name.rstrip(".")
    out = b""
    for label in name.split(".") if name else ():
        try:
            raw = label.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise Malformed(f"bad label in {name!r}") from None
        if not 0 < len(raw) < 64:
            raise Malformed(f"bad label in {name!r}")
        out += bytes((len(raw),)) + raw
    if len(out) > 254:
        raise Malformed(f"name too long: {name[:40]!r}…")
    return out + b"\0"


def text(name: bytes) -> str:
    """A wire name as lower-case text without the last dot. A dot *within* a label is escaped, so it matches nothing."""
    labels, at = [], 0
    while name[at]:
        label = name[at + 1 : at + 1 + name[at]]
        labels.append(label.replace(b"\\", b"\\\\").replace(b".", b"\\."))
        at += 1 + name[at]
    return b".".join(labels).lower().decode("latin-1")


def read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """The name at ``at``, uncompressed, and where the next field begins."""
    parts: list[bytes] = []
    length, after, floor = 1, -1, at
    try:
        while size := data[at]:
            if size >= 0xC0:
                target = (size & 0x3F) << 8 | data[at + 1]
                if after < 0:
                    after = at + 2
                if target >= floor:
                    raise Malformed("compression pointer does not point backwards")
                at = floor = target
                continue
            if size > 63:
                raise Malformed("unknown kind of label")
            length += size + 1
            if length > 255:
                raise Malformed("name over 255 bytes")
            if at + size >= len(data):
                raise Malformed("label beyond the end")
            parts.append(data[at : at + 1 + size])
            at += 1 + size
    except IndexError:
        raise Malformed("name beyond the end") from None
    return b"".join(parts) + b"\0", (at + 1 if after < 0 else after)


# -- whole messages ----------------------------------------------------------------------


def parse(data: bytes) -> Message:
    """A message taken apart; bytes after the last record are ignored."""
    if len(data) < 12:
        raise Malformed("shorter than a header")
    id_, flags, *counts = _HEADER.unpack_from(data)
    at, questions = 12, []
    for _ in range(counts[0]):
        name, at = read_name(data, at)
        if at + 4 > len(data):
            raise Malformed("question beyond the end")
        questions.append(Question(name, *_TWO.unpack_from(data, at)))
        at += 4
    sections: list[tuple[Record, ...]] = []
    for count in counts[1:]:
        records = []
        for _ in range(count):
            record, at = _read_record(data, at)
            records.append(record)
        sections.append(tuple(records))
    return Message(id_, flags, tuple(questions), *sections)


def _read_record(data: bytes, at: int) -> tuple[Record, int]:
    name, at = read_name(data, at)
    if at + 10 > len(data):
        raise Malformed("record beyond the end")
    type_, klass, ttl, size = _FIXED.unpack_from(data, at)
    at += 10
    if at + size > len(data):
        raise Malformed("record data beyond the end")
    return Record(name, type_, klass, ttl, data[at : at + size]), at + size


def build(message: Message) -> bytes:
    """A message as bytes; owners equal to the first question's name become a pointer to it."""
    sections = (message.answers, message.authorities, message.additionals)
    out = [_HEADER.pack(message.id, message.flags, len(message.questions), *map(len, sections))]
    first = message.questions[0].name if message.questions else b""
    out += [question.name + _TWO.pack(question.type, question.klass) for question in message.questions]
    for record in (record for section in sections for record in section):
        name = b"\xc0\x0c" if record.name == first and len(first) > 1 else record.name
        out.append(name + _FIXED.pack(record.type, record.klass, record.ttl, len(record.data)) + record.data)
    return b"".join(out)


def query(name: str, type_: int = A, id_: int = 0, size: int = 0) -> bytes:
    """A question as a client sends it; ``size`` > 0 adds EDNS."""
    extra = (Record(b"\0", OPT, size, 0, b""),) if size else ()
    return build(Message(id_, RD, (Question(wire(name), type_),), additionals=extra))


# -- a client's query --------------------------------------------------------------------


def read_query(packet: bytes) -> Query:
    """What the client asks; ``BadQuery`` with the right refusal when it cannot be served."""
    if len(packet) < 12 or packet[2] & 0x80:
        raise BadQuery("no query")
    id_, flags, questions, *others = _HEADER.unpack_from(packet)
    if flags & OPCODE:
        raise BadQuery("opcode", _refusal(id_, flags, NOTIMP))
    if questions != 1:
        raise BadQuery("not one question", _refusal(id_, flags, FORMERR))
    try:
        name, at = read_name(packet, 12)
        if at + 4 > len(packet):
            raise Malformed("question beyond the end")
        type_, klass = _TWO.unpack_from(packet, at)
        question = name + packet[at : at + 4]
        options = _options(packet, at + 4, sum(others))
    except Malformed as error:
        raise BadQuery(error.message, _refusal(id_, flags, FORMERR)) from None
    got = Query(id_, flags, question, text(name), type_, klass)
    if not options:
        return got
    if len(options) > 1:
        raise BadQuery("several OPT records", _refusal(id_, flags, FORMERR))
    option = options[0]
    size = min(max(option.klass, PLAIN_SIZE), LARGEST_UDP)
    got = got._replace(edns=True, size=size, dnssec=bool(option.ttl & 0x8000))
    if option.ttl >> 16 & 0xFF:
        raise BadQuery("EDNS version", reply(got, bad_version=True))
    return got


def _options(packet: bytes, at: int, count: int) -> list[Record]:
    """The OPT records among the ``count`` records from ``at`` on."""
    found = []
    for _ in range(count):
        record, at = _read_record(packet, at)
        if record.type == OPT:
            found.append(record)
    return found


def _refusal(id_: int, flags: int, rcode: int) -> bytes:
    return _HEADER.pack(id_, QR | flags & (OPCODE | RD | CD) | RA | rcode, 0, 0, 0, 0)


def record(type_: int, data: bytes, ttl: int = TTL) -> bytes:
    """A record whose owner is the question's name, as bytes ready for ``reply``."""
    return b"\xc0\x0c" + _FIXED.pack(type_, IN, ttl, len(data)) + data


def reply(
    to: Query,
    rcode: int = NOERROR,
    records: Sequence[bytes] = (),
    limit: int = LARGEST,
    *,
    authoritative: bool = True,
    truncated: bool = False,
    bad_version: bool = False,
) -> bytes:
    """Our answer to a query, at most ``limit`` bytes: whole records that fit, TC when some did not."""
    tail = b""
    if to.edns:
        extended = 0x01000000 if bad_version else 0
        tail = b"\0" + _FIXED.pack(OPT, OUR_SIZE, extended | (0x8000 if to.dnssec else 0), 0)
    room = limit - 12 - len(to.question) - len(tail)
    kept = 0
    while kept < len(records) and room >= len(records[kept]):
        room -= len(records[kept])
        kept += 1
    flags = QR | to.flags & (RD | CD) | RA | rcode
    if authoritative and rcode in (NOERROR, NXDOMAIN) and not bad_version:
        flags |= AA
    if truncated or kept < len(records):
        flags |= TC
    head = _HEADER.pack(to.id, flags, 1, kept, 0, 1 if tail else 0)
    return b"".join((head, to.question, *records[:kept], tail))


# -- an upstream's answer ------------------------------------------------------------------


def check_answer(data: bytes, question: bytes) -> int:
    """The rcode of an answer to exactly this question (letter case aside). ``Malformed`` for anything else.

    A cut-off answer (TC) is not walked: its last record may be half a one, and
    only its header and question are of use. An error may come without question.
    """
    if len(data) < 12 or not data[2] & 0x80 or data[2] & 0x78:
        raise Malformed("no answer")
    counts: Sequence[int]
    _, flags, questions, *counts = _HEADER.unpack_from(data)
    rcode: int = flags & 15
    if questions == 0 and rcode not in (NOERROR, NXDOMAIN):
        return rcode
    end = 12 + len(question)
    if questions != 1 or data[12:end].lower() != question.lower():
        raise Malformed("answer to another question")
    if not flags & TC:
        at = end
        for _ in range(sum(counts)):
            at = _skip_name(data, at)
            if at + 10 > len(data):
                raise Malformed("record beyond the end")
            at += 10 + (data[at + 8] << 8 | data[at + 9])
            if at > len(data):
                raise Malformed("record data beyond the end")
    return rcode


def _skip_name(data: bytes, at: int) -> int:
    """Where the field after the name begins; the name itself is read when it is compressed."""
    while at < len(data) and 0 < data[at] < 64:
        at += 1 + data[at]
    if at >= len(data):
        raise Malformed("name beyond the end")
    if data[at] == 0:
        return at + 1
    return read_name(data, at)[1]
