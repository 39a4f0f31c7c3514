"""Bytes of gossip: MessagePack, LZW, messages, envelopes, streams. Reading raises nothing but Malformed."""

import contextlib
import os
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core import lzw, packing, swimwire
from fairlead.core.effects import Address
from fairlead.core.envelope import LARGEST_STREAM, Envelope
from fairlead.core.packing import Malformed, Reader, Short, pack, unpack
from fairlead.core.sealing import Keyring, Seal
from fairlead.core.swimwire import (
    Ack,
    Alive,
    Dead,
    Failure,
    IndirectPing,
    Known,
    Message,
    Nack,
    Ping,
    PushPull,
    State,
    Suspect,
    User,
    decode,
    encode,
)
from fairlead.errors import Conflict, Invalid
from fairlead.swarm.cipher import AesGcm, seal_with

KEY, OTHER = b"k" * 32, b"o" * 16
HERE, V6 = Address("10.0.0.1", 7946), Address("fd00::1", 7946)
ALIVE = Alive(3, "n1", HERE, b"meta")
ONE_OF_EACH: list[Message] = [
    Ping(7, "n1"),
    Ping(7, "n1", HERE, "n2"),
    IndirectPing(7, V6, "n1", True, HERE, "n2"),
    Ack(0xFFFFFFFF, b"payload"),
    Nack(7),
    Suspect(1, "n1", "n2"),
    Dead(1, "n1", "n1"),
    ALIVE,
    Alive(1, "ü", V6),
    User(b"\x00anything\xff"),
    Failure("no"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.binary(max_size=8), inner, max_size=20),
    max_leaves=30,
)


# -- MessagePack -------------------------------------------------------------------------------------------------


@given(values)
def test_what_is_packed_is_unpacked(value: object) -> None:
    def depth(v: object) -> int:
        inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else ()
        return 1 + max((depth(i) for i in inner), default=0) if isinstance(v, dict | list) else 0

    if depth(value) <= packing.DEEPEST:
        assert unpack(pack(value)) == value


def test_text_is_written_as_old_agents_read_it() -> None:
    """No str8 (0xd9) and no bin (0xc4): a text of 40 bytes is raw16."""
    assert pack("x" * 40)[:3] == b"\xda\x00\x28"
    assert pack(b"x" * 4)[:1] == b"\xa4"


def test_new_agents_types_are_read() -> None:
    assert unpack(b"\xd9\x02ab") == unpack(b"\xc4\x02ab") == b"ab"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(Malformed, match="too deep"):
        unpack(b"\x91" * 100_000 + b"\x00")


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_a_count_that_cannot_be_costs_nothing(head: bytes) -> None:
    """No room is made, and no thousand members are read, for four thousand million that would have to follow."""
    tracemalloc.start()
    try:
        with pytest.raises(Short):
            unpack(head + b"\x00" * 1000)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# -- LZW -----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3000) | st.integers(0, 60_000).map(lambda n: b"abcab" * (n // 5)))
def test_lzw_there_and_back(data: bytes) -> None:
    assert lzw.decompress(lzw.compress(data), 1 << 20) == data


def test_lzw_of_random_bytes_through_every_width_and_clear() -> None:
    data = random.Random(1).randbytes(40_000)
    assert lzw.decompress(lzw.compress(data), 1 << 20) == data


def test_a_bomb_does_not_go_off() -> None:
    squeezed = lzw.compress(b"\0" * 4_000_000)
    assert len(squeezed) < 20_000
    with pytest.raises(Malformed, match="more than 65536"):
        lzw.decompress(squeezed, 65_536)


def test_a_compressed_packet_is_bounded_too() -> None:
    bomb = b"\x09" + pack({"Algo": 0, "Buf": lzw.compress(b"\x08" + b"\0" * 2_000_000)})
    assert len(bomb) < 20_000
    with pytest.raises(Malformed, match="more than"):
        decode(bomb)


