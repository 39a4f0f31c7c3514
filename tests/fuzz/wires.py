"""Bytes of other machines and of the kernel: DHCP, the gossip, netlink, nft's JSON, conntrack."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from typing import Any

import msgspec

from fairlead.core import dhcpwire, lzw, packing, places, rows, sealing, serfkeys, swimwire
from fairlead.core.effects import Address
from fairlead.core.envelope import Envelope
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.errors import FairleadError
from fairlead.host import conntrack, links, netlink, nft
from fairlead.swarm.ring import read_ring
from fuzz.mutate import Dice
from fuzz.targets import target

# -- DHCP ---------------------------------------------------------------------------------

MAC = "02:00:00:00:00:01"


def offer(dice: Dice) -> bytes:
    options = {
        53: bytes([dice.choice((2, 5, 6, 9))]),
        1: b"\xff\xff\xff\0",
        3: b"\x0a\0\0\1",
        51: b"\0\0\1\0",
        54: b"\x0a\0\0\2",
    }
    options |= {dice.randrange(256): dice.randbytes(dice.choice((0, 1, 4, 5, 200))) for _ in range(dice.randrange(3))}
    asked = bytearray(dhcpwire.request(1, 7, MAC, seconds=1, options=options))
    asked[0], asked[16:20] = 2, b"\x0a\0\0\x09"
    packet = dhcpwire.datagram(bytes(asked), "10.0.0.2", "255.255.255.255")
    return dice.mangled(packet, packet) if dice.random() < 0.95 else packet


@target("dhcp", 8, offer)
def dhcp(packet: bytes) -> None:
    for checked in (True, False):
        payload = dhcpwire.payload_of(packet, checked)
        if payload is not None:
            dhcpwire.parse(payload)
    dhcpwire.parse(packet)
    dhcpwire.parse(packet[28:])


# -- gossip -------------------------------------------------------------------------------

HOME = Address("10.0.0.1", 7946)
ALIVE = swimwire.Alive(3, "one", HOME, b"meta")
MESSAGES = [
    swimwire.Ping(1, "one", HOME, "two"),
    swimwire.IndirectPing(2, HOME, "one", True),
    swimwire.Ack(3, b"x"),
    swimwire.Nack(4),
    swimwire.Suspect(5, "one", "two"),
    swimwire.Dead(6, "one", "two"),
    ALIVE,
    swimwire.User(b"said"),
    swimwire.Failure("why"),
    swimwire.PushPull(True, (swimwire.Known(ALIVE, swimwire.State(0)),), b"state"),
]


class _Cipher:
    """No secret at all, but a tag: what was changed does not open."""

    def seal(self, key: bytes, nonce: bytes, text: bytes, bound: bytes) -> bytes:
        return text + zlib.crc32(text + bound).to_bytes(16, "big")

    def open(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        text, tag = sealed[:-16], sealed[-16:]
        return text if tag == zlib.crc32(text + bound).to_bytes(16, "big") else None


SEAL = sealing.Seal(sealing.Keyring([b"k" * 16]), _Cipher(), lambda: bytes(12))
PLAIN, LABELLED, SEALED = Envelope(), Envelope(label="red"), Envelope(SEAL)


def gossip(dice: Dice) -> tuple[bool, bytes]:
    parts = [swimwire.encode(dice.choice(MESSAGES)) for _ in range(dice.choice((1, 1, 2, 4)))]
    payload = parts[0] if len(parts) == 1 else swimwire.compound(parts)
    if dice.random() < 0.4:
        payload = dice.mangled(payload, payload)
    if dice.random() < 0.2:
        payload = swimwire.compress(payload)
    envelope = dice.choice((PLAIN, LABELLED, SEALED))
    stream = dice.random() < 0.4
    data = envelope.stream(payload) if stream else envelope.packet(payload, dice.random() < 0.2)
    return stream, dice.mangled(data, payload) if dice.random() < 0.8 else data


@target("gossip", 8, gossip)
def gossiped(given: tuple[bool, bytes]) -> None:
    """What can be read reads the same when it is written again."""
    stream, data = given
    for envelope in (PLAIN, LABELLED, SEALED):
        try:
            if stream:
                reader = envelope.reader(asking=False)
                for at in range(0, len(data), 7):
                    if reader.feed(data[at : at + 7]) is not None:
                        break
            else:
                for message in envelope.open_packet(data):
                    written = swimwire.encode(message)
                    assert swimwire.decode(written) == [message]
        except FairleadError:
            continue


def machine() -> Gossip:
    """A node that knows one other."""
    made = Gossip(Me("me", Address("10.0.0.2", 7946)), SwimConfig(), random.Random(1), SEALED)
    made.receive(SEALED.packet(swimwire.encode(ALIVE)), HOME, 0.0)
    return made


MACHINE = machine()


def said_by_serf(dice: Dice) -> bytes:
    deed = dice.choice(serfkeys.DEEDS)
    query = serfkeys.query(dice.randrange(99), dice.randrange(99), HOME, "one", deed, b"n" * 16, bytes((10, 0, 0, 1)))
    told = serfkeys.KeyAnswer(True, "why", ("bm5u",), "bm5u")
    response = serfkeys.response(serfkeys.read_query(query, "me"), "one", serfkeys.answer(told))
    row = rows.encode_row(rows.Row("", "networks", "red", "one", dice.randrange(99), b"v"), 9)
    data = dice.choice((query, response, next(rows.messages([row]))))
    return dice.mangled(data, data)


@target("serf", 5, said_by_serf)
def heard(data: bytes) -> None:
    """Words of serf and rows of tables, as a member would bring them: whatever they are, the node goes on."""
    effects = MACHINE.receive(SEALED.packet(swimwire.encode(swimwire.User(data))), HOME, 1.0)
    assert {item.to for item in effects.send} <= {HOME}
    ring = MACHINE.swim.envelope.ring
    assert ring is not None and 1 <= len(ring.keys) <= serfkeys.MOST_KEYS


PLACE = {"node": "a" * 32, "host": "one", "ip": "10.0.0.1", "port": 7946, "key": "A" * 43 + "="}


@target("places", 3, lambda dice: dice.mangled(msgspec.json.encode(dice.choice((PLACE, ["bm5ubm5ubm5ubm5ubm5ubg=="])))))
def written_to_the_store(data: bytes) -> None:
    """What is read as a place or a ring can be used as one."""
    with contextlib.suppress(FairleadError):
        place = places.read_place("nodes/" + "a" * 32, data)
        assert len(place.public) == places.PUBLIC and str(place.address)
    with contextlib.suppress(FairleadError):
        assert read_ring(data).keys


def packing_value(dice: Dice) -> bytes:
    data = packing.pack({"a": [1, b"b", None, True, 2**40], "c": {"d": "e" * 40}})
    return dice.mangled(data, data)


@target("packing", 4, packing_value)
def packed(data: bytes) -> None:
    try:
        value = packing.unpack(data)
    except FairleadError:
        return
    try:
        again = packing.pack(value)
    except FairleadError:
        return
    assert repr(packing.unpack(again)) == repr(value)


@target(
    "lzw",
    2,
    lambda dice: (
        dice.randbytes(dice.randrange(200)) if dice.random() < 0.3 else dice.mangled(lzw.compress(b"abcabc" * 40))
    ),
)
def squeezed(data: bytes) -> None:
    assert lzw.decompress(lzw.compress(data), len(data) + 1) == data
    with contextlib.suppress(FairleadError):
        assert len(lzw.decompress(data, 10_000)) <= 10_000


# -- the kernel's answers --------------------------------------------------------------------


def attributes_of(dice: Dice, depth: int = 3) -> bytes:
    out = b""
    for _ in range(dice.randrange(6)):
        nested = depth and dice.random() < 0.4
        data = (
            attributes_of(dice, depth - 1)
            if nested
            else dice.choice((b"", b"eth0\0", b"vlan\0", b"bridge\0", dice.randbytes(dice.randrange(12))))
        )
        out += netlink.attribute(
            dice.choice((1, 2, 3, 4, 5, 7, 10, 12, 13, 18, 25, 26, 27, 37, 42, 50, dice.randrange(65))), data
        )
    return out


def answer(dice: Dice) -> bytes:
    data = struct.pack(
        "=BxHiII", dice.choice((0, 2, 10)), 1, dice.randrange(9), dice.randrange(1 << 32), 0
    ) + attributes_of(dice)
    return dice.mangled(data, data) if dice.random() < 0.5 else data


@target("netlink", 6, answer)
def told_by_kernel(data: bytes) -> None:
    """Attributes never reach beyond the message; a device is read or refused, whatever its attributes hold."""
    for start in (0, 4, 16):
        for value in netlink.attributes(data, start).values():
            assert len(value) <= len(data)
    if len(data) >= 16:
        links.seen(data)


class _Dump:
    def __init__(self, messages: list[bytes]) -> None:
        self.messages = messages

    def dump(self, kind: int, body: bytes, tries: int = 5) -> list[bytes]:
        return self.messages


def flow(dice: Dice) -> bytes:
    original = netlink.nested(1, netlink.attribute(1, dice.randbytes(4)), netlink.attribute(2, dice.randbytes(4)))
    original += netlink.nested(2, netlink.attribute(1, b"\6"), netlink.attribute(3, dice.randbytes(2)))
    data = b"\2\0\0\0" + netlink.nested(1, original) + netlink.attribute(12, b"\0\0\0\1")
    return dice.mangled(data, data)


@target("conntrack", 3, flow)
def tracked(data: bytes) -> None:
    for way in (conntrack._ORIGINAL, conntrack._REPLY):
        list(conntrack._flows(_Dump([data]), b"", way))  # type: ignore[arg-type]


LISTED = [
    {
        "map": {
            "table": "fairlead",
            "name": "published4",
            "elem": [[{"concat": ["tcp", 8080]}, {"concat": ["10.0.0.2", 80]}]],
        }
    },
    {"set": {"table": "fairlead", "name": "networks", "elem": ["docker0", {"prefix": {"addr": "10.0.0.0", "len": 8}}]}},
    {
        "set": {
            "table": "fairlead",
            "name": "masked",
            "elem": [{"range": ["10.0.0.1", "10.0.0.9"]}, {"elem": {"val": 1}}],
        }
    },
]


def expression(dice: Dice, depth: int = 3) -> Any:
    words = (dice.junk(), dice.randrange(70000), "10.0.0.0/8", "10.0.0.1-10.0.0.9", '"eth0"', "0x10", "fd00::/64")
    if not depth or dice.random() < 0.4:
        return dice.choice(words)
    inner = [expression(dice, depth - 1) for _ in range(2)]
    kinds: tuple[dict[str, Any], ...] = (
        {"concat": inner},
        {"prefix": {"addr": inner[0], "len": 8}},
        {"range": inner},
        {"elem": {"val": inner[0]}},
        {"jump": {"target": "x"}},
        {dice.junk() or "accept": None},
    )
    return dice.choice(kinds)


@target("nft", 5, expression)
def listed(value: Any) -> None:
    """Canonical words stay what they are."""
    text = nft.canonical(nft._text(value))
    assert nft.canonical(text) == text or '"' in text
    nft._elements([{"set": {"table": "fairlead", "name": "x", "elem": [value]}}, *LISTED], "")