@given(st.binary(max_size=200))
def test_lzw_of_anything(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert len(lzw.decompress(data, 1000)) <= 1000


# -- messages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == [message]


def test_compound_and_compressed() -> None:
    parts = [encode(message) for message in ONE_OF_EACH] * 3
    squeezed = swimwire.compress(swimwire.compound(parts))
    assert squeezed[0] == swimwire.COMPRESS
    assert decode(squeezed) == ONE_OF_EACH * 3


def test_a_bad_part_does_not_spoil_the_others() -> None:
    assert decode(swimwire.compound([b"\xee?", encode(Nack(1)), b"\x00\xc1"])) == [Nack(1)]


def test_a_compound_within_a_compound_within_is_refused() -> None:
    nested = encode(Nack(1))
    for _ in range(50):
        nested = swimwire.compound([nested, nested[:3]])
    assert decode(nested) == []


def test_names_addresses_and_meta_are_bounded() -> None:
    good = {
        "Incarnation": 1,
        "Node": "n",
        "Addr": b"\n\0\0\1",
        "Port": 1,
        "Meta": b"",
        "Vsn": bytes((1, 5, 2, 2, 5, 4)),
    }
    assert decode(b"\x04" + pack(good))
    bad: list[dict[str, object]] = [
        {"Node": ""},
        {"Node": "x" * 256},
        {"Node": b"\xff\xfe"},
        {"Node": "a\x00b"},
        {"Addr": b"123"},
        {"Addr": 5},
        {"Port": 65536},
        {"Port": -1},
        {"Port": True},
        {"Meta": b"x" * 513},
        {"Incarnation": 1 << 32},
        {"Vsn": b""},
        {"Vsn": bytes((6, 9, 6, 0, 0, 0))},
    ]
    for change in bad:
        with pytest.raises(Malformed):
            decode(b"\x04" + pack({**good, **change}))


@settings(max_examples=300)
@given(st.sampled_from(ONE_OF_EACH), st.integers(0, 200), st.integers(0, 255), st.integers(0, 200))
def test_damaged_messages(message: Message, at: int, byte: int, cut: int) -> None:
    data = bytearray(encode(message))
    data[at % len(data)] = byte
    for damaged in (bytes(data), bytes(data[: cut % (len(data) + 1)])):
        with contextlib.suppress(Malformed):
            decode(damaged)


@given(st.binary(max_size=300))
def test_anything_at_all(data: bytes) -> None:
    for envelope in (Envelope(), Envelope(label="red"), Envelope(seal_with([KEY]))):
        for read in (envelope.open_packet, envelope.reader(asking=True).feed, envelope.reader(asking=False).feed):
            with contextlib.suppress(Malformed):
                read(data)


# -- envelopes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("label", ["", "blue"])
@pytest.mark.parametrize("key", [None, KEY, OTHER])
def test_packets_there_and_back(key: bytes | None, label: str, crc: bool) -> None:
    envelope = Envelope(seal_with([key]) if key else None, label)
    data = envelope.packet(encode(ALIVE), crc)
    assert envelope.open_packet(data) == [ALIVE]
    assert len(data) <= len(encode(ALIVE)) + envelope.overhead


def test_a_damaged_packet_is_noticed_by_its_crc() -> None:
    data = bytearray(Envelope().packet(encode(User(b"hello")), crc=True))
    data[-1] ^= 1
    with pytest.raises(Malformed, match="damaged"):
        Envelope().open_packet(bytes(data))


def test_only_sealed_packets_are_heard_by_the_sealed() -> None:
    with pytest.raises(Malformed):
        Envelope(seal_with([KEY])).open_packet(Envelope().packet(encode(ALIVE)))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Malformed, match="no key"):
        Envelope(seal_with([KEY])).open_packet(Envelope(seal_with([OTHER])).packet(encode(ALIVE)))


def test_one_flipped_bit_opens_nothing() -> None:
    envelope = Envelope(seal_with([KEY]))
    data = envelope.packet(encode(ALIVE))
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(Malformed):
            envelope.open_packet(bytes(flipped))


@pytest.mark.parametrize("ours", ["", "red"])
@pytest.mark.parametrize("theirs", ["blue", "", "rat", "redd"])
def test_another_label_is_another_cluster(ours: str, theirs: str) -> None:
    if ours != theirs:
        with pytest.raises(Malformed):
            Envelope(label=ours).open_packet(Envelope(label=theirs).packet(encode(ALIVE)))


def test_the_seal_is_bound_to_the_label() -> None:
    """Who takes the label off and puts another one on does not get in with the right key either."""
    data = Envelope(seal_with([KEY]), "blue").packet(encode(ALIVE)).replace(b"blue", b"pink")
    with pytest.raises(Malformed, match="no key"):
        Envelope(seal_with([KEY]), "pink").open_packet(data)


def test_version_0_with_padding_is_read() -> None:
    text = encode(ALIVE)
    count = 16 - len(text) % 16
    nonce = b"n" * 12
    sealed = b"\x00" + nonce + AesGcm().seal(KEY, nonce, text + bytes((count,)) * count, b"")
    assert Envelope(seal_with([KEY])).open_packet(sealed) == [ALIVE]


def test_keys_are_rotated_without_losing_a_packet() -> None:
    ann, bob = Keyring([KEY]), Keyring([KEY])
    rings = (ann, bob)
    a, b = (Envelope(Seal(ring, AesGcm(), lambda: os.urandom(12))) for ring in rings)

    def both_ways() -> None:
        assert b.open_packet(a.packet(encode(ALIVE))) == a.open_packet(b.packet(encode(ALIVE))) == [ALIVE]

    steps: list[Callable[[Keyring], None]] = [
        lambda r: r.add(OTHER),
        lambda r: r.use(OTHER),
        lambda r: r.remove(KEY),
    ]
    for step in steps:
        for ring in rings:
            step(ring)
            both_ways()
    assert ann.keys == (OTHER,)


def test_a_key_ring_keeps_its_rules() -> None:
    ring = Keyring([KEY, OTHER])
    with pytest.raises(Conflict):
        ring.remove(KEY)
    with pytest.raises(Invalid):
        ring.add(b"short")
    with pytest.raises(Invalid):
        ring.use(b"x" * 32)
    with pytest.raises(Invalid):
        Keyring([])
    assert "k" * 8 not in repr(ring)


# -- streams -------------------------------------------------------------------------------------------------------

EVERYBODY = tuple(Known(Alive(n, f"n{n}", HERE, b"m" * 30), State(n % 4)) for n in range(200))
EVERYTHING = PushPull(True, EVERYBODY, b"user state")


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("label", ["", "blue"])
@pytest.mark.parametrize("key", [None, KEY])
def test_streams_in_pieces(key: bytes | None, label: str, squeeze: bool, piece: int) -> None:
    envelope = Envelope(seal_with([key]) if key else None, label, squeeze)
    for asking, data in ((False, envelope.stream(encode(EVERYTHING))), (True, envelope.answer(encode(EVERYTHING)))):
        reader = envelope.reader(asking)
        got = [message for at in range(0, len(data), piece) if (message := reader.feed(data[at : at + piece]))]
        assert got == [EVERYTHING]


@pytest.mark.parametrize("message", [Ping(5, "n1"), Ack(5)])
def test_small_messages_by_stream(message: Message) -> None:
    assert Envelope().reader(asking=False).feed(Envelope().stream(encode(message))) == message


def test_a_user_message_by_stream() -> None:
    data = Envelope().stream(swimwire.user_stream(b"x" * 5000))
    reader = Envelope().reader(asking=False)
    assert reader.feed(data[:2000]) is None
    assert reader.feed(data[2000:]) == User(b"x" * 5000)


def test_a_long_stream_in_pieces_costs_no_square() -> None:
    nodes = tuple(Known(Alive(n, f"n{n}", HERE), State.ALIVE) for n in range(4000))
    data = encode(PushPull(False, nodes))

    def calls(piece: int) -> int:
        """How many functions were called to read it all."""
        made = count()
        reader = Envelope().reader(asking=False)
        sys.setprofile(lambda frame, event, argument: next(made) if event in ("call", "c_call") else None)
        try:
            for at in range(0, len(data), piece):
                reader.feed(data[at : at + piece])
        finally:
            sys.setprofile(None)
        return next(made)

    assert calls(1000) < 2 * calls(len(data))


def test_a_stream_that_never_ends_is_ended() -> None:
    """One value that is never complete: a raw of 4 GB."""
    reader = Envelope().reader(asking=False)
    reader.feed(b"\x08\xdb\xff\xff\xff\xff")
    with pytest.raises(Malformed, match="more than"):
        for _ in range(LARGEST_STREAM // (1 << 20) + 2):
            reader.feed(b"\0" * (1 << 20))
    assert len(reader._held) <= LARGEST_STREAM + (1 << 20)


def test_a_sealed_length_is_bounded_before_it_is_waited_for() -> None:
    with pytest.raises(Malformed, match="more than"):
        Envelope(seal_with([KEY])).reader(asking=False).feed(b"\x0a" + struct.pack(">I", 1 << 31))


def test_compressed_within_compressed_is_refused() -> None:
    twice = swimwire.compress(encode(EVERYTHING))
    outer = b"\x09" + pack({"Algo": 0, "Buf": lzw.compress(twice)})
    with pytest.raises(Malformed):
        Envelope().reader(asking=False).feed(outer)


def test_reader_stands_still_while_short() -> None:
    reader = Reader(b"\x93\x01\x02")
    with pytest.raises(Short):
        reader.value()
    assert reader.at == 0
